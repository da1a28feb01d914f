"""What can go wrong in a run says so, with event and time, and does not spoil the rest of a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from event_systems import METHODS, bouncing_ball

import roughspike as rs
from roughspike._types import SimulationError
from roughspike.solve import result as flags

ARGS = {"g": 9.81, "e": 0.8}


def rise(event, transition, drift=lambda t, y, p: jnp.ones_like(y), y0=0.0, **options):
    """dy = dt from y0, unless said otherwise."""
    sde = rs.EventSDE(drift, event=event, transition=transition)
    options = {"t0": 0.0, "t1": 1.0, "num_steps": 10, "max_events": 6} | options
    return rs.solve(sde, y0=jnp.array([y0]), **options)


def test_full_buffer_and_zeno():
    ball = bouncing_ball()
    options = {"t0": 0.0, "t1": 6.0, "num_steps": 60, "y0": jnp.array([1.0, 0.0]), "args": ARGS}
    short = rs.solve(ball, max_events=5, **options)
    assert int(short.result.flags) == flags.EVENT_BUFFER_FULL and int(short.result.event) == 5
    assert int(short.num_events) == 5 and int(short.result.needed) > 5
    zeno = rs.solve(ball, max_events=40, **options)
    assert bool(zeno.result.has(flags.CHATTERING)) and float(zeno.result.time) < 4.07
    assert "Zeno" in repr(zeno.result) and "event 40" in repr(zeno.result)
    with pytest.raises(SimulationError, match="max_events="):
        rs.solve(ball, max_events=5, throw=True, **options)


def test_graze_is_flagged_and_has_no_derivative():
    graze = lambda t, y, p: jnp.sign(y - p) * (y - p) ** 2  # noqa: E731
    reset = lambda t, y, kind, u, p: y - 3.0  # noqa: E731
    run = lambda p: rise(graze, reset, args=p)  # noqa: E731
    sol = run(jnp.asarray(0.55))
    assert bool(sol.result.has(flags.GRAZE)) and abs(float(sol.event_times[0]) - 0.55) < 1e-6
    slope = jax.grad(lambda p: run(p).event_times[0])
    with pytest.raises(ValueError, match="assumption 3.4.*Move the parameters away from the graze"):
        slope(jnp.asarray(0.55))
    assert np.isfinite(jax.jit(slope)(jnp.asarray(0.55)))  # a compiled run knows no values to refuse on


def test_landing_on_a_surface():
    two = lambda t, y, p: jnp.concatenate([y - 0.55, y - 2.0])  # noqa: E731
    on_other = rise(two, lambda t, y, kind, u, p: 0.0 * y + 2.0)
    assert bool(on_other.result.has(flags.LANDED_ON_EVENT)) and int(on_other.result.event) == 0
    own = rise(lambda t, y, p: y - 0.55, lambda t, y, kind, u, p: 0.0 * y + 0.55)
    assert bool(own.result.has(flags.LANDED_ON_EVENT)) and abs(float(own.result.time) - 0.55) < 1e-12
    above = rise(lambda t, y, p: y - 0.55, lambda t, y, kind, u, p: y + 1.0)
    assert bool(above.result.ok) and int(above.num_events) == 1  # it must become negative before it fires again
    onto_floor = rs.solve(
        bouncing_ball(on_floor=True), t0=0.0, t1=2.0, num_steps=20, y0=jnp.array([1.0, 0.0]), args=ARGS
    )
    assert bool(onto_floor.result.ok)  # it leaves the surface at once


def test_cascade_is_no_failure():
    """Kind 0 lifts the state beyond the surface of kind 1, which fires at the same time and resets."""
    two = lambda t, y, p: jnp.concatenate([y - 0.55, y - 2.0])  # noqa: E731
    sol = rise(two, lambda t, y, kind, u, p: jnp.where(kind == 0, y + p, y - p - 1.0), args=2.0)
    assert sol.event_kinds[:2].tolist() == [0, 1] and bool(sol.result.ok)
    assert float(sol.event_times[0]) == float(sol.event_times[1])
    np.testing.assert_allclose(sol.event_states[:2, :, 0], [[0.55, 2.55], [2.55, -0.45]], atol=1e-14)


def test_events_at_grid_points_and_at_the_end():
    at = jnp.array([0.2, 0.3, 1.0])
    sol = jax.vmap(lambda at: rise(lambda t, y, p: y - p, lambda t, y, kind, u, p: y - 5.0, args=at))(at)
    assert sol.num_events.tolist() == [1, 1, 1] and bool(sol.result.ok)
    np.testing.assert_allclose(sol.event_times[:, 0], at, atol=1e-14)
    np.testing.assert_allclose(sol.y1[:, 0], -4.0, atol=1e-14)


def test_none_at_the_start_and_none_at_all():
    """A kind that is 0 or more at t0 fires only after it was negative; a crossing with identity fires once."""
    reset = lambda t, y, kind, u, p: y  # noqa: E731
    sol = jax.vmap(lambda p: rise(lambda t, y, p: y + p, reset, args=p))(jnp.array([0.0, 1.0, -0.55]))
    assert sol.num_events.tolist() == [0, 0, 1] and bool(sol.result.ok)
    swing = rise(lambda t, y, p: jnp.sin(20.0 * t) + 0 * y, reset, num_steps=40)
    np.testing.assert_allclose(swing.event_times[:3], 2 * np.pi * np.arange(1, 4) / 20.0, atol=1e-13)


EXPLOSIVE = rs.EventSDE(
    lambda t, y, p: p * y**6, event=lambda t, y, p: y - 3.0, transition=lambda t, y, k, u, p: y - 2.5
)


def explosive(p, y0, method="direct"):
    """dy = p y^6 explodes unless it is reset in time."""
    return rs.solve(EXPLOSIVE, t0=0.0, t1=1.0, num_steps=20, y0=y0, args=p, max_events=3, gradient=METHODS[method])


@pytest.mark.parametrize("method", ["direct", "adjoint", "forward"])
def test_a_bad_lane_does_not_poison_the_good_ones(method):

    def total(p, starts):
        sol = jax.vmap(lambda y0: explosive(p, y0, method))(starts)
        return jnp.sum(sol.y1), sol.result

    slope = jax.jit(jax.grad(total, has_aux=True))
    found, result = slope(jnp.asarray(1.0), jnp.array([[0.5], [1e60], [0.9]]))
    assert (result.flags != 0).tolist() == [False, True, False]
    assert int(result.flags[1]) == flags.NOT_FINITE and float(result.time[1]) < 0.11
    good = sum(float(slope(jnp.asarray(1.0), jnp.full((3, 1), x))[0]) / 3 for x in (0.5, 0.9))
    assert np.isfinite(found) and abs(float(found) - good) < 1e-12 * abs(good)


@pytest.mark.parametrize("method", ["direct", "adjoint", "forward"])
def test_lanes_without_an_event_are_not_asked_for_its_derivative(method):
    """Transition and event are evaluated in all lanes if one has an event; there these have no finite derivative."""

    def run(p, y0):
        jump = lambda t, y, kind, u, p: y * jnp.sqrt(y - 0.7) + p * jnp.log(u) - 2.0  # noqa: E731
        sde = rs.EventSDE(lambda t, y, p: p * jnp.ones_like(y), None, lambda t, y, p: y - 0.75, jump, num_uniforms=1)
        options = {"t0": 0.0, "t1": 1.0, "num_steps": 10, "max_events": 3, "key": jr.key(0)}
        return rs.solve(sde, y0=y0, args=p, gradient=METHODS[method], **options).y1[0]

    starts = jnp.array([[0.0], [0.2], [-5.0]])
    y1, slope = jax.jit(jax.vmap(jax.value_and_grad(run), (None, 0)))(jnp.asarray(1.0), starts)
    log_u = y1[:2] - (0.75 * np.sqrt(0.05) - 2.0 + 0.25 + starts[:2, 0])  # y1 after an event at (0.75 - y0) / p
    np.testing.assert_allclose(slope, [1.0 + log_u[0], 1.0 + log_u[1], 1.0], rtol=1e-10)


def test_a_bad_lane_without_events():
    sde = rs.EventSDE(lambda t, y, p: p * y**6)
    run = lambda p, y0: rs.solve(sde, t0=0.0, t1=1.0, num_steps=20, y0=y0, args=p)  # noqa: E731
    total = lambda p: jnp.sum(jax.vmap(lambda y0: run(p, y0).y1)(jnp.array([[0.5], [1e60]]))[0])  # noqa: E731
    assert np.isfinite(jax.jit(jax.grad(total))(jnp.asarray(1.0)))
    assert bool(run(jnp.asarray(1.0), jnp.array([1e60])).result.has(flags.NOT_FINITE))


def test_mistakes_are_named_before_any_work():
    ball, y0 = bouncing_ball(), jnp.array([1.0, 0.0])
    window = {"t0": 0.0, "t1": 1.0, "y0": y0, "args": ARGS}
    with pytest.raises(ValueError, match="dt is missing"):
        rs.solve(ball, **window)
    with pytest.raises(ValueError, match="max_events"):
        rs.solve(ball, dt=0.1, max_events=0, **window)
    with pytest.raises(ValueError, match="transition belong together|transition too"):
        rs.EventSDE(ball.drift, event=ball.event)
    with pytest.raises(ValueError, match="shape \\(kinds,\\)"):
        rs.solve(rs.EventSDE(ball.drift, event=lambda t, y, p: y[0], transition=ball.transition), dt=0.1, **window)
    with pytest.raises(ValueError, match="drift must return"):
        rs.solve(rs.EventSDE(lambda t, y, p: y[:1]), dt=0.1, **window)
    with pytest.raises(ValueError, match="driver is missing"):
        rs.solve(rs.EventSDE(ball.drift, lambda t, y, p: y[:, None]), dt=0.1, **window)
    with pytest.raises(ValueError, match="save_at"):
        rs.solve(ball, dt=0.1, save_at=[0.5, 0.2], **window)
    with pytest.raises(ValueError, match="num_steps"):
        jax.jit(lambda t1: rs.solve(ball, dt=0.1, **(window | {"t1": t1})))(1.0)


def test_lanes_have_their_own_time():
    """A batch equals its lanes one by one, bit for bit in kinds and counts, to rounding in times."""
    ball = bouncing_ball()
    run = lambda y0: rs.solve(ball, t0=0.0, t1=2.0, num_steps=20, y0=y0, args=ARGS, max_events=12)  # noqa: E731
    starts = jnp.array([[1.0, 0.0], [0.2, 1.0], [3.0, -2.0], [50.0, 0.0]])
    batch = jax.jit(jax.vmap(run))(starts)
    alone = jax.jit(run)
    for k, y0 in enumerate(starts):
        one = alone(y0)
        assert int(one.num_events) == int(batch.num_events[k])
        np.testing.assert_allclose(batch.event_times[k], one.event_times, rtol=1e-14)
        np.testing.assert_allclose(batch.y1[k], one.y1, atol=1e-12)
