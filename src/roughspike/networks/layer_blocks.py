"""Square-root memory for layers: blocks of steps that all layers run together, each run again in the backward pass.

Kept are the states at the start of each block of about sqrt(steps) steps, and the buffers of spike times, which are the
result. The backward sweep runs a block again, with all that the adjoint of a layer needs, then backward, from the last
block to the first. A delay reaches into an earlier block through the buffer of spike times, and so does its
derivative, which waits there until the sweep comes to the block of the spike.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.networks.adjoint import Perturbed, values_and_perturbed
from roughspike.networks.arrivals import delayed_synapses, input_pairs, steps_of
from roughspike.networks.decay import Decay
from roughspike.networks.general import General
from roughspike.networks.kinds import Kind
from roughspike.networks.layer import Given, Plan, Scanned, run_layer
from roughspike.networks.listed import Spikes, deliver
from roughspike.networks.noise import CHUNK, draw_normals
from roughspike.networks.skips import skipped, with_skipped


class Wiring(NamedTuple):
    """What a layer is compiled for. `normals`: per step; `listed`: are its input spikes delivered one by one? `sources`
    of its skips.
    """

    kind: Kind | General
    spikes: bool
    normals: int
    listed: bool
    sources: tuple[int, ...] = ()


class Sizes(NamedTuple):
    """What a run is compiled for."""

    steps: int
    capacity: int
    h: float
    lanes: int

    def block(self, random: bool) -> int:
        """Steps of a block: about sqrt(steps), and a multiple of the chunks in which noise is drawn."""
        root = math.sqrt(self.steps)
        return min(self.steps, CHUNK * max(1, round(root / CHUNK)) if random else math.ceil(root))


class Parts(NamedTuple):
    """What a layer's run is differentiated in, as in `Given`; `delays` and `weights` as in `Layer`, also of `skips`."""

    co: Any
    decay: Decay
    drive: Any
    start: Any
    weights: jax.Array
    delays: jax.Array | None
    skips: tuple[tuple[jax.Array, jax.Array | None], ...] = ()


class Draws(NamedTuple):
    """Key of the normals of a layer, and its thresholds; both None if it is not random."""

    key: Any
    log_u: jax.Array | None


class Blocked(NamedTuple):
    """Of each layer: spike times (capacity, post, lanes), +inf padded, counts, state at the end, flags.

    `membranes`: v at the ends of steps of a layer without spikes, else None.
    """

    times: tuple[jax.Array | None, ...]
    counts: tuple[jax.Array, ...]
    ends: tuple[Any, ...]
    flags: tuple[jax.Array, ...]
    membranes: tuple[jax.Array | None, ...]


class _Carry(NamedTuple):
    """What goes from block to block."""

    states: tuple[Any, ...]
    times: tuple[jax.Array | None, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def run_layers_in_blocks(
    wiring: tuple[Wiring, ...],
    sizes: Sizes,
    parts: tuple[Parts, ...],
    inputs: jax.Array | None,
    draws: tuple[Draws, ...],
) -> Blocked:
    """Run all layers. `inputs`: times (capacity, pre, lanes) of spikes that reach the first, or None."""
    return _run(wiring, sizes, parts, inputs, draws)[0]


def _run(wiring, sizes, parts, inputs, draws) -> tuple[Blocked, Any]:
    """The result, and states and counts at the start of each block."""
    shapes = [p.start.v.shape for p in parts]
    dtype = parts[0].start.v.dtype
    buffers = [
        jnp.full((sizes.capacity, *s), jnp.inf, dtype) if w.spikes else None
        for w, s in zip(wiring, shapes, strict=True)
    ]
    zeros = tuple(jnp.zeros(s, jnp.int32) for s in shapes)
    carry = _Carry(tuple(p.start for p in parts), tuple(buffers)), zeros, zeros
    length, full, left = _cut(wiring, sizes)

    def body(carry, first, steps=length):
        before, counts, flags = carry
        after, found = _block(wiring, sizes, steps, parts, inputs, draws, before, counts, first)
        flags = tuple(a | b for a, b in zip(flags, found.flags, strict=True))
        return (after, found.counts, flags), (found.membranes, (before.states, counts))

    carry, (membranes, kept) = jax.lax.scan(body, carry, length * jnp.arange(full, dtype=jnp.int32))
    membranes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), membranes)
    last = carry[0].states, carry[1]
    if left:
        carry, (tail, _) = body(carry, jnp.int32(full * length), left)
        membranes = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), membranes, tail)
    end, counts, flags = carry
    return Blocked(end.times, counts, end.states, flags, membranes), (kept, last)


def _cut(wiring, sizes) -> tuple[int, int, int]:
    """Steps of a block, how many blocks, and steps that are left."""
    length = sizes.block(any(w.normals for w in wiring))
    return length, sizes.steps // length, sizes.steps % length


class _Found(NamedTuple):
    counts: tuple[jax.Array, ...]
    flags: tuple[jax.Array, ...]
    membranes: tuple[jax.Array | None, ...]


def _block(
    wiring, sizes, steps: int, parts, inputs, draws, carry: _Carry, counts, first: jax.Array
) -> tuple[_Carry, _Found]:
    """All layers over the steps of one block that begins with the step `first`."""
    states, times, totals, flags, membranes = [], [], [], [], []
    before, sent = None, []
    for k, (own, part, draw) in enumerate(zip(wiring, parts, draws, strict=True)):
        reached = _reach(own, sizes, steps, part, inputs if k == 0 else times[k - 1], before, first)
        for source, (weights, delays) in zip(own.sources, part.skips, strict=True):
            earlier = (inputs, None) if source == 0 else (times[source - 1], sent[source - 1])
            more = skipped(weights, delays, part.decay, *earlier, (sizes.h, steps, first))
            reached = with_skipped(reached, more)
        drive = part.drive
        if jax.tree.leaves(drive)[0].ndim == 3:
            drive = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, steps), drive)
        log_u, normals = None, None
        if draw.log_u is not None:
            shape = (own.normals, *counts[k].shape)
            log_u = _from(draw.log_u, counts[k], steps * own.kind.slots)
            normals = draw_normals(draw.key, first // CHUNK, steps, shape, part.start.v.dtype)
        given = Given(part.co, part.decay, drive=drive, start=carry.states[k], normals=normals, log_u=log_u, **reached)
        out: Scanned = run_layer(Plan(own.kind, not own.spikes), given)
        before = out.fractions
        sent.append(before)
        states.append(out.end)
        times.append(_stored(sizes, carry.times[k], out, counts[k], first) if own.spikes else None)
        totals.append(counts[k] + out.total)
        flags.append(out.flags)
        membranes.append(out.membrane)
    return _Carry(tuple(states), tuple(times)), _Found(tuple(totals), tuple(flags), tuple(membranes))


def _from(log_u: jax.Array, count: jax.Array, spikes: int) -> jax.Array:
    """The thresholds of a block: from that of the interval in which each neuron is, as many as it can need."""
    some = jnp.arange(min(spikes + 1, log_u.shape[0]), dtype=count.dtype)[:, None, None]
    at = jnp.minimum(count[None] + some, log_u.shape[0] - 1)
    return jnp.take_along_axis(log_u, at, axis=0, mode="promise_in_bounds")


def _reach(own: Wiring, sizes: Sizes, steps: int, part: Parts, times: Any, before: Any, first: Any) -> dict[str, Any]:
    """The weights, and the form in which spikes of this block reach a layer: through delays from their times."""
    found = dict.fromkeys(("weights", "fractions", "pairs", "direct", "listed"))
    weights, delays = part.weights, part.delays
    on_grid = (part.decay, sizes.h, steps, first)
    if before is not None and delays is None:
        return {**found, "weights": weights, "fractions": before}
    if times is None:
        zeros = jnp.zeros((steps, *part.start.v.shape), weights.dtype)
        return {**found, "direct": (zeros,) * part.decay.parts}
    if delays is not None and delays.ndim == 2:
        return {**found, "direct": delayed_synapses(times, weights, delays, *on_grid)}
    if delays is not None:
        times = times + jnp.broadcast_to(delays, times.shape[1])[None, :, None]
    if own.listed:
        n, on = steps_of(times, *on_grid)
        return {**found, "listed": deliver(steps, weights, Spikes(on, n))}
    return {**found, "weights": weights, "pairs": input_pairs(times, *on_grid)}


def _stored(sizes: Sizes, times: Any, out: Scanned, count: jax.Array, first: jax.Array) -> jax.Array:
    """The buffer with the spikes of a block; beyond its capacity they are lost, as the counts will show."""
    before = jnp.concatenate([count[None], count[None] + out.counts[:-1]])
    step = first + jnp.arange(before.shape[0], dtype=jnp.int32)[:, None, None]
    rows, columns = (jax.lax.broadcasted_iota(jnp.int32, before.shape, axis) for axis in (1, 2))
    for slot, x in enumerate(out.fractions):
        rank = jnp.where(x >= 0, before + slot, sizes.capacity)
        times = times.at[rank, rows, columns].set((step.astype(x.dtype) + x) * sizes.h, mode="drop")
    return times


def _forward(wiring, sizes, *given):
    (parts, inputs, draws), perturbed = values_and_perturbed(given)
    out, kept = _run(wiring, sizes, parts, inputs, draws)
    flags = Perturbed(tuple(jax.tree.leaves((perturbed[0], perturbed[1]))))
    return out, (parts, inputs, draws, out.times, kept, flags)


def _backward(wiring, sizes: Sizes, residuals: Any, cotangent: Blocked):
    parts, inputs, draws, times, (kept, last), perturbed = residuals
    leaves, tree = jax.tree.flatten((parts, inputs))
    moved = [k for k, on in enumerate(perturbed.flags) if on]
    rank = jnp.arange(sizes.capacity, dtype=jnp.int32)[:, None, None]

    def pull(on: _Carry, on_membranes: Any, start: Any, first: jax.Array, steps: int):
        states, counts = start
        earlier = tuple(
            None if x is None else jnp.where(rank < c[None], x, jnp.inf) for x, c in zip(times, counts, strict=True)
        )

        def run(some: list[jax.Array], carry: _Carry):
            filled = list(leaves)
            for k, leaf in zip(moved, some, strict=True):
                filled[k] = leaf
            parts, inputs = jax.tree.unflatten(tree, filled)
            after, found = _block(wiring, sizes, steps, parts, inputs, draws, carry, counts, first)
            return after, found.membranes

        _, back = jax.vjp(run, [leaves[k] for k in moved], _Carry(states, earlier))
        return back((on, on_membranes))

    length, full, left = _cut(wiring, sizes)
    none = lambda x: x is None  # noqa: E731
    on_end = jax.tree.map(_dense, cotangent.ends, last[0], is_leaf=none)
    on_times = tuple(None if x is None else _dense(on, x) for on, x in zip(cotangent.times, times, strict=True))
    shapes = [None if w.spikes else (sizes.steps, *p.start.v.shape) for w, p in zip(wiring, parts, strict=True)]
    on_v = tuple(
        None if s is None else (jnp.zeros(s, parts[0].weights.dtype) if _is_zero(on) else on)
        for on, s in zip(cotangent.membranes, shapes, strict=True)
    )
    total = [jnp.zeros_like(leaves[k]) for k in moved]
    on = _Carry(on_end, on_times)
    if left:
        tail = jax.tree.map(lambda x: x[full * length :], on_v)
        total, on = pull(on, tail, last, jnp.int32(full * length), left)

    def body(carry, inputs):
        total, on = carry
        start, first, on_v = inputs
        more, on = pull(on, on_v, start, first, length)
        return ([a + b for a, b in zip(total, more, strict=True)], on), None

    blocks = jax.tree.map(lambda x: x[: full * length].reshape(full, length, *x.shape[1:]), on_v)
    firsts = length * jnp.arange(full, dtype=jnp.int32)
    (total, on), _ = jax.lax.scan(body, (total, on), (kept, firsts, blocks), reverse=True)
    found = [jnp.zeros_like(leaf) for leaf in leaves]
    for k, value in zip(moved, total, strict=True):
        found[k] = value
    on_parts, on_inputs = jax.tree.unflatten(tree, found)
    on_parts = tuple(
        p._replace(start=jax.tree.map(jnp.add, p.start, s)) for p, s in zip(on_parts, on.states, strict=True)
    )
    on_draws = tuple(Draws(None, None if d.log_u is None else jnp.zeros_like(d.log_u)) for d in draws)
    return on_parts, on_inputs, on_draws


run_layers_in_blocks.defvjp(_forward, _backward, symbolic_zeros=True)


def _is_zero(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.SymbolicZero)


def _dense(x: Any, like: jax.Array) -> Any:
    return jnp.zeros_like(like) if _is_zero(x) else x
