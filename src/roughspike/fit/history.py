"""The numbers a fit leaves behind, step by step and chunk by chunk, and their CSV file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

STEP_COLUMNS = ("step", "loss", "gradient_norm", "seconds")
SCORE_COLUMNS = ("score_step", "train_score", "held_out_score")

History = dict[str, np.ndarray]
"""Columns by name, float64.

Row k of `step`, `loss`, `gradient_norm`: the model after `step` updates, before the next one. `seconds` is the CPU
time since the start of training when that step was done, without compilation. `score_step`, `train_score`,
`held_out_score` have one row per chunk, in bits per spike, or minus the loss for a loss that simulates; without
held-out data the last one is NaN.
"""


def empty() -> History:
    """A history before the first step."""
    return {name: np.zeros(0) for name in (*STEP_COLUMNS, *SCORE_COLUMNS)}


def extended(history: History, **columns: np.ndarray) -> History:
    """A history with rows appended to the named columns."""
    return history | {k: np.concatenate([history[k], np.asarray(v, np.float64)]) for k, v in columns.items()}


def to_csv(history: History) -> bytes:
    """One row per step; scores stand in the row of their step and are empty elsewhere. Floats are exact."""
    rows: dict[int, list[str]] = {}
    for k, step in enumerate(history["step"]):
        rows[int(step)] = [repr(float(history[name][k])) for name in STEP_COLUMNS[1:]] + ["", ""]
    for k, step in enumerate(history["score_step"]):
        row = rows.setdefault(int(step), [""] * 5)
        row[3:] = [repr(float(history[name][k])) for name in SCORE_COLUMNS[1:]]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*STEP_COLUMNS, *SCORE_COLUMNS[1:]])
    writer.writerows([step, *rows[step]] for step in sorted(rows))
    return buffer.getvalue().encode()


def read_csv(path: Path) -> History:
    """The inverse of `to_csv`. **Raises** FileNotFoundError or ValueError naming the file and the remedy."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: copy the whole folder of the run, or save it again")
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    columns: dict[str, list[float]] = {name: [] for name in (*STEP_COLUMNS, *SCORE_COLUMNS)}
    try:
        if tuple(lines[0]) != (*STEP_COLUMNS, *SCORE_COLUMNS[1:]):
            raise ValueError(f"columns {lines[0]}")
        for line in lines[1:]:
            step, *numbers = line
            for names, cells in ((STEP_COLUMNS, numbers[:3]), (SCORE_COLUMNS, numbers[3:5])):
                if any(cells):
                    for name, cell in zip(names, [step, *cells], strict=True):
                        columns[name].append(float(cell))
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} is corrupted ({error}): restore it from a copy, or save the run again") from error
    return {name: np.asarray(column, np.float64) for name, column in columns.items()}
