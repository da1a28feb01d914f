"""Paths that a user gives: arrays with jumps, and spike trains."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import as_float, concrete
from roughspike.paths.realised import AbstractPath, RealisedPath, jumps_in
from roughspike.paths.spikes import SpikeTrain


class PiecewisePath(AbstractPath):
    """A path through given values, straight between them, that may jump at its knots.

        X(t) = straight line through (times, values), constant outside  +  sum of the jumps at times <= t

    Differentiable in values, jump sizes and times. A step of the solver sees the increment of the straight part over
    the step: choose steps no longer than the knots are apart where the shape matters.

    **Arguments**

    - `times`: ascending, shape (knots,). Without `values` they may be padded with +inf.
    - `values`: shape (knots, channels), or (knots,) for one channel; None for a path that only jumps.
    - `jumps`: what the path jumps by at each knot, same shape; None for a continuous path.

    **Raises** ValueError if there is neither, for shapes that differ, or for (concrete) times that do not ascend.

    >>> import jax.numpy as jnp, roughspike as rs
    >>> kicks = rs.PiecewisePath(jnp.array([0.5, 1.5]), jumps=jnp.array([2.0, -1.0]))
    >>> kicks.realise(None, 0.0, 1.0, 10, jnp.float32).jump_sizes.tolist()
    [[2.0], [0.0]]
    """

    times: Float[Array, "knots"]
    values: Float[Array, "knots channels"] | None
    jumps: Float[Array, "knots channels"] | None

    def __init__(self, times: Any, values: Any = None, jumps: Any = None):
        self.times = as_float(times)
        self.values, self.jumps = _columns("values", values, self.times), _columns("jumps", jumps, self.times)
        given = [x.shape[1] for x in (self.values, self.jumps) if x is not None]
        if not given:
            raise ValueError("give values (a continuous part), jumps, or both: this path would never move")
        if len(set(given)) > 1:
            raise ValueError(f"values and jumps must have the same channels, got {given}")
        _check_knots(concrete(self.times), self.values is not None)

    @property
    def rough(self) -> tuple[bool, ...]:
        """No channel is: the path has finite variation."""
        either = self.jumps if self.values is None else self.values
        assert either is not None
        return (False,) * either.shape[1]

    def realise(
        self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any
    ) -> RealisedPath:
        """Sample the straight part on the grid, and keep the jumps in (t0, t1]."""
        del key
        knots = self.times.astype(dtype)
        increments = jnp.zeros((num_steps, self.num_channels), dtype)
        if self.values is not None:
            at = jax.vmap(lambda column: jnp.interp(grid(t0, t1, num_steps, dtype), knots, column), 1, 1)
            increments = jnp.diff(at(self.values.astype(dtype)), axis=0)
        if self.jumps is None:
            times, sizes, needed = knots[:0], jnp.zeros((0, self.num_channels), dtype), jnp.zeros((), jnp.int32)
        else:
            times, sizes, needed = jumps_in(knots, self.jumps.astype(dtype), t0, t1)
        return RealisedPath(increments, None, times, sizes, needed)


class SpikePath(AbstractPath):
    """A spike train as a driver: it jumps by 1 in a neuron's channel at each of its spikes.

    Spikes of several neurons at the same time are one jump. `rs.solve` makes one from a `SpikeTrain`.
    """

    spikes: SpikeTrain

    def __check_init__(self):
        if self.spikes.batch_shape:
            raise ValueError(
                f"a spike train that drives must be one trial, got batch axes {self.spikes.batch_shape}: "
                "pass spikes[k], or vmap over the trials"
            )

    @property
    def rough(self) -> tuple[bool, ...]:
        """No channel is."""
        return (False,) * self.spikes.num_neurons

    def realise(
        self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any
    ) -> RealisedPath:
        """Merge the spikes of all neurons."""
        del key
        channels = self.num_channels
        sizes = jnp.repeat(jnp.eye(channels, dtype=dtype), self.spikes.capacity, axis=0)
        times, sizes, needed = jumps_in(jnp.asarray(self.spikes.times, dtype).reshape(-1), sizes, t0, t1)
        return RealisedPath(jnp.zeros((num_steps, channels), dtype), None, times, sizes, needed)


def grid(t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any) -> jax.Array:
    """Times of the uniform grid."""
    t0, t1 = jnp.asarray(t0, dtype), jnp.asarray(t1, dtype)
    return t0 + (t1 - t0) * (jnp.arange(num_steps + 1, dtype=dtype) / num_steps)


def _columns(name: str, array: Any, times: jax.Array) -> jax.Array | None:
    if array is None:
        return None
    array = as_float(array)
    array = array[:, None] if array.ndim == 1 else array
    if times.ndim != 1 or array.ndim != 2 or array.shape[0] != times.shape[0]:
        raise ValueError(
            f"times must have shape (knots,) and {name} (knots, channels), got {times.shape} and {array.shape}"
        )
    return array


def _check_knots(times: np.ndarray | None, has_values: bool) -> None:
    if times is None:
        return
    with np.errstate(invalid="ignore"):
        ascending = np.all((np.diff(times) > 0) | ~np.isfinite(times[1:]))
    if np.isnan(times).any() or not ascending:
        raise ValueError("times must ascend and hold no NaN: sort the knots and join those at the same time")
    if has_values and not np.isfinite(times).all():
        raise ValueError("times of a path with values must be finite: drop the padding")
