"""The delayed engine where nobody differentiates it: noise drawn, and spike times written down, as the run goes.

A long run of many neurons would spend a third of its time on memory: on arrays of normals and of spikes as long as the
run, which are written once and read once. Here the grid is cut into pieces of the steps whose normals come from one
key. The normals of a piece, and its spikes, stay in the processor's cache. Numbers are those of `run_scan`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.networks.delayed import Fixed, Given, Inputs, Plan, deliver, one_step, started, with_end_flags
from roughspike.networks.few import Some, over_few
from roughspike.networks.noise import CHUNK, Key, draw_normals

_AT_ONCE = 256  # spikes of a piece whose times are written together


class Listed(NamedTuple):
    """Spike times (capacity, lanes, neurons) from 0, +inf padded; counts and flags (lanes, neurons); the rest of a
    `Scanned`.
    """

    times: jax.Array
    counts: jax.Array
    membrane: jax.Array | None
    end: Any
    flags: jax.Array


class _Piece(NamedTuple):
    """Spikes of a piece: fractions (CHUNK, slots, lanes, neurons), counts before each step (CHUNK, lanes, neurons)."""

    fractions: jax.Array
    before: jax.Array


def run_forward(
    plan: Plan, given: Given, fixed: Fixed, key: Key | None, steps: int, normals: int, capacity: int, h: float
) -> Listed:
    """The run. `key`: of the normals, `normals` for each neuron and step, which `fixed` has not."""
    lanes, neurons = given.start.v.shape
    dtype = given.start.v.dtype
    slots = plan.kind.slots
    changing = jax.tree.leaves(given.drive)[0].ndim == 3
    at = lambda tree, n: jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, n, 0, False), tree)  # noqa: E731

    def piece(m: jax.Array, whole: Any) -> Any:
        carry, times, membrane = whole
        first = m * CHUNK
        drawn = None
        if key is not None:
            drawn = jnp.swapaxes(draw_normals(key, m, CHUNK, (normals, neurons, lanes), dtype), 2, 3)

        def step(k: jax.Array, loop: Any) -> Any:
            carry, spikes, membrane = loop
            n = first + k
            inputs = Inputs(n, at(given.drive, n) if changing else None, at(given.direct, n), at(drawn, k))
            before = carry[3]
            carry, (fractions, _, v, _) = one_step(plan, given, fixed, carry, inputs, deliver, True)
            put = lambda x, new, place: jax.lax.dynamic_update_index_in_dim(x, new, place, 0)  # noqa: E731
            spikes = _Piece(put(spikes.fractions, fractions, k), put(spikes.before, before, k))
            return carry, spikes, None if membrane is None else put(membrane, v, n)

        empty = _Piece(
            jnp.full((CHUNK, slots, lanes, neurons), -1.0, dtype), jnp.zeros((CHUNK, lanes, neurons), jnp.int32)
        )
        count = jnp.minimum(CHUNK, steps - first)
        carry, spikes, membrane = jax.lax.fori_loop(0, count, step, (carry, empty, membrane))
        return carry, _write(times, spikes, first, h), membrane

    times = jnp.full((capacity, lanes, neurons), jnp.inf, dtype)
    membrane = jnp.zeros((steps, lanes, neurons), dtype) if plan.trace else None
    pieces = -(-steps // CHUNK)
    carry, times, membrane = jax.lax.fori_loop(0, pieces, piece, (started(plan, given), times, membrane))
    end, _, _, counts, flags = carry
    return Listed(times, counts, membrane, end, with_end_flags(plan, given, end, flags))


def _write(times: jax.Array, spikes: _Piece, first: jax.Array, h: float) -> jax.Array:
    """The times of the spikes of a piece, which begins with the step `first`."""
    _, slots, lanes, neurons = spikes.fractions.shape
    each = lanes * neurons
    room = times.shape[0] * each

    def act(some: Some, flat: jax.Array) -> jax.Array:
        (x,) = some.take((spikes.fractions,))
        step, place = some.inside // (slots * each), some.inside % each
        rank = spikes.before.reshape(-1)[step * each + place] + some.inside % (slots * each) // each
        where = jnp.where(some.there & (rank < times.shape[0]), rank * each + place, room)
        return flat.at[where].set(((first + step).astype(x.dtype) + x) * h, mode="drop")

    return over_few(spikes.fractions >= 0, _AT_ONCE, act, times.reshape(-1)).reshape(times.shape)
