"""The loop with steps that a controller of diffrax chooses, for systems without driver."""

from __future__ import annotations

from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.gradients.base import Core, Inputs, Known, Local, Params, Records
from roughspike.solve.crossing import due
from roughspike.solve.loop import EventLoop, Reached, select
from roughspike.solve.parts import breaks
from roughspike.solve.result import STEPS_USED_UP
from roughspike.solve.stops import Tables


class AdaptiveLoop(EventLoop):
    """A run whose grid is one cell, crossed in steps that keep an estimate of their error below a tolerance.

    An iteration is one attempt. The controller starts afresh after every event, with the first step again: what it has
    learnt of the flow before says nothing about the flow after. Places of steps are without derivative.
    """

    controller: diffrax.AbstractAdaptiveStepSizeController
    first: jax.Array
    max_steps: int = eqx.field(static=True)

    @property
    def calm(self) -> bool:
        """It never is: a step may be refused."""
        return False

    @property
    def iterations(self) -> int:
        """Attempts, and those that an event or a save time may cut."""
        return self.max_steps + breaks(self.num_kinds, self.max_events, 0, self.num_saves)

    @property
    def unfinished(self) -> int:
        """What it means when iterations do not suffice."""
        return STEPS_USED_UP

    def longest(self, inputs: Inputs) -> jax.Array:
        """The first step."""
        return self.first

    def prepare(self, inputs: Inputs) -> tuple[Params, Tables, Core, Records]:
        """Start the controller."""
        params, tables, core, records = super().prepare(inputs)
        control = jax.lax.stop_gradient(self._fresh(params, core.y))
        return params, tables, eqx.tree_at(lambda c: c.control, core, control, is_leaf=lambda x: x is None), records

    def _fresh(self, params: Params, y: Any) -> tuple[jax.Array, Any]:
        """The first step, as a part of the window, and the state of a controller that has seen nothing."""
        zero, controller = jnp.zeros_like(params.h), cast(Any, self.controller)
        end, state = controller.init(None, zero, params.h, y, self.first, None, None, None)
        return end / params.h, jax.tree.map(jnp.asarray, state)

    def reach(self, params: Params, tables: Tables, core: Core, idle: jax.Array) -> Reached:
        """Try one step."""
        _, place, stop = tables.next_stop(core.jump, core.save, 1)
        stride, state = core.control
        y, r, h = select(idle, params.safe, core.y), core.r, params.h
        end = jnp.minimum(place, r + stride)
        cell = core.cell * 0
        y1, error = self.cell(params, tables.piece(cell), cell).step_with_error(r, y, end)
        solver, controller = cast(Any, self.solver), cast(Any, self.controller)
        order = solver.order(None) + 1
        keep, start, after, _, state, result = controller.adapt_step_size(
            r * h, end * h, y, y1, None, error, order, state
        )
        # a step that a save time has cut short says little about how long the next one may be
        fresh, again = ((after - start) / h).astype(r.dtype), jnp.where(keep & (end < r + stride), stride, 0.0)
        late = jnp.any(due(core.status, core.value))
        return Reached(
            jnp.zeros((), jnp.int32),
            r,
            y,
            core.value,
            core.status,
            end,
            jnp.where(end < place, 0, stop),
            y1,
            self.event(params, cell, end, y1),
            diffrax.is_okay(result),
            jnp.logical_not(keep) & ~late,
            (jnp.maximum(fresh, again), state),
        )

    def renew(self, params: Params, hit: jax.Array, control: Any, y: Any) -> Any:
        """Start again after an event."""
        return select(hit, self._fresh(params, y), control)

    def end(self, local: Local, r: jax.Array, known: Known) -> jax.Array:
        """A save time, or where a step or an event ended."""
        stop = jnp.where(known.to_save, local.save_r, jax.lax.stop_gradient(known.r))
        return jnp.where(known.idle | known.pending, r, jnp.maximum(stop, r))


def check_adaptive(controller: Any, solver: Any, driver: Any, max_steps: int) -> None:
    """Complain about what cannot have adaptive steps."""
    if not isinstance(controller, diffrax.AbstractAdaptiveStepSizeController):
        raise ValueError(f"controller must be adaptive, such as diffrax.PIDController(1e-6, 1e-8), got {controller!r}")
    if driver is not None:
        raise ValueError(
            "controller cannot be combined with a driver, which is drawn on a uniform grid: leave it out and pass a "
            "smaller dt"
        )
    if not isinstance(solver, diffrax.AbstractERK) or not isinstance(solver.tableau, diffrax.ButcherTableau):
        raise ValueError(f"solver {type(solver).__name__} estimates no error: pass diffrax.Tsit5() to the controller")
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
