"""A recipe file (TOML) as objects: every number that a fit of a recording depends on."""

from __future__ import annotations

import dataclasses
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of training."""

    steps: int
    learning_rate: float
    chunk: int
    particles: int = 0
    start: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a recording is fitted.

    **Attributes**

    - `dt`, `simulation_dt`: steps of likelihood and simulation in seconds.
    - `seed`, `samples`, `particles`: random key, free simulations, size of the particle filter.
    - `glm_bins`: bin sizes of the GLM baseline in seconds.
    - `exact`, `diffusion`: the two stages; `diffusion.steps = 0` leaves the second one out.
    - `expected`: figures to reach, by recording and split.
    """

    dt: float
    simulation_dt: float
    seed: int
    samples: int
    particles: int
    glm_bins: tuple[float, ...]
    exact: Stage
    diffusion: Stage
    expected: dict[str, dict[str, dict[str, float]]] = dataclasses.field(default_factory=dict)

    def replace(self, **changes: Any) -> Plan:
        """A copy with other values; None means: as it was."""
        return dataclasses.replace(self, **{k: v for k, v in changes.items() if v is not None})

    def rows(self) -> dict[str, Any]:
        """Settings as plain values, for the run's configuration."""
        values = dataclasses.asdict(self)
        del values["expected"]
        return values | {"glm_bins": list(self.glm_bins)}


def load_plan(path: str | Path | None = None) -> Plan:
    """Read a recipe file; None reads the one that comes with roughspike.

    **Raises** ValueError naming the file and the entry that is missing or not understood.
    """
    source = resources.files("roughspike.recipe") / "grasshopper.toml" if path is None else Path(path)
    try:
        table = tomllib.loads(source.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{source} is no recipe file: {error}") from error
    try:
        stages = {name: Stage(**table.pop(name)) for name in ("exact", "diffusion")}
        table["glm_bins"] = tuple(table["glm_bins"])
        values: dict[str, Any] = {**table, **stages}
        return Plan(**values)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{source}: entry missing or not understood ({error}): compare with the shipped recipe"
        ) from error
