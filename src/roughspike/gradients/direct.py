"""Direct: reverse-mode autodiff of the discretised run."""

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
    Local,
    Moved,
    Params,
    Records,
    dense,
    frozen,
    without_bad,
)
from roughspike.gradients.blocks import scan_in_blocks
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

    def run(self, program: AbstractProgram, inputs: Inputs) -> tuple[Core, Records, Any]:
        """Scan, in blocks if asked for."""
        floats, rest = eqx.partition(inputs, eqx.is_inexact_array)
        core, records = _guarded(floats, rest, program, self.checkpoints or 1)
        return core, records, None


@eqx.filter_custom_vjp
def _guarded(floats: Inputs, rest: Inputs, program: AbstractProgram, blocks: int) -> tuple[Core, Records]:
    """The run; its derivative is that of `_run`, except that a run that failed does not poison a batch."""
    return _run(eqx.combine(floats, rest), program, blocks)


@_guarded.def_fwd
def _forward(perturbed: Any, floats: Inputs, rest: Inputs, program: AbstractProgram, blocks: int) -> Any:
    wanted, fixed = eqx.filter(floats, perturbed), eqx.filter(floats, perturbed, inverse=True)

    def run(wanted):
        core, records = _run(eqx.combine(wanted, fixed, rest), program, blocks)
        out = (core, records)
        return _smooth(*out), out

    _, back, out = jax.vjp(run, wanted, has_aux=True)
    return out, (back, out)


@_guarded.def_bwd
def _backward(kept: Any, cotangent: Any, perturbed: Any, floats: Inputs, rest: Any, program: Any, blocks: int) -> Any:
    del perturbed, rest, program, blocks
    back, out = kept
    pulled = back(dense(_smooth(*cotangent), _smooth(*out)))[0]
    return eqx.combine(without_bad(pulled, out[0]), jax.tree.map(jnp.zeros_like, floats))


def _smooth(core: Core, records: Records) -> tuple[Any, ...]:
    """What of a run has a derivative."""
    return core.y, records.times, records.states, records.ys


def _run(inputs: Inputs, program: AbstractProgram, blocks: int) -> tuple[Core, Records]:
    params, tables, core, records = program.prepare(inputs)
    if program.calm:
        return program.run_calm(params, tables, core, records, blocks)

    def body(carry, _):
        core, records = carry
        local = program.local(tables, core)
        stopped = frozen((params, tables, local, core))
        after, known, moved = program.locate(*stopped)
        moved = attach(program, params, local, core, known, moved)
        after = eqx.tree_at(lambda c: (c.r, c.y), after, (moved.r, moved.y))
        return (after, program.store(records, known, moved)), None

    return scan_in_blocks(body, (core, records), None, program.iterations, blocks)[0]


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
