"""Which event comes first in a piece of the path, where, and what it leaves: decisions, without derivative.

Every kind has a status:

| status | meaning | fires |
|---|---|---|
| ARMED | it was negative | as soon as it is >= 0 |
| DISARMED | it is >= 0 and was not negative since it fired, or since the start | not before it was negative |
| SURFACE | it is 0 up to rounding, and falls: at the start, or after its own transition | when it has risen again |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.solve.result import GRAZE, LANDED_ON_EVENT
from roughspike.solve.root import first_root

DISARMED, ARMED, SURFACE = 0, 1, 2


class Fired(NamedTuple):
    """What a piece ends with: an event (`hit`), or nothing and the end of the piece."""

    hit: jax.Array
    pending: jax.Array
    kind: jax.Array
    u: jax.Array
    r: jax.Array
    before: Any
    after: Any
    status: jax.Array
    value: jax.Array
    flags: jax.Array


def settle(status: jax.Array, before: jax.Array, value: jax.Array, moved: jax.Array) -> jax.Array:
    """Status after a piece on which the event functions went from `before` to `value`; as it was if not `moved`.

    An armed kind stays armed: if it is >= 0 by now, it is due.
    """
    left = jnp.where(value < before, ARMED, DISARMED)
    new = jnp.where(status == SURFACE, left, jnp.where(value < 0, ARMED, status))
    return jnp.where(moved, new, status).astype(jnp.int32)


def initial_status(value: jax.Array, slope: jax.Array) -> jax.Array:
    """Status at t0, where the event functions have a slope along the flow."""
    on_surface = jnp.where(slope < 0, SURFACE, DISARMED)
    return jnp.where(value < 0, ARMED, jnp.where(value == 0, on_surface, DISARMED)).astype(jnp.int32)


def suspects(status: jax.Array, before: jax.Array, value: jax.Array, moved: jax.Array) -> jax.Array:
    """Kinds that have an event on a piece, judged by its ends."""
    return ((status == ARMED) & (value >= 0)) | ((status == SURFACE) & (value >= before) & moved)


def due(status: jax.Array, value: jax.Array) -> jax.Array:
    """Kinds whose event is due where the piece starts."""
    return (status == ARMED) & (value >= 0)


class Along(NamedTuple):
    """The system on one cell: `flow(r, y, r1)` is one step, `velocity(r, y)` dy/dr at its start, then the functions
    `event(r, y)`, `transition(r, y, kind, u)` and `uniforms(kind)`; r is the place in the cell. The last `hazards`
    kinds are hazards.
    """

    flow: Callable[[jax.Array, Any, jax.Array], Any]
    velocity: Callable[[jax.Array, Any], Any]
    event: Callable[[jax.Array, Any], jax.Array]
    transition: Callable[[jax.Array, Any, jax.Array, jax.Array], Any]
    uniforms: Callable[[jax.Array], jax.Array]
    hazards: int


def fire(
    along: Along,
    start: tuple[jax.Array, Any],
    end: tuple[jax.Array, Any],
    status: jax.Array,
    values: tuple[jax.Array, jax.Array],
) -> Fired:
    """The earliest event on a piece; of kinds that come at the same time, the one of lowest index.

    `start`, `end`: r and y at the ends of the piece; `values`: the event functions there.
    """
    (r0, y0), (r1, y1), (e0, e1) = start, end, values
    length, one = r1 - r0, jnp.ones_like(r0)
    surface = status == SURFACE
    pending = due(status, e0)
    now = jnp.any(pending)
    cross = suspects(status, e0, e1, length > 0)

    def share(x, e):
        """Of a kind that starts on the surface, and falls, the root at the start is divided out."""
        return jnp.where(surface, (e - e0) / x, e)

    def highest(e):
        return jnp.max(jnp.where(cross, e, -jnp.inf))

    def at(x):
        r = r0 + x * length
        return highest(share(x, along.event(r, along.flow(r0, y0, r))))

    at_zero = highest(jnp.where(surface, e0 - e1, e0))
    x = first_root(at, at_zero, highest(share(one, e1)), jnp.any(cross) & ~now)
    r = jnp.where(now, r0, jnp.where(x == 1, r1, r0 + x * length))

    def arrive(r):
        y = along.flow(r0, y0, r)
        return y, along.event(r, y)

    # the flow and, along it, the event functions and the transition, with their derivatives in r
    (before, e_before), (velocity, rate) = jax.jvp(arrive, (r,), (one,))
    found = share(jnp.where(now, one, x), e_before)
    first = jnp.where(now, pending, cross & (found >= jnp.minimum(highest(found), 0.0)))
    kind = jnp.argmax(first).astype(jnp.int32)
    u = along.uniforms(kind)

    def jump(r, before):
        after = along.transition(r, before, kind, u)
        return along.event(r, after), after

    e_after, rate_after, after = jax.jvp(jump, (r, before), (one, velocity), has_aux=True)
    _, leaving = jax.jvp(along.event, (r, after), (one, along.velocity(r, after)))
    epsilon = float(jnp.finfo(r.dtype).eps)
    scale = jnp.abs(e0) + jnp.abs(e1)
    graze = ~now & (rate[kind] * length <= epsilon**0.5 * scale[kind])

    # the fired kind: where its own transition leaves it, rounding of the root set apart
    own = jnp.arange(e0.shape[0], dtype=jnp.int32) == kind
    small = 64 * epsilon * (scale + jnp.abs(rate * length))
    change = e_after - jnp.where(own & ~now, e_before, 0.0)
    # a hazard's threshold log u may be as near to 0 as rounding, but is below it
    hazard = jnp.arange(e0.shape[0]) >= e0.shape[0] - along.hazards
    stays = (jnp.abs(change) <= small) & ~hazard
    rising = stays & (leaving >= 0) & (jnp.abs(rate_after - rate) > 1e-6 * jnp.abs(rate))
    on_surface = jnp.where(leaving < 0, SURFACE, DISARMED)
    of_own = jnp.where(stays, on_surface, jnp.where(change < 0, ARMED, DISARMED))
    # the others: where the piece, then the transition, leaves them
    middle = settle(status, e0, e_before, r > r0)
    kept = (middle == SURFACE) & (jnp.abs(e_after - e_before) <= small)
    of_other = jnp.where(kept, on_surface, settle(middle, e_before, e_after, jnp.array(True)))
    on_other = (middle == ARMED) & (jnp.abs(e_after) <= small) & (e_before < -small)
    landed = jnp.any(jnp.where(own, rising, on_other))

    hit = now | jnp.any(cross)
    flags = jnp.where(hit & graze, GRAZE, 0) | jnp.where(hit & landed, LANDED_ON_EVENT, 0)
    fired = Fired(
        hit, now, kind, u, r, before, after, jnp.where(own, of_own, of_other).astype(jnp.int32), e_after, flags
    )
    nothing = missed(r1, y1, status, e0, e1, length > 0, jnp.full_like(u, 0.5))
    return jax.tree.map(lambda a, b: jnp.where(hit, a, b), fired, nothing)


def missed(
    r1: jax.Array, y1: Any, status: jax.Array, e0: jax.Array, e1: jax.Array, moved: jax.Array, no_u: jax.Array
) -> Fired:
    """No event: the end of the piece."""
    no, zero = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
    return Fired(no, no, zero, no_u, r1, y1, y1, settle(status, e0, e1, moved), e1, zero)
