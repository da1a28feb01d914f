"""The settings of Fig. 1 of Holberg & Salvi (2024) as objects; the recipe file explains the entries."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Method:
    """An optimiser and how long it runs.

    `optimiser`: rmsprop or adam; adam's rate falls to 0 along a cosine. `last`: steps over which the held-out error
    is averaged.
    """

    optimiser: str
    steps: int
    learning_rate: float
    decay: float
    momentum: float
    last: int


@dataclasses.dataclass(frozen=True)
class Published:
    """What the paper's public results say, one entry per sample size."""

    loss: str
    sigma: float
    c: tuple[float, ...]
    error: tuple[float, ...]
    first_close: tuple[int, ...]
    seconds: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Expected:
    """Means over three seeds that a run must come to, one entry per sample size."""

    c: tuple[float, ...]
    c_tolerance: tuple[float, ...]
    error: tuple[float, ...]
    error_tolerance: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that the reproduction of the figure depends on."""

    losses: tuple[str, ...]
    sigmas: tuple[float, ...]
    sample_sizes: tuple[int, ...]
    current: float
    start: float
    depth: int
    spikes: int
    close: float
    neuron: dict[str, float | list[float]]
    grid: dict[str, float]
    methods: dict[str, Method]
    published: tuple[Published, ...]
    expected: Expected

    def published_row(self, loss: str, sigma: float) -> Published:
        """The paper's figures for one loss and noise."""
        return next(row for row in self.published if (row.loss, row.sigma) == (loss, sigma))


def experiment_of(settings: dict[str, Any]) -> Experiment:
    """The recipe's settings as an object."""
    fixed: dict[str, Any] = _tuples(settings)
    fixed["methods"] = {key: Method(**value) for key, value in settings["methods"].items()}
    fixed["published"] = tuple(Published(**_tuples(row)) for row in settings["published"])
    fixed["expected"] = Expected(**_tuples(settings["expected"]))
    return Experiment(**fixed)


def _tuples(table: dict) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
