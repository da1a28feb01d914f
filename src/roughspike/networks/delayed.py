"""The engine for recurrent networks with delays of at least a step: neurons independent in a step, a ring of arrivals.

A spike at the part x of step n arrives after its delay d at the part y of a later step m, n + x + d / h = m + y: in the
ring buffer, row m, it adds w times what a unit of current that arrives at y leaves in i and in v at the end of the step
(`decay`), exactly. Since no spike arrives in the step in which it was sent, the neurons of a step need nothing of each
other, and the step is that of a layer (`kinds`). Spikes are delivered one by one, in a loop as long as there are
spikes: no spike is ever dropped, and a quiet step costs nothing. A delivery adds one row of weights, of the length of
the network, to the ring (a scatter of the synapses alone would make XLA copy the ring); with one delay per synapse it
is such a scatter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike._types import DELAY_OUT_OF_ROOM, NOT_FINITE
from roughspike.networks.decay import Decay, left_of_step, slopes_of_step
from roughspike.networks.few import pack
from roughspike.networks.general import General
from roughspike.networks.kinds import Kind, Stepped
from roughspike.networks.layer import next_threshold
from roughspike.networks.synapses import row as row_of

_AT_ONCE = 16  # spikes that are found and prepared together


class Plan(NamedTuple):
    """What a run is compiled for. `rows`: steps in the ring."""

    kind: Kind | General
    rows: int
    trace: bool


class Given(NamedTuple):
    """What a run is differentiated in.

    - `co`: coefficients of the kind; `decay`: of what arrives.
    - `weights`, `delays`: values of `Synapses`; the delays over h, a scalar, (neurons,) or of the shape of the weights.
    - `drive`: input current in the form of the kind, leaves (1, neurons), or (steps, 1, neurons) if it changes.
    - `direct`: what input spikes add in each step (`left_of_step`), (steps, parts, lanes, neurons), or None.
    - `start`: state of the kind, leaves (lanes, neurons).
    """

    co: Any
    decay: Decay
    weights: jax.Array
    delays: jax.Array
    drive: Any
    direct: jax.Array | None
    start: Any


class Fixed(NamedTuple):
    """The rest. `normals`: (steps, normals, lanes, neurons); `log_u`: (intervals, lanes, neurons).

    A hard threshold has neither.
    """

    normals: jax.Array | None
    log_u: jax.Array | None
    targets: jax.Array | None


class Inputs(NamedTuple):
    """Of a step: its number, drive if it changes, input spikes, noise."""

    step: jax.Array
    drive: Any
    direct: jax.Array | None
    normals: jax.Array | None


class Scanned(NamedTuple):
    """What a run leaves.

    - `fractions`: (steps, slots, lanes, neurons), -1 where empty; `counts`: running, (steps, lanes, neurons).
    - `membrane`: v at the ends of steps, (steps, lanes, neurons), or None; `end`: state of the kind.
    - `flags` of each lane and neuron.
    """

    fractions: jax.Array
    counts: jax.Array
    membrane: jax.Array | None
    end: Any
    flags: jax.Array


class Spike(NamedTuple):
    """A spike: slot, lane, neuron, part of the step."""

    slot: jax.Array
    lane: jax.Array
    neuron: jax.Array
    x: jax.Array


class Reach(NamedTuple):
    """Where a spike arrives, for each synapse or (scalar) all alike: row of the ring, part y of that step, in room?"""

    row: jax.Array
    y: jax.Array
    fits: jax.Array


def inputs_of(given: Given, fixed: Fixed, steps: int) -> Inputs:
    """What a scan runs over."""
    leaf = jax.tree.leaves(given.drive)[0]
    drive = given.drive if leaf.ndim == 3 else None
    return Inputs(jnp.arange(steps, dtype=jnp.int32), drive, given.direct, fixed.normals)


def scan_all(plan: Plan, given: Given, fixed: Fixed, steps: int) -> Scanned:
    """The run with every synapse delivered in every step: for JAX's own derivative, in either mode."""
    return run_scan(plan, given, fixed, steps, deliver_all, lean=True)[0]


def run_scan(
    plan: Plan, given: Given, fixed: Fixed, steps: int, deliver: Callable[..., jax.Array], lean: bool
) -> tuple[Scanned, Any]:
    """The scan over the grid; also what the kind keeps for its backward pass."""

    def body(carry: Any, inputs: Inputs) -> Any:
        return one_step(plan, given, fixed, carry, inputs, deliver, lean)

    (end, _, _, _, flags), (fractions, counts, membrane, kept) = jax.lax.scan(
        body, started(plan, given), inputs_of(given, fixed, steps)
    )
    return Scanned(fractions, counts, membrane, end, with_end_flags(plan, given, end, flags)), kept


def started(plan: Plan, given: Given) -> tuple[Any, ...]:
    """What a run carries, at its start: state, what arrives, the ring, spike counts, flags."""
    lanes, neurons = given.start.v.shape
    ring = jnp.zeros((plan.rows, lanes, given.decay.parts, neurons), given.start.v.dtype)
    zero = jnp.zeros((lanes, neurons), jnp.int32)
    return given.start, ring[0], ring, zero, zero


def one_step(
    plan: Plan, given: Given, fixed: Fixed, carry: Any, inputs: Inputs, deliver: Callable[..., jax.Array], lean: bool
) -> Any:
    """What a run carries after a step, and of the step: fractions, counts, v, what the kind keeps."""
    state, arrived, ring, count, flags = carry
    out = advance(plan, given, fixed, state, arrived, count, inputs, lean)
    fractions = jnp.stack(out.fractions)
    count = count + jnp.sum(fractions >= 0, axis=0, dtype=jnp.int32)
    # of the ring nothing is read before the last write: else XLA copies all of it in every step
    here, then = inputs.step % plan.rows, (inputs.step + 1) % plan.rows
    ring = jax.lax.dynamic_update_index_in_dim(ring, jnp.zeros_like(arrived), here, 0)
    ring = deliver(plan, given, fixed, ring, fractions, inputs.step)
    arrived = jax.lax.dynamic_index_in_dim(ring, then, 0, keepdims=False)
    membrane = out.state.v if plan.trace else None
    return (out.state, arrived, ring, count, flags | out.flags), (fractions, count, membrane, out.kept)


def with_end_flags(plan: Plan, given: Given, end: Any, flags: jax.Array) -> jax.Array:
    """Flags of a run, with those that its end and its delays give."""
    finite = jnp.isfinite(end.v + end.i)
    away = ~_fits(plan, given.delays)
    flags = flags | jnp.where(finite, 0, NOT_FINITE) | jnp.where(away, DELAY_OUT_OF_ROOM, 0)
    return flags.astype(jnp.int32)


def advance(
    plan: Plan, given: Given, fixed: Fixed, state: Any, arrived: jax.Array, count: jax.Array, inputs: Inputs, lean: bool
) -> Stepped:
    """One step of all neurons, with what arrived (lanes, parts, neurons)."""
    drive = given.drive if inputs.drive is None else inputs.drive
    parts = tuple(jnp.moveaxis(arrived, 1, 0))
    if inputs.direct is not None:
        parts = tuple(map(jnp.add, parts, inputs.direct))

    def upcoming(slot: int, some: Any = None) -> jax.Array:
        return next_threshold(fixed.log_u, count, slot, some)

    return plan.kind.step(given.co, state, parts, drive, inputs.normals, upcoming, lean)


def _fits(plan: Plan, delays: jax.Array) -> jax.Array:
    """Are all delays at least a step, and short enough for the ring?"""
    return jnp.all((delays >= 1.0 - 1e-6) & (delays <= plan.rows - 2.0))


def reach(plan: Plan, delay: jax.Array, x: jax.Array, step: jax.Array) -> Reach:
    """Where a spike arrives. `delay` over h."""
    after = x + delay
    whole = jnp.floor(jax.lax.stop_gradient(after))
    fits = (whole >= 1) & (whole < plan.rows)
    row = (step + jnp.clip(whole, 1, plan.rows - 1).astype(jnp.int32)) % plan.rows
    return Reach(row, after - whole, fits)


def delays_of(given: Given, neuron: jax.Array) -> jax.Array:
    """The delays of the synapses of a neuron: a scalar, or one for each."""
    return given.delays if given.delays.ndim == 0 else given.delays[neuron]


class Ready(NamedTuple):
    """Of a spike that all synapses send on at once: row of the ring, what a unit of current adds in that step, and
    its derivatives in the time of arrival.
    """

    row: jax.Array
    units: jax.Array
    slopes: jax.Array | None


def each_spike(
    fractions: jax.Array, prepare: Callable[[Spike], Any], act: Callable[[Spike, Any, Any], Any], carry: Any
) -> Any:
    """`act` on every spike of a step, (slots, lanes, neurons), one after the other.

    They are found, and `prepare` is computed, for `_AT_ONCE` at a time: a kernel for many costs what one for one does.
    """
    _, lanes, neurons = fractions.shape
    packed = pack(fractions >= 0)
    flat = fractions.reshape(-1)

    def some(loop: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        done, carry = loop
        j = jnp.minimum(packed.places(done, _AT_ONCE), flat.size - 1)
        place = j % (lanes * neurons)
        spikes = Spike(j // (lanes * neurons), place // neurons, place % neurons, flat[j])
        ready = jax.lax.optimization_barrier((spikes, prepare(spikes)))

        def one(m: jax.Array, carry: Any) -> Any:
            spike, made = jax.tree.map(lambda x: x[m], ready)
            return act(spike, made, carry)

        return done + _AT_ONCE, jax.lax.fori_loop(0, jnp.minimum(packed.total - done, _AT_ONCE), one, carry)

    return jax.lax.while_loop(lambda loop: loop[0] < packed.total, some, (jnp.int32(0), carry))[1]


def prepared(plan: Plan, given: Given, step: jax.Array, slopes: bool) -> Callable[[Spike], Ready | None]:
    """`prepare` of `each_spike`; a network with one delay per synapse has nothing that spikes share."""

    def prepare(spikes: Spike) -> Ready | None:
        if given.delays.ndim == 2:
            return None
        to = reach(plan, jnp.broadcast_to(delays_of(given, spikes.neuron), spikes.x.shape), spikes.x, step)
        of = lambda f: jnp.where(to.fits[None], jnp.stack(f(given.decay, to.y)), 0.0).T  # noqa: E731
        return Ready(to.row, of(left_of_step), of(slopes_of_step) if slopes else None)

    return prepare


def units_at(decay: Decay, y: jax.Array) -> jax.Array:
    """What a unit of current that arrives at y adds in the step (`left_of_step`), (parts,) or (parts, synapses)."""
    return jnp.stack(left_of_step(decay, y))


def deliver(
    plan: Plan, given: Given, fixed: Fixed, ring: jax.Array, fractions: jax.Array, step: jax.Array
) -> jax.Array:
    """Write the spikes of a step into the ring."""
    neurons = fractions.shape[2]

    def act(spike: Spike, ready: Ready | None, ring: jax.Array) -> jax.Array:
        k = spike.neuron
        if ready is None:
            to = reach(plan, delays_of(given, k), spike.x, step)
            targets = jnp.arange(neurons, dtype=jnp.int32) if fixed.targets is None else fixed.targets[k]
            weights = jnp.where(to.fits, given.weights[k], 0.0)
            new = (units_at(given.decay, to.y) * weights[None]).T
            return ring.at[to.row, spike.lane, :, targets].add(new, mode="drop")
        # one row of the ring is written in place; a scatter into the ring would copy it
        weights = row_of(given.weights, fixed.targets, neurons, k)
        start = (ready.row, spike.lane, jnp.int32(0), jnp.int32(0))
        there = jax.lax.dynamic_slice(ring, start, (1, 1, ring.shape[2], neurons))
        new = there + (ready.units[:, None] * weights[None])[None, None]
        return jax.lax.dynamic_update_slice(ring, new, start)

    return each_spike(fractions, prepared(plan, given, step, False), act, ring)


def deliver_all(
    plan: Plan, given: Given, fixed: Fixed, ring: jax.Array, fractions: jax.Array, step: jax.Array
) -> jax.Array:
    """The same for all synapses at once, whether or not there is a spike."""
    _, lanes, neurons = fractions.shape
    shape = (lanes, *given.weights.shape)
    delays = given.delays[:, None] if given.delays.ndim == 1 else given.delays
    delays = jnp.broadcast_to(delays, given.weights.shape)[None]
    targets = jnp.arange(neurons, dtype=jnp.int32)[None] if fixed.targets is None else fixed.targets
    targets = jnp.broadcast_to(targets, given.weights.shape)
    lane = jnp.broadcast_to(jnp.arange(lanes, dtype=jnp.int32)[:, None, None], shape)
    for x in fractions:
        to = reach(plan, delays, jnp.broadcast_to(x[:, :, None], shape), step)
        there = to.fits & (x >= 0)[:, :, None]
        on = [jnp.where(there, unit * given.weights[None], 0.0) for unit in left_of_step(given.decay, to.y)]
        where = to.row, lane, slice(None), jnp.broadcast_to(targets[None], shape)
        ring = ring.at[where].add(jnp.stack(on, axis=-1), mode="drop")
    return ring
