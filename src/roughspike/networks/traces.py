"""Eligibility traces: the derivative of a layered network's present state in its weights, carried forward in time.

A layer needs one number per synapse and state variable: at fixed input, weight (j, k) moves neuron k alone. The spikes
of k then move the layers behind. With D the derivative in one weight, in a step

    Dy(end) = A_k Dy(start) + B_k Darrived        Dx = -Dg / g'        (equations (6), (7))

where A_k, B_k and the row Dx are the small linear map of neuron k's step: computed once per neuron, used by all of its
synapses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.networks.cells import Cell
from roughspike.networks.decay import slopes_of_step
from roughspike.networks.kinds import Stepped
from roughspike.networks.layer import pairs_of

Pair = tuple[Any, ...]


class Sent(NamedTuple):
    """What reaches a layer in a step, and its derivatives.

    - `fractions`: spikes of the layer before, (neurons,) per slot, -1 where there is none.
    - `parts`: their derivatives, per slot: in that layer's own weights, (pre, neurons), as weight (j, k) moves spikes
      of k alone; then in the weights of each layer before, (pre, post, neurons).
    - `pairs`: or, in place of both, what input spikes add per unit weight (`left_of_step`), arrays (channels,).
    """

    fractions: tuple[jax.Array, ...]
    parts: tuple[tuple[jax.Array, ...], ...]
    pairs: Pair | None = None


class Traces(NamedTuple):
    """Derivatives of the state of a layer: leaves (pre, neurons), and for each layer before (pre, post, neurons)."""

    own: Any
    earlier: tuple[Any, ...]


class Moved(NamedTuple):
    """Derivatives after a step, in the layout of `Traces`: of v at its end, and of the parts at which spikes came."""

    v: tuple[jax.Array, ...]
    parts: tuple[tuple[jax.Array, ...], ...]


def no_traces(cell: Cell, shapes: list[tuple[int, int]]) -> Traces:
    """Zeros; `shapes`: of the weights of the layers so far, the cell's own last."""
    neurons = shapes[-1][1]
    zeros = lambda lead: jax.tree.map(lambda x: jnp.zeros((*lead, neurons), x.dtype), cell.start)  # noqa: E731
    return Traces(zeros(shapes[-1][:1]), tuple(zeros(shape) for shape in shapes[:-1]))


def advance(
    cell: Cell, state: Any, traces: Traces, sent: Sent, weights: jax.Array, drive: Any, normals: Any, log_u: Any
) -> tuple[Stepped, Traces, Moved, Sent]:
    """One step of a layer and of its traces; what it sends to the next. Arrays of one sample, shape (neurons,)."""
    # barriers, or XLA would compute a step once more for each synapse and each layer behind
    pairs = pairs_of(cell.decay, sent.fractions) if sent.pairs is None else sent.pairs
    arrived = jax.lax.optimization_barrier(tuple(x @ weights for x in pairs))
    out = jax.lax.optimization_barrier(cell.kind.step(cell.co, state, arrived, drive, normals, log_u, True))
    push = _push(cell, out, drive, normals)
    states, parts = [], []
    for before, reaching in zip((traces.own, *traces.earlier), _reaching(cell, sent, pairs, weights), strict=True):
        end, moved = push(before, reaching)
        states.append(end)
        parts.append(tuple(jnp.where(as_last(x, dx) >= 0, dx, 0.0) for x, dx in zip(out.fractions, moved, strict=True)))
    states, parts = jax.lax.optimization_barrier((states, parts))
    after = Traces(states[0], tuple(states[1:]))
    return out, after, Moved(tuple(s.v for s in states), tuple(parts)), Sent(out.fractions, tuple(parts))


def _push(cell: Cell, out: Stepped, drive: Any, normals: Any) -> Any:
    """The linear map of a step, elementwise in neurons, as a function of tangents with more axes in front.

    Its rows are what the step pulls back from a unit at each of its outputs: state at the end, parts of the spikes.
    """
    at = out.state, out.fractions
    leaves, tree = jax.tree.flatten(at)
    one = jnp.eye(len(leaves), dtype=leaves[0].dtype)
    units = [jnp.broadcast_to(row[:, None], (len(leaves), *x.shape)) for row, x in zip(one, leaves, strict=True)]

    def pull(unit: Any) -> list[jax.Array]:
        p, on_parts = unit
        pulled = cell.kind.pull(cell.co, out.kept, out.fractions, p, on_parts, drive, normals, True)
        return [jnp.broadcast_to(x, leaves[0].shape) for x in jax.tree.leaves((pulled.p, pulled.arrived))]

    rows = jax.lax.optimization_barrier(jax.vmap(pull)(jax.tree.unflatten(tree, units)))

    def push(before: Any, reaching: Pair) -> Any:
        into = jax.tree.leaves((before, reaching))
        return jax.tree.unflatten(
            tree, [sum(as_last(row[k], d) * d for row, d in zip(rows, into, strict=True)) for k in range(len(leaves))]
        )

    return push


def _reaching(cell: Cell, sent: Sent, pairs: Pair, weights: jax.Array) -> list[Pair]:
    """Derivatives of what arrives, in the order of `Traces`: in the layer's own weights, then in those before."""
    found: list[Any] = [tuple(jnp.broadcast_to(x[:, None], weights.shape) for x in pairs)]
    moved = [_moved_pair(cell, sent.fractions, dx) for dx in sent.parts]
    found += [tuple(x @ weights for x in pair) for pair in moved[1:]]
    if moved:
        found.append(tuple(x[:, :, None] * weights[None] for x in moved[0]))
    return found


def _moved_pair(cell: Cell, fractions: tuple[jax.Array, ...], moved: tuple[jax.Array, ...]) -> Pair:
    """What moved spikes add."""
    each = [
        tuple(as_last(slope, dx) * dx for slope in slopes_of_step(cell.decay, x))
        for x, dx in zip(fractions, moved, strict=True)
    ]
    return tuple(sum(parts[1:], parts[0]) for parts in zip(*each, strict=True))


def as_last(x: jax.Array, like: jax.Array) -> jax.Array:
    """x, of shape (neurons,), with axes in front as `like` has them."""
    return jnp.expand_dims(x, tuple(range(like.ndim - 1)))
