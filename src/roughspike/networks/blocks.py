"""Square-root memory: blocks of steps, of which only the start is kept and which are run again in the backward pass.

A run of n steps in blocks of about sqrt(n) keeps sqrt(n) states; its backward sweep runs one block forward again, with
all that the adjoint of a block needs, and then backward. The noise of a block is drawn when it is run, from the block's
own keys, and the spikes are written to their buffer, so nothing has the length of the run but a current that changes.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.networks.adjoint import Perturbed, backward, values_and_perturbed
from roughspike.networks.noise import CHUNK, Key, draw_normals
from roughspike.networks.scan import Scanned, run_scan, step_body
from roughspike.networks.step import Coefficients, State, Static


class Blocked(NamedTuple):
    """Spike times (capacity, neurons, samples) from the start of the run, +inf padded; counts, end and flags."""

    times: jax.Array
    counts: jax.Array
    end: State
    flags: jax.Array


class Blocks(NamedTuple):
    """What a blocked run is compiled for, beside its step."""

    steps: int
    normals: int  # per step
    capacity: int

    @property
    def length(self) -> int:
        """Steps of a block: about sqrt(steps), a multiple of the chunks in which noise is drawn."""
        return CHUNK * max(1, round(math.sqrt(self.steps) / CHUNK))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def run_in_blocks(
    static: Static,
    blocks: Blocks,
    co: Coefficients,
    start: State,
    drive: tuple[jax.Array, jax.Array],
    key: Key,
    log_u: jax.Array,
) -> Blocked:
    """Run all steps, with reverse mode in memory that grows with sqrt(steps). The noise is not differentiated."""
    return _run(static, blocks, co, start, drive, key, log_u)[0]


def _run(static, blocks, co, start, drive, key, log_u):
    """The result, and (state, counts) at the start of each block."""
    shape, dtype = start.v.shape, start.v.dtype
    static = static._replace(differentiate=False)

    def run(carry, first, steps):
        state, count, flags, times = carry
        out, _ = _block(static, blocks, co, state, count, drive, key, log_u, first, steps, keep=())
        rank = _ranks(out, count)
        step = first + jnp.arange(steps, dtype=jnp.int32)[:, None, None, None]
        at = (step.astype(dtype) + out.fractions) * static.h
        slots = _slots(jnp.where(out.fractions >= 0, rank, blocks.capacity))
        times = times.at[slots].set(at, mode="drop")
        return out.end, out.counts[-1], flags | out.flags, times

    none = jnp.zeros(shape, jnp.int32)
    carry = (start, none, none, jnp.full((blocks.capacity, *shape), jnp.inf, dtype))
    full, left = divmod(blocks.steps, blocks.length)

    def body(carry, first):
        return run(carry, first, blocks.length), carry[:2]

    carry, kept = jax.lax.scan(body, carry, blocks.length * jnp.arange(full, dtype=jnp.int32))
    last = carry[:2]
    if left:
        carry = run(carry, jnp.int32(full * blocks.length), left)
    end, counts, flags, times = carry
    return Blocked(times, counts, end, flags), (kept, last)


def _block(static, blocks, co, state, count, drive, key, log_u, first, steps, keep):
    """The steps of one block, from the given state and running counts."""
    normals = draw_normals(key, first // CHUNK, steps, (blocks.normals, *state.v.shape), state.v.dtype)
    body = step_body(static, co, drive, log_u, keep)
    return run_scan(body, False, state, _part(drive, first, steps), normals, count)


def _part(drive, first, steps):
    """The input of a block: the same in all steps, or those of the block."""
    if drive[0].ndim != 3:
        return drive
    first_half, second_half = (jax.lax.dynamic_slice_in_dim(x, first, steps) for x in drive)
    return first_half, second_half


def _slots(rank: jax.Array) -> tuple[jax.Array, ...]:
    """Indices into (capacity, neurons, samples) of (steps, slots, neurons, samples) spikes with these ranks."""
    return rank, *(jax.lax.broadcasted_iota(jnp.int32, rank.shape, axis) for axis in (2, 3))


def _ranks(out: Scanned, count: jax.Array) -> jax.Array:
    """Which spike of its neuron each slot of (steps, slots, neurons, samples) holds, counted from 0."""
    before = jnp.concatenate([count[None], out.counts[:-1]])
    return before[:, None] + jnp.arange(out.fractions.shape[1], dtype=count.dtype)[None, :, None, None]


def _forward(static, blocks, *given):
    (co, start, drive, key, log_u), perturbed = values_and_perturbed(given)
    out, kept = _run(static, blocks, co, start, drive, key, log_u)
    flags = Perturbed(tuple(jax.tree.leaves((perturbed[0], perturbed[2]))))
    return out, (co, drive, key, log_u, kept, flags)


def _backward(static: Static, blocks: Blocks, kept_by_forward: Any, cotangent: Blocked):
    co, drive, key, log_u, (kept, last), perturbed = kept_by_forward
    state = last[0]
    shape, dtype = state.v.shape, state.v.dtype
    changing = drive[0].ndim == 3
    zeros = lambda x, like: jnp.zeros_like(like) if isinstance(x, jax.custom_derivatives.SymbolicZero) else x  # noqa: E731
    on_times = zeros(cotangent.times, jnp.zeros((blocks.capacity, *shape), dtype))
    keep = ("v", "i") if state.rest is None else ("v", "i", "rest")

    def pull(p, start, first, steps):
        state, count = start
        quiet = static._replace(differentiate=False)
        out, kept = _block(quiet, blocks, co, state, count, drive, key, log_u, first, steps, keep)
        on_fractions = static.h * on_times.at[_slots(_ranks(out, count))].get(mode="fill", fill_value=0.0)
        normals = draw_normals(key, first // CHUNK, steps, (blocks.normals, *shape), dtype)
        residuals = (co, _part(drive, first, steps), normals, out.fractions, kept, perturbed, log_u.shape)
        nothing = out._replace(fractions=on_fractions, membrane=None, end=p)
        on_co, p, on_drive, _, _ = backward(static, False, residuals, nothing)
        return p, on_co, on_drive

    p = jax.tree.map(zeros, cotangent.end, state, is_leaf=lambda x: x is None)
    full, left = divmod(blocks.steps, blocks.length)
    on_co, tail = jax.tree.map(jnp.zeros_like, co), None
    on_drive = None if changing else jax.tree.map(jnp.zeros_like, drive)
    if left:
        p, on_co, tail = pull(p, last, jnp.int32(full * blocks.length), left)
        on_drive = None if changing else tail

    def body(carry, inputs):
        p, on_co, on_drive = carry
        start, first = inputs
        p, more, moving = pull(p, start, first, blocks.length)
        on_co = jax.tree.map(jnp.add, on_co, more)
        on_drive = None if changing else jax.tree.map(jnp.add, on_drive, moving)
        return (p, on_co, on_drive), moving if changing else None

    firsts = blocks.length * jnp.arange(full, dtype=jnp.int32)
    (p, on_co, on_drive), moving = jax.lax.scan(body, (p, on_co, on_drive), (kept, firsts), reverse=True)
    if changing:
        joined = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), moving)
        on_drive = joined if tail is None else jax.tree.map(lambda a, b: jnp.concatenate([a, b]), joined, tail)
    return on_co, p, on_drive, None, jnp.zeros_like(log_u)


run_in_blocks.defvjp(_forward, _backward, symbolic_zeros=True)
