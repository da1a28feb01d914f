"""An input current on the grid of an engine: its means over half steps."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from roughspike.currents.base import AbstractCurrent
from roughspike.paths import grid


def prepare_means(current: Any, t0: float, t1: float, steps: int) -> Any:
    """Host work of the current for the half steps of the grid: done outside of the compiled function."""
    if not isinstance(current, AbstractCurrent):
        return None
    starts, lengths = grid.half_steps(t0, t1, steps)
    return current.prepare(starts[None, :], lengths[None, :])


def half_means(current: Any, prepared: Any, steps: int, neurons: int) -> jax.Array:
    """Means of the current over the half steps: (2, neurons, 1) if it is constant, else (steps, 2, neurons, 1)."""
    if not isinstance(current, AbstractCurrent):
        return jnp.broadcast_to(jnp.atleast_1d(current)[None, :, None], (2, neurons, 1))
    means = current.means(prepared)
    means = jnp.broadcast_to(means, (neurons, 2 * steps))
    return means.reshape(neurons, steps, 2).transpose(1, 2, 0)[..., None]
