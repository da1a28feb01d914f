"""The loop: one iteration goes to the next event, driver jump or save time, or a few cells of the grid, if none comes.

Time is (cell, r): the cell of the grid and the part r in [0, 1] of it that has passed. An iteration first passes whole
cells in which nothing happens, then goes to the next stop. What it costs to look for an event and to write it down
is so shared by several steps, and still every lane of a batch has its own time. A jump, a save time and an event each
end at most one iteration, so the number of iterations is known beforehand.

| reached | then |
|---|---|
| event | transition; the rest of the cell is still to come |
| jump of the driver | the state jumps; an event due to it fires in the next iteration, at the same time |
| save time | the state is written down; without a cut of the step if it is a grid point |
| end of the cell | next cell, r = 0 |
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.gradients.base import Core, Inputs, Known, Local, Moved, Params, Records, frozen
from roughspike.gradients.blocks import scan_in_blocks
from roughspike.gradients.lazy import when
from roughspike.paths.drawn import DrawnRows
from roughspike.solve.crossing import Fired, due, fire, initial_status, missed, settle, suspects
from roughspike.solve.parts import GridProgram
from roughspike.solve.result import CHATTERING, EVENT_BUFFER_FULL, GRAZE, JUMP_BUFFER_FULL, NOT_FINITE, SOLVER_FAILED
from roughspike.solve.stepping import Piece
from roughspike.solve.stops import GRID, JUMP, SAVE, Tables, draw_path, make_tables


class Reached(NamedTuple):
    """A piece of the path to the next stop, after `passed` cells: its start (r, y, value), the status there, its end.

    `stop` says what is there, `fine` whether the solver succeeded. A step may be `refused`: then nothing has moved.
    """

    passed: jax.Array
    r: jax.Array
    y: Any
    value: jax.Array
    status: jax.Array
    end: jax.Array
    stop: jax.Array
    y1: Any
    value1: jax.Array
    fine: jax.Array
    refused: jax.Array
    control: Any = None


class EventLoop(GridProgram):
    """A run of an event SDE on a uniform grid."""

    # ------------------------------------------------------------------------------------------------ preparation

    def prepare(self, inputs: Inputs) -> tuple[Params, Tables, Core, Records]:
        """Draw the path, lay out jumps and save times in cells, evaluate the event functions at t0."""
        y0, t0 = inputs.y0, inputs.t0
        h = (inputs.t1 - t0) / self.steps
        driver_key, uniform_key = (None, None) if inputs.key is None else jax.random.split(inputs.key)
        path = None
        if inputs.driver is not None:
            path = draw_path(inputs.driver, driver_key, t0, inputs.t1, self.steps)
        uniforms = self.draw_uniforms(uniform_key, t0.dtype)
        tables = make_tables(path, t0, h, self.steps, inputs.save_at, uniforms)
        params = Params(inputs.sde, inputs.args, t0, h, jax.lax.stop_gradient(y0))
        count, zero = jnp.zeros((), jnp.int32), jnp.zeros_like(t0)
        value, slope = self._at_start(*frozen((params, tables, zero, y0)))
        lost = count if path is None else jnp.where(path.overflow, JUMP_BUFFER_FULL, 0).astype(jnp.int32)
        core = Core(
            r=zero,
            y=y0,
            cell=count,
            jump=count,
            save=count,
            num=count,
            counts=jnp.zeros(self.num_kinds, jnp.int32),
            status=initial_status(value, slope),
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

    def _at_start(self, params: Params, tables: Tables, r: jax.Array, y0: Any) -> tuple[jax.Array, jax.Array]:
        """Event functions at t0, and their slopes."""
        cell = jnp.zeros((), jnp.int32)
        velocity = self.cell(params, tables.piece(cell), cell).velocity(r, y0)
        return jax.jvp(lambda r, y: self.event(params, cell, r, y), (r, y0), (jnp.ones_like(r), velocity))

    def run_calm(
        self, params: Params, tables: Tables, core: Core, records: Records, blocks: int
    ) -> tuple[Core, Records]:
        """A scan of whole steps."""
        cells, lazy = jnp.arange(self.steps, dtype=jnp.int32), isinstance(tables.increments, DrawnRows)

        def body(carry, inputs):
            y, ys = carry
            cell, increment, area = inputs
            if lazy:
                piece = tables.piece(cell)
            else:
                piece = Piece(increment, area) if self.noisy else None
            y, _ = self.cell(params, piece, cell).step(0.0, y, 1.0)
            if self.num_saves:
                slot = jnp.searchsorted(tables.save_cell, cell)
                here = tables.save_cell[jnp.minimum(slot, self.num_saves - 1)] == cell
                slot = jnp.where(here, slot, self.num_saves)
                ys = jax.tree.map(lambda b, x: b.at[slot].set(x, mode="drop"), ys, y)
            return (y, ys), None

        stored = self.noisy and not lazy
        inputs = (cells, tables.increments if stored else None, tables.areas if stored else None)
        (y, ys), _ = scan_in_blocks(body, (core.y, records.ys), inputs, self.steps, blocks)
        bad = ~_finite(y)
        flags = core.flags | jnp.where(bad, NOT_FINITE, 0).astype(jnp.int32)
        end = jax.lax.stop_gradient(params.t0 + self.steps * params.h)
        time = jnp.where(bad, jnp.minimum(core.failed_time, end), core.failed_time)
        where = lambda c: (c.y, c.cell, c.flags, c.failed_time, c.halted)  # noqa: E731
        core = eqx.tree_at(where, core, (y, core.cell + self.steps, flags, time, bad))
        return core, eqx.tree_at(lambda r: r.ys, records, ys)

    # ---------------------------------------------------------------------------------------------- one iteration

    def locate(self, params: Params, tables: Tables, core: Core) -> tuple[Core, Known, Moved]:
        """Pass cells, then flow to the next stop, or to the first event before it."""
        over = self.over(core)
        at = self.reach(params, tables, core, over)
        idle = over | at.refused
        cell, end, r = jnp.minimum(core.cell, self.steps - 1) + at.passed, at.end, at.r
        finite = _finite(at.y1) & _finite(at.value1)
        start = eqx.tree_at(lambda c: (c.r, c.y, c.value, c.status), core, (r, at.y, at.value, at.status))
        fired = self._fired(params, tables, start, cell, at, idle, finite)
        bad = ~idle & ~fired.pending & ~(finite & at.fine & _finite(fired.after))
        full = fired.hit & ~bad & (core.num >= self.max_events)
        stay = idle | bad | full
        hit = fired.hit & ~stay
        jumped = ~stay & ~hit & (at.stop == JUMP)
        if self.num_jumps:
            size = tables.local(cell, 1, core.jump, core.save).jump_size
            fired = self._jump(params, size, cell, jumped, fired)
            bad = bad | (jumped & ~_finite(fired.after))
        reached = ~stay & ~hit & ~jumped
        saved = reached & tables.save_due(cell, core.save, end)
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
            to_jump=at.stop == JUMP,
            to_save=at.stop == SAVE,
            kind=fired.kind,
            cell=cell,
            passed=at.passed,
            num=core.num,
            jump=core.jump,
            save=core.save,
        )
        r = jnp.where(stay, r, jnp.where(next_cell, 0.0, fired.r))
        y = select(over, core.y, select(stay, at.y, fired.after))
        moved = Moved(r.astype(core.r.dtype), y, self.time(params, cell, fired.r), fired.before, y)
        new_flags = jnp.where(bad & at.fine, NOT_FINITE, 0) | jnp.where(bad & ~at.fine, SOLVER_FAILED, 0)
        new_flags |= jnp.where(full, EVENT_BUFFER_FULL, 0) | jnp.where(hit, fired.flags, 0)
        first = (core.flags == 0) & (new_flags != 0)
        after = Core(
            r=moved.r,
            y=moved.y,
            cell=core.cell + at.passed + next_cell.astype(jnp.int32),
            jump=core.jump + jumped.astype(jnp.int32),
            save=core.save + saved.astype(jnp.int32),
            num=core.num + hit.astype(jnp.int32),
            counts=core.counts + (hit & (jnp.arange(self.num_kinds, dtype=jnp.int32) == fired.kind)).astype(jnp.int32),
            status=jnp.where(stay, at.status, fired.status),
            value=jnp.where(stay, at.value, fired.value),
            halted=core.halted | bad | full,
            flags=core.flags | new_flags.astype(jnp.int32),
            failed_event=jnp.where(first, core.num, core.failed_event),
            failed_time=jnp.where(first, moved.time, core.failed_time),
            control=self.renew(params, hit, at.control, moved.y),
        )
        return after, known, moved

    def reach(self, params: Params, tables: Tables, core: Core, idle: jax.Array) -> Reached:
        """Pass cells until something happens; the piece on which it does, or the last one."""
        stop_cell, place, stop = tables.next_stop(core.jump, core.save, self.steps)
        cell0 = jnp.minimum(core.cell, self.steps - 1)
        rows = tables.local(cell0, 1 + self.passes, core.jump, core.save)
        blocked = idle | jnp.any(due(core.status, core.value))
        last = jnp.where(blocked, -1, stop_cell)
        count, y = jnp.zeros((), jnp.int32), select(idle, params.safe, core.y)

        def piece(passed):
            r = jnp.where(passed > 0, 0.0, core.r)
            at_stop = cell0 + passed == stop_cell
            return cell0 + passed, at_stop, r, jnp.where(at_stop, jnp.maximum(place, r), 1.0)

        def turn(at, row):
            (passed, y, value, status, y1, value1, fine), (number, increment, area) = at, row
            going = passed == number
            cell, _, a, b = piece(passed)
            to, ok = self.cell(params, Piece(increment, area), cell).step(a, y, b)
            y1 = select(going, to, y1)
            value1 = jnp.where(going, self.event(params, cell, b, y1), value1)
            event = jnp.any(suspects(status, value, value1, b > a))
            ahead = going & (cell < last) & (number < self.passes) & ok & ~event & _finite(y1) & _finite(value1)
            status = settle(status, value, value1, ahead)
            y, value = select(ahead, y1, y), jnp.where(ahead, value1, value)
            return (passed + ahead.astype(jnp.int32), y, value, status, y1, value1, jnp.where(going, ok, fine)), None

        numbers = jnp.arange(1 + self.passes, dtype=jnp.int32)
        start = (count, y, core.value, core.status, y, core.value, jnp.array(True))
        (passed, y, value, status, y1, value1, fine), _ = jax.lax.scan(
            turn, start, (numbers, rows.increments, rows.areas)
        )
        _, at_stop, r, end = piece(passed)
        stop = jnp.where(at_stop, stop, GRID)
        return Reached(passed, r, y, value, status, end, stop, y1, value1, fine, jnp.array(False))

    def renew(self, params: Params, hit: jax.Array, control: Any, y: Any) -> Any:
        """What a controller of steps keeps, after an event if `hit`; nothing on a uniform grid."""
        del params, hit, y
        return control

    def pass_cells(self, params: Params, local: Local, r: jax.Array, y: Any, known: Known) -> tuple[jax.Array, Any]:
        """Whole steps; where there are none left the equations are evaluated at a harmless state."""
        if not self.passes:
            return r, y

        def turn(y, row):
            number, increment, area = row
            ahead = number < known.passed
            a = jnp.where(number > 0, 0.0, r)
            here = select(ahead, y, params.safe)
            cell = known.cell - known.passed + number
            y1, _ = self.cell(params, Piece(increment, area), cell).step(a, here, jnp.ones_like(r))
            return select(ahead, y1, y), None

        front = jax.tree.map(lambda x: x[: self.passes], (local.increments, local.areas))
        y, _ = jax.lax.scan(turn, y, (jnp.arange(self.passes, dtype=jnp.int32), *front))
        return jnp.where(known.passed > 0, 0.0, r), y

    def replay(self, params: Params, local: Local, r: jax.Array, y: Any, known: Known) -> Moved:
        """The move as a smooth function.

        At an event found at r*, with E and the flow at r* fixed,

            r   = r* - (E(r*, y(r*)) - E) / (dE/dr)            equation (6): dE/dr along the flow is a number
            y-  = y(r*) + (dy/dr) (r - r*)
            y+  = T(r, y-)                                     equation (7), since what follows starts at r
        """
        r, y = self.pass_cells(params, local, r, y, known)
        r0, y0 = r, y
        y = select(known.idle, params.safe, y)
        end = self.end(local, r, known)
        y1 = self.step(params, local, known, r, y, end)
        before, after, place = y1, y1, end
        if self.num_kinds:
            operands = (params, local, r, y, y1, end, known)
            place, before, after = when(known.hit, self._event_move, (end, y1, y1), operands)
        if self.num_jumps:
            operands = (params, local.jump_size, after, known.cell, end)
            after = when(known.jumped, self.jump_move, after, operands)
        saved = after
        if self.num_saves:
            # a grid point that is a save time, and moves as one: from the left
            at_save = lambda params, local, r, y: self.step(params, local, known, r, y, local.save_r)  # noqa: E731
            saved = when(known.saved_on_grid, at_save, after, params, local, r, y)
        time = self.time(params, known.cell, place)
        place = jnp.where(known.idle, r0, jnp.where(known.next_cell, 0.0, place))
        return Moved(place.astype(r.dtype), select(known.idle, y0, after), time, before, saved)

    def end(self, local: Local, r: jax.Array, known: Known) -> jax.Array:
        """The stop, the event found, or where the iteration starts (pending events, lanes that have ended)."""
        stop = jnp.where(known.to_jump, local.jump_r, jnp.where(known.to_save, local.save_r, 1.0))
        stop = jnp.where(stop < r, r, stop.astype(r.dtype))
        stop = jnp.where(known.hit, jax.lax.stop_gradient(known.r), stop)
        return jnp.where(known.idle | known.pending, r, stop)

    def rows(self, tables: Tables, known: Known) -> Local:
        """The cells passed and the one after them, the jump and the save time that were next."""
        return tables.local(known.cell - known.passed, 1 + self.passes, known.jump, known.save)

    def gather(self, tables: Tables, sums: Tables, known: Known, on_locals: Local) -> Tables:
        """Scatter-add: linear in the number of iterations."""
        return tables.add(sums, known.cell - known.passed, known.jump, known.save, on_locals)

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
            ys = jax.tree.map(lambda b, y: b.at[save_slot].set(y, mode="drop"), ys, moved.saved)
        return Records(times, kinds, states, ys)

    # ------------------------------------------------------------------------------------------------------ parts

    def _fired(self, params, tables, start: Core, cell, at: Reached, idle, finite) -> Fired:
        no_u = jnp.full(self.num_uniforms, 0.5, start.r.dtype)
        end, moved = at.end, at.end > start.r
        nothing = missed(end, at.y1, start.status, start.value, at.value1, moved, no_u)
        if not self.num_kinds:
            return nothing
        pending = jnp.any(due(start.status, start.value))
        crossed = finite & jnp.any(suspects(start.status, start.value, at.value1, moved))

        def search():
            along = self.along(params, tables, start, cell, tables.piece(cell))
            return fire(along, (start.r, start.y), (end, at.y1), start.status, (start.value, at.value1))

        return when(~idle & (pending | crossed), search, nothing)

    def _jump(self, params, size, cell, jumped, fired: Fired) -> Fired:
        def move():
            after = self.jump_move((params, size, fired.after, cell, fired.r))
            value = self.event(params, cell, fired.r, after)
            return after, value, settle(fired.status, fired.value, value, jnp.array(True))

        after, value, status = when(jumped, move, (fired.after, fired.value, fired.status))
        return fired._replace(after=after, value=value, status=status)

    def _event_move(self, operands) -> tuple[jax.Array, Any, Any]:
        params, local, r, y, y1, end, known = operands
        cell, kind = known.cell, known.kind
        fixed = frozen((params, local, r, y))

        def flow(end):
            here = self.step(fixed[0], fixed[1], known, fixed[2], fixed[3], end)
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


def select(condition: jax.Array, a: Any, b: Any) -> Any:
    """`a` where the condition holds, else `b`, leaf by leaf."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _finite(tree: Any) -> jax.Array:
    good = jnp.array(True)
    for leaf in jax.tree.leaves(tree):
        good = good & jnp.all(jnp.isfinite(leaf))
    return good
