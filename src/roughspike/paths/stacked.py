"""Drivers side by side, and drivers from other things: diffrax paths, spike trains."""

from __future__ import annotations

import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.paths.piecewise import SpikePath, grid
from roughspike.paths.realised import AbstractPath, RealisedPath, continuous, merge_jumps, needed_by, realise_all
from roughspike.paths.spikes import SpikeTrain


class StackedPath(AbstractPath):
    """X = (X_1, X_2, ...): the channels of several independent drivers side by side, in this order.

    **Arguments**: the drivers; a `SpikeTrain` or a diffrax path counts as one.

    >>> import roughspike as rs
    >>> rs.StackedPath(rs.BrownianPath(2), rs.PoissonPath(1.0)).num_channels
    3
    """

    parts: tuple[AbstractPath, ...]

    def __init__(self, *parts: Any):
        if not parts:
            raise ValueError("give at least one driver to stack")
        self.parts = tuple(as_driver(part) for part in parts)

    @property
    def rough(self) -> tuple[bool, ...]:
        """Those of the parts, one after the other."""
        return tuple(rough for part in self.parts for rough in part.rough)

    def realise(
        self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any
    ) -> RealisedPath:
        """Draw the parts and merge their jumps; jumps of two parts at the same time are one."""
        drawn = realise_all(self.parts, key, t0, t1, num_steps, dtype)
        increments = jnp.concatenate([path.increments for path in drawn], axis=1)
        areas = None
        if any(path.areas is not None for path in drawn):
            filled = [jnp.zeros_like(p.increments) if p.areas is None else p.areas for p in drawn]
            areas = jnp.concatenate(filled, axis=1)
        sizes, start = [], 0
        for path in drawn:
            after = self.num_channels - start - path.num_channels
            sizes.append(jnp.pad(path.jump_sizes, ((0, 0), (start, after))))
            start += path.num_channels
        times = jnp.concatenate([path.jump_times for path in drawn])
        return RealisedPath(increments, areas, *merge_jumps(times, jnp.concatenate(sizes)), needed_by(drawn))


class SampledPath(AbstractPath):
    """A diffrax path, seen through its increments over the steps of the grid.

    A Brownian path of diffrax keeps the key it was made with, and hands on its space-time Levy areas if it has them
    (`levy_area=diffrax.SpaceTimeLevyArea`). Jumps inside a step become its slope: use `PiecewisePath` for those.
    """

    path: Any
    channels: int = eqx.field(static=True)
    brownian: bool = eqx.field(static=True)

    def __init__(self, path: Any):
        import diffrax

        self.path, self.brownian = path, isinstance(path, diffrax.AbstractBrownianPath)
        shape = eqx.filter_eval_shape(lambda p, a, b: p.evaluate(a, b), path, jnp.zeros(()), jnp.ones(())).shape
        if len(shape) > 1:
            raise ValueError(f"a diffrax path that drives must have shape (channels,) or (), got {shape}")
        self.channels = shape[0] if shape else 1

    @property
    def rough(self) -> tuple[bool, ...]:
        """Every channel of a Brownian path is, no other."""
        return (self.brownian,) * self.channels

    def realise(
        self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any
    ) -> RealisedPath:
        """Ask the path for every step."""
        del key
        own = [leaf for leaf in jax.tree.leaves(self.path) if eqx.is_inexact_array(leaf)]
        times = grid(t0, t1, num_steps, jnp.result_type(*own) if own else dtype)
        if not self.brownian:
            increments = jax.vmap(self.path.evaluate)(times[:-1], times[1:])
            return continuous(jnp.asarray(increments, dtype).reshape(num_steps, self.channels))
        drawn = jax.vmap(lambda a, b: self.path.evaluate(a, b, use_levy=True))(times[:-1], times[1:])
        areas = getattr(drawn, "H", None)
        shape = (num_steps, self.channels)
        return continuous(
            jnp.asarray(drawn.W, dtype).reshape(shape), None if areas is None else areas.astype(dtype).reshape(shape)
        )


def as_driver(driver: Any) -> AbstractPath:
    """A driver as it is; a spike train or a diffrax path as a driver.

    **Raises** ValueError for anything else.
    """
    if isinstance(driver, AbstractPath):
        return driver
    if isinstance(driver, SpikeTrain):
        return SpikePath(driver)
    diffrax = sys.modules.get("diffrax")  # who has a path of it has imported it
    if diffrax is not None and isinstance(driver, diffrax.AbstractPath):
        return SampledPath(driver)
    raise ValueError(
        f"driver must be a path such as rs.BrownianPath(2), a SpikeTrain, a diffrax path or None, got {driver!r}"
    )
