"""How the run of an event SDE ended: which flag, at which event, when, and what to do."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from jaxtyping import Array, Float, Int

from roughspike._types import AbstractResult

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


class EventResult(AbstractResult):
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
    remedies: ClassVar[dict[int, str]] = _REMEDY

    def whom(self, hit: np.ndarray, total: int) -> str:
        """The first of them, with event and time."""
        k = hit[0]
        event, time = np.asarray(self.event).ravel()[k], np.asarray(self.time).ravel()[k]
        where = f"event {event}, t={time:.6g}"
        return where if total == 1 else f"{hit.size} of {total} runs, the first is run {k}: {where}"
