"""The recipe of fits by simulation (TOML) as objects: which losses, on which windows, for how long."""

from __future__ import annotations

import dataclasses
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from roughspike.likelihood.objective import NegativeLogLikelihood
from roughspike.losses.energy import EnergyScore
from roughspike.losses.horizon import with_horizon
from roughspike.losses.signature import ExpectedSignatureLoss


@dataclasses.dataclass(frozen=True)
class Entry:
    """One loss and how it is minimised.

    **Attributes**

    - `label`: its name in tables. `steps`, `learning_rate`, `clip`: Adam along a cosine, and the largest gradient norm.
    - `window`, `windows_per_step`, `num_samples`: of a loss that simulates; `window` None for the likelihood.
    - `filters`, `resolution`: of the energy score. `depth`, `horizon`: of the expected signature.
    """

    label: str
    steps: int
    learning_rate: float
    clip: float
    window: float | None = None
    windows_per_step: int | None = None
    num_samples: int | None = None
    filters: tuple[float, ...] = ()
    resolution: int = 8
    depth: int = 0
    horizon: bool = False

    def loss(self) -> Any:
        """The loss itself."""
        if self.window is None:
            return NegativeLogLikelihood()
        if self.filters:
            return EnergyScore(self.filters, resolution=self.resolution)
        found = ExpectedSignatureLoss(self.depth, unbiased=True, time_weight=1 / self.window)
        return with_horizon(found) if self.horizon else found

    def scaled(self, factor: float) -> Entry:
        """The same for a recording whose intervals are `factor` times as long."""
        window = None if self.window is None else self.window * factor
        return dataclasses.replace(self, window=window, filters=tuple(tau * factor for tau in self.filters))


@dataclasses.dataclass(frozen=True)
class SimulationPlan:
    """What `roughspike fit-sim` does; the recipe file explains the entries."""

    interval: float
    dt: float
    simulation_dt: float
    start: float
    seed: int
    samples: int
    particles: int
    losses: dict[str, Entry]
    expected: dict[str, dict[str, dict[str, float]]] = dataclasses.field(default_factory=dict)

    def scaled(self, interval: float) -> SimulationPlan:
        """The plan for a recording with this median interval."""
        factor = interval / self.interval
        losses = {name: entry.scaled(factor) for name, entry in self.losses.items()}
        times = {"dt": self.dt * factor, "simulation_dt": self.simulation_dt * factor}
        return dataclasses.replace(self, interval=interval, losses=losses, **times)

    def chosen(self, names: tuple[str, ...], steps: int | None, seed: int | None) -> SimulationPlan:
        """Only these losses (all if empty), with at most so many steps, and another seed if one is given.

        **Raises** ValueError for a name that the plan does not have.
        """
        unknown = [name for name in names if name not in self.losses]
        if unknown:
            raise ValueError(f"--only {unknown[0]}: the recipe knows {', '.join(self.losses)}")
        losses = {name: entry for name, entry in self.losses.items() if not names or name in names}
        if steps is not None:
            losses = {k: dataclasses.replace(e, steps=min(steps, e.steps)) for k, e in losses.items()}
        return dataclasses.replace(self, losses=losses, seed=self.seed if seed is None else seed)


def load_simulation_plan(path: Path | None = None) -> SimulationPlan:
    """Read a recipe file; None reads the one that comes with roughspike.

    **Raises** ValueError naming the file and the entry that is missing or not understood.
    """
    source = resources.files("roughspike.recipe") / "simulation.toml" if path is None else path
    try:
        table = tomllib.loads(source.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{source} is no recipe file: {error}") from error
    try:
        losses = table.pop("losses")
        entries = {k: Entry(**{**v, "filters": tuple(v.get("filters", ()))}) for k, v in losses.items()}
        return SimulationPlan(losses=entries, **table)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{source}: entry missing or not understood ({error}): compare with the shipped recipe"
        ) from error
