"""roughspike: stochastic spiking neurons with exact gradients, fitted to recorded spikes.

Every public name stands in the table below and is imported when it is first used, so that `import roughspike` costs
nothing and `roughspike --help` is instant.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roughspike._types import Result as Result
    from roughspike._types import SimulationError as SimulationError
    from roughspike.paths.spikes import SpikeTrain as SpikeTrain
    from roughspike.paths.windows import Windows as Windows

__version__ = "0.1.0"

_HOME = {
    "Result": "_types",
    "SimulationError": "_types",
    "SpikeTrain": "paths.spikes",
    "Windows": "paths.windows",
}

__all__ = list(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'roughspike' has no attribute {name!r}; public names: {', '.join(sorted(_HOME))}")
    value = getattr(importlib.import_module(f"roughspike.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])


class _Package(types.ModuleType):
    """Keeps `roughspike.fit` the public function, though a room of that name exists.

    Importing a subpackage sets it as an attribute of its parent; that assignment is refused for public names.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
