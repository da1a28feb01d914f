"""Do the assumptions under which event times have a pathwise derivative hold at given events?

    3.2  a transition does not land on an event surface (or leaves it at once)
    3.4  on {E_k = 0}: grad E_k . sigma = 0, the noise does not move the event function, and
         dE_k/dt + grad E_k . mu > 0, the flow crosses with a slope
    3.5  on {E_k = 0}: grad T_k sigma(y) = sigma(T_k(y)), the transition commutes with the diffusion

Numbering as in Holberg & Salvi (2024). 3.4 and 3.5 speak of channels of the driver that are rough; a smooth or a pure
jump channel may move the event function. Every number is a Jacobian-vector product at one event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from roughspike.paths.uniform import open_uniform
from roughspike.sde.marcus import product
from roughspike.sde.problem import EventSDE

LANDS_ON_EVENT, NOISE_MOVES_EVENT, NO_SLOPE, DOES_NOT_COMMUTE = 1, 2, 4, 8

_REMEDY = {
    LANDS_ON_EVENT: "assumption 3.2: the transition lands on the surface of kind {other} and does not leave it, so the "
    "next event is not determined. Let the transition end strictly below the surface",
    NOISE_MOVES_EVENT: "assumption 3.4: the noise moves the event function (grad E . sigma = {value:.3g}), which "
    "therefore has no first crossing with a derivative: the event time jumps as a parameter moves. Turn the threshold "
    "into a rate with rs.hazard, or keep the noise out of what the event function reads",
    NO_SLOPE: "assumption 3.4: the flow crosses the surface without a slope (dE/dt + grad E . mu = {value:.3g}), so "
    "the event time has no derivative. Move the parameters away from the graze, or let the event function rise",
    DOES_NOT_COMMUTE: "assumption 3.5: the transition does not commute with the diffusion (grad T sigma(y) and "
    "sigma(T(y)) differ by {value:.3g}), so derivatives after the event contain sigma dB/dt and grow as 1/sqrt(dt). "
    "Let the transition shift what carries additive noise, let the diffusion scale as the transition does, or keep "
    "the noise out of what the transition changes",
}


class EventNumbers(NamedTuple):
    """What was measured at events; every leaf has a leading axis of events. `flags` is 0 where all is well.

    `noise`: largest |grad E . sigma| over rough channels. `slope`: dE/dt + grad E . mu. `commutator`: largest entry of
    grad T sigma(y) - sigma(T(y)). `landing`: the other surfaces, E(T(y)), and the slope there `leaving`.
    """

    flags: Int[Array, "events"]
    noise: Float[Array, "events"]
    slope: Float[Array, "events"]
    commutator: Float[Array, "events"]
    landing: Float[Array, "events kinds"]
    leaving: Float[Array, "events kinds"]


@eqx.filter_jit
def measure_events(
    sde: EventSDE, times: Any, kinds: Any, before: Any, args: Any, rough: Sequence[bool] = (), key: Any = None
) -> EventNumbers:
    """Measure the assumptions at events; works under `jit`. Slots whose kind is -1 get flags 0.

    **Arguments**

    - `times`, `kinds`: shape (events,), as in a solution.
    - `before`: states just before, leaves of shape (events, ...).
    - `rough`: per channel of the driver, `driver.rough`; empty without a driver.
    - `key`: for the uniforms of the transitions: 3.5 must hold for every value of them.
    """
    times = jnp.asarray(times)
    u = jnp.full((times.shape[0], sde.num_uniforms), 0.5, times.dtype)
    if key is not None and sde.num_uniforms:
        u = open_uniform(key, u.shape, u.dtype)
    seen = jnp.asarray(kinds) >= 0

    def one(t: jax.Array, kind: jax.Array, y: Any, u: jax.Array) -> EventNumbers:
        return _measure(sde, t, kind, y, u, args, tuple(rough))

    numbers = jax.vmap(one)(jnp.where(seen, times, 0.0), jnp.where(seen, jnp.asarray(kinds), 0), before, u)
    return numbers._replace(flags=jnp.where(seen, numbers.flags, 0))


def _measure(sde: EventSDE, t: Any, kind: Any, y: Any, u: Any, args: Any, rough: tuple[bool, ...]) -> EventNumbers:
    flat, unravel = ravel_pytree(y)
    dtype = flat.dtype
    t = jnp.asarray(t, dtype)
    event = lambda t, z: _required(sde.event)(t, unravel(z), args)  # noqa: E731
    drift = lambda t, z: ravel_pytree(sde.drift(t, unravel(z), args))[0]  # noqa: E731
    transition = lambda z: ravel_pytree(_required(sde.transition)(t, unravel(z), kind, u, args))[0]  # noqa: E731

    def columns(z: jax.Array) -> jax.Array:
        """sigma as (channels, state)."""
        sigma = _required(sde.diffusion)(t, unravel(z), args)
        return jax.vmap(lambda dx: ravel_pytree(product(sigma, dx))[0])(jnp.eye(len(rough), dtype=dtype))

    # 3.4: value, gradient and slope of the event function
    value, (in_time, gradient) = jax.value_and_grad(lambda t, z: event(t, z)[kind], argnums=(0, 1))(t, flat)
    mu = drift(t, flat)
    slope = in_time + gradient @ mu
    size = jnp.abs(in_time) + jnp.abs(gradient) @ jnp.abs(mu)
    epsilon = float(jnp.finfo(dtype).eps)
    rounding = 1e3 * epsilon * (jnp.abs(gradient) @ jnp.abs(flat) + size)
    by_a_jump = value > jnp.maximum(rounding, epsilon**0.5 * size)
    flags = jnp.zeros((), jnp.int32)
    noise = commutator = jnp.zeros((), dtype)
    after = transition(flat)
    # a gradient may be small everywhere: also compare with what the event function changes by along the transition
    moved = jnp.linalg.norm(after - flat)
    chord = jnp.abs(event(t, after)[kind] - value) * jnp.linalg.norm(mu) / jnp.where(moved > 0, moved, jnp.inf)
    flat_crossing = ~by_a_jump & (slope <= epsilon**0.5 * (size + chord))
    if rough and sde.diffusion is not None:
        is_rough = jnp.asarray(rough)
        sigma = columns(flat)
        moved = jnp.where(is_rough, jnp.abs(sigma @ gradient), 0.0)
        noise = jnp.max(moved)
        flags += jnp.where(jnp.any(moved > epsilon**0.5 * (jnp.abs(sigma) @ jnp.abs(gradient))), NOISE_MOVES_EVENT, 0)
        # a smooth or jumping channel that moves the event function gives it a slope that the drift does not know
        driven = jnp.any(jnp.abs(sigma @ gradient) > epsilon**0.5 * (jnp.abs(sigma) @ jnp.abs(gradient)))
        flat_crossing = flat_crossing & ~driven
        # 3.5
        carried = jax.vmap(lambda column: jax.jvp(transition, (flat,), (column,))[1])(sigma)
        there = columns(after)
        gap = jnp.where(is_rough[:, None], jnp.abs(carried - there), 0.0)
        commutator = jnp.max(gap)
        scale = jnp.max(jnp.where(is_rough[:, None], jnp.maximum(jnp.abs(carried), jnp.abs(there)), 0.0))
        flags += jnp.where(commutator > epsilon**0.5 * scale, DOES_NOT_COMMUTE, 0)
    flags += jnp.where(flat_crossing, NO_SLOPE, 0)
    # 3.2: where the transition lands, and whether the flow leaves a surface there
    landing, leaving = jax.jvp(event, (t, after), (jnp.ones_like(t), drift(t, after)))
    _, weight = jax.jvp(lambda z: event(t, z), (after,), (after,))
    on_surface = jnp.abs(landing) <= 64 * epsilon * (jnp.abs(weight) + jnp.abs(event(t, flat)) + size)
    flags += jnp.where(jnp.any(on_surface & (leaving >= 0)), LANDS_ON_EVENT, 0)
    return EventNumbers(flags, noise, slope, commutator, landing, leaving)


class KindReport(eqx.Module):
    """What was found at the events of one kind: the worst numbers, and what fails."""

    kind: int = eqx.field(static=True)
    num_events: int = eqx.field(static=True)
    noise: float = eqx.field(static=True)
    slope: float = eqx.field(static=True)
    commutator: float = eqx.field(static=True)
    failures: tuple[str, ...] = eqx.field(static=True)


class AssumptionReport(eqx.Module):
    """Whether 3.2, 3.4 and 3.5 held at the events of a path, by kind; print it.

    **Attributes**

    - `kinds`: one `KindReport` per kind of event: number of events seen, largest |grad E . sigma|, smallest slope of
      the event function, largest |grad T sigma(y) - sigma(T(y))|, and a line per assumption that failed.
    """

    kinds: tuple[KindReport, ...] = eqx.field(static=True)

    @property
    def ok(self) -> bool:
        """Nothing failed (a kind that was not seen cannot fail)."""
        return not self.messages()

    def messages(self) -> list[str]:
        """One line per kind and failed assumption: where, the number, and what to do."""
        return [f"event kind {row.kind}, {line}" for row in self.kinds for line in row.failures]

    def raise_if_failed(self) -> None:
        """Raise ValueError with `messages()` if an assumption failed."""
        if not self.ok:
            raise ValueError("the gradient asked for does not exist: " + "; ".join(self.messages()))

    def __str__(self) -> str:
        head = "kind  events  |grad E sigma|  slope      |grad T sigma - sigma(T)|  verdict"
        rows = [
            f"{k.kind:<6}{k.num_events:<8}{k.noise:<16.3g}{k.slope:<11.3g}{k.commutator:<27.3g}"
            + ("not seen" if not k.num_events else "fails" if k.failures else "holds")
            for k in self.kinds
        ]
        return "\n".join([head, *rows, *self.messages()])

    def __repr__(self) -> str:
        return str(self)


def report_on(numbers: EventNumbers, times: Any, kinds: Any) -> AssumptionReport:
    """The report for measured events. Needs concrete values."""
    host: Any = EventNumbers(*(np.asarray(x) for x in numbers))  # pyright: ignore
    times, kinds = np.asarray(times), np.asarray(kinds)
    rows = []
    for kind in range(host.landing.shape[1]):
        at = np.flatnonzero(kinds == kind)
        worst = lambda x, pick, at=at: float(pick(x[at])) if at.size else float("nan")  # noqa: E731
        lines = tuple(_line(flag, host, times, at) for flag in _REMEDY if np.any(host.flags[at] & flag))
        rows.append(
            KindReport(
                kind,
                int(at.size),
                worst(host.noise, np.max),
                worst(host.slope, np.min),
                worst(host.commutator, np.max),
                lines,
            )
        )
    return AssumptionReport(tuple(rows))


def _line(flag: int, host: Any, times: np.ndarray, at: np.ndarray) -> str:
    failed = at[(host.flags[at] & flag) != 0]
    by = {NOISE_MOVES_EVENT: -host.noise, NO_SLOPE: host.slope, DOES_NOT_COMMUTE: -host.commutator}
    order = by.get(flag, np.min(np.abs(host.landing), axis=1))
    worst = failed[np.argmin(order[failed])]
    stuck = np.where(host.leaving[worst] >= 0, np.abs(host.landing[worst]), np.inf)
    text = _REMEDY[flag].format(value=abs(order[worst]), other=int(np.argmin(stuck)))
    return f"{failed.size} of {at.size} events, the worst at t={times[worst]:.6g}: {text}"


def _required(function: Callable[..., Any] | None) -> Callable[..., Any]:
    assert function is not None
    return function
