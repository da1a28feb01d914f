"""RawSpikes: what a spike file holds, before any check or window. Every format reads into it and writes from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = {"s": 1.0, "ms": 1e3, "us": 1e6}  # how many of the unit make a second


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says about itself; None where it says nothing.

    **Attributes**

    - `window`: (t0, t1) in seconds, in the file's own clock.
    - `onset`: the time of the recording's clock, in seconds, at which the file's clock shows 0.
    - `num_trials`, `num_neurons`: how many there are, silent ones included.
    """

    window: tuple[float, float] | None = None
    onset: float | None = None
    num_trials: int | None = None
    num_neurons: int | None = None


@dataclasses.dataclass(frozen=True)
class RawSpikes:
    """One row per spike, as the file has them.

    **Attributes**

    - `path`: the file, for messages.
    - `trial`, `neuron`: int64, shape (rows,).
    - `time`: float64, shape (rows,), in the file's unit and clock.
    - `row_name`: what to call a row in a message ("line 7").
    - `header`: what the file says about itself.
    """

    path: Path
    trial: np.ndarray
    neuron: np.ndarray
    time: np.ndarray
    row_name: Callable[[int], str]
    header: Header


def whole_numbers(values: np.ndarray, column: str, path: Path, row_name: Callable[[int], str]) -> np.ndarray:
    """Indices as int64. Raises ValueError that names the row if one is negative or not a whole number."""
    bad = np.flatnonzero((values != np.floor(values)) | (values < 0))
    if bad.size:
        k = int(bad[0])
        kind = "negative" if values[k] < 0 else "not a whole number"
        raise ValueError(
            f"{path}, {row_name(k)}: {column} index {values[k]:g} is {kind}: {column} indices are whole numbers "
            "counted from 0"
        )
    return values.astype(np.int64)


def check_header(fields: dict[str, Any], path: Path) -> Header:
    """The Header of the `window`, `onset`, `num_trials`, `num_neurons` that a file carries.

    **Raises** ValueError if one of them makes no sense.
    """
    try:
        window = fields.get("window")
        onset = fields.get("onset")
        trials, neurons = fields.get("num_trials"), fields.get("num_neurons")
        header = Header(
            None if window is None else (float(window[0]), float(window[1])),
            None if onset is None else float(onset),
            None if trials is None else int(trials),
            None if neurons is None else int(neurons),
        )
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ValueError(
            f"{path}: its description {fields} cannot be read ({error}): window is two numbers, onset one number, "
            "num_trials and num_neurons whole numbers; or delete the description and pass them to read_spikes"
        ) from None
    numbers = (*(header.window or ()), header.onset or 0.0)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{path}: its description holds a time that is not finite: {fields}: write finite seconds")
    return header
