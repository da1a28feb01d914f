"""Recipes of published results as objects: settings, the published figures, and the figures to reach."""

from __future__ import annotations

import dataclasses
import tomllib
from importlib import resources
from typing import Any

NAMES = ("holberg2024-fig1",)
"""Recipes that `roughspike reproduce` knows; each is a TOML file beside this one."""


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
    """Everything that the reproduction of a figure depends on; the recipe file explains the entries."""

    title: str
    losses: tuple[str, ...]
    sigmas: tuple[float, ...]
    sample_sizes: tuple[int, ...]
    seeds: int
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


def load_experiment(name: str) -> Experiment:
    """The shipped recipe of that name.

    **Raises** ValueError for a name that is not in `NAMES`.
    """
    if name not in NAMES:
        raise ValueError(f"there is no published result named {name!r}; known: {', '.join(NAMES)}")
    table = tomllib.loads((resources.files("roughspike.recipe") / f"{name}.toml").read_text(encoding="utf-8"))
    fixed: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    fixed["methods"] = {key: Method(**value) for key, value in table["methods"].items()}
    fixed["published"] = tuple(Published(**_tuples(row)) for row in table["published"])
    fixed["expected"] = Expected(**_tuples(table["expected"]))
    return Experiment(**fixed)


def _tuples(table: dict) -> dict:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
