"""The hand-written adjoint of the scan: the exact derivative of the discretised run, backward in time.

Backward in time, p = dL/d(v, i, s, rest) at the end of a step is pulled back through that one step, in which the
spike times are known: their derivative is the recursion (6)-(7), whose transpose are the jumps of the adjoint at the
events (docs, "The mathematics"). Only v, i (and the refractory time left) at the start of each step and the spike
fractions are kept: a step needs no s, since ds enters linearly. Coefficients that nobody differentiates have no
accumulator, and those that somebody does are accumulated per neuron and sample and summed once at the end.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from roughspike.networks.scan import Scanned, run_scan, scan_steps, step_body
from roughspike.networks.step import Coefficients, State, Static, step


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def scan_with_adjoint(
    static: Static,
    trace: bool,
    co: Coefficients,
    start: State,
    drive: tuple[jax.Array, jax.Array],
    normals: jax.Array,
    log_u: jax.Array,
) -> Scanned:
    """`scan_steps` with a backward pass of its own, for reverse mode. The noise is not differentiated."""
    return scan_steps(static._replace(differentiate=False), trace, co, start, drive, normals, log_u)


@jax.tree_util.register_static
class Perturbed:
    """Which leaves are differentiated: static, hashable."""

    def __init__(self, flags: tuple[bool, ...]):
        self.flags = flags

    def __hash__(self) -> int:
        return hash(self.flags)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Perturbed) and self.flags == other.flags


def values_and_perturbed(given: Any) -> tuple[Any, Any]:
    """The arguments of a forward rule with symbolic zeros, and for each leaf whether it is differentiated."""
    is_primal = lambda x: isinstance(x, jax.custom_derivatives.CustomVJPPrimal)  # noqa: E731
    value = jax.tree.map(lambda x: x.value, given, is_leaf=is_primal)
    return value, jax.tree.map(lambda x: x.perturbed, given, is_leaf=is_primal)


def _forward(static, trace, co, start, drive, normals, log_u):
    (co, start, drive, normals, log_u), perturbed = values_and_perturbed((co, start, drive, normals, log_u))
    keep = ("v", "i") if start.rest is None else ("v", "i", "rest")
    body = step_body(static._replace(differentiate=False), co, drive, log_u, keep)
    out, kept = run_scan(body, trace, start, drive, normals)
    flags = Perturbed(tuple(jax.tree.leaves((perturbed[0], perturbed[2]))))
    return out, (co, drive, normals, out.fractions, kept, flags, log_u.shape)


def backward(static: Static, trace: bool, kept_by_forward: Any, cotangent: Scanned) -> tuple[Any, ...]:
    """Cotangents of (co, start, drive, normals, log_u) from those of what the scan left."""
    co, drive, normals, fractions, kept, perturbed, log_u_shape = kept_by_forward
    shape, dtype = fractions.shape[2:], fractions.dtype
    changing = drive[0].ndim == 3
    leaves, tree = jax.tree.flatten((co, drive))
    count = len(jax.tree.leaves(co))
    summed = [k for k, on in enumerate(perturbed.flags) if on and not (changing and k >= count)]
    steady = [jnp.broadcast_to(leaves[k], shape) for k in summed]
    p = jax.tree.map(_dense, cotangent.end, is_leaf=_is_zero)
    on_fractions = _dense(cotangent.fractions)
    on_v = _dense(cotangent.membrane) if trace else None

    def pull(slots: int, state: State, known, normal, moving, p, on_known):
        one = static._replace(max_spikes=slots)

        def replay(state, steady, moving):
            filled = list(leaves)
            for k, leaf in zip(summed, steady, strict=True):
                filled[k] = leaf
            co, drive = jax.tree.unflatten(tree, filled)
            unused = lambda slot: 0.0  # noqa: E731  a new threshold is not differentiated, and s enters linearly
            out = step(co, one, state, moving if changing else drive, tuple(normal), unused, tuple(known[:slots]))
            end = out.state._replace(i=out.state.i[:, : state.i.shape[1]])  # one for all samples stays one
            return end, jnp.stack(out.fractions)

        _, back = jax.vjp(replay, state, steady, moving)
        return back((p, jnp.where(known[:slots] >= 0, on_known[:slots], 0.0)))

    def sweep(slots: int, start, inputs):
        def body(carry, inputs):
            p, total = carry
            kept, known, on_known, normal, moving, on_v = inputs
            if on_v is not None:
                p = p._replace(v=p.v + on_v)
            state = State(kept["v"], kept["i"], jnp.zeros(shape, dtype), kept.get("rest"))
            p, more, on_moving = pull(slots, state, known, normal, moving, p, on_known)
            on_moving = jax.tree.map(lambda x: jnp.sum(x, axis=-1, keepdims=True), on_moving)
            return (p, [a + b for a, b in zip(total, more, strict=True)]), on_moving

        return jax.lax.scan(body, start, inputs, reverse=True)

    nothing = [jnp.zeros(shape, dtype) for _ in summed]
    moving = jax.tree.map(lambda x: jnp.broadcast_to(x, (*x.shape[:-1], shape[-1])), drive) if changing else None
    inputs = (kept, fractions, on_fractions, normals, moving, on_v)
    one = functools.partial(sweep, 1)
    if static.max_spikes == 1:
        (p, total), on_moving = one((p, nothing), inputs)
    else:  # several spikes of one neuron in a step are rare
        many = functools.partial(sweep, static.max_spikes)
        (p, total), on_moving = jax.lax.cond(jnp.any(fractions[:, 1:] >= 0), many, one, (p, nothing), inputs)

    found = [jnp.zeros_like(leaf) for leaf in leaves]
    for k, value in zip(summed, total, strict=True):
        found[k] = _sum_to(value, leaves[k].shape)
    on_co, on_drive = jax.tree.unflatten(tree, found)
    zero_log_u = jnp.zeros(log_u_shape, dtype)
    return on_co, p, on_moving if changing else on_drive, jnp.zeros_like(normals), zero_log_u


scan_with_adjoint.defvjp(_forward, backward, symbolic_zeros=True)


def _is_zero(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.SymbolicZero)


def _dense(x: Any) -> jax.Array:
    return jnp.zeros(x.shape, x.dtype) if _is_zero(x) else x


def _sum_to(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Sum over the axes along which `shape` was broadcast."""
    if not shape:
        return jnp.sum(x)
    return jnp.sum(x, axis=tuple(k for k, n in enumerate(shape) if n == 1 and x.shape[k] != 1), keepdims=True)
