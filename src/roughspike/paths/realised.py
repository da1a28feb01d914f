"""The drivers of an event SDE: what they promise, and what is left of one after its random numbers are drawn."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class RealisedPath(eqx.Module):
    """A cadlag path on the uniform grid of [t0, t1], all random numbers drawn: a continuous part, and jumps.

    Inside a step of length h the continuous part is X(r h) = X(0) + r dX + 6 r (1 - r) H with 0 <= r <= 1, where H is
    0 if `areas` is None. The path does not depend on where the events of a solution fall. It is differentiable in
    every float leaf.

    **Attributes**

    - `increments`: dX, the change of the continuous part over each step, shape (steps, channels).
    - `areas`: H, the space-time Levy area of each step over its length, shape (steps, channels); None if not drawn.
    - `jump_times`: ascending, in (t0, t1], padded with +inf; shape (jumps,), which is (0,) for a continuous path.
    - `jump_sizes`: what the path jumps by, shape (jumps, channels); 0 where padded.
    - `needed`: number of jumps in (t0, t1]. More than `jump_times` has slots: the later jumps are lost.
    """

    increments: Float[Array, "steps channels"]
    areas: Float[Array, "steps channels"] | None
    jump_times: Float[Array, "jumps"]
    jump_sizes: Float[Array, "jumps channels"]
    needed: Int[Array, ""]

    @property
    def num_steps(self) -> int:
        """Steps of the grid."""
        return self.increments.shape[-2]

    @property
    def num_channels(self) -> int:
        """Components of the path."""
        return self.increments.shape[-1]

    @property
    def overflow(self) -> jax.Array:
        """Boolean: were jumps lost because the buffer is too small?"""
        return self.needed > self.jump_times.shape[-1]

    def coarsen(self, factor: int) -> RealisedPath:
        """The same path on steps that are `factor` times as long: what a study of convergence compares with.

        With W the path from the start of a long step of n short ones, H = mean of W - W_n / 2, and the mean of W over
        short step k is W_k + dX_k / 2 + H_k.

        **Raises** ValueError if `factor` does not divide the number of steps.
        """
        if factor < 1 or self.num_steps % factor:
            raise ValueError(f"factor must divide the number of steps {self.num_steps}, got {factor}")
        blocks = self.increments.reshape(-1, factor, self.num_channels)
        short = jnp.zeros_like(self.increments) if self.areas is None else self.areas
        starts = jnp.cumsum(blocks, axis=1) - blocks
        total = jnp.sum(blocks, axis=1)
        areas = jnp.mean(starts + blocks / 2 + short.reshape(blocks.shape), axis=1) - total / 2
        return RealisedPath(total, areas, self.jump_times, self.jump_sizes, self.needed)


class AbstractPath(eqx.Module):
    """A driver: a random or given path, continuous from the right with limits from the left.

    A member says how many channels it has, which of them are rough, and how to draw it. Drawing twice with one key
    gives the same path. `a + b` is the sum of independent drivers; `rs.StackedPath(a, b)` sets their channels side by
    side. A minimal member, a clock that runs at a given speed:

        class Clock(AbstractPath):
            speed: jax.Array
            @property
            def rough(self): return (False,)
            def realise(self, key, t0, t1, num_steps, dtype):
                return continuous(jnp.full((num_steps, 1), self.speed * (t1 - t0) / num_steps, dtype))
    """

    @property
    @abc.abstractmethod
    def rough(self) -> tuple[bool, ...]:
        """Per channel: has its continuous part infinite variation, as Brownian motion has?

        Assumptions 3.4 and 3.5 of the theory speak of these channels (`rs.check_assumptions`).
        """

    @property
    def num_channels(self) -> int:
        """Components of the path."""
        return len(self.rough)

    @abc.abstractmethod
    def realise(
        self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any
    ) -> RealisedPath:
        """Draw the whole path on a uniform grid of `num_steps` steps over [t0, t1]; t0 and t1 may be traced.

        **Arguments**: `key`, a JAX random key (ignored by a driver without randomness; None will do for those);
        `dtype`, the float type of all leaves.
        """

    def __add__(self, other: AbstractPath) -> SumOfPaths:
        mine = self.parts if isinstance(self, SumOfPaths) else (self,)
        others = other.parts if isinstance(other, SumOfPaths) else (other,)
        return SumOfPaths(mine + others)


class SumOfPaths(AbstractPath):
    """X = sum of the parts, drawn independently of each other; what `+` returns."""

    parts: tuple[AbstractPath, ...]

    def __check_init__(self):
        channels = [part.num_channels for part in self.parts]
        if len(set(channels)) != 1:
            raise ValueError(
                f"drivers that are added must have the same number of channels, got {channels}: "
                "to set them side by side use rs.StackedPath"
            )

    @property
    def rough(self) -> tuple[bool, ...]:
        """A channel is rough if it is in any part."""
        return tuple(any(column) for column in zip(*(part.rough for part in self.parts), strict=True))

    def realise(
        self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any
    ) -> RealisedPath:
        """Add increments and areas, and merge the jumps."""
        drawn = realise_all(self.parts, key, t0, t1, num_steps, dtype)
        increments = sum(path.increments for path in drawn[1:]) + drawn[0].increments
        areas = None
        if any(path.areas is not None for path in drawn):
            areas = sum((path.areas for path in drawn if path.areas is not None), jnp.zeros_like(increments))
        times = jnp.concatenate([path.jump_times for path in drawn])
        sizes = jnp.concatenate([path.jump_sizes for path in drawn])
        return RealisedPath(increments, areas, *merge_jumps(times, sizes), needed_by(drawn))


def continuous(increments: jax.Array, areas: jax.Array | None = None) -> RealisedPath:
    """A realised path without jumps."""
    shape = (0, increments.shape[1])
    none, sizes = jnp.zeros(0, increments.dtype), jnp.zeros(shape, increments.dtype)
    return RealisedPath(increments, areas, none, sizes, jnp.zeros((), jnp.int32))


def jumps_in(
    times: jax.Array, sizes: jax.Array, t0: float | jax.Array, t1: float | jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Those jumps that lie in (t0, t1], ascending and padded, and how many they are; `times` in any order."""
    inside = (times > t0) & (times <= t1)
    times, sizes = merge_jumps(jnp.where(inside, times, jnp.inf), jnp.where(inside[:, None], sizes, 0.0))
    return times, sizes, jnp.sum(inside).astype(jnp.int32)


def merge_jumps(times: jax.Array, sizes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sort jumps by time. Jumps at the same time become one: their straight diagonal is the Marcus lift."""
    if times.shape[0] < 2:
        return times, sizes
    order = jnp.argsort(times)
    times, sizes = times[order], sizes[order]
    first = jnp.concatenate([jnp.ones(1, bool), times[1:] != times[:-1]])
    row = jnp.cumsum(first) - 1
    return jnp.sort(jnp.where(first, times, jnp.inf)), jnp.zeros_like(sizes).at[row].add(sizes)


def realise_all(
    parts: tuple[AbstractPath, ...],
    key: Any,
    t0: float | jax.Array,
    t1: float | jax.Array,
    num_steps: int,
    dtype: Any,
) -> list[RealisedPath]:
    """Draw drivers independently of each other."""
    keys = [None] * len(parts) if key is None else list(jax.random.split(key, len(parts)))
    return [part.realise(k, t0, t1, num_steps, dtype) for part, k in zip(parts, keys, strict=True)]


def needed_by(drawn: list[RealisedPath]) -> jax.Array:
    """Slots that several drivers together need: more than they have if any of them has too few."""
    slots = sum(path.jump_times.shape[0] for path in drawn)
    missing = jnp.stack([jnp.maximum(path.needed - path.jump_times.shape[0], 0) for path in drawn]).sum()
    total = jnp.stack([path.needed for path in drawn]).sum()
    return jnp.where(missing > 0, jnp.maximum(total, slots + missing), total).astype(jnp.int32)


def random_key(driver: AbstractPath, key: Any) -> Any:
    """`key`, or a complaint that a random driver needs one."""
    if key is None:
        raise ValueError(f"key must be a JAX random key, since {type(driver).__name__} is random: pass key=jr.key(0)")
    return key
