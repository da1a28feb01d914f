"""A run whose derivative is a sweep backward over its iterations, from where each one started."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.gradients.base import (
    AbstractProgram,
    Core,
    Inputs,
    Known,
    Local,
    Records,
    dense,
    frozen,
    without_bad,
)
from roughspike.gradients.lazy import any_lane


class Site(NamedTuple):
    """What an iteration was: parameters, rows of the path, place and state at its start, decisions.

    `wanted` are the parameters that are differentiated, `fixed` the others.
    """

    program: AbstractProgram
    wanted: Any
    fixed: Any
    local: Local
    r: jax.Array
    y: Any
    known: Known


class Pulled(NamedTuple):
    """Cotangents at the start of an iteration: of the wanted parameters, of the rows of the path, of r and y."""

    w: Any
    local: Local
    r: jax.Array
    y: Any


Pull = Callable[[Site, jax.Array, Any, Records], Pulled]
"""(site, cotangents of r and y at the end of an iteration, and of all records) -> cotangents at its start."""


def swept(program: AbstractProgram, inputs: Inputs, pull: Pull, checkpoints: int | None) -> tuple[Core, Records]:
    """Run; the derivative is `pull`, iteration by iteration.

    What is kept is r, y and the decisions of every iteration, or with `checkpoints` those of one block of iterations
    and where each block starts. The cost of a derivative in the driver's values is linear in the number of iterations,
    like all others.
    """
    params, tables, core, records = program.prepare(inputs)
    floats, rest = eqx.partition((params, tables, core.r, core.y), eqx.is_inexact_array)
    return _run(floats, rest, frozen(core), frozen(records), program, pull, checkpoints)


class Blocks(NamedTuple):
    """The iterations of a run in blocks. After each is a look at whether any lane goes on."""

    size: int
    number: int

    @staticmethod
    def of(program: AbstractProgram, checkpoints: int | None = None) -> Blocks:
        """As many as there are checkpoints, or short ones."""
        size = min(_LOOK, program.iterations) if checkpoints is None else math.ceil(program.iterations / checkpoints)
        return Blocks(size, math.ceil(program.iterations / size))

    def run(self, program: AbstractProgram, iteration: Any, start: Any, keep: Any = None) -> tuple[Any, Any, Any]:
        """Iterate from `start`, of which the first entry is the core, until all lanes have come to their end.

        `iteration`: carry -> carry, what it was. `keep(carry, what)` of the carry before a block and of what its
        iterations were is kept of every block. Returns how many blocks were run, the last carry, and what was kept.
        """

        def block(carry):
            after, what = jax.lax.scan(lambda c, _: iteration(c), carry, None, length=self.size)
            return after, None if keep is None else keep(carry, what)

        def turn(state):
            count, carry, kept = state
            carry, row = block(carry)
            kept = jax.tree.map(lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, count, 0), kept, row)
            return count + 1, carry, kept

        rows = jax.eval_shape(block, start)[1]
        kept = jax.tree.map(lambda x: jnp.zeros((self.number, *x.shape), x.dtype), rows)
        going = lambda s: (s[0] < self.number) & any_lane(~program.over(s[1][0]))  # noqa: E731
        return jax.lax.while_loop(going, turn, (jnp.zeros((), jnp.int32), start, kept))


_LOOK = 8


def located(program: AbstractProgram, params: Any, tables: Any, carry: Any) -> tuple[Any, Any]:
    """One iteration without derivative, and how it started and what it was; records may be None."""
    core, records = carry
    after, known, moved = program.locate(params, tables, core)
    records = None if records is None else program.store(records, known, moved)
    return (after, records), (core.r, core.y, known)


def run_plainly(program: AbstractProgram, params: Any, tables: Any, core: Core, records: Records) -> Any:
    """All iterations, nothing kept."""
    iteration = lambda carry: (located(program, params, tables, carry)[0], None)  # noqa: E731
    return Blocks.of(program).run(program, iteration, (core, records))[1]


@eqx.filter_custom_vjp
def _run(floats: Any, rest: Any, core: Core, records: Records, program: Any, pull: Pull, checkpoints: int | None):
    """All iterations."""
    del pull, checkpoints
    params, tables, r, y = eqx.combine(floats, rest)
    return run_plainly(program, params, tables, eqx.tree_at(lambda c: (c.r, c.y), core, (r, y)), records)


@_run.def_fwd
def _forward(
    perturbed: Any, floats: Any, rest: Any, core: Any, records: Any, program: Any, pull: Any, checkpoints: Any
):
    del perturbed, pull
    params, tables, r, y = eqx.combine(floats, rest)
    start = (eqx.tree_at(lambda c: (c.r, c.y), core, (r, y)), records)
    iteration = lambda carry: located(program, params, tables, carry)  # noqa: E731
    keep = (lambda carry, what: what) if checkpoints is None else (lambda carry, what: carry[0])
    count, out, kept = Blocks.of(program, checkpoints).run(program, iteration, start, keep)
    return out, (count, kept, out[0])


@_run.def_bwd
def _backward(
    residuals: tuple[jax.Array, Any, Core],
    cotangent: Any,
    perturbed: Any,
    floats: Any,
    rest: Any,
    core: Core,
    records: Records,
    program: AbstractProgram,
    pull: Pull,
    checkpoints: int | None,
) -> Any:
    del core
    count, kept, ended = residuals
    params, tables, r, y = eqx.combine(floats, rest)
    wanted = eqx.filter(floats[0], perturbed[0])
    fixed = eqx.combine(eqx.filter(floats[0], perturbed[0], inverse=True), rest[0])
    on_core, on_records = cotangent
    on_records = dense(on_records, records)
    sweep_path = any(jax.tree.leaves(perturbed[1]))
    size = Blocks.of(program, checkpoints).size

    def iteration(carry, start):
        on_r, on_y, total = carry
        r, y, known = start
        site = Site(program, wanted, fixed, program.rows(tables, known), r, y, known)
        pulled = pull(site, on_r, on_y, on_records)
        total = jax.tree.map(jnp.add, total, pulled.w)
        return (pulled.r, pulled.y, total), pulled.local if sweep_path else None

    def block(number, carry):
        carry, on_tables = carry
        starts = jax.tree.map(lambda x: x[count - 1 - number], kept)
        if checkpoints is not None:
            again = lambda carry, _: located(program, params, tables, carry)  # noqa: E731
            _, starts = jax.lax.scan(again, (starts, None), None, length=size)
        carry, on_locals = jax.lax.scan(iteration, carry, starts, reverse=True)
        if on_locals is not None:
            on_tables = program.gather(tables, on_tables, starts[2], on_locals)
        return carry, on_tables

    begin = (jnp.zeros_like(r), dense(on_core.y, y), jax.tree.map(jnp.zeros_like, wanted))
    begin = (begin, jax.tree.map(jnp.zeros_like, floats[1]))
    (on_r, on_y, total), on_tables = jax.lax.fori_loop(0, count, block, begin)
    on_params = eqx.combine(total, jax.tree.map(jnp.zeros_like, floats[0]))
    return without_bad((on_params, on_tables, on_r, on_y), ended)
