"""The hand-written adjoint of the ordered engine: backward through the events, one row of weights at each.

Forward only what ended an iteration is kept, and the state at the start of every chunk of iterations. Backward, a chunk
is run again without hazards and root searches, since its events are known, and then p = dL/d(v, i, s) is pulled back
through its iterations in reverse; an event is differentiated by the recursion (6)-(7). The gradient in the weights
needs p_i at the spikes alone: one row each, and no matrix.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.networks.adjoint import Perturbed, values_and_perturbed
from roughspike.networks.ordered import (
    GRID,
    IDLE,
    Carry,
    Fixed,
    Given,
    Ran,
    Record,
    Sizes,
    drive_at,
    finish,
    first_carry,
    iteration,
    next_step,
    row_of,
    spiking,
    stop_at,
    store,
    time_of,
)
from roughspike.networks.piece import Found, State, flow_to, force_of, to_next, transition
from roughspike.networks.step import Static
from roughspike.networks.synapses import add_to_rows


class _Kept(NamedTuple):
    """Chunk by chunk: the state at its start, and its records (chunks, chunk, samples); how many there were."""

    starts: State
    records: Record
    chunks: jax.Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def run_ordered(static: Static, sizes: Sizes, given: Given, fixed: Fixed) -> Ran:
    """Run a network without delay. Reverse mode is by hand; noise and uniforms are not differentiated."""
    return _run(static, sizes, given, fixed, keep=False)[0]


def _run(static: Static, sizes: Sizes, given: Given, fixed: Fixed, keep: bool) -> tuple[Ran, _Kept | None]:
    static = static._replace(differentiate=False)

    def body(loop: tuple[Carry, _Kept | None, jax.Array]) -> tuple[Carry, _Kept | None, jax.Array]:
        carry, kept, chunk = loop
        start = carry.state
        one = lambda c, _: iteration(static, sizes, given, fixed, c)  # noqa: E731
        carry, records = jax.lax.scan(one, carry, None, length=sizes.chunk)
        carry = carry._replace(times=store(static, sizes, carry.times, records))
        if kept is not None:
            write = lambda room, x: jax.lax.dynamic_update_index_in_dim(room, x, chunk, 0)  # noqa: E731
            starts = jax.tree.map(write, kept.starts, start)
            kept = _Kept(starts, jax.tree.map(write, kept.records, records), chunk + 1)
        return carry, kept, chunk + 1

    def unfinished(loop: tuple[Carry, _Kept | None, jax.Array]) -> jax.Array:
        carry, _, chunk = loop
        return (chunk < sizes.chunks) & jnp.any(carry.cursor.step < sizes.steps)

    kept = _room(sizes, given.start) if keep else None
    carry, kept, _ = jax.lax.while_loop(unfinished, body, (first_carry(sizes, given.start), kept, jnp.int32(0)))
    return finish(sizes, carry), kept


def _room(sizes: Sizes, start: State) -> _Kept:
    room = lambda shape, dtype: jnp.zeros((sizes.chunks, *shape), dtype)  # noqa: E731
    number = room((sizes.chunk, sizes.samples), jnp.int32)
    at = room((sizes.chunk, sizes.samples), start.v.dtype)
    starts = jax.tree.map(lambda x: room(x.shape, x.dtype), start)
    return _Kept(starts, Record(number, number, number, at, number), jnp.int32(0))


def _forward(static: Static, sizes: Sizes, *args: Any):
    (given, fixed), perturbed = values_and_perturbed(args)
    ran, kept = _run(static, sizes, given, fixed, keep=True)
    return ran, (given, fixed, kept, Perturbed(tuple(jax.tree.leaves(perturbed[0]))))


class _Total(NamedTuple):
    """Cotangents so far: of the coefficients (and a constant drive) per neuron and sample, of what changes, of rows."""

    steady: list[jax.Array]
    drive: Any
    weights: jax.Array | None
    input_weights: jax.Array | None
    input_times: jax.Array | None


def _backward(static: Static, sizes: Sizes, kept_by_forward: Any, cotangent: Ran):
    given, fixed, kept, perturbed = kept_by_forward
    pull = _Pull(static, sizes, given, fixed, perturbed)
    on_times = _dense(cotangent.times, (sizes.samples, sizes.neurons, sizes.capacity), given.start.v.dtype)
    on_trace = cotangent.membrane if sizes.trace and not _is_zero(cotangent.membrane) else None
    p = jax.tree.map(lambda g, x: jnp.zeros_like(x) if _is_zero(g) else g, cotangent.end, given.start, is_leaf=_is_zero)

    def body(loop):
        p, total, chunk = loop
        take = lambda x: jax.lax.dynamic_index_in_dim(x, chunk, 0, keepdims=False)  # noqa: E731
        p, total = pull.chunk(
            p, total, jax.tree.map(take, kept.starts), jax.tree.map(take, kept.records), on_times, on_trace
        )
        return p, total, chunk - 1

    p, total, _ = jax.lax.while_loop(lambda loop: loop[2] >= 0, body, (p, pull.nothing(), kept.chunks - 1))
    if on_trace is not None:
        p = p._replace(v=p.v + on_trace[:, 0])
    return pull.cotangent(p, total), jax.tree.map(lambda _: None, fixed)


class _Pull:
    """Pulls cotangents back through chunks of iterations; holds what all of them share."""

    def __init__(self, static: Static, sizes: Sizes, given: Given, fixed: Fixed, perturbed: Perturbed):
        self.static, self.sizes, self.given, self.fixed = static._replace(differentiate=True), sizes, given, fixed
        flags = jax.tree.unflatten(jax.tree.structure(given), perturbed.flags)
        self.changing = given.drive[1] is not None
        steady = (given.co, None if self.changing else given.drive)
        flags_of_steady = (flags.co, None if self.changing else flags.drive)
        self.leaves, self.tree = jax.tree.flatten(steady)
        self.on = [k for k, f in enumerate(jax.tree.leaves(flags_of_steady)) if f]
        self.flags = flags

    def nothing(self) -> _Total:
        """Zeros."""
        given, flags, samples = self.given, self.flags, self.sizes.samples
        steady = [jnp.zeros((samples, *self._wide(self.leaves[k]).shape), self.leaves[k].dtype) for k in self.on]
        zeros = lambda x, wanted: jnp.zeros_like(x) if x is not None and wanted else None  # noqa: E731
        drive = jax.tree.map(jnp.zeros_like, given.drive) if self.changing and any(flags.drive) else None
        return _Total(
            steady,
            drive,
            zeros(given.weights, flags.weights),
            zeros(given.input_weights, flags.input_weights),
            zeros(given.input_times, flags.input_times),
        )

    def _wide(self, leaf: jax.Array) -> jax.Array:
        """Scalars get a cotangent per neuron, which is summed once at the end."""
        return jnp.broadcast_to(leaf, (self.sizes.neurons,)) if leaf.ndim == 0 else leaf

    def cotangent(self, p: State, total: _Total) -> Given:
        """What the backward rule returns for `Given`."""
        found = [jnp.zeros_like(leaf) for leaf in self.leaves]
        for k, value in zip(self.on, total.steady, strict=True):
            found[k] = jnp.sum(value) if self.leaves[k].ndim == 0 else jnp.sum(value, axis=0)
        co, drive = jax.tree.unflatten(self.tree, found)
        zeros = lambda x, like: jnp.zeros_like(like) if x is None and like is not None else x  # noqa: E731
        given = self.given
        if self.changing:
            drive = jax.tree.map(jnp.zeros_like, given.drive) if total.drive is None else total.drive
        return Given(
            co,
            drive,
            p,
            jnp.zeros_like(given.weights) if total.weights is None else total.weights,
            zeros(total.input_weights, given.input_weights),
            zeros(total.input_times, given.input_times),
        )

    def chunk(
        self, p: State, total: _Total, start: State, records: Record, on_times: jax.Array, on_trace: Any
    ) -> tuple[State, _Total]:
        """Back through one chunk."""
        sizes, fixed = self.sizes, self.fixed
        _, states = jax.lax.scan(self._again, start, records)
        samples = jnp.arange(sizes.samples, dtype=jnp.int32)
        on_at = on_times.at[samples[None], spiking(sizes, records), records.slot].get(mode="fill", fill_value=0.0)

        def back(carry, inputs):
            p, steady = carry
            state, record, on_at = inputs
            if on_trace is not None:
                arrived = (record.code == GRID)[:, None]
                p = p._replace(v=p.v + jnp.where(arrived, on_trace[samples, record.step + 1], 0.0))
            p_i = p.i
            p, more, on_drive, on_input = self._pull(p, state, record, on_at)
            return (p, [a + b for a, b in zip(steady, more, strict=True)]), (p_i, on_drive, on_input)

        (p, steady), (rows, on_drive, on_input) = jax.lax.scan(
            back, (p, total.steady), (states, records, on_at), reverse=True
        )
        total = total._replace(steady=steady)
        rows = rows.reshape(-1, sizes.neurons)
        if total.weights is not None:
            total = total._replace(
                weights=add_to_rows(total.weights, fixed.targets, spiking(sizes, records).reshape(-1), rows)
            )
        if total.input_weights is not None:
            total = total._replace(input_weights=self._on_input_weights(total.input_weights, records, rows))
        if total.input_times is not None:
            total = total._replace(
                input_times=total.input_times.at[samples[None], records.due].add(on_input, mode="drop")
            )
        if total.drive is not None:
            active = jnp.where(records.code == IDLE, sizes.steps, records.step).reshape(-1)
            add = lambda a, b: a.at[active].add(b.reshape(-1, sizes.neurons), mode="drop")  # noqa: E731
            total = total._replace(drive=jax.tree.map(add, total.drive, on_drive))
        return p, total

    def _on_input_weights(self, total: jax.Array, records: Record, rows: jax.Array) -> jax.Array:
        fixed = self.fixed
        assert fixed.input_ids is not None
        samples = jnp.broadcast_to(jnp.arange(self.sizes.samples, dtype=jnp.int32), records.code.shape)
        ids = fixed.input_ids[samples, jnp.minimum(records.due, self.sizes.inputs - 1)]
        channel = jnp.where(records.code == self.sizes.neurons, ids, total.shape[0])
        return add_to_rows(total, fixed.input_targets, channel.reshape(-1), rows)

    def _again(self, state: State, record: Record) -> tuple[State, State]:
        """One iteration forward with known events: v, i and what else the backward pass needs."""
        given, fixed = self.given, self.fixed

        def one(state: State, record: Record, normals: jax.Array, ids: Any) -> State:
            force = force_of(given.co, drive_at(given.drive, record.step), normals[record.step])
            v, i = flow_to(given.co, fixed.mu, self.static, state, force, record.at)
            after = self._end(given.co, state._replace(v=v, i=i, r=record.at), record, ids)
            return jax.tree.map(lambda a, b: jnp.where(record.code == IDLE, b, a), after, state)

        return jax.vmap(one)(state, record, fixed.normals, fixed.input_ids), state

    def _end(self, co: Any, before: State, record: Record, ids: Any) -> State:
        """What follows the end of a piece."""
        weights = row_of(self.sizes, self.given, self.fixed, record.code, ids, record.due)
        found = Found(self._spiked(record), record.code, record.at)
        return next_step(transition(co, self.static, before, found, weights, 0.0), record.code == GRID)

    def _spiked(self, record: Record) -> jax.Array:
        return (record.code >= 0) & (record.code < self.sizes.neurons)

    def _pull(self, p: State, state: State, record: Record, on_at: jax.Array):
        """Back through one iteration of every sample."""
        sizes, fixed, static = self.sizes, self.fixed, self.static

        def one(p, state, record, on_at, normals, times, ids):
            def replay(state, steady, moving, time):
                leaves = list(self.leaves)
                for k, leaf in zip(self.on, steady, strict=True):
                    leaves[k] = leaf
                co, drive = jax.tree.unflatten(self.tree, leaves)
                force = force_of(co, moving if self.changing else drive, normals[record.step])
                stop = stop_at(static, sizes, time, record.due, record.step, state.r)
                found = Found(self._spiked(record), record.code, record.at)
                before, found, _ = to_next(co, fixed.mu, static, state, force, stop, found)
                return self._end(co, before, record, ids), found.at * static.h

            steady = [self._wide(self.leaves[k]) for k in self.on]
            moving = drive_at(self.given.drive, record.step) if self.changing else None
            _, back = jax.vjp(replay, state, steady, moving, time_of(sizes, times, record.due))
            on = back((p, on_at))
            idle = record.code == IDLE
            on_state = jax.tree.map(lambda a, b: jnp.where(idle, b, a), on[0], p)
            return on_state, *jax.tree.map(lambda x: jnp.where(idle, 0.0, x), on[1:])

        return jax.vmap(one)(p, state, record, on_at, fixed.normals, self.given.input_times, fixed.input_ids)


run_ordered.defvjp(_forward, _backward, symbolic_zeros=True)


def _is_zero(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.SymbolicZero)


def _dense(x: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jnp.zeros(shape, dtype) if _is_zero(x) else x
