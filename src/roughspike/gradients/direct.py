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
    Records,
    dense,
    without_bad,
)
from roughspike.gradients.sweep import Pulled, Site, swept


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
        if not program.calm:
            return *swept(program, inputs, pull_replay, self.checkpoints), None
        floats, rest = eqx.partition(inputs, eqx.is_inexact_array)
        return *_calm(floats, rest, program, self.checkpoints or 1), None


def pull_replay(site: Site, q: jax.Array, p: Any, on_records: Records) -> Pulled:
    """The transpose of an iteration and of what it wrote down, by JAX."""
    program, known = site.program, site.known
    kinds = jnp.zeros(on_records.times.shape, jnp.int32)
    blank = Records(*jax.tree.map(jnp.zeros_like, (on_records.times, kinds, on_records.states, on_records.ys)))

    def again(w, local, r, y):
        moved = program.replay(eqx.combine(w, site.fixed), local, r, y, known)
        records = program.store(blank, known, moved)
        return moved.r, moved.y, eqx.filter(records, eqx.is_inexact_array)

    _, back = jax.vjp(again, site.wanted, site.local, site.r, site.y)
    return Pulled(*back((q, p, on_records)))


@eqx.filter_custom_vjp
def _calm(floats: Inputs, rest: Inputs, program: AbstractProgram, blocks: int) -> tuple[Core, Records]:
    """A run of whole steps; its derivative is that of the scan, but a run that failed does not poison a batch."""
    return program.run_calm(*program.prepare(eqx.combine(floats, rest)), blocks)


@_calm.def_fwd
def _forward(perturbed: Any, floats: Inputs, rest: Inputs, program: AbstractProgram, blocks: int) -> Any:
    wanted, fixed = eqx.filter(floats, perturbed), eqx.filter(floats, perturbed, inverse=True)

    def run(wanted):
        core, records = program.run_calm(*program.prepare(eqx.combine(wanted, fixed, rest)), blocks)
        return (core.y, records.ys), (core, records)

    _, back, out = jax.vjp(run, wanted, has_aux=True)
    return out, (back, out)


@_calm.def_bwd
def _backward(kept: Any, cotangent: Any, perturbed: Any, floats: Inputs, rest: Any, program: Any, blocks: int) -> Any:
    del perturbed, rest, program, blocks
    (back, (core, records)), (on_core, on_records) = kept, cotangent
    pulled = back(dense((on_core.y, on_records.ys), (core.y, records.ys)))[0]
    return eqx.combine(without_bad(pulled, core), jax.tree.map(jnp.zeros_like, floats))
