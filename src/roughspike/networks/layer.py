"""One layer over the whole grid: what arrives, times the weights, into the step of its neurons. With its adjoint.

What the presynaptic side sends reaches a layer once per step, by two numbers per presynaptic neuron: what a unit of
current that arrived in the step adds to i and to v at its end. One product with the weights does the rest. The
backward pass needs the spikes and what the kind of neuron keeps (`kinds`), and computes the product's operands again.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike._types import NOT_FINITE
from roughspike.networks.adjoint import Perturbed, values_and_perturbed
from roughspike.networks.decay import Decay, left_of_step, slopes_of_step
from roughspike.networks.general import General
from roughspike.networks.kinds import Escape, Kind
from roughspike.networks.noise import CHUNK, Drawn, LogUniforms, draw_normals, log_u_at
from roughspike.networks.thin import is_thin, refilled, thinned


class Plan(NamedTuple):
    """What a layer is compiled for."""

    kind: Kind | General
    trace: bool


class Given(NamedTuple):
    """Everything that a layer's run depends on; any of it may be None where it does not apply.

    - `co`: coefficients of the step; `decay`: those of what arrives.
    - `weights`: (pre, post).
    - `fractions`: spikes of the presynaptic layer, one array (steps, pre, lanes) per slot, -1 where empty.
    - `pairs`: or, in its place, what they add in each step (`left_of_step`), (steps, pre, parts x lanes): to i first.
    - `direct`: the same of what arrives already weighted, arrays (steps, post, lanes).
    - `listed`: or the same as a list of spikes leaves it, arrays (steps, lanes, post), which are turned step by
      step, as turned copies of the whole run would cost memory.
    - `drive`: input current, in the form of the kind; leaves (post, 1), or (steps, post, 1) if it changes.
    - `start`: state of the kind, leaves (post, lanes).
    - `normals`: (steps, normals, post, lanes); `log_u`: (intervals, post, lanes). Or both drawn on the way.
    """

    co: Any
    decay: Decay
    weights: jax.Array | None
    fractions: tuple[jax.Array, ...] | None
    pairs: jax.Array | None
    direct: tuple[jax.Array, ...] | None
    listed: tuple[jax.Array, ...] | None
    drive: Any
    start: Any
    normals: jax.Array | Drawn | None
    log_u: jax.Array | LogUniforms | None


class Scanned(NamedTuple):
    """Fractions of each slot and v at the ends of steps, (steps, post, lanes); total count, end, flags.

    Slots are separate arrays, as XLA does not vectorise what computes a concatenation.
    """

    fractions: tuple[jax.Array, ...]
    total: jax.Array
    membrane: jax.Array | None
    end: Any
    flags: jax.Array

    @property
    def counts(self) -> jax.Array:
        """Running spike counts after each step, (steps, post, lanes): a pass of its own, for those who ask."""

        def add(count: jax.Array, row: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
            count = count + sum((x >= 0).astype(jnp.int32) for x in row)
            return count, count

        return jax.lax.scan(add, jnp.zeros_like(self.total), jax.lax.stop_gradient(self.fractions))[1]


def scan_layer(plan: Plan, given: Given) -> Scanned:
    """Run a layer; the derivative is JAX's own, in either mode, each step computed again in the backward pass."""
    body = jax.checkpoint(functools.partial(_body, plan, given, True, False), prevent_cse=False)
    return _scan(body, given)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def run_layer(plan: Plan, given: Given) -> Scanned:
    """`scan_layer` with a backward pass of its own, for reverse mode. The noise is not differentiated."""
    return _scan(functools.partial(_body, plan, given, True, False), given)[0]


def pairs_of(decay: Decay, fractions: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """What spikes, (pre, lanes) per slot, add per unit weight in their step: `left_of_step`."""
    each = [tuple(jnp.where(x >= 0, on, 0.0) for on in left_of_step(decay, x)) for x in fractions]
    return functools.reduce(lambda a, b: tuple(map(jnp.add, a, b)), each)


def turned(parts: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Transposes. A row longer by 16 keeps a column from falling on few lines of the cache: half of the time."""
    wide = jax.lax.optimization_barrier(tuple(jnp.pad(x, ((0, 0), (0, 16))) for x in parts))
    return tuple(x.T[:-16] for x in wide)


def next_threshold(log_u: Any, count: jax.Array, slot: int, some: Any) -> jax.Array:
    """log u of the interval after the spike in this slot of the step; of some lanes only if their places are given."""
    count = count if some is None else count.reshape(-1)[some]
    return log_u_at(log_u, count + slot + 1, some)


class _Inputs(NamedTuple):
    """What changes from step to step."""

    fractions: Any
    pairs: Any
    direct: Any
    listed: Any
    drive: Any
    normals: Any


def _inputs(given: Given) -> _Inputs:
    changing = given.drive if jax.tree.leaves(given.drive)[0].ndim == 3 else None
    normals = None if isinstance(given.normals, Drawn) else given.normals
    return _Inputs(given.fractions, given.pairs, given.direct, given.listed, changing, normals)


def _scan(body: Any, given: Given) -> tuple[Scanned, Any]:
    shape = given.start.v.shape
    none = jnp.zeros(shape, jnp.int32)
    start, steps = (given.start, none, none), _steps(given)
    if isinstance(given.normals, Drawn):
        after, rows = _scan_drawing(body, given, given.normals, start, steps)
    else:
        after, rows = jax.lax.scan(body, start, _inputs(given), length=steps)
    (end, total, flags), (fractions, membrane, kept) = after, rows
    finite = jnp.isfinite(sum(jax.tree.leaves(end)[1:], jax.tree.leaves(end)[0]))
    flags = flags | jnp.where(finite, 0, NOT_FINITE).astype(jnp.int32)
    return Scanned(fractions, total, membrane, end, flags), kept


def _scan_drawing(body: Any, given: Given, drawn: Drawn, start: Any, steps: int) -> Any:
    """`jax.lax.scan`, where normals are drawn a chunk of steps at a time, and stay in the processor's cache."""
    inputs, dtype = _inputs(given), given.start.v.dtype
    shape = drawn.per_step, *given.start.v.shape
    at = lambda n: jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, n, 0, False), inputs)  # noqa: E731
    put = lambda x, new, n: jax.lax.dynamic_update_index_in_dim(x, new, n, 0)  # noqa: E731
    row = jax.eval_shape(lambda: body(start, at(0)._replace(normals=jnp.zeros(shape, dtype)))[1])
    rows = jax.tree.map(lambda x: jnp.zeros((steps, *x.shape), x.dtype), row)

    def chunk(m: jax.Array, loop: Any) -> Any:
        normals = draw_normals(drawn.key, m, CHUNK, shape, dtype)

        def step(k: jax.Array, loop: Any) -> Any:
            carry, rows = loop
            n = m * CHUNK + k
            carry, row = body(carry, at(n)._replace(normals=normals[k]))
            return carry, jax.tree.map(lambda x, new: put(x, new, n), rows, row)

        return jax.lax.fori_loop(0, jnp.minimum(CHUNK, steps - m * CHUNK), step, loop)

    return jax.lax.fori_loop(0, -(-steps // CHUNK), chunk, (start, rows))


def _steps(given: Given) -> int:
    return jax.tree.leaves(_inputs(given))[0].shape[0]


def _body(plan: Plan, given: Given, lean: bool, keep: bool, carry: Any, inputs: _Inputs) -> Any:
    state, count, flags = carry
    drive = given.drive if inputs.drive is None else inputs.drive

    def upcoming(slot: int, some: Any = None) -> jax.Array:
        return next_threshold(given.log_u, count, slot, some)

    arrived = _arrived(given.decay, given.weights, inputs, state.v)
    out = plan.kind.step(given.co, state, arrived, drive, inputs.normals, upcoming, lean)
    count = count + sum((x >= 0).astype(jnp.int32) for x in out.fractions)
    membrane = out.state.v if plan.trace else None
    kept = thinned(plan.kind, lean, out.kept) if keep else None
    return (out.state, count, flags | out.flags), (out.fractions, membrane, kept)


def _arrived(decay: Decay, weights: Any, inputs: _Inputs, like: jax.Array) -> tuple[Any, ...]:
    """What arrives adds in this step, as `left_of_step`."""
    direct = inputs.direct if inputs.listed is None else turned(inputs.listed)
    if inputs.pairs is not None:
        both = tuple(jnp.split(weights.T @ inputs.pairs, decay.parts, axis=1))
    elif inputs.fractions is not None:
        both = tuple(weights.T @ on for on in pairs_of(decay, inputs.fractions))
    else:
        return (jnp.zeros_like(like),) * decay.parts if direct is None else direct
    return both if direct is None else tuple(map(jnp.add, both, direct))


def _forward(plan: Plan, given: Any) -> tuple[Scanned, Any]:
    given, perturbed = values_and_perturbed((given,))
    given, perturbed = given[0], perturbed[0]
    lean = not any(jax.tree.leaves((perturbed.co, perturbed.decay)))
    drawn = isinstance(given.normals, Drawn)
    if drawn and not (lean and isinstance(plan.kind, Escape)):  # the backward pass needs them
        shape = given.normals.per_step, *given.start.v.shape
        normals = draw_normals(given.normals.key, 0, _steps(given), shape, given.start.v.dtype)
        given = given._replace(normals=normals)
    out, kept = _scan(functools.partial(_body, plan, given, lean, True), given)
    names = "weights", "pairs", "direct", "listed", "drive"
    flags = Perturbed((lean, drawn, *(any(jax.tree.leaves(getattr(perturbed, name))) for name in names)))
    return out, (
        given._replace(log_u=None, normals=None if isinstance(given.normals, Drawn) else given.normals),
        given.log_u.shape if isinstance(given.log_u, jax.Array) else None,
        out.fractions,
        kept,
        out.end.v if is_thin(plan.kind, lean) else None,
        flags,
    )


def _backward(plan: Plan, residuals: Any, cotangent: Scanned) -> tuple[Given]:
    given, log_u_shape, fractions, kept, last, perturbed = residuals
    lean, drawn, on_weights, on_pairs, on_direct, on_listed, on_drive = perturbed.flags
    shape, dtype = given.start.v.shape, given.start.v.dtype
    inputs = _inputs(given)
    changing = inputs.drive is not None
    p = jax.tree.map(_dense, cotangent.end, given.start, is_leaf=_is_zero)
    on_spikes = tuple(None if _is_zero(x) else x for x in cotangent.fractions)
    on_v = None if not plan.trace or _is_zero(cotangent.membrane) else cotangent.membrane

    def body(carry: Any, step: Any) -> Any:
        p, total, on_listed, after = carry
        n, inputs, kept, known, on_known, on_v = step
        drive = given.drive if inputs.drive is None else inputs.drive
        if on_v is not None:
            p = p._replace(v=p.v + on_v)
        unused = jnp.zeros(shape, dtype)
        on_known = [unused if on is None else jnp.where(x >= 0, on, 0.0) for x, on in zip(known, on_known, strict=True)]
        if after is not None:
            kept, after = refilled(given.co, given.decay, kept, known, after), kept[0]
        pulled = plan.kind.pull(given.co, kept, known, p, on_known, drive, inputs.normals, lean)
        on_arrived = pulled.arrived
        more, moving = {}, {}
        if inputs.pairs is not None:
            stacked = jnp.concatenate(on_arrived, axis=1)
            if on_pairs:
                moving["pairs"] = given.weights @ stacked
            if on_weights:
                more["weights"] = inputs.pairs @ stacked.T
        elif inputs.fractions is not None:
            on_sent = tuple(given.weights @ x for x in on_arrived)
            if lean:
                sent = pairs_of(given.decay, inputs.fractions)
                moving["fractions"] = _on_fractions(given.decay, inputs.fractions, on_sent)
            else:
                sent, back = jax.vjp(pairs_of, given.decay, inputs.fractions)
                more["decay"], moving["fractions"] = back(on_sent)
            if on_weights:
                more["weights"] = sum(a @ b.T for a, b in zip(sent, on_arrived, strict=True))
        if on_direct:
            moving["direct"] = on_arrived
        if on_listed is not None:
            put = lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, n, 0)  # noqa: E731
            on_listed = tuple(map(put, on_listed, turned(on_arrived)))
        if on_drive and changing:
            moving["drive"] = jax.tree.map(lambda x: jnp.sum(x, axis=-1, keepdims=True), pulled.drive)
        elif on_drive:
            more["drive"] = pulled.drive
        if not lean:
            more["co"] = pulled.co
        total = {name: jax.tree.map(jnp.add, total[name], more[name]) for name in total}
        return (pulled.p, total, on_listed, after), moving

    nothing: dict[str, Any] = {}
    if on_weights:
        nothing["weights"] = jnp.zeros_like(given.weights)
    if on_drive and not changing:
        nothing["drive"] = jax.tree.map(lambda x: jnp.zeros(shape, dtype), given.drive)
    if not lean:
        nothing["co"] = jax.tree.map(jnp.zeros_like, given.co)
        if inputs.fractions is not None:
            nothing["decay"] = jax.tree.map(jnp.zeros_like, given.decay)
    numbers = jnp.arange(_steps(given), dtype=jnp.int32)
    # cotangents of a list are written over what it delivered, which nobody needs any more: two arrays less at a time
    start = p, nothing, given.listed if on_listed else None, last
    (p, total, listed, _), moving = jax.lax.scan(
        body, start, (numbers, inputs, kept, fractions, on_spikes, on_v), reverse=True
    )
    if listed is not None:
        moving["listed"] = listed
    if on_drive:
        sums = (
            jax.tree.map(lambda x: jnp.sum(x, axis=-1, keepdims=True), total["drive"])
            if not changing
            else moving["drive"]
        )
        total["drive"] = jax.tree.map(_sum_to, sums, given.drive)
    found = {**moving, **total, "start": p}
    if log_u_shape is not None:
        found["log_u"] = jnp.zeros(log_u_shape, dtype)
    zero = jax.tree.map(jnp.zeros_like, given)
    return (zero._replace(**found, **({"normals": None} if drawn else {})),)


run_layer.defvjp(_forward, _backward, symbolic_zeros=True)


def _on_fractions(decay: Decay, fractions: tuple[jax.Array, ...], on_sent: Any) -> tuple[jax.Array, ...]:
    """Transpose of `pairs_of`."""
    of = lambda x: sum(on * slope for on, slope in zip(on_sent, slopes_of_step(decay, x), strict=True))  # noqa: E731
    return tuple(jnp.where(x >= 0, of(x), 0.0) for x in fractions)


def _is_zero(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.SymbolicZero)


def _dense(x: Any, like: jax.Array) -> jax.Array:
    return jnp.zeros_like(like) if _is_zero(x) else x


def _sum_to(x: jax.Array, like: jax.Array) -> jax.Array:
    """Sum over the axes along which `like` was broadcast."""
    axes = tuple(k for k, n in enumerate(like.shape) if n == 1 and x.shape[k] != 1)
    return jnp.sum(x, axis=axes, keepdims=True)
