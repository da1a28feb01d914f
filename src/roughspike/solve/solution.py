"""What `solve` returns."""

from __future__ import annotations

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Int

from roughspike.solve.result import EventResult


class EventSolution(eqx.Module):
    """The solution of an event SDE. States are pytrees like y0; with `vmap` every array has a leading axis more.

    **Attributes**

    - `event_times`: ascending, +inf where there was no event, shape (max_events,).
    - `event_kinds`: -1 where there was none, shape (max_events,).
    - `event_states`: just before and just after each event, leaves of shape (max_events, 2, ...); 0 where none.
    - `num_events`: how many there were.
    - `y1`: the state at t1, after an event at t1; where a run stopped early, the state where it stopped.
    - `ts`, `ys`: the times of `save_at`, and the states there (right limits), leaves of shape (saves, ...); None.
    - `result`: how the run ended.
    - `sensitivities`: with `gradient=rs.Forward(online=True)` the derivative of every event time, else None.
    """

    event_times: Float[Array, "events"]
    event_kinds: Int[Array, "events"]
    event_states: Any
    num_events: Int[Array, ""]
    y1: Any
    ts: Float[Array, "saves"] | None
    ys: Any
    result: EventResult
    sensitivities: Any
