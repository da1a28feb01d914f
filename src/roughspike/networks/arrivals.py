"""From spike times to what arrives in each step of the grid.

A spike that arrives at t in (t_n, t_{n+1}] belongs to step n, at the fraction x = (t - t_n) / h in (0, 1]: one on a
grid point acts from there on, exactly. What a unit of it adds to i and v at t_{n+1} is e^{-mu2 h (1 - x)} and
kappa(h (1 - x)).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from roughspike.networks.decay import Decay, left_of_step


def input_pairs(times: jax.Array, decay: Decay, h: float, steps: int, first: Any = 0) -> jax.Array:
    """What spikes (capacity, pre, lanes), times from the start of the run, add per unit weight: `left_of_step`.

    Shape (steps, pre, parts x lanes), i first. Any number of spikes of a channel may fall in a step. Differentiable in
    times.
    """
    _, pre, lanes = times.shape
    n, on = steps_of(times, decay, h, steps, first)
    rows, columns = (jax.lax.broadcasted_iota(jnp.int32, times.shape, axis) for axis in (1, 2))
    pairs = jnp.zeros((steps, pre, decay.parts * lanes), times.dtype)
    for k, x in enumerate(on):
        pairs = pairs.at[n, rows, columns + k * lanes].add(x, mode="drop")
    return pairs


def delayed_synapses(
    times: jax.Array, weights: jax.Array, delays: jax.Array, decay: Decay, h: float, steps: int, first: Any = 0
) -> tuple[jax.Array, ...]:
    """What spikes (capacity, pre, lanes) add through synapses (pre, post) with delays of their own.

    As `left_of_step`, arrays (steps, post, lanes), weighted; differentiable in times, weights and delays.
    """
    capacity, pre, lanes = times.shape
    post = weights.shape[1]
    arrival = times[:, :, None, :] + delays[None, :, :, None]
    n, on = steps_of(arrival, decay, h, steps, first)
    shape = (capacity, pre, post, lanes)
    rows, columns = (jax.lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (2, 3))
    zeros = jnp.zeros((steps, post, lanes), times.dtype)
    return tuple(zeros.at[n, rows, columns].add(weights[None, :, :, None] * x, mode="drop") for x in on)


def delay_fractions(fractions: tuple[jax.Array, ...], delays: jax.Array, h: float) -> tuple[jax.Array, ...]:
    """Spikes, (steps, pre, lanes) per slot, that arrive later by `delays`, a scalar or (pre,), in twice as many slots.

    What arrives after the end of the run is lost, as it should be. Differentiable in both.
    """
    steps, pre, _ = fractions[0].shape
    ratio = jnp.broadcast_to(delays, (pre,))[None, :, None] / h
    whole = jax.lax.stop_gradient(jnp.floor(ratio))
    part = ratio - whole
    step = jnp.arange(steps, dtype=jnp.int32)[:, None, None]

    def moved(x: jax.Array, late: int) -> jax.Array:
        source = step - (whole.astype(jnp.int32) + late)
        x = jnp.take_along_axis(x, jnp.maximum(source, 0), axis=0)
        there = (source >= 0) & (x >= 0)
        x = x + (part - late)
        inside = (x <= 1.0) if late == 0 else (x > 0.0)
        return jnp.where(there & inside, x, -1.0)

    return tuple(moved(x, late) for x in fractions for late in (0, 1))


def steps_of(
    times: jax.Array, decay: Decay, h: float, steps: int, first: Any = 0
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The step of each time (`steps` for none), and what a spike there adds to i and v at the end of it.

    Steps are counted from the step `first` of the run; times always from its start.
    """
    ratio = times / h
    snap = 1e-3 if times.dtype == jnp.float32 else 1e-9  # a time on the grid, up to rounding, ends a step
    n = jnp.maximum(jnp.ceil(jax.lax.stop_gradient(ratio) - snap) - 1.0, 0.0)
    begin = jnp.asarray(first, times.dtype)
    there = (ratio >= -snap) & (n >= begin) & (n < begin + steps)
    x = jnp.where(there, ratio - jnp.where(there, n, 0.0), 0.5)
    on = left_of_step(decay, x)
    return jnp.where(there, n - begin, steps).astype(jnp.int32), on
