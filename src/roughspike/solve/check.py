"""check_assumptions: run a sample path and say whether its event times have a pathwise derivative."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from roughspike.paths.stacked import as_driver
from roughspike.sde.check import AssumptionReport, measure_events, report_on
from roughspike.sde.problem import EventSDE
from roughspike.solve.solve import solve


def check_assumptions(
    sde: EventSDE,
    *,
    y0: Any,
    t0: Any = 0.0,
    t1: Any = 1.0,
    dt: float | None = None,
    args: Any = None,
    driver: Any = None,
    key: Any = None,
    max_events: int = 64,
    **options: Any,
) -> AssumptionReport:
    """Solve once and check, at every event of the path, the assumptions under which gradients are right.

    For each kind of event: does its transition land on an event surface (3.2); does the noise move its event function,
    grad E . sigma = 0, and does the flow cross with a slope, dE/dt + grad E . mu > 0 (3.4); does its transition commute
    with the diffusion, grad T sigma(y) = sigma(T(y)) (3.5). What fails is reported with the number, the time and what
    to do. A kind that did not happen is reported as not seen: choose a window in which it does. Passing is evidence
    from one path, no proof.

    **Arguments**: as for `rs.solve`, and other options of it by name. `dt` defaults to a thousandth of the window.

    **Returns**: an `AssumptionReport`; print it, ask `.ok`, or call `.raise_if_failed()`.

    **Raises** ValueError if the system has no events or `solve` cannot start.

    **Reference**: Holberg & Salvi (2024), assumptions 3.1 to 3.5 and Theorem 3.1.

    >>> import jax.random as jr, jax.numpy as jnp, roughspike as rs
    >>> threshold = rs.EventSDE(
    ...     drift=lambda t, y, args: 2.0 - y,
    ...     diffusion=lambda t, y, args: 0.3 * jnp.ones((1, 1)),
    ...     event=lambda t, y, args: y - 1.0,
    ...     transition=lambda t, y, kind, u, args: y - 1.0,
    ... )
    >>> report = rs.check_assumptions(threshold, y0=jnp.zeros(1), t1=3.0, driver=rs.BrownianPath(1), key=jr.key(0))
    >>> report.ok, "rs.hazard" in report.messages()[0]
    (False, True)
    """
    if sde.event is None:
        raise ValueError("sde has no event function: there is nothing to check without events")
    run_key, check_key = (None, None) if key is None else jax.random.split(key)
    driver = None if driver is None else as_driver(driver)
    dt = (t1 - t0) / 1000 if dt is None and "num_steps" not in options else dt
    solution = solve(
        sde, t0=t0, t1=t1, dt=dt, y0=y0, args=args, driver=driver, key=run_key, max_events=max_events, **options
    )
    before = jax.tree.map(lambda x: x[:, 0], solution.event_states)
    args = jax.tree.map(lambda x: jnp.asarray(x, solution.event_times.dtype) if isinstance(x, float) else x, args)
    rough = () if driver is None else driver.rough
    numbers = measure_events(sde, solution.event_times, solution.event_kinds, before, args, rough=rough, key=check_key)
    return report_on(numbers, solution.event_times, solution.event_kinds)
