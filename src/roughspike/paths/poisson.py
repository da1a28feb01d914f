"""Poisson and compound Poisson processes as drivers: paths that only jump."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import as_float, concrete
from roughspike.paths.realised import AbstractPath, RealisedPath, merge_jumps, random_key


class PoissonPath(AbstractPath):
    """Independent Poisson processes of constant rates: each jumps by 1 in its channel.

    The waiting times are exponentials of rate 1 divided by the rate, so the jump times, and what follows from them,
    are differentiable in the rate. A larger buffer repeats the same path.

    **Arguments**

    - `rate`: in 1/time; a scalar for one channel, or one rate per channel, shape (channels,). 0 is allowed.
    - `max_jumps`: slots for jumps of all channels together; a path that needs more says so in `needed`.

    **Raises** ValueError for a (concrete) negative rate or a buffer without slots.

    >>> import jax, jax.numpy as jnp, roughspike as rs
    >>> path = rs.PoissonPath([2.0, 5.0], max_jumps=32).realise(jax.random.key(0), 0.0, 1.0, 10, jnp.float32)
    >>> path.jump_sizes.shape, bool(path.overflow)
    ((32, 2), False)
    """

    rate: Float[Array, "channels"]
    max_jumps: int = eqx.field(static=True)

    def __init__(self, rate: Any, max_jumps: int = 64):
        self.rate, self.max_jumps = _rates(rate), _slots(max_jumps)

    @property
    def rough(self) -> tuple[bool, ...]:
        """No channel is."""
        return (False,) * self.rate.shape[0]

    def realise(
        self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any
    ) -> RealisedPath:
        """Draw every channel and keep the first `max_jumps` jumps of all."""
        keys = jax.random.split(random_key(self, key), self.num_channels)
        draw = jax.vmap(lambda k, rate: poisson_times(k, rate, t0, t1, self.max_jumps, dtype))
        times, needed = draw(keys, self.rate.astype(dtype))
        sizes = jnp.repeat(jnp.eye(self.num_channels, dtype=dtype), self.max_jumps, axis=0)
        times, sizes = merge_jumps(times.reshape(-1), jnp.where(jnp.isfinite(times.reshape(-1, 1)), sizes, 0.0))
        times, sizes = times[: self.max_jumps], sizes[: self.max_jumps]
        increments = jnp.zeros((num_steps, self.num_channels), dtype)
        return RealisedPath(increments, None, times, sizes, jnp.sum(needed).astype(jnp.int32))


class CompoundPoissonPath(AbstractPath):
    """Jumps at the times of a Poisson process, of independent random sizes.

    **Arguments**

    - `rate`: jumps per time, a scalar; the jump times are differentiable in it.
    - `jump`: draws one jump from a random key: `jump(key)` has shape (channels,), or () for one channel. A size that is
      written as a function of parameters and a draw (`scale * jr.exponential(key)`) is differentiable in them.
    - `max_jumps`: slots for jumps.

    **Raises** ValueError for a (concrete) negative rate, a buffer without slots, or a jump that is no vector.

    >>> import jax, jax.numpy as jnp, jax.random as jr, roughspike as rs
    >>> claims = rs.CompoundPoissonPath(3.0, lambda key: -2.0 * jr.exponential(key), max_jumps=32)
    >>> claims.realise(jr.key(0), 0.0, 1.0, 10, jnp.float32).jump_sizes.shape
    (32, 1)
    """

    rate: Float[Array, ""]
    jump: Callable[[Any], Any]
    max_jumps: int = eqx.field(static=True)
    channels: int = eqx.field(static=True)

    def __init__(self, rate: Any, jump: Callable[[Any], Any], max_jumps: int = 64):
        if np.shape(rate) != ():
            raise ValueError(f"rate must be a scalar, got shape {np.shape(rate)}: stack several drivers for several")
        self.rate, self.max_jumps = _rates(rate)[0], _slots(max_jumps)
        shape = jax.eval_shape(jump, jax.random.key(0)).shape
        if len(shape) > 1:
            raise ValueError(f"jump(key) must have shape (channels,) or (), got {shape}")
        self.jump, self.channels = jump, shape[0] if shape else 1

    @property
    def rough(self) -> tuple[bool, ...]:
        """No channel is."""
        return (False,) * self.channels

    def realise(
        self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any
    ) -> RealisedPath:
        """Draw the times, and a size for each."""
        for_times, for_sizes = jax.random.split(random_key(self, key))
        times, needed = poisson_times(for_times, self.rate.astype(dtype), t0, t1, self.max_jumps, dtype)
        sizes = jax.vmap(self.jump)(interval_keys(for_sizes, self.max_jumps)).reshape(self.max_jumps, self.channels)
        sizes = jnp.where(jnp.isfinite(times)[:, None], sizes.astype(dtype), 0.0)
        return RealisedPath(jnp.zeros((num_steps, self.channels), dtype), None, times, sizes, needed)


def poisson_times(
    key: Any, rate: jax.Array, t0: float | jax.Array, t1: float | jax.Array, slots: int, dtype: Any
) -> tuple[jax.Array, jax.Array]:
    """Times of a Poisson process in (t0, t1], padded with +inf, and their number (estimated beyond the last slot)."""
    t0, t1 = jnp.asarray(t0, dtype), jnp.asarray(t1, dtype)
    unit = jax.vmap(lambda k: jax.random.exponential(k, (), dtype))(interval_keys(key, slots))
    silent = rate <= 0
    times = t0 + jnp.cumsum(unit) / jnp.where(silent, 1.0, rate)
    inside = (times <= t1) & ~silent
    rest = jnp.where(inside[-1], jnp.ceil(jnp.maximum(rate * (t1 - times[-1]), 1.0)), 0.0)
    return jnp.where(inside, times, jnp.inf), jnp.sum(inside, dtype=jnp.int32) + rest.astype(jnp.int32)


def interval_keys(key: Any, slots: int) -> Any:
    """One key per jump, so that a larger buffer repeats the same jumps."""
    return jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(slots))


def _rates(rate: Any) -> jax.Array:
    values = as_float(rate) if not isinstance(rate, list | tuple) else jnp.stack([as_float(r) for r in rate])
    if values.ndim > 1:
        raise ValueError(f"rate must be a scalar or have shape (channels,), got shape {values.shape}")
    known = concrete(values)
    if known is not None and not np.all(known >= 0):
        raise ValueError(f"rate must not be negative, got {known.tolist()}")
    return jnp.atleast_1d(values)


def _slots(max_jumps: int) -> int:
    if max_jumps < 1:
        raise ValueError(f"max_jumps must be at least 1, got {max_jumps}")
    return int(max_jumps)
