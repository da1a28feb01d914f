"""hazard: events at a state-dependent rate, in a form whose event times are differentiable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import as_float, concrete
from roughspike.paths.uniform import open_uniform
from roughspike.sde.problem import EventSDE


class HazardState(NamedTuple):
    """The state of a system with hazards.

    `y` is the system's own state, `s` the negative hazard that each kind still has to accumulate, shape (hazards,):
    an event of that kind is s = 0.
    """

    y: Any
    s: jax.Array


class HazardSDE(EventSDE):
    """An `EventSDE` with hazards; what `rs.hazard` returns. Its state is a `HazardState`."""

    alpha: Float[Array, "hazards"]

    def __init__(self, parts: _Parts):
        base = parts.base
        self.drift, self.event, self.transition = parts.drift, parts.event, parts.transition
        self.diffusion = None if base.diffusion is None else parts.diffusion
        self.num_uniforms = max(base.num_uniforms, 1 + parts.num_uniforms)
        self.alpha = parts.alpha

    @property
    def num_hazards(self) -> int:
        """How many of its kinds, the last ones, are hazards."""
        return self.alpha.shape[0]

    def start(self, y0: Any, key: Any) -> HazardState:
        """The initial state: `y0`, and s = log u - alpha with fresh u; for `rs.solve(..., y0=model.start(y0, key))`."""
        y0 = jax.tree.map(as_float, y0)
        dtype = jnp.result_type(*jax.tree.leaves(y0))
        u = open_uniform(key, self.alpha.shape, dtype)
        return HazardState(y0, jnp.log(u) - self.alpha.astype(dtype))


class _Parts(eqx.Module):
    """The functions of a system with hazards, and what they need."""

    base: EventSDE
    rate: Callable[..., Any]
    after: Callable[..., Any] | None
    alpha: jax.Array
    num_uniforms: int = eqx.field(static=True)

    def drift(self, t: Any, state: HazardState, args: Any) -> HazardState:
        rate = jnp.asarray(self.rate(t, state.y, args))
        rate = rate[None] if rate.ndim == 0 else rate
        if rate.shape != self.alpha.shape:
            raise ValueError(
                f"rate has shape {rate.shape} and alpha {self.alpha.shape}: pass one alpha per hazard, "
                f"alpha=jnp.zeros({rate.size}) for instance"
            )
        return HazardState(self.base.drift(t, state.y, args), rate.astype(state.s.dtype))

    def diffusion(self, t: Any, state: HazardState, args: Any) -> Any:
        """No noise in s."""
        assert self.base.diffusion is not None
        sigma = self.base.diffusion(t, state.y, args)
        if isinstance(sigma, lineax.AbstractLinearOperator):
            none = jnp.zeros_like(state.s)
            return lineax.FunctionLinearOperator(lambda dx: HazardState(sigma.mv(dx), none), sigma.in_structure())
        channels = jax.tree.leaves(sigma)[0].shape[-1]
        return HazardState(sigma, jnp.zeros((*state.s.shape, channels), state.s.dtype))

    def event(self, t: Any, state: HazardState, args: Any) -> jax.Array:
        """The system's own kinds, then s."""
        if self.base.event is None:
            return state.s
        return jnp.concatenate([self.base.event(t, state.y, args), state.s])

    def transition(self, t: Any, state: HazardState, kind: Any, u: jax.Array, args: Any) -> HazardState:
        """The first uniform of a hazard's event is for its threshold."""
        own = 0
        if self.base.event is not None:
            own = eqx.filter_eval_shape(self.base.event, t, state.y, args).shape[0]
        index = kind - own
        y = state.y
        if self.after is not None:
            y = self.after(t, y, jnp.maximum(index, 0), u[1 : 1 + self.num_uniforms], args)
        if self.base.transition is not None:
            mine = self.base.transition(t, state.y, jnp.minimum(kind, own - 1), u[: self.base.num_uniforms], args)
            y = jax.tree.map(lambda a, b: jnp.where(index >= 0, a, b), y, mine)
        fired = jnp.arange(state.s.shape[0], dtype=jnp.asarray(index).dtype) == index
        return HazardState(y, jnp.where(fired, jnp.log(u[0]) - self.alpha.astype(state.s.dtype), state.s))


def hazard(
    system: EventSDE | Callable[..., Any],
    rate: Callable[..., Any],
    alpha: Any = 0.0,
    transition: Callable[..., Any] | None = None,
    *,
    num_uniforms: int = 0,
) -> HazardSDE:
    """Turn state-dependent rates into events that are differentiable under noise.

    Each rate gets a variable s with ds = rate(t, y) dt, which starts at log u - alpha, u uniform on (0, 1). When s
    reaches 0 the event happens, the state jumps, and s starts again with a fresh u. Since -log u is exponential, with
    alpha = 0 an event comes in [t, t + dt] with probability rate(t, y) dt whatever happened before: a Poisson process
    for a constant rate, a Cox process for a rate that depends on a random state. alpha > 0 is a soft refractory
    period: the hazard since the last event of the kind must exceed alpha first.

    s carries no noise and rises at the rate, so assumption 3.4 holds wherever the rate is positive, whatever the
    diffusion of y: that is what a hard threshold lacks. Assumption 3.5 remains a matter of the transition.

    **Arguments**

    - `system`: a drift (t, y, args) -> like y, or an `EventSDE`, whose own events stay: they are the first kinds,
      hazards the next.
    - `rate`: (t, y, args) -> rate >= 0 of shape () or (hazards,), in 1/time.
    - `alpha`: a scalar for one hazard, else one per hazard, shape (hazards,); differentiable.
    - `transition`: (t, y, kind, u, args) -> like y, what an event does; `kind` counts hazards from 0. None: nothing, as
      for a process that is only counted.
    - `num_uniforms`: uniforms that `transition` needs.

    **Returns**: an `EventSDE` with state `HazardState(y, s)`; `start(y0, key)` makes the initial one.

    **Raises** ValueError for a (concrete) negative alpha.

    **Reference**: Holberg & Salvi (2024), section 3, the stochastic firing of their neuron.

    >>> import jax.random as jr, jax.numpy as jnp, roughspike as rs
    >>> decay = rs.hazard(lambda t, y, args: -y, rate=lambda t, y, args: 5.0 * y[0])
    >>> y0 = decay.start(jnp.ones(1), jr.key(0))
    >>> sol = rs.solve(decay, t0=0.0, t1=3.0, dt=0.01, y0=y0, key=jr.key(1), max_events=32)
    >>> bool(sol.result.ok), sol.y1.y.shape
    (True, (1,))
    """
    alpha = as_float(alpha)
    host = concrete(alpha)
    if host is not None and not (np.all(host >= 0) and host.ndim <= 1):
        raise ValueError(f"alpha must be a scalar or one per hazard, not negative, got {host.tolist()}")
    base = system if isinstance(system, EventSDE) else EventSDE(drift=system)
    return HazardSDE(_Parts(base, rate, transition, jnp.atleast_1d(alpha), num_uniforms))
