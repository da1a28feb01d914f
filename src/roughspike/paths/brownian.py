"""Brownian motion as a driver."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.paths.drawn import DrawnPath, DrawnRows
from roughspike.paths.realised import AbstractPath, RealisedPath, continuous, random_key


class BrownianPath(AbstractPath):
    """Independent standard Brownian motions; the path of the default, straight inside each step.

    With `areas` each step also draws H ~ N(0, h / 12), independent of the increment, and the path inside a step is
    the parabola B(r h) = B(0) + r dB + 6 r (1 - r) H: the mean of Brownian motion given dB and the integral of B
    (Foster, Lyons & Oberhauser 2020, arXiv 1905.11071). Solvers of strong order 1.5 for additive noise (ShARK, SRA1)
    need it. The increments are the same with and without areas.

    **Arguments**

    - `num_channels`: how many Brownian motions.
    - `areas`: also draw the space-time Levy areas H.
    - `lazy`: give every step a key of its own, so that `rs.solve` can draw a step when it comes to it, and again in
      the backward pass, instead of the whole path beforehand. Memory then does not grow with the number of steps by
      the path, for more time (page "which gradient method"). The path is not the one without `lazy`, and is kept as
      any other in sums and stacks.

    >>> import jax, jax.numpy as jnp, roughspike as rs
    >>> path = rs.BrownianPath(2).realise(jax.random.key(0), 0.0, 1.0, 50, jnp.float32)
    >>> path.increments.shape, path.jump_times.shape
    ((50, 2), (0,))
    """

    channels: int = eqx.field(static=True)
    areas: bool = eqx.field(static=True)
    lazy: bool = eqx.field(static=True)

    def __init__(self, num_channels: int = 1, areas: bool = False, lazy: bool = False):
        if num_channels < 1:
            raise ValueError(f"num_channels must be at least 1, got {num_channels}")
        self.channels, self.areas, self.lazy = int(num_channels), bool(areas), bool(lazy)

    @property
    def rough(self) -> tuple[bool, ...]:
        """Every channel is."""
        return (True,) * self.channels

    def realise(
        self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any
    ) -> RealisedPath:
        """Increments N(0, h), and areas N(0, h / 12) if asked for."""
        if self.lazy:
            path, cells = self.drawn(key, t0, t1, num_steps, dtype), jnp.arange(num_steps, dtype=jnp.int32)
            return continuous(path.increments[cells], None if path.areas is None else path.areas[cells])
        scale = jnp.sqrt(step_length(t0, t1, num_steps, dtype))
        for_increments, for_areas = jax.random.split(random_key(self, key))
        shape = (num_steps, self.channels)
        increments = scale * jax.random.normal(for_increments, shape, dtype)
        areas = scale * jax.random.normal(for_areas, shape, dtype) / jnp.sqrt(jnp.asarray(12, dtype))
        return continuous(increments, areas if self.areas else None)

    def drawn(self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any) -> DrawnPath:
        """The path of `realise` with `lazy`, whose steps are drawn when they are asked for."""
        scale, shape = jnp.sqrt(step_length(t0, t1, num_steps, dtype)), (num_steps, self.channels)
        for_increments, for_areas = jax.random.split(random_key(self, key))
        areas = DrawnRows(for_areas, scale / jnp.sqrt(jnp.asarray(12, dtype)), shape)
        return DrawnPath(DrawnRows(for_increments, scale, shape), areas if self.areas else None)


def step_length(t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any) -> jax.Array:
    """Length of a step of the uniform grid."""
    return (jnp.asarray(t1, dtype) - jnp.asarray(t0, dtype)) / num_steps
