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
        return self.increments.shape[0]

    @property
    def num_channels(self) -> int:
        """Components of the path."""
        return self.increments.shape[1]

    @property
    def overflow(self) -> jax.Array:
        """Scalar boolean: were jumps lost because the buffer is too small?"""
        return self.needed > self.jump_times.shape[0]


class AbstractPath(eqx.Module):
    """A driver: a random or given path, continuous from the right with limits from the left.

    A member says how many channels it has and how to draw it. Drawing twice with one key gives the same path.
    `a + b` is the sum of two independent drivers and `rs.StackedPath(a, b)` sets their channels side by side.
    """

    @property
    @abc.abstractmethod
    def num_channels(self) -> int:
        """Components of the path."""

    @abc.abstractmethod
    def realise(
        self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any
    ) -> RealisedPath:
        """Draw the whole path on a uniform grid of `num_steps` steps over [t0, t1]; t0 and t1 may be traced.

        **Arguments**: `key`, a JAX random key (ignored by a driver without randomness; None will do for those);
        `dtype`, the float type of all leaves.
        """


def continuous(increments: jax.Array, areas: jax.Array | None = None) -> RealisedPath:
    """A realised path without jumps."""
    channels = increments.shape[1]
    return RealisedPath(
        increments,
        areas,
        jnp.zeros((0,), increments.dtype),
        jnp.zeros((0, channels), increments.dtype),
        jnp.zeros((), jnp.int32),
    )


def pure_jumps(
    times: jax.Array, sizes: jax.Array, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, needed: Any = None
) -> RealisedPath:
    """A realised path that only jumps; `times` in any order, those outside (t0, t1] are dropped."""
    inside = (times > t0) & (times <= t1)
    order = jnp.argsort(jnp.where(inside, times, jnp.inf))
    inside = inside[order]
    times = jnp.where(inside, times[order], jnp.inf)
    sizes = jnp.where(inside[:, None], sizes[order], 0.0)
    count = jnp.sum(inside) if needed is None else needed
    return RealisedPath(
        jnp.zeros((num_steps, sizes.shape[1]), sizes.dtype), None, times, sizes, jnp.asarray(count, jnp.int32)
    )
