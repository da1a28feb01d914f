"""What lies exactly on the grid: events at its points, save times on them; and many cells passed by one iteration."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from event_systems import relative_error

import roughspike as rs


def ticks(period, num_steps):
    """A clock that fires every `period` on [0, 1]; 16 slots."""
    clock = rs.EventSDE(
        lambda t, y, p: jnp.ones_like(y), event=lambda t, y, p: y - p, transition=lambda t, y, kind, u, p: y - p
    )
    return rs.solve(clock, t0=0.0, t1=1.0, num_steps=num_steps, y0=jnp.zeros(1), args=period, max_events=16)


def test_events_at_and_near_grid_points():
    """Whatever rounding makes of them, no event is lost or seen twice, and the iterations suffice."""
    periods = np.array([1 / 16, 1 / 15, 1 / 10, 0.1 + 1e-15, 0.1 - 1e-15, 0.0725, 0.5, 1.0, 2.0])
    sol = jax.jit(jax.vmap(lambda p: ticks(p, 60)))(jnp.asarray(periods))
    assert bool(sol.result.ok), sol.result
    wanted = np.floor(1.0 / periods + 1e-9)
    # an event at t1 that rounding puts beyond it may be missing
    assert np.all((np.asarray(sol.num_events) == wanted) | (np.abs(wanted * periods - 1) < 1e-12))
    for k, number in enumerate(np.asarray(sol.num_events)):
        np.testing.assert_allclose(sol.event_times[k, :number], periods[k] * (1 + np.arange(number)), atol=1e-13)
    np.testing.assert_allclose(sol.y1[5, 0], 1 - 13 * 0.0725, atol=1e-13)


STEPS, SAVES = 12, 3
KNOTS = np.linspace(0.0, 1.0, STEPS + 1)
PATH = np.cumsum(np.r_[0.0, np.random.default_rng(3).standard_normal(STEPS)])


def saved(times, method):
    """y at times, for dy = -y dt + y dX with X straight between grid points, and an event on the way."""
    sde = rs.EventSDE(
        lambda t, y, p: -y,
        lambda t, y, p: 0.3 * y[:, None],
        event=lambda t, y, p: t - 0.55 + 0.0 * y,
        transition=lambda t, y, kind, u, p: 1.5 * y,
    )
    driver = rs.PiecewisePath(jnp.asarray(KNOTS), jnp.asarray(PATH))
    options = {"y0": jnp.ones(1), "driver": driver, "gradient": method, "max_events": 2}
    sol = rs.solve(sde, t0=0.0, t1=1.0, num_steps=STEPS, save_at=times, **options)
    return sol.ys[:, 0]


def test_a_save_time_on_the_grid_has_the_derivative_from_the_left():
    """Grid points 3, 6 and 11 of 12: against one-sided differences of second order; the path has kinks there."""
    times = jnp.asarray(KNOTS[[3, 6, 11]])
    h = 1e-5
    value = jax.jit(jax.vmap(lambda t: saved(t, rs.Direct())))
    shifts = h * np.concatenate([np.zeros((1, SAVES)), -np.eye(SAVES), -2 * np.eye(SAVES)])
    f = np.asarray(value(times[None] + jnp.asarray(shifts)))
    own = np.arange(SAVES)
    once, twice = f[1 + own, own], f[1 + SAVES + own, own]
    left = (3 * f[0] - 4 * once + twice) / (2 * h)
    right = (np.asarray(value(times[None] + h * jnp.eye(SAVES)))[own, own] - f[0]) / h
    assert np.all(np.abs(left - right) > 0.05 * np.abs(left))  # the two sides differ
    for method in (rs.Direct(), rs.Adjoint()):
        found = jax.jit(jax.grad(lambda t, m=method: jnp.sum(saved(t, m))))(times)
        assert relative_error(found, left) < 1e-6


def test_the_result_does_not_depend_on_how_many_cells_an_iteration_passes(monkeypatch):
    from roughspike.solve import solve as module

    long = ticks(0.0725, 60)
    monkeypatch.setattr(module, "_MOST_CELLS", 1)
    jax.clear_caches()
    short = ticks(0.0725, 60)
    np.testing.assert_allclose(long.event_times[:13], short.event_times[:13], rtol=1e-14)
    assert bool(long.result.ok) and bool(short.result.ok) and int(short.num_events) == int(long.num_events) == 13


@pytest.mark.plain
def test_single_precision_and_many_events():
    """float32, 300 steps, an event every 0.83 cells of the grid."""
    clock = rs.EventSDE(
        lambda t, y, p: jnp.ones_like(y), event=lambda t, y, p: y - p, transition=lambda t, y, kind, u, p: y - p
    )
    period = 1 / 361.5
    sol = rs.solve(clock, t0=0.0, t1=1.0, num_steps=300, y0=jnp.zeros(1), args=period, max_events=400)
    assert bool(sol.result.ok) and int(sol.num_events) == 361 and sol.event_times.dtype == jnp.float32
    np.testing.assert_allclose(sol.event_times[:361], period * (1 + np.arange(361)), atol=2e-5)
