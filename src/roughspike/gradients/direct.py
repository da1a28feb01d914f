"""Direct: reverse-mode autodiff of the discretised run."""

from __future__ import annotations

import math
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
    Local,
    Moved,
    Params,
    frozen,
)
from roughspike.gradients.lazy import when_reverse


class Direct(AbstractGradient):
    """Reverse-mode automatic differentiation of the discretised run, event times by the implicit function theorem.

    Every iteration is replayed in the backward pass from its start, so what is kept is one state per iteration, or
    with `checkpoints` one per block and those of one block. The cost of the backward pass is about that of the
    forward pass, whatever the number of parameters. The default, and the one to use unless memory or online
    learning says otherwise. It has no forward mode (`jax.jvp`); `rs.Forward` has.

    **Arguments**

    - `checkpoints`: None, or the number of blocks of iterations of which only the first state is kept. The square
      root of the number of iterations needs the least memory; the forward pass is then run twice.

    **Reference**: equations (6) and (7) of Holberg & Salvi (2024), for the discretised flow.

    >>> import roughspike as rs
    >>> rs.Direct(checkpoints=20)
    Direct(checkpoints=20)
    """

    checkpoints: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.checkpoints is not None and self.checkpoints < 1:
            raise ValueError(f"checkpoints must be at least 1, or None to keep every state, got {self.checkpoints}")

    def run(self, program: AbstractProgram, inputs: Inputs) -> tuple[Core, Any, Any]:
        """Scan, in blocks if asked for."""
        params, tables, core, records = program.prepare(inputs)

        def body(carry, _):
            core, records = carry
            local = program.local(tables, core)
            stopped = frozen((params, tables, local, core))
            after, known, moved = program.locate(*stopped)
            moved = attach(program, params, local, core, known, moved)
            after = eqx.tree_at(lambda c: (c.r, c.y), after, (moved.r, moved.y))
            return (after, program.store(records, known, moved)), None

        blocks = 1 if self.checkpoints is None else min(self.checkpoints, program.iterations)
        length = math.ceil(program.iterations / blocks)
        if blocks == 1:
            (core, records), _ = jax.lax.scan(body, (core, records), None, length=program.iterations)
        else:
            block = jax.checkpoint(lambda c, _: jax.lax.scan(body, c, None, length=length), prevent_cse=False)
            (core, records), _ = jax.lax.scan(block, (core, records), None, length=blocks)
        return core, records, None


def attach(program: AbstractProgram, params: Params, local: Local, core: Core, known: Known, moved: Moved) -> Moved:
    """`moved` with the derivative of `program.replay`."""
    given = (params, local, core.r, core.y)
    floats, rest = eqx.partition(given, eqx.is_inexact_array)
    arrays, static = eqx.partition(rest, eqx.is_array)

    @jax.custom_vjp
    def run(floats, arrays, known, moved):
        del floats, arrays, known
        return moved

    def forward(floats, arrays, known, moved):
        return moved, (floats, arrays, known)

    def backward(kept, cotangent):
        floats, arrays, known = kept

        def again(floats):
            params, local, r, y = eqx.combine(floats, arrays, static)
            return program.replay(params, local, r, y, known, when_reverse)

        on_floats = jax.vjp(again, floats)[1](cotangent)[0]
        return on_floats, None, None, jax.tree.map(jnp.zeros_like, cotangent)

    run.defvjp(forward, backward)
    return run(floats, arrays, known, jax.lax.stop_gradient(moved))
