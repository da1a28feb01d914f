"""Adjoint: a backward sweep with a jump at every event."""

from __future__ import annotations

from typing import Any

import equinox as eqx

from roughspike.gradients.base import AbstractGradient, AbstractProgram, Core, Inputs, Records
from roughspike.gradients.direct import Direct
from roughspike.gradients.pull import pull_continuously, pull_iteration
from roughspike.gradients.sweep import swept


class Adjoint(AbstractGradient):
    """The adjoint equations, backward in time, with a jump of the adjoint state at every event.

    With p = dL/dy, between events dp/dt = -(grad mu)' p along the stored path; at an event, with mu- and mu+ the
    velocity before and after (noise included), and l the part of the loss that looks at tau,

        a   = p+ . (grad T mu- + d_t T - mu+) + dl/dtau
        p-  = grad T' p+ - grad E' a / (grad E . mu- + d_t E)
        dL/dtheta += d_theta T' p+ - d_theta E' a / (grad E . mu- + d_t E).

    By default all of it is the exact adjoint of the discretised run, equal to `rs.Direct` up to rounding, by a
    derivation of its own: what happens at an event is written out. Only parameters that are differentiated cost
    anything. One state per iteration of the loop is stored. It has no forward mode.

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
        if self.continuous:
            return *swept(program.without_passes(), inputs, pull_continuously, None), None
        if program.calm:
            return Direct().run(program, inputs)  # a plain scan, whose transpose in JAX is this very sweep
        return *swept(program, inputs, pull_iteration, None), None
