"""How the run of an event SDE ended: which flag, at which event, when, and what to do."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from roughspike._types import SimulationError, is_concrete

EVENT_BUFFER_FULL = 1
NOT_FINITE = 2
SOLVER_FAILED = 4
GRAZE = 8
LANDED_ON_EVENT = 16
CHATTERING = 32
JUMP_BUFFER_FULL = 64
STEPS_USED_UP = 128

_REMEDY = {
    EVENT_BUFFER_FULL: "event buffer full, the run stopped there: pass max_events={needed} (an estimate) or more",
    NOT_FINITE: "the state or the event function is not finite, the run stopped there: check the parameters, or pass "
    "a smaller dt",
    SOLVER_FAILED: "the controller of the steps gave up (its dtmin), the run stopped there: lower dtmin, or loosen the "
    "tolerances",
    GRAZE: "a non-transversal crossing: the event function has no positive slope there, so the event time has no "
    "derivative (taken as 0): move the parameters away from the graze, or smooth the event",
    LANDED_ON_EVENT: "a transition landed on an event surface, where the next event is "
    "not determined (assumption 3.2): let the transition end strictly below the surface",
    CHATTERING: "events accumulate (Zeno): at least 5 of one kind within one step: let the transition keep a distance "
    "from the surface, or end the run before the events accumulate",
    JUMP_BUFFER_FULL: "the driver wanted more jumps than it has room for, later ones are lost: raise its max_jumps",
    STEPS_USED_UP: "the controller took max_steps steps and did not reach t1: raise max_steps, or loosen its "
    "tolerances",
}


class EventResult(eqx.Module):
    """How a run ended.

    | flag | meaning |
    |---|---|
    | 1  | event buffer full; the run stopped, `needed` estimates how many slots the whole interval wants |
    | 2  | the state or the event function is not finite; the run stopped |
    | 4  | the controller of adaptive steps gave up; the run stopped |
    | 8  | a crossing without slope: the event time is right, its derivative is not defined and taken as 0 |
    | 16 | a transition landed on an event surface |
    | 32 | events accumulate (Zeno) |
    | 64 | the driver had more jumps than room |
    | 128 | adaptive steps: more than `max_steps`; the run stopped |

    **Attributes**

    - `flags`: bit mask, 0 if all is well.
    - `event`: index of the event at which the first flag was raised (the number of events so far, if between events).
    - `time`: the time of it; +inf if all is well.
    - `needed`: room for events that the run wanted.
    """

    flags: Int[Array, "..."]
    event: Int[Array, "..."]
    time: Float[Array, "..."]
    needed: Int[Array, "..."]

    @property
    def ok(self) -> jax.Array:
        """Scalar boolean: every run ended well."""
        return jnp.all(self.flags == 0)

    def has(self, flag: int) -> jax.Array:
        """Boolean per run: did this flag occur?"""
        return (self.flags & flag) != 0

    def messages(self) -> list[str]:
        """One line per kind of failure: how many runs, the first of them with event and time, and the remedy.

        Needs concrete values.
        """
        flags, event, time, needed = (
            np.atleast_1d(np.asarray(x)).ravel() for x in (self.flags, self.event, self.time, self.needed)
        )
        lines = []
        for flag, remedy in _REMEDY.items():
            hit = np.flatnonzero(flags & flag)
            if hit.size:
                k = hit[0]
                where = f"event {event[k]}, t={time[k]:.6g}"
                who = where if flags.size == 1 else f"{hit.size} of {flags.size} runs, the first is run {k}: {where}"
                lines.append(f"{who}: {remedy.format(needed=int(np.max(needed)))}")
        return lines

    def raise_if_failed(self) -> None:
        """Raise `SimulationError` with `messages()` unless every run ended well."""
        lines = self.messages()
        if lines:
            raise SimulationError("; ".join(lines))

    def __repr__(self) -> str:
        if is_concrete(self.flags, self.event, self.time, self.needed):
            lines = self.messages()
            return f"EventResult({'; '.join(lines) if lines else 'all ended well'})"
        return "EventResult(<traced>)"
