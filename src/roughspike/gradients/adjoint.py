"""Adjoint: a backward sweep with a jump at every event."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.gradients.base import (
    AbstractGradient,
    AbstractProgram,
    Core,
    Inputs,
    Known,
    Records,
    dense,
    frozen,
    without_bad,
)
from roughspike.gradients.direct import Direct
from roughspike.gradients.pull import Site, pull_iteration


class Adjoint(AbstractGradient):
    """The adjoint equations, backward in time, with a jump of the adjoint state at every event.

    With p = dL/dy, between events dp/dt = -(grad mu)' p along the stored path; at an event, with mu- and mu+ the
    velocity before and after (noise included), and l the part of the loss that looks at tau,

        a   = p+ . (grad T mu- + d_t T - mu+) + dl/dtau
        p-  = grad T' p+ - grad E' a / (grad E . mu- + d_t E)
        dL/dtheta += d_theta T' p+ - d_theta E' a / (grad E . mu- + d_t E).

    By default all of it is the exact adjoint of the discretised run, equal to `rs.Direct` up to rounding: only
    parameters that are differentiated cost anything, and gradients in the driver's values take linear time, so
    prefer it where the path or very many steps are differentiated. One state per iteration is stored. It has no
    forward mode.

    **Arguments**

    - `continuous`: discretise the adjoint equations by their own trapezoidal rule instead (optimise, then
      discretise). The gradient is then off by the size of the discretisation error; for studies of it, and for
      solvers whose own derivative is expensive. Needs a solver of Stratonovich type, or no noise in the state's
      diffusion coefficient.

    **Reference**: Holberg & Salvi (2024), Theorem 3.1; for hard thresholds Wunderlich & Pehle (2021), EventProp.

    >>> import jax, jax.numpy as jnp, roughspike as rs
    >>> decay = rs.EventSDE(drift=lambda t, y, args: -args * y)
    >>> end = lambda rate: rs.solve(
    ...     decay, t0=0.0, t1=1.0, dt=0.01, y0=jnp.ones(1), args=rate, gradient=rs.Adjoint()
    ... ).y1[0]
    >>> round(float(jax.grad(end)(1.0)), 4)
    -0.3679
    """

    continuous: bool = eqx.field(static=True, default=False)

    def run(self, program: AbstractProgram, inputs: Inputs) -> tuple[Core, Records, Any]:
        """Run, and store where every iteration starts if a derivative is wanted."""
        if program.calm and not self.continuous:
            return Direct().run(program, inputs)  # a plain scan, whose transpose in JAX is this very sweep
        params, tables, core, records = program.prepare(inputs)
        floats, rest = eqx.partition((params, tables, core.r, core.y), eqx.is_inexact_array)
        core, records = _run(floats, rest, frozen(core), frozen(records), program, self.continuous)
        return core, records, None


@eqx.filter_custom_vjp
def _run(floats: Any, rest: Any, core: Core, records: Records, program: AbstractProgram, continuous: bool) -> Any:
    """All iterations."""
    del continuous
    (core, records), _ = _scan(floats, rest, core, records, program, keep=False)
    return core, records


def _scan(floats: Any, rest: Any, core: Core, records: Records, program: AbstractProgram, keep: bool) -> Any:
    params, tables, r, y = eqx.combine(floats, rest)
    core = eqx.tree_at(lambda c: (c.r, c.y), core, (r, y))

    def body(carry, _):
        core, records = carry
        after, known, moved = program.locate(params, tables, program.local(tables, core), core)
        return (after, program.store(records, known, moved)), (core.r, core.y, known) if keep else None

    return jax.lax.scan(body, (core, records), None, length=program.iterations)


@_run.def_fwd
def _forward(perturbed: Any, floats: Any, rest: Any, core: Any, records: Any, program: Any, continuous: bool) -> Any:
    del perturbed, continuous
    out, starts = _scan(floats, rest, core, records, program, keep=True)
    return out, (starts, out[0])


@_run.def_bwd
def _backward(
    kept: tuple[tuple[jax.Array, Any, Known], Core],
    cotangent: Any,
    perturbed: Any,
    floats: Any,
    rest: Any,
    core: Core,
    records: Records,
    program: AbstractProgram,
    continuous: bool,
) -> Any:
    del core
    starts, ended = kept
    _, tables, r, y = eqx.combine(floats, rest)
    wanted = eqx.filter(floats[0], perturbed[0])
    fixed = eqx.combine(eqx.filter(floats[0], perturbed[0], inverse=True), rest[0])
    on_core, on_records = cotangent
    on_records = dense(on_records, records)
    on_y = dense(on_core.y, y)
    on_r = jnp.zeros_like(r)
    sweep_path = any(jax.tree.leaves(perturbed[1]))

    def body(carry, inputs):
        on_r, on_y, total = carry
        r, y, known = inputs
        site = Site(program, wanted, fixed, program.rows(tables, known), r, y, known, continuous)
        on_w, on_local, on_r, on_y = pull_iteration(site, on_r, on_y, on_records)
        return (on_r, on_y, jax.tree.map(jnp.add, total, on_w)), on_local if sweep_path else None

    start = (on_r, on_y, jax.tree.map(jnp.zeros_like, wanted))
    (on_r, on_y, total), on_locals = jax.lax.scan(body, start, starts, reverse=True)
    on_tables = jax.tree.map(jnp.zeros_like, floats[1])
    if sweep_path and on_locals is not None:
        on_tables = program.gather(on_tables, starts[2], on_locals)
    on_params = eqx.combine(total, jax.tree.map(jnp.zeros_like, floats[0]))
    return without_bad((on_params, on_tables, on_r, on_y), ended)
