"""The arguments of `fit`, checked before anything is computed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows


def check_numbers(*, steps: Any, dt: Any, chunk: Any, patience: Any, learning_rate: Any, key: Any) -> None:
    """**Raises** ValueError for a number out of range or a key that is none."""
    for name, value in (("steps", steps), ("chunk", chunk), ("patience", 1 if patience is None else patience)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    for name, value in (("dt", dt), ("learning_rate", learning_rate)):
        if not (isinstance(value, int | float | np.number) and np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()
    raw = isinstance(key, jax.Array | np.ndarray) and key.dtype == np.uint32 and key.ndim == 1
    if not (typed or raw):
        raise ValueError(f"key must be one JAX random key, got {key!r}: pass key=jax.random.key(0)")


def check_data(data: Any, windows: Windows | None, held_out: Any, patience: int | None, loss: Any) -> None:
    """**Raises** ValueError if the parts do not go together, above all if held-out time is trained on."""
    if not isinstance(data, SpikeTrain):
        raise ValueError(f"data must be a SpikeTrain, got {type(data).__name__}: use read_spikes or SpikeTrain(...)")
    for method in ("prepare", "score", "__call__"):
        if not callable(getattr(loss, method, None)):
            raise ValueError(f"loss has no method {method}: pass an objective such as NegativeLogLikelihood()")
    if windows is None and getattr(loss, "windows_per_step", None) is not None:
        raise ValueError("windows_per_step chooses from windows: pass windows=Windows.tile(...) too, or leave it out")
    if patience is not None and held_out is None:
        raise ValueError("patience needs held-out data to watch: pass held_out=Windows(...) or a SpikeTrain")
    if held_out is not None and not isinstance(held_out, SpikeTrain | Windows):
        raise ValueError(f"held_out must be Windows or a SpikeTrain, got {type(held_out).__name__}")
    for name, value in (("windows", windows), ("held_out", held_out)):
        if isinstance(value, Windows):
            _check_inside(name, value, data)
    if isinstance(held_out, Windows):
        _check_disjoint(windows, held_out)


def _check_inside(name: str, windows: Windows, data: SpikeTrain) -> None:
    slack = 1e-9 * data.duration
    if windows.starts[0] < data.t0 - slack or windows.stops[-1] > data.t1 + slack:
        raise ValueError(
            f"{name} covers [{windows.starts[0]:g}, {windows.stops[-1]:g}], the data only [{data.t0:g}, {data.t1:g}]: "
            "give windows in the data's own clock, which starts at its onset"
        )


def _check_disjoint(windows: Windows | None, held_out: Windows) -> None:
    if windows is None:
        raise ValueError(
            "held_out are windows of the data, and all of the data is trained on: pass windows=all.drop(...) too"
        )
    for a, b in zip(held_out.starts, held_out.stops, strict=True):
        for c, d in zip(windows.starts, windows.stops, strict=True):
            if min(b, d) - max(a, c) > 1e-9 * (b - a):
                raise ValueError(
                    f"held_out [{a:g}, {b:g}] overlaps the training window [{c:g}, {d:g}]: its score would not be "
                    "held-out; make both from one Windows.tile with select and drop"
                )
