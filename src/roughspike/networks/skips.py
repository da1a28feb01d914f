"""What spikes of a layer further back leave in the steps of another, summed over them before its scan begins."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from roughspike.networks.arrivals import delayed_synapses, input_pairs
from roughspike.networks.decay import Decay
from roughspike.networks.layer import pairs_of


def skipped(
    weights: jax.Array,
    delays: jax.Array | None,
    decay: Decay,
    times: jax.Array | None,
    fractions: tuple[jax.Array, ...] | None,
    grid: tuple[Any, ...],
) -> tuple[jax.Array, ...] | None:
    """Arrays (steps, post, lanes) as `left_of_step`, weighted; None if the source has no spikes at all.

    **Arguments**

    - `times`: of the spikes of the source, (capacity, pre, lanes), from the start of the run.
    - `fractions`: their places in these steps, one array (steps, pre, lanes) per slot; None for inputs.
    - `grid`: length of a step, number of steps, and the first of them.
    """
    if delays is None and fractions is not None:
        pairs = pairs_of(decay, fractions)
    elif times is None:
        return None
    elif delays is not None and delays.ndim == 2:
        return delayed_synapses(times, weights, delays, decay, *grid)
    else:
        late = times if delays is None else times + jnp.broadcast_to(delays, times.shape[1])[None, :, None]
        pairs = jnp.split(input_pairs(late, decay, *grid), decay.parts, axis=2)
    return tuple(jnp.einsum("npl,pk->nkl", on, weights) for on in pairs)


def with_skipped(reached: dict[str, Any], more: tuple[jax.Array, ...] | None) -> dict[str, Any]:
    """What reaches a layer, with more that arrives."""
    if more is None:
        return reached
    direct = reached["direct"]
    return {**reached, "direct": more if direct is None else tuple(map(jnp.add, direct, more))}
