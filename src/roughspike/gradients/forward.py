"""Forward: sensitivities that travel with the state, by the recursion (6)-(7)."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from roughspike.gradients.base import AbstractGradient, AbstractProgram, Core, Inputs, Records, frozen, without_bad
from roughspike.gradients.sweep import Blocks, run_plainly


class Sensitivities(NamedTuple):
    """d tau_n for every event n: trees like `args` and `y0`, leaves (max_events, ...); None at what is no float."""

    args: Any
    y0: Any


class Forward(AbstractGradient):
    """Forward sensitivities: the derivative of the state in every parameter travels with the state.

    Between events the flow is linearised; at an event, with d the derivative at a fixed time,

        (6)  d tau = - (grad E . dy- + d_theta E) / (grad E . mu- + d_t E)
        (7)  dy+   = grad T dy- + d_theta T + (grad T mu- + d_t T - mu+) d tau,

    both for the discretised flow, so that the result equals that of `rs.Direct`. Memory does not depend on the number
    of steps; time and memory grow with the number of numbers that are differentiated. For a few parameters and long
    runs, or for learning while the system runs. `jax.grad` works as ever.

    **Arguments**

    - `online`: also return, in `solution.sensitivities`, the derivative of every event time in `args` and `y0`,
      computed when the event happens, without any `jax.grad`.

    **Reference**: Holberg & Salvi (2024), Theorem 3.1, equations (6) and (7).

    >>> import jax.numpy as jnp, roughspike as rs
    >>> clock = rs.EventSDE(
    ...     drift=lambda t, y, args: args * jnp.ones_like(y),
    ...     event=lambda t, y, args: y - 1.0,
    ...     transition=lambda t, y, kind, u, args: 0.0 * y,
    ... )
    >>> sol = rs.solve(clock, t0=0.0, t1=1.2, dt=0.1, y0=jnp.zeros(1), args=2.0, gradient=rs.Forward(online=True))
    >>> [round(float(x), 4) for x in sol.sensitivities.args[:2]]  # d tau_n / d speed = -n / speed^2
    [-0.25, -0.5]
    """

    online: bool = eqx.field(static=True, default=False)

    def run(self, program: AbstractProgram, inputs: Inputs) -> tuple[Core, Records, Any]:
        """Run with tangents if they are wanted, else without."""
        floats, rest = eqx.partition(inputs, eqx.is_inexact_array)
        core, records = _run(floats, rest, program)
        if not self.online:
            return core, records, None
        wanted = jax.tree.map(lambda _: False, floats)
        of_interest = jax.tree.map(lambda _: True, (floats.args, floats.y0))
        wanted = eqx.tree_at(lambda x: (x.args, x.y0), wanted, of_interest, is_leaf=lambda x: x is None)
        found = _jacobian(frozen(floats), rest, program, wanted)
        times = [None if columns is None else jnp.moveaxis(columns.times, 0, -1) for columns in found]
        leaves, tree = jax.tree.flatten(floats)
        shaped = [None if t is None else t.reshape(*t.shape[:-1], *x.shape) for t, x in zip(times, leaves, strict=True)]
        shaped = jax.tree.unflatten(tree, shaped)
        return core, records, Sensitivities(shaped.args, shaped.y0)


@eqx.filter_custom_vjp
def _run(floats: Inputs, rest: Inputs, program: AbstractProgram) -> tuple[Core, Records]:
    """All iterations, without derivative."""
    params, tables, core, records = program.prepare(eqx.combine(floats, rest))
    if program.calm:
        return program.run_calm(params, tables, core, records, 1)
    return run_plainly(program, params, tables, core, records)


@_run.def_fwd
def _forward(perturbed: Any, floats: Inputs, rest: Inputs, program: AbstractProgram) -> tuple[Any, Any]:
    out = _run(floats, rest, program)
    return out, without_bad(_jacobian(floats, rest, program, perturbed), out[0])


@_run.def_bwd
def _backward(found: Any, cotangent: Any, perturbed: Any, floats: Inputs, rest: Inputs, program: Any) -> Inputs:
    del perturbed, rest, program
    leaves, tree = jax.tree.flatten(floats)
    cotangents = jax.tree.leaves(_outputs(*cotangent), is_leaf=lambda x: x is None)
    pulled = []
    for columns, leaf in zip(found, leaves, strict=True):
        if columns is None:
            pulled.append(None)
            continue
        pairs = zip(jax.tree.leaves(columns), cotangents, strict=True)
        total = sum(jnp.tensordot(jac, ct, ct.ndim) for jac, ct in pairs if ct is not None)
        pulled.append(jnp.broadcast_to(total, (leaf.size,)).reshape(leaf.shape).astype(leaf.dtype))
    return jax.tree.unflatten(tree, pulled)


class _Outputs(NamedTuple):
    """What of a run has a derivative."""

    y1: Any
    times: jax.Array
    states: Any
    ys: Any


def _outputs(core: Core, records: Records) -> _Outputs:
    return _Outputs(core.y, records.times, records.states, records.ys)


def _jacobian(floats: Inputs, rest: Inputs, program: AbstractProgram, wanted: Any) -> list[Any]:
    """Per leaf of `floats` the derivative of the outputs, with a leading axis over the leaf; None if not wanted.

    Columns of t0, t1 and the driver perturb the whole path and run one after the other; all others run at once.
    """
    leaves, tree = jax.tree.flatten(floats)
    flags = jax.tree.leaves(wanted)
    through_path = jax.tree.leaves(
        eqx.tree_at(
            lambda x: (x.t0, x.t1, x.driver),
            jax.tree.map(lambda _: False, floats),
            jax.tree.map(lambda _: True, (floats.t0, floats.t1, floats.driver)),
            is_leaf=lambda x: x is None,
        )
    )
    found: list[Any] = [None] * len(leaves)
    for group, in_turn in ((False, False), (True, True)):
        chosen = [k for k, on in enumerate(flags) if on and through_path[k] is group]
        if not chosen:
            continue
        flat, back = ravel_pytree([leaves[k] for k in chosen])

        def run(flat, chosen=chosen, back=back):
            filled = list(leaves)
            for k, leaf in zip(chosen, back(flat), strict=True):
                filled[k] = leaf
            return _moving(program, eqx.combine(jax.tree.unflatten(tree, filled), rest))

        column = lambda v, run=run, flat=flat: jax.jvp(run, (flat,), (v,))[1]  # noqa: E731
        basis = jnp.eye(flat.size, dtype=flat.dtype)
        columns = jax.lax.map(column, basis) if in_turn else jax.vmap(column)(basis)
        start = 0
        for k in chosen:
            stop = start + leaves[k].size
            found[k] = jax.tree.map(lambda x, a=start, b=stop: x[a:b], columns)
            start = stop
    return found


def _moving(program: AbstractProgram, inputs: Inputs) -> _Outputs:
    """All iterations, differentiable in forward mode."""
    params, tables, core, records = program.prepare(inputs)
    if program.calm:
        return _outputs(*program.run_calm(params, tables, core, records, 1))

    def iteration(carry):
        core, records = carry
        after, known, _ = program.locate(*frozen((params, tables, core)))
        moved = program.replay(params, program.rows(tables, known), core.r, core.y, known)
        after = eqx.tree_at(lambda c: (c.r, c.y), after, (moved.r, moved.y))
        return (after, program.store(records, known, moved)), None

    return _outputs(*Blocks.of(program).run(program, iteration, (core, records))[1])
