"""EventSDE: a system that flows, is driven by noise, and jumps at events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx


class EventSDE(eqx.Module):
    """A differential equation with noise, and events at which the state jumps.

    Between events, with X the driver,

        dy = drift(t, y) dt + diffusion(t, y) dX.

    Kind k fires when event_k(t, y) goes from negative to >= 0, continuously or by a jump of the driver or of another
    kind's transition. The state then jumps, y <- transition(t, y, k, u), u fresh uniforms on (0, 1). A kind that is
    not negative at the start, or after its own transition, must become negative before it can fire.

    The functions may be modules with parameters, or close over arrays: both are differentiated.

    **Arguments**

    - `drift`: (t, y, args) -> like y. y is any pytree of float arrays.
    - `diffusion`: None, or (t, y, args) -> y's structure with one more axis, the channels of the driver, at the end of
      each leaf; or a lineax operator from channels to y.
    - `event`: None, or (t, y, args) -> shape (kinds,).
    - `transition`: (t, y, kind, u, args) -> like y; `kind` is an integer scalar, u has shape (num_uniforms,). Only
      with `event`.
    - `num_uniforms`: uniforms that one transition needs. Those of the m-th event of a kind depend on the key, the
      kind and m alone, so two events that swap their order keep theirs.

    **Raises** ValueError if only one of `event` and `transition` is given, or `num_uniforms` is negative.

    **Reference**: Holberg & Salvi (2024), Definition of an Event SDE; assumptions 3.1 to 3.5 for its derivative.

    >>> import jax.numpy as jnp, roughspike as rs
    >>> ball = rs.EventSDE(
    ...     drift=lambda t, y, args: jnp.stack([y[1], -args["g"]]),
    ...     event=lambda t, y, args: -y[:1],
    ...     transition=lambda t, y, kind, u, args: jnp.stack([y[0], -args["e"] * y[1]]),
    ... )
    >>> sol = rs.solve(ball, t0=0.0, t1=1.0, dt=0.01, y0=jnp.array([1.0, 0.0]), args={"g": 9.81, "e": 0.8})
    >>> int(sol.num_events), round(float(sol.event_times[0]), 4)
    (1, 0.4515)
    """

    drift: Callable[..., Any]
    diffusion: Callable[..., Any] | None
    event: Callable[..., Any] | None
    transition: Callable[..., Any] | None
    num_uniforms: int = eqx.field(static=True)

    def __init__(
        self,
        drift: Callable[..., Any],
        diffusion: Callable[..., Any] | None = None,
        event: Callable[..., Any] | None = None,
        transition: Callable[..., Any] | None = None,
        num_uniforms: int = 0,
    ):
        if (event is None) != (transition is None):
            missing = "transition" if transition is None else "event"
            raise ValueError(f"event and transition belong together: pass {missing} too, or neither")
        if num_uniforms < 0:
            raise ValueError(f"num_uniforms must be 0 or more, got {num_uniforms}")
        self.drift, self.diffusion = drift, diffusion
        self.event, self.transition = event, transition
        self.num_uniforms = num_uniforms

    @property
    def num_hazards(self) -> int:
        """How many kinds, the last ones, are hazards: strictly below 0 after their transition, however little."""
        return 0
