"""From spike fractions on the grid to a padded buffer of spike times."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def gather_times(
    fractions: Float[Array, "steps slots neurons samples"],
    counts: Int[Array, "steps neurons samples"],
    capacity: int,
    t0: float,
    h: float,
) -> tuple[Float[Array, "capacity neurons samples"], Int[Array, "neurons samples"]]:
    """The first `capacity` spike times of each neuron, +inf where there are fewer, and how many there were.

    `counts` is the running number of spikes after each step. The step of the m-th spike is found by bisection in it:
    capacity * log(steps) small gathers, where a scatter over all steps would cost more than the simulation.
    """
    steps, slots = fractions.shape[:2]
    rank = jnp.arange(1, capacity + 1, dtype=counts.dtype)[:, None, None]
    low = jnp.zeros((capacity, *counts.shape[1:]), jnp.int32)
    high = jnp.full_like(low, steps)

    def bisect(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        before = jnp.take_along_axis(counts, jnp.minimum(middle, steps - 1), axis=0) < rank
        return jnp.where(before, middle + 1, low), jnp.where(before, high, middle)

    step, _ = jax.lax.fori_loop(0, steps.bit_length(), bisect, (low, high))
    step = jnp.minimum(step, steps - 1)
    before = jnp.where(step > 0, jnp.take_along_axis(counts, jnp.maximum(step - 1, 0), axis=0), 0)
    slot = jnp.clip(rank - 1 - before, 0, slots - 1)
    flat = fractions.reshape(steps * slots, *fractions.shape[2:])
    r = jnp.take_along_axis(flat, step * slots + slot, axis=0)
    times = t0 + (step.astype(r.dtype) + r) * h
    return jnp.where(rank <= counts[-1:], times, jnp.inf), counts[-1]
