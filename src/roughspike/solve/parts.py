"""The system on the grid: the user's functions at a place (cell, r), one step of the solver, jumps, uniforms."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.gradients.base import AbstractProgram, Core, Inputs, Known, Local, Params
from roughspike.paths.uniform import open_uniform
from roughspike.solve.crossing import Along
from roughspike.solve.result import NOT_FINITE
from roughspike.solve.stepping import Cell, Piece
from roughspike.solve.stops import Tables


class GridProgram(AbstractProgram):
    """A run of an event SDE on a uniform grid: its sizes, and its functions at a place (cell, r) of the grid."""

    solver: diffrax.AbstractSolver
    jumps: Any
    steps: int = eqx.field(static=True)
    num_kinds: int = eqx.field(static=True)
    num_jumps: int = eqx.field(static=True)
    num_saves: int = eqx.field(static=True)
    num_cuts: int = eqx.field(static=True)
    num_uniforms: int = eqx.field(static=True)
    num_hazards: int = eqx.field(static=True)
    max_events: int = eqx.field(static=True)
    passes: int = eqx.field(static=True)
    noisy: bool = eqx.field(static=True)

    @property
    def has_events(self) -> bool:
        """Is there an event function?"""
        return self.num_kinds > 0

    @property
    def has_jumps(self) -> bool:
        """May the driver jump?"""
        return self.num_jumps > 0

    @property
    def calm(self) -> bool:
        """Is every iteration a whole step?"""
        return not (self.num_kinds or self.num_jumps or self.num_cuts)

    @property
    def iterations(self) -> int:
        """Without events, jumps and save times an iteration covers 1 + passes cells; each of those may end one."""
        saves = self.num_saves if self.passes else self.num_cuts
        return math.ceil(self.steps / (1 + self.passes)) + breaks(
            self.num_kinds, self.max_events, self.num_jumps, saves
        )

    @property
    def unfinished(self) -> int:
        """The flag of a run for which the iterations did not suffice: none should."""
        return NOT_FINITE

    def longest(self, inputs: Inputs) -> jax.Array:
        """The longest step."""
        return (inputs.t1 - inputs.t0) / self.steps

    def without_passes(self) -> GridProgram:
        """The same run, one step an iteration."""
        return dataclasses.replace(self, passes=0)

    def over(self, core: Core) -> jax.Array:
        """At the end of the grid, or failed."""
        return core.halted | (core.cell >= self.steps)

    def time(self, params: Params, cell: jax.Array, r: jax.Array) -> jax.Array:
        """t0 + (cell + r) h."""
        return params.t0 + (cell.astype(r.dtype) + r) * params.h

    def event(self, params: Params, cell: jax.Array, r: jax.Array, y: Any) -> jax.Array:
        """The user's function; no kinds without one."""
        if not self.num_kinds:
            return jnp.zeros(0, params.t0.dtype)
        return params.sde.event(self.time(params, cell, r), y, params.args)

    def transition(self, params: Params, cell: jax.Array, r: jax.Array, y: Any, kind: jax.Array, u: jax.Array) -> Any:
        """The user's function."""
        return params.sde.transition(self.time(params, cell, r), y, kind, u, params.args)

    def jump_move(self, operands: tuple[Params, jax.Array, Any, jax.Array, jax.Array]) -> Any:
        """Along the Marcus flow, or as an Ito jump."""
        params, size, y, cell, r = operands
        time = self.time(params, cell, r)
        return self.jumps(lambda y: params.sde.diffusion(time, y, params.args), y, size)

    def cell(self, params: Params, piece: Piece | None, cell: jax.Array) -> Cell:
        """What a step on a cell reads."""
        start = params.t0 + cell.astype(params.h.dtype) * params.h
        return Cell(self.solver, params.sde, params.args, start, params.h, piece if self.noisy else None)

    def step(self, params: Params, local: Local, known: Known, a: jax.Array, y: Any, b: jax.Array) -> Any:
        """One step of the solver."""
        row = lambda x: jax.lax.dynamic_index_in_dim(x, known.passed, keepdims=False)  # noqa: E731
        piece = Piece(row(local.increments), None if local.areas is None else row(local.areas))
        return self.cell(params, piece, known.cell).step(a, y, b)[0]

    def along(self, params: Params, tables: Tables, core: Core, cell: jax.Array, piece: Piece) -> Along:
        """What looking for an event on a cell needs."""
        last, here = self.max_events - 1, self.cell(params, piece, cell)
        return Along(
            flow=lambda a, y, b: here.step(a, y, b)[0],
            velocity=here.velocity,
            event=lambda r, y: self.event(params, cell, r, y),
            transition=lambda r, y, kind, u: self.transition(params, cell, r, y, kind, u),
            uniforms=lambda kind: tables.uniforms[jnp.minimum(core.counts[kind], last), kind],
            hazards=self.num_hazards,
        )

    def draw_uniforms(self, key: Any, dtype: Any) -> jax.Array:
        """For event number m of kind k the uniforms on (0, 1) at [m, k], shape (events, kinds, num_uniforms).

        They depend on key, m and k alone: more room repeats the same run, and events that swap keep theirs.
        """
        shape = (self.num_kinds, self.num_uniforms)
        if 0 in shape:
            return jnp.zeros((self.max_events, *shape), dtype)
        keys = jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(self.max_events, dtype=jnp.int32))
        return jax.vmap(lambda k: open_uniform(k, shape, dtype))(keys)


def breaks(num_kinds: int, max_events: int, num_jumps: int, num_saves: int) -> int:
    """Iterations that may end before they have covered their cells."""
    return num_jumps + num_saves + (max_events + 1 if num_kinds else 0)
