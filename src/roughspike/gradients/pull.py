"""One iteration of the adjoint: cotangents at its end, pulled back to its start.

Notation, with s the place at which the iteration ends (the part of its cell that has passed):

| name | meaning |
|---|---|
| p, q | dL/dy and dL/ds at the end, after a jump if there is one |
| E, T | event function of the kind that fired, and its transition |
| v | dy/ds along the flow at s |
| w | the parameters that are differentiated; `fixed` are the others |
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.gradients.base import Local, Records
from roughspike.gradients.lazy import when
from roughspike.gradients.sweep import Pulled, Site


def pull_iteration(site: Site, q: jax.Array, p: Any, on_records: Records) -> Pulled:
    """The exact adjoint of an iteration: of its end, then of the cells that it passed."""
    program, known = site.program, site.known
    if not program.passes:
        return _pull_end(site, q, p, on_records, _discrete_flow)

    def passing(w, local, r, y):
        return program.pass_cells(eqx.combine(w, site.fixed), local, r, y, known)

    (r, y), pull_passing = jax.vjp(passing, site.wanted, site.local, site.r, site.y)
    end = _pull_end(site._replace(r=r, y=y), q, p, on_records, _discrete_flow)
    start = Pulled(*pull_passing((end.r, end.y)))
    return start._replace(w=_plus(start.w, end.w), local=_plus(start.local, end.local))


def pull_continuously(site: Site, q: jax.Array, p: Any, on_records: Records) -> Pulled:
    """The adjoint equations between stops by their own rule; for a program without passes."""
    return _pull_end(site, q, p, on_records, _continuous_flow)


def _pull_end(site: Site, q: jax.Array, p: Any, on_records: Records, flow: Any) -> Pulled:
    """The adjoint of the last piece of an iteration and of what comes at its end."""
    known, program = site.known, site.program
    safe = eqx.combine(site.wanted, site.fixed).safe
    site = site._replace(y=_where(known.idle, safe, site.y))
    idle_q, idle_p = q, p
    saves = jax.tree.leaves(on_records.ys)[0].shape[0]
    if saves:
        cut = known.saved & known.to_save
        p = jax.tree.map(lambda p, x: p + jnp.where(cut, _row(x, known.save), 0.0), p, on_records.ys)
    q = jnp.where(known.next_cell, jnp.zeros_like(q), q)
    end, pull_end = jax.vjp(lambda local, r: program.end(local, r, known), site.local, site.r)
    y1, velocity, pull_flow = flow(site, end)
    on_w, on_local = jax.tree.map(jnp.zeros_like, (site.wanted, site.local))
    if program.has_events:
        at_event = lambda: _event(site, y1, velocity(), end, p, q, on_records)  # noqa: E731
        on_w, p, q = when(known.hit, at_event, (on_w, p, q))
    if program.has_jumps:
        at_jump = lambda: _jump(site, y1, end, on_w, p, q)  # noqa: E731
        on_w, size, p, q = when(known.jumped, at_jump, (on_w, on_local.jump_size, p, q))
        on_local = eqx.tree_at(lambda x: x.jump_size, on_local, size)
    from_flow = pull_flow(p)
    # the place of an event is not that of a stop: `_event` has dealt with it
    own_place = known.hit & ~known.pending
    from_end = pull_end(jnp.where(own_place, jnp.zeros_like(q), q + from_flow.end))
    on_w = _nothing_if(known.idle, _plus(on_w, from_flow.w))
    on_local = _nothing_if(known.idle, _plus(_plus(on_local, from_flow.local), from_end[0]))
    on_r = jnp.where(known.idle, idle_q, from_flow.r + from_end[1])
    pulled = Pulled(on_w, on_local, on_r, _where(known.idle, idle_p, from_flow.y))
    if not saves:
        return pulled
    return when(known.saved_on_grid, lambda: _plus(pulled, _save_on_grid(site, on_records)), pulled)


def _save_on_grid(site: Site, on_records: Records) -> Pulled:
    """A state that is written down at the end of a whole step, and the place of that save time."""

    def saved(w, local, r, y):
        return site.program.step(eqx.combine(w, site.fixed), local, site.known, r, y, local.save_r)

    on_saved = jax.tree.map(lambda x: _row(x, site.known.save), on_records.ys)
    return Pulled(*jax.vjp(saved, site.wanted, site.local, site.r, site.y)[1](on_saved))


def _row(table: jax.Array, k: jax.Array) -> jax.Array:
    """Row k, or the last one."""
    return table[jnp.minimum(k, table.shape[0] - 1)]


def _event(site: Site, y1: Any, v: Any, end: jax.Array, p: Any, q: jax.Array, on_records: Records):
    """The jump of the adjoint at an event.

        p- = grad T' p+ - grad E' a / (dE/ds),      a = q + v . (grad T' p+) + d_s T' p+ + dl/ds

    where q = -p+ . mu+ + ... has come from the next iteration, which starts at s. At a `pending` event s is given.
    """
    program, known, cell = site.program, site.known, site.known.cell
    params = lambda w: eqx.combine(w, site.fixed)  # noqa: E731
    on_time = _row(on_records.times, known.num)
    on_states = jax.tree.map(lambda x: _row(x, known.num), on_records.states)
    p = jax.tree.map(lambda p, x: p + x[1], p, on_states)

    def transition(w, s, before):
        return program.transition(params(w), cell, s, before, known.kind, known.u), program.time(params(w), cell, s)

    def event(w, y, s):
        return program.event(params(w), cell, s, y)[known.kind]

    on_w, on_s, on_y = jax.vjp(transition, site.wanted, end, y1)[1]((p, on_time))
    on_y = jax.tree.map(lambda p, x: p + x[0], on_y, on_states)
    q = q + on_s
    a = q + _dot(v, on_y)
    _, rate = jax.jvp(lambda y, s: event(site.wanted, y, s), (y1, end), (v, jnp.ones_like(end)))
    fixed_place = known.pending | known.graze | (rate == 0)
    share = -a / jnp.where(fixed_place, jnp.ones_like(rate), rate)
    on_w2, on_y2 = jax.vjp(lambda w, y: event(w, y, end), site.wanted, y1)[1](
        jnp.where(fixed_place, jnp.zeros_like(share), share)
    )
    return _plus(on_w, on_w2), _plus(on_y, on_y2), q


def _jump(site: Site, y1: Any, end: jax.Array, on_w: Any, p: Any, q: jax.Array):
    """The jump of the adjoint at a jump of the driver: along the transposed, linearised Marcus flow."""

    def move(w, size, y, s):
        return site.program.jump_move((eqx.combine(w, site.fixed), size, y, site.known.cell, s))

    more, on_size, on_y, on_s = jax.vjp(move, site.wanted, site.local.jump_size, y1, end)[1](p)
    return _plus(on_w, more), on_size, on_y, q + on_s


class FromFlow(NamedTuple):
    """Cotangents that a flow from r to `end` passes on."""

    w: Any
    local: Local
    r: jax.Array
    y: Any
    end: jax.Array


def _discrete_flow(site: Site, end: jax.Array):
    """The solver's step, its velocity at the end, and its transpose."""
    program, known = site.program, site.known

    def step(w, local, r, y, end):
        return program.step(eqx.combine(w, site.fixed), local, known, r, y, end)

    given = (site.wanted, site.local, site.r, site.y)
    y1, back = jax.vjp(step, *given, end)
    velocity = lambda: jax.jvp(lambda s: step(*given, s), (end,), (jnp.ones_like(end),))[1]  # noqa: E731
    return y1, velocity, lambda p: FromFlow(*back(p))


def _continuous_flow(site: Site, end: jax.Array):
    """dp/ds = -(grad F)' p by the trapezoidal rule, with F = dy/ds along the stored path."""
    program, known = site.program, site.known

    def velocity(w, local, s, y):
        params = eqx.combine(w, site.fixed)
        move = lambda to: program.step(params, local, known, s, y, to)  # noqa: E731
        return jax.jvp(move, (s,), (jnp.ones_like(s),))[1]

    y1 = program.step(eqx.combine(site.wanted, site.fixed), site.local, known, site.r, site.y, end)
    f0, back0 = jax.vjp(lambda w, local, y: velocity(w, local, site.r, y), site.wanted, site.local, site.y)
    f1, back1 = jax.vjp(lambda w, local, y: velocity(w, local, end, y), site.wanted, site.local, y1)
    length = end - site.r

    def pull(p):
        at_end = back1(p)
        at_start = back0(jax.tree.map(lambda x, k: x + length * k, p, at_end[2]))
        w, local, more = jax.tree.map(lambda a, b: length / 2 * (a + b), at_end, at_start)
        start = _plus(p, more)
        return FromFlow(w, local, -_dot(start, f0), start, _dot(p, f1))

    return y1, lambda: f1, pull


def _plus(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def _dot(a: Any, b: Any) -> jax.Array:
    parts = jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), a, b))
    return jnp.stack(parts).sum()


def _where(condition: jax.Array, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def _nothing_if(condition: jax.Array, tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.where(condition, jnp.zeros_like(x), x), tree)
