"""The loop: one iteration goes to the next grid point, driver jump, save time or event, whichever comes first.

Time is (cell, r): the cell of the grid and the part r in [0, 1] of it that has passed. A cell, a jump, a save time
off the grid and an event each use up at most one iteration, so the number of iterations is known beforehand.

| reached | then |
|---|---|
| event | transition; the rest of the cell is still to come |
| jump of the driver | the state jumps; an event due to it fires in the next iteration, at the same time |
| save time | the state is written down; without a cut of the step if it is a grid point |
| end of the cell | next cell, r = 0 |
"""

from __future__ import annotations

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.gradients.base import AbstractProgram, Core, Inputs, Known, Local, Moved, Params, Records, frozen
from roughspike.gradients.blocks import scan_in_blocks
from roughspike.gradients.lazy import when
from roughspike.solve.crossing import fire, initial_status, missed, settle, suspects
from roughspike.solve.result import CHATTERING, EVENT_BUFFER_FULL, GRAZE, JUMP_BUFFER_FULL, NOT_FINITE, SOLVER_FAILED
from roughspike.solve.stepping import Piece, one_step
from roughspike.solve.stops import Tables, make_tables

GRID, JUMP, SAVE = 0, 1, 2


class EventLoop(AbstractProgram):
    """A run of an event SDE on a uniform grid."""

    solver: diffrax.AbstractSolver
    jumps: Any
    steps: int = eqx.field(static=True)
    num_kinds: int = eqx.field(static=True)
    has_events: bool = eqx.field(static=True)
    has_jumps: bool = eqx.field(static=True)
    num_jumps: int = eqx.field(static=True)
    num_saves: int = eqx.field(static=True)
    num_uniforms: int = eqx.field(static=True)
    max_events: int = eqx.field(static=True)
    iterations: int = eqx.field(static=True)
    noisy: bool = eqx.field(static=True)
    calm: bool = eqx.field(static=True)

    # ------------------------------------------------------------------------------------------------ preparation

    def prepare(self, inputs: Inputs) -> tuple[Params, Tables, Core, Records]:
        """Draw the path, lay out jumps and save times in cells, evaluate the event functions at t0."""
        y0, t0 = inputs.y0, inputs.t0
        h = (inputs.t1 - t0) / self.steps
        driver_key, uniform_key = (None, None) if inputs.key is None else jax.random.split(inputs.key)
        path = None
        if inputs.driver is not None:
            path = inputs.driver.realise(driver_key, t0, inputs.t1, self.steps, t0.dtype)
        uniforms = self._uniforms(uniform_key, t0.dtype)
        tables = make_tables(path, t0, h, self.steps, inputs.save_at, uniforms)
        params = Params(inputs.sde, inputs.args, t0, h, jax.lax.stop_gradient(y0))
        count, zero = jnp.zeros((), jnp.int32), jnp.zeros_like(t0)
        value = self.event(params, count, zero, jax.lax.stop_gradient(y0))
        value = jax.lax.stop_gradient(value)
        lost = count if path is None else jnp.where(path.overflow, JUMP_BUFFER_FULL, 0).astype(jnp.int32)
        core = Core(
            r=zero,
            y=y0,
            cell=count,
            jump=count,
            save=count,
            num=count,
            counts=jnp.zeros(self.num_kinds, jnp.int32),
            status=initial_status(value),
            value=value,
            halted=jnp.zeros((), bool),
            flags=lost,
            failed_event=count,
            failed_time=jax.lax.stop_gradient(jnp.where(lost > 0, t0, jnp.inf)),
        )
        room = self.max_events if self.num_kinds else 0
        records = Records(
            times=jnp.full(room, jnp.inf, t0.dtype),
            kinds=jnp.full(room, -1, jnp.int32),
            states=jax.tree.map(lambda x: jnp.zeros((room, 2, *x.shape), x.dtype), y0),
            ys=jax.tree.map(lambda x: jnp.zeros((self.num_saves, *x.shape), x.dtype), y0),
        )
        return params, tables, core, records

    def run_calm(
        self, params: Params, tables: Tables, core: Core, records: Records, blocks: int
    ) -> tuple[Core, Records]:
        """A scan of whole steps."""
        cells = jnp.arange(self.steps, dtype=jnp.int32)

        def body(carry, inputs):
            y, ys = carry
            cell, increment, area = inputs
            start = params.t0 + cell.astype(params.h.dtype) * params.h
            piece = Piece(increment, area) if self.noisy else None
            y, _ = one_step(self.solver, params.sde, params.args, start, params.h, piece, 0.0, y, 1.0)
            if self.num_saves:
                slot = jnp.searchsorted(tables.save_cell, cell)
                here = tables.save_cell[jnp.minimum(slot, self.num_saves - 1)] == cell
                slot = jnp.where(here, slot, self.num_saves)
                ys = jax.tree.map(lambda b, x: b.at[slot].set(x, mode="drop"), ys, y)
            return (y, ys), None

        inputs = (cells, tables.increments if self.noisy else None, tables.areas if self.noisy else None)
        (y, ys), _ = scan_in_blocks(body, (core.y, records.ys), inputs, self.steps, blocks)
        bad = ~_finite(y)
        flags = core.flags | jnp.where(bad, NOT_FINITE, 0).astype(jnp.int32)
        end = jax.lax.stop_gradient(params.t0 + self.steps * params.h)
        time = jnp.where(bad, jnp.minimum(core.failed_time, end), core.failed_time)
        where = lambda c: (c.y, c.cell, c.flags, c.failed_time, c.halted)  # noqa: E731
        core = eqx.tree_at(where, core, (y, core.cell + self.steps, flags, time, bad))
        return core, eqx.tree_at(lambda r: r.ys, records, ys)

    def local(self, tables: Tables, core: Core) -> Local:
        """The cell, the next jump and the next save time."""
        return tables.local(core.cell, core.jump, core.save)

    # ---------------------------------------------------------------------------------------------- one iteration

    def locate(self, params: Params, tables: Tables, local: Local, core: Core) -> tuple[Core, Known, Moved]:
        """Flow to the next stop, or to the first event before it."""
        idle = core.halted | (core.cell >= self.steps)
        y = _where(idle, params.safe, core.y)
        end, stop = self._stop(tables, local, core, idle)
        cell = jnp.minimum(core.cell, self.steps - 1)
        y1, fine = self._step(params, local, cell, core.r, y, end)
        value = self.event(params, cell, end, y1)
        finite = _finite(y1) & _finite(value)
        fired = self._fired(params, tables, local, core, cell, y, end, y1, value, idle, finite)
        bad = ~idle & ~fired.pending & ~(finite & fine & _finite(fired.after))
        hit = fired.hit & ~bad
        full = hit & (core.num >= self.max_events)
        stay = idle | bad | full
        hit = hit & ~full
        jumped = ~stay & ~hit & (stop == JUMP)
        if self.num_jumps:
            fired = self._jump(params, local, cell, jumped, fired)
            bad = bad | (jumped & ~_finite(fired.after))
        reached = ~stay & ~hit & ~jumped
        saved = reached & tables.save_due(core.cell, core.save, end)
        next_cell = reached & (end >= 1)
        known = Known.of(
            r=fired.r,
            u=fired.u,
            idle=stay,
            hit=hit,
            pending=hit & fired.pending,
            graze=(fired.flags & GRAZE) != 0,
            jumped=jumped,
            saved=saved,
            next_cell=next_cell,
            to_jump=stop == JUMP,
            to_save=stop == SAVE,
            kind=fired.kind,
            cell=cell,
            num=core.num,
            jump=core.jump,
            save=core.save,
        )
        r = jnp.where(stay, core.r, jnp.where(next_cell, 0.0, fired.r))
        moved = Moved(
            r.astype(core.r.dtype),
            _where(stay, core.y, fired.after),
            self.time(params, cell, fired.r),
            fired.before,
        )
        new_flags = jnp.where(bad & fine, NOT_FINITE, 0) | jnp.where(bad & ~fine, SOLVER_FAILED, 0)
        new_flags |= jnp.where(full, EVENT_BUFFER_FULL, 0) | jnp.where(hit, fired.flags, 0)
        first = (core.flags == 0) & (new_flags != 0)
        after = Core(
            r=moved.r,
            y=moved.y,
            cell=core.cell + next_cell.astype(jnp.int32),
            jump=core.jump + jumped.astype(jnp.int32),
            save=core.save + saved.astype(jnp.int32),
            num=core.num + hit.astype(jnp.int32),
            counts=core.counts + (hit & (jnp.arange(self.num_kinds, dtype=jnp.int32) == fired.kind)).astype(jnp.int32),
            status=jnp.where(stay, core.status, fired.status),
            value=jnp.where(stay, core.value, fired.value),
            halted=core.halted | bad | full,
            flags=core.flags | new_flags.astype(jnp.int32),
            failed_event=jnp.where(first, core.num, core.failed_event),
            failed_time=jnp.where(first, moved.time, core.failed_time),
        )
        return after, known, moved

    def replay(self, params: Params, local: Local, r: jax.Array, y: Any, known: Known, when: Any) -> Moved:
        """The move as a smooth function.

        At an event found at r*, with E and the flow at r* fixed,

            r   = r* - (E(r*, y(r*)) - E) / (dE/dr)            equation (6): dE/dr along the flow is a number
            y-  = y(r*) + (dy/dr) (r - r*)
            y+  = T(r, y-)                                     equation (7), since what follows starts at r
        """
        r0, y0 = r, y
        y = _where(known.idle, params.safe, y)
        end = self.end(local, r, known)
        y1, _ = self._step(params, local, known.cell, r, y, end)
        before, after, place = y1, y1, end
        if self.num_kinds:
            operands = (params, local, r, y, y1, end, known)
            place, before, after = when(known.hit, self._event_move, operands, (end, y1, y1))
        if self.num_jumps:
            operands = (params, local, after, known.cell, end)
            after = when(known.jumped, self.jump_move, operands, after)
        time = self.time(params, known.cell, place)
        place = jnp.where(known.idle, r0, jnp.where(known.next_cell, 0.0, place))
        return Moved(place.astype(r.dtype), _where(known.idle, y0, after), time, before)

    def end(self, local: Local, r: jax.Array, known: Known) -> jax.Array:
        """The stop, the event found, or where the iteration starts (pending events, lanes that have ended)."""
        stop = jnp.where(known.to_jump, local.jump_r, jnp.where(known.to_save, local.save_r, 1.0))
        stop = jnp.where(stop < r, r, stop.astype(r.dtype))
        stop = jnp.where(known.hit, jax.lax.stop_gradient(known.r), stop)
        return jnp.where(known.idle | known.pending, r, stop)

    def rows(self, tables: Tables, known: Known) -> Local:
        """The cell, the jump and the save time that were next."""
        return tables.local(known.cell, known.jump, known.save)

    def gather(self, zeros: Tables, known: Known, on_locals: Local) -> Tables:
        """Scatter-add: linear in the number of iterations."""
        return zeros.add(known.cell, known.jump, known.save, on_locals)

    def store(self, records: Records, known: Known, moved: Moved) -> Records:
        """Event and save into their slots; slots beyond the end are dropped."""
        times, kinds, states, ys = records.times, records.kinds, records.states, records.ys
        if self.num_kinds:
            slot = jnp.where(known.hit, known.num, self.max_events)
            times = times.at[slot].set(moved.time, mode="drop")
            kinds = kinds.at[slot].set(known.kind, mode="drop")
            states = jax.tree.map(
                lambda b, x, y: b.at[slot].set(jnp.stack([x, y]), mode="drop"), states, moved.before, moved.y
            )
        if self.num_saves:
            save_slot = jnp.where(known.saved, known.save, self.num_saves)
            ys = jax.tree.map(lambda b, y: b.at[save_slot].set(y, mode="drop"), ys, moved.y)
        return Records(times, kinds, states, ys)

    # ------------------------------------------------------------------------------------------------------ parts

    def time(self, params: Params, cell: jax.Array, r: jax.Array) -> jax.Array:
        """t0 + (cell + r) h."""
        return params.t0 + (cell.astype(r.dtype) + r) * params.h

    def _step(self, params, local, cell, a, y, b) -> tuple[Any, jax.Array]:
        start = params.t0 + cell.astype(a.dtype) * params.h
        piece = Piece(local.increment, local.area) if self.noisy else None
        return one_step(self.solver, params.sde, params.args, start, params.h, piece, a, y, b)

    def event(self, params: Params, cell: jax.Array, r: jax.Array, y: Any) -> jax.Array:
        """The user's function; no kinds without one."""
        if not self.num_kinds:
            return jnp.zeros(0, params.t0.dtype)
        return params.sde.event(self.time(params, cell, r), y, params.args)

    def step(self, params: Params, local: Local, cell: jax.Array, a: jax.Array, y: Any, b: jax.Array) -> Any:
        """One step of the solver."""
        return self._step(params, local, cell, a, y, b)[0]

    def transition(self, params: Params, cell: jax.Array, r: jax.Array, y: Any, kind: jax.Array, u: jax.Array) -> Any:
        """The user's function."""
        return params.sde.transition(self.time(params, cell, r), y, kind, u, params.args)

    def _uniforms(self, key: Any, dtype: Any) -> jax.Array:
        """For event number m of kind k the uniforms on (0, 1) at [m, k], shape (events, kinds, num_uniforms).

        They depend on key, m and k alone: more room repeats the same run, and events that swap keep theirs.
        """
        shape = (self.num_kinds, self.num_uniforms)
        if 0 in shape:
            return jnp.zeros((self.max_events, *shape), dtype)
        keys = jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(self.max_events, dtype=jnp.int32))
        tiny = float(jnp.finfo(dtype).tiny)
        return jax.vmap(lambda k: jax.random.uniform(k, shape, dtype, minval=tiny))(keys)

    def _stop(self, tables: Tables, local: Local, core: Core, idle: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Place of the next stop in the cell, and what it is."""
        stop, end = jnp.zeros((), jnp.int32), jnp.ones_like(core.r)
        if self.num_saves:
            here = tables.save_here(core.cell, core.save) & (local.save_r < end)
            stop, end = jnp.where(here, SAVE, stop), jnp.where(here, local.save_r, end)
        if self.num_jumps:
            here = tables.jump_here(core.cell, core.jump) & (local.jump_r <= end)
            stop, end = jnp.where(here, JUMP, stop), jnp.where(here, local.jump_r, end)
        end = jnp.maximum(end, core.r)
        return jnp.where(idle, core.r, end), stop

    def _fired(self, params, tables, local, core, cell, y, end, y1, value, idle, finite):
        no_u = jnp.zeros(self.num_uniforms, core.r.dtype)
        nothing = missed(end, y1, core.status, core.value, value, end > core.r, no_u)
        if not self.num_kinds:
            return nothing
        due = jnp.any((core.status == 1) & (core.value >= 0))
        wanted = ~idle & (due | (finite & jnp.any(suspects(core.status, core.value, value))))

        def search(_):
            return fire(
                lambda a, y, b: self._step(params, local, cell, a, y, b)[0],
                lambda r, y: self.event(params, cell, r, y),
                lambda r, y, kind, u: self.transition(params, cell, r, y, kind, u),
                lambda kind: tables.uniforms[jnp.minimum(core.counts[kind], self.max_events - 1), kind],
                (core.r, y),
                (end, y1),
                core.status,
                (core.value, value),
            )

        return when(wanted, search, None, nothing)

    def _jump(self, params, local, cell, jumped, fired):
        def move(_):
            after = self.jump_move((params, local, fired.after, cell, fired.r))
            value = self.event(params, cell, fired.r, after)
            return after, value, settle(fired.status, fired.value, value, jnp.array(True))

        after, value, status = when(jumped, move, None, (fired.after, fired.value, fired.status))
        return fired._replace(after=after, value=value, status=status)

    def jump_move(self, operands: tuple[Params, Local, Any, jax.Array, jax.Array]) -> Any:
        """Along the Marcus flow, or as an Ito jump."""
        params, local, y, cell, r = operands
        time = self.time(params, cell, r)
        return self.jumps(lambda y: params.sde.diffusion(time, y, params.args), y, local.jump_size)

    def _event_move(self, operands) -> tuple[jax.Array, Any, Any]:
        params, local, r, y, y1, end, known = operands
        cell, kind = known.cell, known.kind
        fixed = frozen((params, local, r, y))

        def flow(end):
            here = self._step(fixed[0], fixed[1], cell, fixed[2], fixed[3], end)[0]
            return here, self.event(fixed[0], cell, end, here)[kind]

        at = jax.lax.stop_gradient(end)
        (_, _), (velocity, rate) = jax.jvp(flow, (at,), (jnp.ones_like(at),))
        value = self.event(params, cell, end, y1)[kind]
        without = known.pending | known.graze | (rate == 0)
        change = (value - jax.lax.stop_gradient(value)) / jax.lax.stop_gradient(jnp.where(without, 1.0, rate))
        place = end - jnp.where(without, jnp.zeros_like(change), change)
        shift = jnp.where(known.pending, jnp.zeros_like(at), place - at)  # a pending event lies where the flow ends
        before = jax.tree.map(lambda x, v: x + jax.lax.stop_gradient(v) * shift, y1, velocity)
        return place, before, self.transition(params, cell, place, before, kind, known.u)


def chattering(records: Records, h: jax.Array, full: jax.Array) -> jax.Array:
    """CHATTERING if a full buffer ends with 5 events of one kind within one step."""
    if records.times.shape[0] < 5:
        return jnp.zeros((), jnp.int32)
    last = records.times[-1]
    alike = (records.kinds == records.kinds[-1]) & (records.times > last - h)
    return jnp.where(full & (jnp.sum(alike) >= 5), CHATTERING, 0).astype(jnp.int32)


def _where(condition: jax.Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _finite(tree: Any) -> jax.Array:
    good = jnp.array(True)
    for leaf in jax.tree.leaves(tree):
        good = good & jnp.all(jnp.isfinite(leaf))
    return good
