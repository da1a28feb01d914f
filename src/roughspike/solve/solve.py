"""solve: an event SDE, a driver and a grid in; events, states and how it ended, out."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from roughspike._types import as_float, is_concrete
from roughspike.gradients.base import AbstractGradient, Core, Inputs, Records
from roughspike.gradients.direct import Direct
from roughspike.paths import grid
from roughspike.paths.stacked import as_driver
from roughspike.sde.marcus import AbstractJump, MarcusJump
from roughspike.sde.problem import EventSDE
from roughspike.solve.adaptive import AdaptiveLoop, check_adaptive
from roughspike.solve.loop import EventLoop, chattering
from roughspike.solve.parts import breaks
from roughspike.solve.refusal import refuse_gradient
from roughspike.solve.result import EVENT_BUFFER_FULL, EventResult
from roughspike.solve.solution import EventSolution
from roughspike.solve.stops import cuts

_WORTH, _MOST_CELLS = 8, 16


def solve(
    sde: EventSDE,
    *,
    t0: Any,
    t1: Any,
    dt: float | None = None,
    y0: Any,
    args: Any = None,
    driver: Any = None,
    key: Any = None,
    solver: diffrax.AbstractSolver | None = None,
    gradient: AbstractGradient | None = None,
    max_events: int = 16,
    save_at: Any = None,
    num_steps: int | None = None,
    jumps: AbstractJump | None = None,
    controller: diffrax.AbstractStepSizeController | None = None,
    max_steps: int = 4096,
    throw: bool = False,
    check: bool = True,
) -> EventSolution:
    """Solve an event SDE on [t0, t1]: one flat loop to the next grid point, driver jump or event, no restarts.

    The driver is drawn once on the grid and runs straight (or as a parabola) inside a step, so a step that an event
    cuts is a step of an ODE: the solution does not depend on where the events fall, and its derivative is exact. An
    event time is a root of the event function along the solver's own step, to machine precision. Differentiable in
    y0, args, arrays inside the functions of `sde`, t0, t1, `save_at` and the driver. Works under `jit` and `vmap`;
    every lane of a batch has its own time.

    **Arguments**

    - `sde`: the system.
    - `t0`, `t1`: the window. Under `jit` or `vmap` of the window itself pass `num_steps` instead of `dt`.
    - `dt`: the longest step allowed; the grid has ceil((t1 - t0) / dt) equal steps. With a `controller` the first
      step, at the start and after every event.
    - `y0`, `args`: initial state, a pytree of floats, and what the functions get as `args`.
    - `driver`: what drives the diffusion, such as `rs.BrownianPath(num_channels)`, a `SpikeTrain`
      or a diffrax path (sampled on the grid); None for an ODE with events.
    - `key`: a JAX random key, for the driver and the uniforms of the transitions.
    - `solver`: any explicit diffrax solver; an implicit one is refused. It decides what the noise means: Euler and
      ItoMilstein give the Ito solution, Heun, Midpoint, StratonovichMilstein and the ShARK family (with
      `rs.BrownianPath(areas=True)`) the Stratonovich one. Default: `diffrax.Heun()`.
    - `gradient`: `rs.Direct()` (default), `rs.Forward()` or `rs.Adjoint()`.
    - `max_events`: room for events; the run stops, with a flag in the result, when it is exceeded.
    - `save_at`: ascending times in [t0, t1] at which the state is wanted. A time off the grid cuts its step; one on the
      grid does not. There the slope of the path may differ from left to right: the derivative in the time is the one
      from the left, as it is in the time of a jump of the driver.
    - `num_steps`: steps of the grid, instead of `dt`.
    - `jumps`: how the state moves at a jump of the driver: `rs.MarcusJump()` (default) or `rs.ItoJump()`.
    - `controller`: adaptive steps for a system without driver, such as `diffrax.PIDController(rtol=1e-6, atol=1e-8)`,
      with a solver that estimates its error, such as `diffrax.Tsit5()`. A derivative takes the places of the steps as
      parts of the window as given.
    - `max_steps`: attempted steps with a `controller`; a flag in the result when they do not suffice.
    - `check`: where a gradient of a single run is taken outside of `jit`, raise ValueError with the explanation if it
      does not exist (assumptions 3.2, 3.4, 3.5 at the events of the run; `rs.check_assumptions`).
    - `throw`: raise `SimulationError` if the run ended badly (outside of `jit` only); otherwise look at `result`.

    A crossing and its return inside one step are not seen. An event at t1 or at a grid point is an event; one at t0 is
    not, since its kind was not negative before. Events at the same time fire one after the other, lowest kind first.

    **Raises** ValueError naming the argument, before any work.

    **Reference**: Holberg & Salvi (2024), Theorem 3.1, equations (3) to (7); discretisation: docs, "The mathematics".

    >>> import jax, jax.numpy as jnp, roughspike as rs
    >>> clock = rs.EventSDE(
    ...     drift=lambda t, y, args: args * jnp.ones_like(y),
    ...     event=lambda t, y, args: y - 1.0,
    ...     transition=lambda t, y, kind, u, args: 0.0 * y,
    ... )
    >>> def third(speed):
    ...     return rs.solve(clock, t0=0.0, t1=2.0, dt=0.1, y0=jnp.zeros(1), args=speed).event_times[2]
    >>> round(float(third(2.0)), 5), round(float(jax.grad(third)(2.0)), 5)
    (1.5, -0.75)
    """
    solver = _both_ways(diffrax.Heun() if solver is None else solver)
    gradient = Direct() if gradient is None else gradient
    jumps = MarcusJump() if jumps is None else jumps
    window = _window(t0, t1)
    if controller is not None:
        check_adaptive(controller, solver, driver, max_steps)
    steps = _steps(window, dt, num_steps) if controller is None else _one_cell(window, dt, num_steps)
    if max_events < 1:
        raise ValueError(f"max_events must be at least 1, got {max_events}")
    y0 = jax.tree.map(as_float, y0)
    driver = None if driver is None else as_driver(driver)
    inputs = _inputs(sde, y0, args, t0, t1, driver, save_at, key, window)
    cut = _cuts(save_at, t0, t1, steps, inputs.t0.dtype)
    adaptive = None if controller is None else (controller, jnp.asarray(dt, inputs.t0.dtype), max_steps)
    solution = _solve(inputs, solver, gradient, jumps, _Sizes(steps, max_events, cut), adaptive)
    if check:
        refuse_gradient(inputs, solution.event_times, solution.event_kinds, solution.event_states)
    if throw and is_concrete(solution.result):
        solution.result.raise_if_failed()
    return solution


class _Sizes(NamedTuple):
    """What a run is compiled for."""

    steps: int
    max_events: int
    cuts: int


@eqx.filter_jit
def _solve(
    inputs: Inputs, solver: Any, gradient: AbstractGradient, jumps: Any, sizes: _Sizes, adaptive: Any
) -> EventSolution:
    hazards, closed = inputs.sde.num_hazards, _closed(inputs.sde, inputs.t0, inputs.y0, inputs.args)
    inputs = eqx.tree_at(lambda x: x.sde, inputs, closed)
    program = _program(inputs, solver, jumps, sizes, adaptive, hazards)
    core, records, sensitivities = gradient.run(program, inputs)
    return _solution(core, records, inputs, program, sensitivities)


def _inputs(sde, y0, args, t0, t1, driver, save_at, key, window) -> Inputs:
    """Everything as arrays; functions with what they close over as leaves."""
    leaves = jax.tree.leaves(y0)
    if not leaves:
        raise ValueError("y0 has no arrays: pass the initial state as a pytree of floats")
    dtype = jnp.result_type(*leaves)
    number = lambda x: jnp.asarray(x, dtype)  # noqa: E731
    args = jax.tree.map(lambda x: number(x) if isinstance(x, float) else x, args)
    if save_at is not None:
        _check_saves(save_at, window)
        save_at = number(save_at)
    if sde.diffusion is not None and driver is None:
        raise ValueError("driver is missing: the system has a diffusion; pass rs.BrownianPath(num_channels), say")
    if driver is not None and sde.diffusion is None:
        raise ValueError("diffusion is missing: a driver moves nothing without it; pass one to EventSDE")
    if key is None and sde.num_uniforms:
        raise ValueError("key must be a JAX random key, since num_uniforms > 0: pass key=jr.key(0)")
    t0, t1 = number(t0), number(t1)
    return Inputs(sde, args, y0, t0, t1, driver, save_at, key)


def _closed(sde: EventSDE, t: jax.Array, y: Any, args: Any) -> EventSDE:
    """The same system, in which arrays that a function closes over are leaves, so that they can be differentiated."""

    def close(function: Any, *example: Any) -> Any:
        return None if function is None else eqx.filter_closure_convert(function, *example)

    u = jnp.zeros(sde.num_uniforms, t.dtype)
    kind = jnp.zeros((), jnp.int32)
    closed = EventSDE(
        close(sde.drift, t, y, args),
        close(sde.diffusion, t, y, args),
        close(sde.event, t, y, args),
        close(sde.transition, t, y, kind, u, args),
        sde.num_uniforms,
    )
    _check_shapes(closed, t, y, args, kind, u)
    return closed


def _check_shapes(sde: EventSDE, t, y, args, kind, u) -> None:
    """Complain about functions that return the wrong thing."""
    shape_of = lambda tree: jax.tree.map(lambda x: x.shape, tree)  # noqa: E731
    wanted = shape_of(jax.eval_shape(lambda: y))
    found = shape_of(eqx.filter_eval_shape(sde.drift, t, y, args))
    if found != wanted:
        raise ValueError(f"drift must return the structure and shapes of y0, {wanted}, got {found}")
    if sde.event is None or sde.transition is None:
        return
    values = eqx.filter_eval_shape(sde.event, t, y, args)
    if not isinstance(values, jax.ShapeDtypeStruct) or values.ndim != 1 or values.shape[0] == 0:
        raise ValueError(f"event must return an array of shape (kinds,), got {values}: one kind is y[:1], not y[0]")
    found = shape_of(eqx.filter_eval_shape(sde.transition, t, y, kind, u, args))
    if found != wanted:
        raise ValueError(f"transition must return the structure and shapes of y0, {wanted}, got {found}")


def _program(inputs: Inputs, solver: Any, jumps: Any, sizes: _Sizes, adaptive: Any, hazards: int) -> EventLoop:
    steps = sizes.steps
    kinds = 0
    if inputs.sde.event is not None:
        kinds = eqx.filter_eval_shape(inputs.sde.event, inputs.t0, inputs.y0, inputs.args).shape[0]
    num_jumps = 0
    if inputs.driver is not None:
        path = eqx.filter_eval_shape(lambda x: x.driver.realise(x.key, x.t0, x.t1, steps, x.t0.dtype), inputs)
        num_jumps = path.jump_times.shape[0]
        _check_channels(inputs, path.increments.shape[1])
    saves = 0 if inputs.save_at is None else inputs.save_at.shape[0]
    fields = {
        "solver": solver,
        "jumps": jumps,
        "steps": steps,
        "num_kinds": kinds,
        "num_jumps": num_jumps,
        "num_saves": saves,
        "num_cuts": sizes.cuts,
        "num_uniforms": inputs.sde.num_uniforms,
        "num_hazards": hazards,
        "max_events": sizes.max_events,
        "noisy": inputs.driver is not None,
    }
    if adaptive is None:
        return EventLoop(passes=_passes(steps, breaks(kinds, sizes.max_events, num_jumps, saves)), **fields)
    controller, first, max_steps = adaptive
    return AdaptiveLoop(passes=0, controller=controller, first=first, max_steps=max_steps, **fields)


def _passes(steps: int, breaks: int) -> int:
    """Cells that an iteration passes before it looks for an event: what makes the whole cheapest.

    An iteration costs about as much as `_WORTH` steps besides those it takes, and there are steps / (1 + passes) of
    them and one for each break.
    """
    best = math.sqrt(_WORTH * steps / max(breaks, 1))
    return int(min(max(round(best), 1), _MOST_CELLS)) - 1


def _cuts(save_at: Any, t0: Any, t1: Any, steps: int, dtype: Any) -> int:
    """Iterations that the save times may cost: those on the grid cost none, if no derivative can be taken in them."""
    if save_at is None:
        return 0
    if not is_concrete((save_at, t0, t1)):
        return np.shape(save_at)[0]
    return cuts(np.asarray(save_at, np.float64), (float(t0), float(t1)), steps, np.dtype(dtype))


def _check_channels(inputs: Inputs, channels: int) -> None:
    """The last axis of the diffusion is the channels of the driver."""
    shapes = eqx.filter_eval_shape(inputs.sde.diffusion, inputs.t0, inputs.y0, inputs.args)
    for leaf, state in zip(jax.tree.leaves(shapes), jax.tree.leaves(inputs.y0), strict=False):
        if type(shapes) is type(inputs.y0) and leaf.shape != (*state.shape, channels):
            raise ValueError(
                f"diffusion must return leaves of shape {(*state.shape, channels)}, the state's and then the "
                f"{channels} channels of the driver, got {leaf.shape}"
            )


def _solution(core: Core, records: Records, inputs: Inputs, program: EventLoop, sensitivities: Any) -> EventSolution:
    full = (core.flags & EVENT_BUFFER_FULL) != 0
    flags = core.flags | chattering(records, program.longest(inputs), full)
    unfinished = ~core.halted & (core.cell < program.steps)
    flags = flags | jnp.where(unfinished, program.unfinished, 0).astype(jnp.int32)
    share = (core.failed_time - inputs.t0) / (inputs.t1 - inputs.t0)
    estimate = jnp.where(full, (core.num + 1).astype(share.dtype) / jnp.maximum(share, 1e-3), 0.0)
    needed = jnp.where(full, jnp.ceil(jnp.minimum(estimate, 1e9)).astype(jnp.int32), core.num)
    stop = jax.lax.stop_gradient
    return EventSolution(
        event_times=records.times,
        event_kinds=records.kinds,
        event_states=records.states,
        num_events=core.num,
        y1=core.y,
        ts=inputs.save_at,
        ys=None if inputs.save_at is None else records.ys,
        result=EventResult(flags=flags, event=core.failed_event, time=stop(core.failed_time), needed=stop(needed)),
        sensitivities=sensitivities,
    )


def _both_ways(solver: diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    """The solver in a form that has a forward and a reverse mode: the loop needs the one, gradients the other."""
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        raise ValueError(
            f"solver {type(solver).__name__} is implicit, and its iteration has no derivative in forward mode, which "
            "finding events needs: pass an explicit one, such as diffrax.Heun(), and a smaller dt"
        )
    if isinstance(solver, diffrax.AbstractSRK) and solver.scan_kind is None:
        return eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=lambda x: x is None)
    return solver


def _window(t0: Any, t1: Any) -> tuple[float, float] | None:
    """The window as plain numbers; None if it is traced."""
    # under jit even an operation on a plain number is traced; under grad alone, what is behind a tracer is known
    ends = [x if is_concrete(x) else jax.lax.stop_gradient(x) for x in (t0, t1)]
    return (float(ends[0]), float(ends[1])) if is_concrete(ends) else None


def _steps(window: tuple[float, float] | None, dt: float | None, num_steps: int | None) -> int:
    if num_steps is not None:
        if num_steps < 1 or dt is not None:
            raise ValueError(f"num_steps must be at least 1, and not come with dt, got {num_steps} and dt={dt}")
        return num_steps
    if dt is None:
        raise ValueError("dt is missing: pass the longest step allowed, or num_steps")
    if window is None:
        raise ValueError("dt cannot give the number of steps where t0 or t1 is traced by jit or vmap: pass num_steps")
    return grid.num_steps(*window, dt)


def _one_cell(window: tuple[float, float] | None, dt: float | None, num_steps: int | None) -> int:
    """With adaptive steps the grid is the window."""
    if num_steps is not None:
        raise ValueError("num_steps cannot be combined with a controller: pass max_steps, and dt for the first step")
    if dt is None or not dt > 0:
        raise ValueError(f"dt must be a positive first step for the controller, got {dt}")
    return 1 if window is None else grid.num_steps(*window, window[1] - window[0])


def _check_saves(save_at: Any, window: tuple[float, float] | None) -> None:
    if np.ndim(save_at) != 1:
        raise ValueError(f"save_at must be a vector of times, got shape {np.shape(save_at)}")
    if not is_concrete(save_at):
        return
    times = np.asarray(save_at, np.float64)
    if np.any(np.diff(times) <= 0):
        raise ValueError("save_at must be ascending, without a time twice")
    if window is not None and times.size:
        slack = 1e-6 * (window[1] - window[0])
        if not (math.isfinite(times[0]) and times[0] >= window[0] - slack and times[-1] <= window[1] + slack):
            raise ValueError(f"save_at must lie in [t0, t1] = {list(window)}, got {times[0]} to {times[-1]}")
