"""What a gradient method is given, and what it must give back."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp


class Inputs(eqx.Module):
    """All that a run depends on: every number that may be differentiated is a leaf of this."""

    sde: Any
    args: Any
    y0: Any
    t0: jax.Array
    t1: jax.Array
    driver: Any
    save_at: jax.Array | None
    key: Any


class Params(eqx.Module):
    """What every iteration of a run reads.

    `safe` is a state on which the equations are known to be harmless: lanes that have ended are evaluated there.
    """

    sde: Any
    args: Any
    t0: jax.Array
    h: jax.Array
    safe: Any


class Local(eqx.Module):
    """What one iteration reads of the path and of the stops: differentiable in every float.

    `increments` and `areas` have a row for each cell that the iteration may reach, shape (1 + passes, channels).
    """

    increments: jax.Array
    areas: jax.Array | None
    jump_r: jax.Array
    jump_size: jax.Array
    save_r: jax.Array


_FLAGS = ("idle", "hit", "pending", "graze", "jumped", "saved", "next_cell", "to_jump", "to_save")
_NUMBERS = ("kind", "cell", "passed", "num", "jump", "save")


class Known(eqx.Module):
    """What one iteration turned out to be: all discrete decisions, and the place r of its event.

    Given these, an iteration is a smooth function of the state and the parameters. They are packed into two arrays,
    since one small array for each would cost more time than the arithmetic of a step.

    **Attributes**: `idle` (the lane has ended), `hit` (an event), `pending` (one that was due at the start already),
    `graze` (one without derivative), `jumped`, `saved`, `next_cell`, and what the stop was, if no event came first:
    `to_jump`, `to_save`, else the end of the cell. Numbers: `kind` of the event, the `cell` at the end, how many cells
    were `passed` before it, and the event `num`, `jump` and `save` that were next. `r` is the place at the end, `u` are
    the uniforms of the event.
    """

    ints: jax.Array
    reals: jax.Array

    @staticmethod
    def of(r: jax.Array, u: jax.Array, **entries: jax.Array) -> Known:
        """Pack; every flag and number by name."""
        bits = [entries[name].astype(jnp.int32) << k for k, name in enumerate(_FLAGS)]
        numbers = [entries[name] for name in _NUMBERS]
        return Known(jnp.stack([sum(bits[1:], bits[0]), *numbers]), jnp.concatenate([r[None], u]))

    def __getattr__(self, name: str) -> jax.Array:
        if name in _FLAGS:
            return (self.ints[0] >> _FLAGS.index(name)) & 1 == 1
        if name in _NUMBERS:
            return self.ints[..., 1 + _NUMBERS.index(name)]
        raise AttributeError(name)

    @property
    def r(self) -> jax.Array:
        """Place at the end, before it turns into the start of the next cell."""
        return self.reals[0]

    @property
    def saved_on_grid(self) -> jax.Array:
        """Was this a save time that cuts no step?"""
        return self.saved & ~self.to_save

    @property
    def u(self) -> jax.Array:
        """Uniforms of the event."""
        return self.reals[1:]


class Moved(NamedTuple):
    """Where one iteration ends: place in the cell and state; time of an event and state before it; state at a save."""

    r: jax.Array
    y: Any
    time: jax.Array
    before: Any
    saved: Any


class Core(eqx.Module):
    """Where a run is. Only r and y are differentiated. `control` is what a controller of adaptive steps keeps."""

    r: jax.Array
    y: Any
    cell: jax.Array
    jump: jax.Array
    save: jax.Array
    num: jax.Array
    counts: jax.Array
    status: jax.Array
    value: jax.Array
    halted: jax.Array
    flags: jax.Array
    failed_event: jax.Array
    failed_time: jax.Array
    control: Any = None


class Records(eqx.Module):
    """What a run hands out: event times and kinds, states before and after, states at the save times."""

    times: jax.Array
    kinds: jax.Array
    states: Any
    ys: Any


def frozen(tree: Any) -> Any:
    """The same tree without derivative."""
    return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_inexact_array(x) else x, tree)


def dense(cotangent: Any, like: Any) -> Any:
    """Cotangents of the floats of `like`, zeros where there are none."""
    floats = eqx.filter(like, eqx.is_inexact_array)
    return eqx.combine(eqx.filter(cotangent, eqx.is_inexact_array), jax.tree.map(jnp.zeros_like, floats))


def without_bad(cotangent: Any, core: Core) -> Any:
    """Zeros in place of what is not finite, if the run itself ended with a state that is not: it must not poison the
    gradient of a batch.
    """
    return jax.tree.map(lambda x: jnp.where(core.halted & ~jnp.isfinite(x), 0.0, x).astype(x.dtype), cotangent)


class AbstractProgram(eqx.Module):
    """A run as a fixed number of iterations of pure functions. The loop implements it, a gradient method runs it.

    An iteration passes whole cells of the grid in which nothing happens, at most `passes` of them, and then goes to the
    next stop or event. It is `locate` (decide, no derivative), then `store`; a derivative is that of `replay` (pass and
    move, given what was decided).
    """

    passes: eqx.AbstractVar[int]

    @property
    @abc.abstractmethod
    def has_events(self) -> bool:
        """Is there an event function?"""

    @property
    @abc.abstractmethod
    def has_jumps(self) -> bool:
        """May the driver jump?"""

    @property
    @abc.abstractmethod
    def calm(self) -> bool:
        """Is every iteration a whole step?"""

    @property
    @abc.abstractmethod
    def iterations(self) -> int:
        """How many iterations a run takes at most."""

    @abc.abstractmethod
    def without_passes(self) -> AbstractProgram:
        """The same run, one step an iteration."""

    @abc.abstractmethod
    def prepare(self, inputs: Inputs) -> tuple[Params, Any, Core, Records]:
        """Draw the path; what the iterations read, tables of the path and stops, and the start."""

    @abc.abstractmethod
    def run_calm(self, params: Params, tables: Any, core: Core, records: Records, blocks: int) -> tuple[Core, Records]:
        """All iterations of a run that is `calm`: no events, jumps or save times off the grid, so that an iteration
        is a step. To be differentiated by JAX, in either mode; only the first state of each block is kept.
        """

    @abc.abstractmethod
    def over(self, core: Core) -> jax.Array:
        """Has this run come to its end, or failed?"""

    @abc.abstractmethod
    def locate(self, params: Params, tables: Any, core: Core) -> tuple[Core, Known, Moved]:
        """Where the next iteration leads, and what it is. Not to be differentiated."""

    @abc.abstractmethod
    def pass_cells(self, params: Params, local: Local, r: jax.Array, y: Any, known: Known) -> tuple[jax.Array, Any]:
        """Place and state after the cells that were passed, as a differentiable function."""

    @abc.abstractmethod
    def replay(self, params: Params, local: Local, r: jax.Array, y: Any, known: Known) -> Moved:
        """An iteration as a differentiable function."""

    @abc.abstractmethod
    def end(self, local: Local, r: jax.Array, known: Known) -> jax.Array:
        """Place at which an iteration ends: its stop, or its event, the latter without derivative."""

    @abc.abstractmethod
    def rows(self, tables: Any, known: Known) -> Local:
        """What an iteration read of the tables."""

    @abc.abstractmethod
    def gather(self, tables: Any, sums: Any, known: Known, on_locals: Local) -> Any:
        """`sums`, cotangents of `tables`, plus those of the rows that iterations read; `known` has a leading axis."""

    @abc.abstractmethod
    def time(self, params: Params, cell: jax.Array, r: jax.Array) -> jax.Array:
        """t at a place."""

    @abc.abstractmethod
    def step(self, params: Params, local: Local, known: Known, a: jax.Array, y: Any, b: jax.Array) -> Any:
        """The flow from place a to place b of the cell in which the iteration ends: one step of the solver."""

    @abc.abstractmethod
    def event(self, params: Params, cell: jax.Array, r: jax.Array, y: Any) -> jax.Array:
        """The event functions, shape (kinds,)."""

    @abc.abstractmethod
    def transition(self, params: Params, cell: jax.Array, r: jax.Array, y: Any, kind: jax.Array, u: jax.Array) -> Any:
        """The state after an event of a kind, with its uniforms."""

    @abc.abstractmethod
    def jump_move(self, operands: tuple[Params, jax.Array, Any, jax.Array, jax.Array]) -> Any:
        """The state after a jump of the driver; operands: params, size of the jump, y, cell, r."""

    @abc.abstractmethod
    def store(self, records: Records, known: Known, moved: Moved) -> Records:
        """Write down what an iteration found; linear in `moved`."""


class AbstractGradient(eqx.Module):
    """A way to differentiate a run. Users write `jax.grad` whatever the method.

    A member runs all iterations and makes the floats of what it returns differentiable in the floats of `inputs`. It
    may not close over anything traced. A minimal member, without derivative:

        class Frozen(AbstractGradient):
            def run(self, program, inputs):
                params, tables, core, records = frozen(program.prepare(inputs))
                ...  # scan program.locate and program.store
    """

    @abc.abstractmethod
    def run(self, program: AbstractProgram, inputs: Inputs) -> tuple[Core, Records, Any]:
        """Run; also returns sensitivities if the method computes them on the way, else None."""
