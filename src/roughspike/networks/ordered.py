"""The engine for recurrent networks without delay: one flat loop to the next grid point, input spike or own spike.

Every sample has a clock of its own: an iteration takes each sample one piece further, whatever ends it, so no sample
waits for another. Of events at the same time the network's own come first, lowest index first, then input spikes, then
the grid point. A run takes steps + input spikes + spikes iterations; the loop ends when the last sample has arrived.

Iterations are run in chunks. What is kept for the backward pass (`ordered_adjoint`) is the state at the start of every
chunk, and of every iteration what ended it: a few numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike._types import CASCADE, NOT_FINITE, SPIKE_BUFFER_FULL
from roughspike.networks.piece import Coefficients, State, force_of, to_next, transition
from roughspike.networks.step import Static
from roughspike.networks.synapses import row

GRID, IDLE = -1, -2


class Sizes(NamedTuple):
    """What a run is compiled for, beside its step."""

    steps: int
    neurons: int
    samples: int
    capacity: int
    inputs: int  # room for input spikes per sample
    trace: bool

    @property
    def iterations(self) -> int:
        """Iterations that a sample can need: beyond this the buffer for its spikes is full anyway."""
        return self.steps + self.inputs + self.neurons * self.capacity

    @property
    def chunk(self) -> int:
        """Iterations of a chunk: 32, or more where there may be many."""
        return max(32, 1 << (self.iterations // 1024).bit_length())

    @property
    def chunks(self) -> int:
        """Chunks that there is room for."""
        return -(-self.iterations // self.chunk)


class Given(NamedTuple):
    """What a run is differentiated in.

    - `drive`: mu1 times the current, at the start of a step and its rise over it; (neurons,) and None if it is
      constant, else each (steps, neurons).
    - `weights`, `input_weights`: the values of `Synapses`; `input_times`: ascending, (samples, inputs), +inf padded.
      A network without input spikes has None.
    """

    co: Coefficients
    drive: tuple[jax.Array, jax.Array | None]
    start: State
    weights: jax.Array
    input_weights: jax.Array | None
    input_times: jax.Array | None


class Fixed(NamedTuple):
    """The rest: noise, wiring, and mu where the derivative by it passes through the coefficients alone.

    `normals`: (samples, steps, normals, neurons). `log_u`: (samples, capacity + 1, neurons).
    """

    mu: jax.Array
    normals: jax.Array
    log_u: jax.Array
    targets: jax.Array | None
    input_targets: jax.Array | None
    input_ids: jax.Array | None


class Cursor(NamedTuple):
    """Where a sample is: step, next input spike, spikes so far of each neuron, events in a row without any progress."""

    step: jax.Array
    input: jax.Array
    counts: jax.Array
    stuck: jax.Array
    flags: jax.Array


class Record(NamedTuple):
    """What ended an iteration.

    - `code`: the neuron that spiked, or `neurons` for an input spike, GRID or IDLE; `slot`: the number of that spike.
    - `step`, `at`: the step, and the part of it at which the iteration ended.
    - `due`: the input spike that was to come in this step (`inputs` if none), where the search for a spike ended.
    """

    code: jax.Array
    slot: jax.Array
    step: jax.Array
    at: jax.Array
    due: jax.Array


class Ran(NamedTuple):
    """What a run leaves.

    - `times`: (samples, neurons, capacity) from the start of the run, +inf padded; `counts`: (samples, neurons).
    - `end`: the state at the end; `membrane`: (samples, steps + 1, neurons) or None.
    - `flags` of each sample; `reached`: how many steps were done.
    """

    times: jax.Array
    counts: jax.Array
    end: State
    membrane: jax.Array | None
    flags: jax.Array
    reached: jax.Array


class Carry(NamedTuple):
    """What a run carries along."""

    state: State
    cursor: Cursor
    times: jax.Array
    membrane: jax.Array | None


def first_carry(sizes: Sizes, start: State) -> Carry:
    """The carry before the first iteration."""
    zero = jnp.zeros(sizes.samples, jnp.int32)
    counts = jnp.zeros((sizes.samples, sizes.neurons), jnp.int32)
    times = jnp.full((sizes.samples, sizes.neurons, sizes.capacity), jnp.inf, start.v.dtype)
    membrane = None
    if sizes.trace:
        membrane = jnp.zeros((sizes.samples, sizes.steps + 1, sizes.neurons), start.v.dtype).at[:, 0].set(start.v)
    return Carry(start, Cursor(zero, zero, counts, zero, zero), times, membrane)


def iteration(static: Static, sizes: Sizes, given: Given, fixed: Fixed, carry: Carry) -> tuple[Carry, Record]:
    """Take every sample one piece further. Spike times are written by `store`."""

    def one(state: State, cursor: Cursor, normals: jax.Array, log_u: jax.Array, times: Any, ids: Any):
        active = cursor.step < sizes.steps
        step = jnp.minimum(cursor.step, sizes.steps - 1)
        force = force_of(given.co, drive_at(given.drive, step), normals[step])
        waiting = next_input(static, sizes, times, cursor.input, step)
        due = waiting < sizes.inputs
        stop = stop_at(static, sizes, time_of(sizes, times, waiting), waiting, step, state.r)
        before, found, flags = to_next(given.co, fixed.mu, static, state, force, stop, None)
        found = found._replace(hit=found.hit & active)
        due = due & active & ~found.hit
        arrived = active & ~found.hit & ~due
        count = cursor.counts[found.k]
        code = jnp.where(found.hit, found.k, jnp.where(due, sizes.neurons, jnp.where(active, GRID, IDLE)))
        weights = row_of(sizes, given, fixed, code, ids, waiting)
        after = transition(
            given.co, static, before, found, weights, log_u[jnp.minimum(count + 1, sizes.capacity), found.k]
        )
        after = next_step(after, arrived)
        moved = jax.tree.map(lambda a, b: jnp.where(active, a, b), after, state)
        one_more = (found.hit & (jnp.arange(sizes.neurons, dtype=jnp.int32) == found.k)).astype(jnp.int32)
        stuck = jnp.where(found.hit & (found.at <= state.r), cursor.stuck + 1, 0)
        endless = stuck > 2 * sizes.neurons
        flags = jnp.where(active, flags, 0) | jnp.where(endless, CASCADE, 0)
        new = Cursor(
            step=jnp.where(endless, sizes.steps, cursor.step + arrived.astype(jnp.int32)),
            input=cursor.input + due.astype(jnp.int32),
            counts=cursor.counts + one_more,
            stuck=stuck,
            flags=cursor.flags | flags,
        )
        at = jnp.where(found.hit, found.at, stop)
        return moved, new, Record(code, jnp.where(found.hit, count, waiting), step, at, waiting)

    state, cursor, record = jax.vmap(one)(
        carry.state, carry.cursor, fixed.normals, fixed.log_u, given.input_times, fixed.input_ids
    )
    membrane = carry.membrane
    if membrane is not None:
        samples = jnp.arange(sizes.samples, dtype=jnp.int32)
        place = jnp.where(record.code == GRID, record.step + 1, sizes.steps + 1)
        membrane = membrane.at[samples, place].set(state.v, mode="drop")
    return carry._replace(state=state, cursor=cursor, membrane=membrane), record


def drive_at(drive: tuple[jax.Array, jax.Array | None], step: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """The drive of one step."""
    return drive if drive[1] is None else (drive[0][step], drive[1][step])


def next_input(static: Static, sizes: Sizes, times: Any, upcoming: jax.Array, step: jax.Array) -> jax.Array:
    """The next input spike if it lies in this step, else `inputs`."""
    if not sizes.inputs:
        return jnp.zeros_like(step)
    part = times[jnp.minimum(upcoming, sizes.inputs - 1)] / static.h - step.astype(times.dtype)
    return jnp.where((upcoming < sizes.inputs) & (part <= 1), upcoming, sizes.inputs)


def time_of(sizes: Sizes, times: Any, waiting: jax.Array) -> jax.Array | None:
    """The time of the input spike `waiting`."""
    return times[jnp.minimum(waiting, sizes.inputs - 1)] if sizes.inputs else None


def stop_at(static: Static, sizes: Sizes, time: Any, waiting: jax.Array, step: jax.Array, r: jax.Array) -> jax.Array:
    """Where a piece that begins at r ends if nobody spikes: at the input spike `waiting`, or with the step."""
    if not sizes.inputs:
        return jnp.ones_like(r)
    part = time / static.h - step.astype(r.dtype)
    return jnp.where(waiting < sizes.inputs, jnp.where(part > r, part, r), 1.0)


def row_of(sizes: Sizes, given: Given, fixed: Fixed, code: jax.Array, ids: Any, nth: jax.Array) -> jax.Array:
    """What the end of an iteration adds to i: the weights of the neuron or input channel that spiked, or nothing."""
    spiked = (code >= 0) & (code < sizes.neurons)
    weights = row(given.weights, fixed.targets, sizes.neurons, jnp.clip(code, 0, sizes.neurons - 1))
    weights = jnp.where(spiked, weights, 0.0)
    if given.input_weights is None or not sizes.inputs:
        return weights
    channel = ids[jnp.minimum(nth, sizes.inputs - 1)]
    from_outside = row(given.input_weights, fixed.input_targets, sizes.neurons, channel)
    return jnp.where(code == sizes.neurons, from_outside, weights)


def next_step(state: State, arrived: jax.Array) -> State:
    """At the end of a step: the start of the next."""
    ready = state.ready
    if ready is not None:
        ready = jnp.where(arrived, jnp.where(ready > 1, ready - 1, 0.0), ready)
    return state._replace(ready=ready, r=jnp.where(arrived, 0.0, state.r))


def store(static: Static, sizes: Sizes, times: jax.Array, record: Record) -> jax.Array:
    """Spikes of some iterations, (iterations, samples), written into their slots; beyond the last one they are lost."""
    samples = jnp.broadcast_to(jnp.arange(sizes.samples, dtype=jnp.int32), record.code.shape)
    at = (record.step.astype(record.at.dtype) + record.at) * static.h
    return times.at[samples, spiking(sizes, record), record.slot].set(at, mode="drop")


def spiking(sizes: Sizes, record: Record) -> jax.Array:
    """The neuron that spiked, `neurons` if none did."""
    return jnp.where(record.code >= 0, record.code, sizes.neurons)


def run_plain(static: Static, sizes: Sizes, given: Given, fixed: Fixed) -> Ran:
    """The run as a scan over all iterations that there is room for, differentiable by JAX in either mode."""

    def body(carry: Carry, _):
        carry, record = iteration(static, sizes, given, fixed, carry)
        record = jax.tree.map(lambda x: x[None], record)
        return carry._replace(times=store(static, sizes, carry.times, record)), None

    carry, _ = jax.lax.scan(body, first_carry(sizes, given.start), None, length=sizes.iterations)
    return finish(sizes, carry)


def finish(sizes: Sizes, carry: Carry) -> Ran:
    """The result of a run, with its flags."""
    state, cursor = carry.state, carry.cursor
    finite = jnp.all(jnp.isfinite(state.v + state.i) & ~jnp.isnan(state.s), axis=1)
    full = (cursor.step < sizes.steps) | jnp.any(cursor.counts > sizes.capacity, axis=1)
    flags = cursor.flags | jnp.where(finite, 0, NOT_FINITE) | jnp.where(full, SPIKE_BUFFER_FULL, 0)
    return Ran(carry.times, cursor.counts, state, carry.membrane, flags.astype(jnp.int32), cursor.step)
