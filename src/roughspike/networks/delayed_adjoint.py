"""The hand-written adjoint of the delayed engine: a step back through the neurons, then one row of weights per spike.

What arrived in a step has the cotangent Y (i and v at its end); Y of the last steps stands in a ring as the arrivals do
in the forward pass. Backward, a spike that was sent to the part y of step m reads row m:

    dL/dw[k, j] = u(y) . Y_j        dL/dy = sum_j w[k, j] u'(y) . Y_j = dL/dx = dL/d(delay / h)

with u(y) what a unit of current leaves at the end of the step. So the backward pass too costs one row per spike, and
keeps the spikes, and of each step what its kind of neuron needs.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.networks.adjoint import Perturbed, values_and_perturbed
from roughspike.networks.delayed import (
    Fixed,
    Given,
    Inputs,
    Plan,
    Ready,
    Scanned,
    Spike,
    delays_of,
    deliver,
    each_spike,
    inputs_of,
    prepared,
    reach,
    run_scan,
    units_at,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def run_delayed(plan: Plan, given: Given, fixed: Fixed, steps: int) -> Scanned:
    """Run a network with delays. Reverse mode is by hand; noise and uniforms are not differentiated."""
    return run_scan(plan, given, fixed, steps, deliver, lean=True)[0]


def _forward(plan: Plan, given: Any, fixed: Any, steps: int) -> tuple[Scanned, Any]:
    (given, fixed), perturbed = values_and_perturbed((given, fixed))
    lean = not any(jax.tree.leaves((perturbed[0].co, perturbed[0].decay)))
    out, kept = run_scan(plan, given, fixed, steps, deliver, lean)
    flags = (lean, *(any(jax.tree.leaves(x)) for x in (perturbed[0].weights, perturbed[0].delays, perturbed[0].drive)))
    return out, (given, fixed, out.fractions, kept, Perturbed(flags))


class _Sent(NamedTuple):
    """What the spikes of a step collect: cotangents of their parts x, of weights, delays, decay."""

    x: jax.Array
    weights: jax.Array | None
    delays: jax.Array | None
    decay: Any


def _backward(plan: Plan, steps: int, residuals: Any, cotangent: Scanned) -> tuple[Given, Any]:
    given, fixed, fractions, kept, perturbed = residuals
    lean, on_weights, on_delays, on_drive = perturbed.flags
    lanes, neurons = given.start.v.shape
    dtype = given.start.v.dtype
    inputs = inputs_of(given, fixed, steps)
    changing = inputs.drive is not None
    on_spikes = None if _is_zero(cotangent.fractions) else cotangent.fractions
    on_v = None if not plan.trace or _is_zero(cotangent.membrane) else cotangent.membrane
    p = jax.tree.map(lambda g, x: jnp.zeros_like(x) if _is_zero(g) else g, cotangent.end, given.start, is_leaf=_is_zero)

    def body(carry: Any, row: Any) -> Any:
        p, ring, total = carry
        inputs, kept, known, on_known, on_v = row
        if on_v is not None:
            p = p._replace(v=p.v + on_v)
        on_x = jnp.zeros_like(known) if on_known is None else jnp.where(known >= 0, on_known, 0.0)
        sent = _Sent(on_x, total["weights"], total["delays"], None if lean else total["decay"])
        sent = _read(plan, given, fixed, ring, known, inputs, sent)
        drive = given.drive if inputs.drive is None else inputs.drive
        pulled = plan.kind.pull(given.co, kept, tuple(known), p, tuple(sent.x), drive, inputs.normals, lean)
        arrived = jnp.stack([jnp.broadcast_to(x, (lanes, neurons)) for x in pulled.arrived], axis=1)
        ring = ring.at[inputs.step % plan.rows].set(arrived)
        on_direct = jnp.moveaxis(arrived, 1, 0) if given.direct is not None else None
        on_moving = jax.tree.map(lambda x: jnp.sum(x, axis=0, keepdims=True), pulled.drive) if on_drive else None
        new = {"weights": sent.weights, "delays": sent.delays, "decay": sent.decay}
        new["co"] = None if lean else jax.tree.map(jnp.add, total["co"], pulled.co)
        new["drive"] = total["drive"] if changing or not on_drive else jax.tree.map(jnp.add, total["drive"], on_moving)
        return (pulled.p, ring, new), (on_direct, on_moving if changing else None)

    nothing = {
        "weights": jnp.zeros_like(given.weights) if on_weights else None,
        "delays": jnp.zeros_like(given.delays) if on_delays else None,
        "decay": None if lean else jax.tree.map(jnp.zeros_like, given.decay),
        "co": None if lean else jax.tree.map(jnp.zeros_like, given.co),
        "drive": jax.tree.map(jnp.zeros_like, given.drive) if on_drive and not changing else None,
    }
    ring = jnp.zeros((plan.rows, lanes, given.decay.parts, neurons), dtype)
    (p, _, total), (on_direct, on_moving) = jax.lax.scan(
        body, (p, ring, nothing), (inputs, kept, fractions, on_spikes, on_v), reverse=True
    )
    if changing and on_drive:
        total["drive"] = on_moving
    found = {name: value for name, value in total.items() if value is not None}
    zero = jax.tree.map(jnp.zeros_like, given)
    return zero._replace(**found, direct=on_direct, start=p), jax.tree.map(lambda _: None, fixed)


def _read(plan: Plan, given: Given, fixed: Fixed, ring: Any, known: Any, inputs: Inputs, sent: _Sent) -> _Sent:
    """Collect the cotangents of all spikes of a step."""
    neurons = known.shape[2]

    def act(spike: Spike, ready: Ready | None, sent: _Sent) -> _Sent:
        k = spike.neuron
        weights = given.weights[k]
        if ready is None or sent.decay is not None:
            on_decay, on_y, on_row = in_full(spike, weights)
        else:
            there = look(spike, ready.row)
            assert ready.slopes is not None
            on_decay, on_y = None, jnp.sum(weights * (ready.slopes @ there))
            on_row = ready.units @ there
        totals = sent.weights, sent.delays, sent.decay
        if sent.weights is not None:
            totals = (sent.weights.at[k].add(on_row), *totals[1:])
        if sent.delays is not None:
            on_delays = sent.delays.at[k].add(on_y) if given.delays.ndim else sent.delays + on_y
            totals = (totals[0], on_delays, totals[2])
        if sent.decay is not None:
            totals = (*totals[:2], jax.tree.map(jnp.add, sent.decay, on_decay))
        on_x = sent.x.at[spike.slot, spike.lane, k].add(jnp.sum(on_y))
        return _Sent(on_x, *totals)

    def look(spike: Spike, row: jax.Array) -> jax.Array:
        """Cotangents (parts, synapses) of what arrived by the synapses of a neuron."""
        if fixed.targets is None and row.ndim == 0:
            return ring[row, spike.lane]
        targets = jnp.arange(neurons, dtype=jnp.int32) if fixed.targets is None else fixed.targets[spike.neuron]
        row = jnp.broadcast_to(row, targets.shape)
        return ring.at[row, spike.lane, :, targets].get(mode="fill", fill_value=0.0).T

    def in_full(spike: Spike, weights: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        """Cotangents of the decay, of the arrivals and of the weights."""
        to = reach(plan, delays_of(given, spike.neuron), spike.x, inputs.step)
        there = jnp.where(jnp.broadcast_to(to.fits, weights.shape)[None], look(spike, to.row), 0.0)
        units, back = jax.vjp(units_at, given.decay, to.y)
        on_units = there * weights[None]
        if to.y.ndim == 0:
            units, on_units = units[:, None], jnp.sum(on_units, axis=1)
        on_decay, on_y = back(on_units)
        return on_decay, on_y, jnp.sum(units * there, axis=0)

    prepare = prepared(plan, given, inputs.step, True)
    return each_spike(known, prepare, act, sent)


run_delayed.defvjp(_forward, _backward, symbolic_zeros=True)


def _is_zero(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.SymbolicZero)
