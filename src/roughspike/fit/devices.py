"""A fit on several devices or processes: who shares what, and what is said when a process is lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

ALIKE = "call fit with the same arguments on all of them"


def share(loss: Any, mesh: Mesh | None) -> Any:
    """The objective that shares its work out over a mesh. **Raises** ValueError if it cannot."""
    if mesh is None:
        return loss
    if not hasattr(loss, "mesh"):
        raise ValueError(
            f"{type(loss).__name__} cannot share its work out over devices: leave mesh out, or give it a static field "
            "`mesh` as in roughspike.likelihood.objective.AbstractObjective"
        )
    return dataclasses.replace(loss, mesh=mesh)


def lost(step: int, file: Path | None) -> str:
    """What to tell the user whose run has lost a process."""
    done = f"fit lost another process after step {step}: start all processes again"
    if file is None:
        return f"{done}, with checkpoint=folder to be able to go on from such an end"
    return f"{done} with resume=True, on any number of devices; the last checkpoint {file} is intact"
