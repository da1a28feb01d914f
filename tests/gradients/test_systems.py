"""Derivatives of other systems by every method: closed forms, noise in the state, times, ties, swaps, jumps."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from event_systems import METHODS, central_differences, relative_error

import roughspike as rs

EACH = pytest.mark.parametrize("method", ["direct", "forward", "adjoint"])


def leaky(num_steps=200, t1=2.0, **options):
    """dv = a (b - v) dt, a spike at v = 1 takes c from v."""
    neuron = rs.EventSDE(
        lambda t, y, p: p["a"] * (p["b"] - y),
        event=lambda t, y, p: y - 1.0,
        transition=lambda t, y, kind, u, p: y - p["c"],
    )
    return lambda p, y0: rs.solve(neuron, t0=0.0, t1=t1, num_steps=num_steps, y0=y0, args=p, **options)


LEAKY = {"a": 3.0, "b": 1.5, "c": 0.9}


def closed_spikes(p, v0, number):
    """First spike and the intervals after it, in closed form."""
    first = jnp.log((p["b"] - v0) / (p["b"] - 1.0)) / p["a"]
    interval = jnp.log((p["b"] - 1.0 + p["c"]) / (p["b"] - 1.0)) / p["a"]
    return first + interval * jnp.arange(1.0 * number)


def test_leaky_neuron_against_closed_form():
    """With 100 steps: Heun, of order 2, and Dopri5, whose error is that of rounding and little more."""
    import diffrax

    p, y0 = jax.tree.map(jnp.asarray, (LEAKY, jnp.zeros(1)))
    errors = []
    for solver in (diffrax.Heun(), diffrax.Dopri5()):
        times = lambda p, y0, s=solver: leaky(100, solver=s)(p, y0).event_times[:3]  # noqa: E731
        found, slope = jax.jit(lambda p, y0, f=times: (f(p, y0), jax.jacrev(f)(p, y0)))(p, y0)
        wanted = closed_spikes(p, 0.0, 3)
        errors.append(
            (float(jnp.max(jnp.abs(found - wanted))), relative_error(slope, jax.jacrev(closed_spikes)(p, 0.0, 3)))
        )
    assert errors[0][0] < 2e-3 and errors[0][1] < 2e-2
    assert errors[1][0] < 1e-9 and errors[1][1] < 1e-7


def test_continuous_adjoint_converges_to_the_exact_one():
    """Root mean square over 24 initial values, 20 to 160 steps: order 2."""
    y0 = jnp.linspace(-0.2, 0.2, 24)[:, None]
    p = jax.tree.map(jnp.asarray, LEAKY)
    errors = []
    for steps in (20, 160):
        found = []
        for gradient in (rs.Adjoint(), rs.Adjoint(continuous=True)):
            run = leaky(steps, t1=1.5, gradient=gradient)
            loss = lambda p, y0, run=run: jnp.sum(jnp.sin(run(p, y0).event_times[:3]))  # noqa: E731
            found.append(jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(p, y0)["b"])
        errors.append(float(jnp.sqrt(jnp.mean((found[0] - found[1]) ** 2))))
    assert 1.6 < np.log(errors[0] / errors[1]) / np.log(8) < 2.5


CLOCKS = rs.EventSDE(
    drift=lambda t, y, p: {"x": p["a"] * jnp.sin(t) - 0.5 * y["x"], "s": p["rate"] * (1 + y["x"] ** 2)},
    diffusion=lambda t, y, p: {"x": p["sigma"] * y["x"][:, None], "s": jnp.zeros((1, 1))},
    event=lambda t, y, p: jnp.stack([y["s"][0] - 1.0 - 0.1 * t, jnp.sin(p["clock"] * t) - 0.2]),
    transition=lambda t, y, kind, u, p: {
        "x": y["x"] * jnp.where(kind == 0, 0.7, 1.0 + 0.1 * t),
        "s": jnp.where(kind == 0, 0.2 * u, y["s"]),
    },
    num_uniforms=1,
)


def loss_of_clocks(point, method):
    """Spike times, states at spikes and at the end."""
    p, y0, t0 = point
    driver, options = rs.BrownianPath(1), {"gradient": METHODS[method], "max_events": 12, "key": jr.key(5)}
    sol = rs.solve(CLOCKS, t0=t0, t1=3.0, num_steps=40, y0=y0, args=p, driver=driver, **options)
    fired = jnp.isfinite(sol.event_times)
    times = jnp.where(fired, jnp.where(fired, sol.event_times, 0.0), 0.0)
    return jnp.sum(jnp.cos(times)) + jnp.sum(sol.event_states["x"] ** 2) + sol.y1["x"][0], sol


@functools.cache
def differences_of_clocks():
    """The point, and central differences there: one program for all methods."""
    p = {"a": 1.0, "rate": 0.9, "sigma": 0.4, "clock": 5.0}
    point = jax.tree.map(jnp.asarray, (p, {"x": jnp.ones(1), "s": jnp.zeros(1)}, jnp.asarray(0.1)))
    return point, central_differences(jax.jit(lambda x: loss_of_clocks(x, "direct")[0]), point)


@EACH
def test_noise_in_the_state_and_clocks(method):
    """Multiplicative Stratonovich noise; two kinds, one of them a clock; E and T that look at the time."""
    point, differences = differences_of_clocks()
    found, sol = jax.jit(jax.grad(lambda x: loss_of_clocks(x, method), has_aux=True))(point)
    assert bool(sol.result.ok) and {0, 1} <= set(np.asarray(sol.event_kinds).tolist())
    assert relative_error(found, differences) < 1e-6


def two_timers(method="direct"):
    """Two timers that kick each other; their transitions commute."""
    timers = rs.EventSDE(
        drift=lambda t, y, p: p * jnp.ones(2),
        event=lambda t, y, p: y - 1.0,
        transition=lambda t, y, kind, u, p: jnp.where(jnp.arange(2, dtype=jnp.int32) == kind, y - 1.0, y + 0.1 * p),
    )
    return lambda p, y0: rs.solve(
        timers, t0=0.0, t1=2.0, num_steps=8, y0=y0, args=p, max_events=8, gradient=METHODS[method]
    )


@functools.cache
def run_of_timers():
    """Value and its program are the same by every method."""
    return jax.jit(two_timers())


@EACH
def test_a_tie_and_a_swap(method):
    """At a tie the lowest kind fires first; times by rank, and the end, are C1 through the swap of two events."""
    run = run_of_timers()
    p = jnp.array([1.0, 1.0])
    tie = run(p, jnp.array([0.4, 0.4]))
    assert tie.event_kinds[:2].tolist() == [0, 1] and bool(tie.result.ok)
    np.testing.assert_allclose(tie.event_times[:2], 0.6, atol=1e-15)
    end = jax.jit(jax.jacrev(lambda p, y0: two_timers(method)(p, y0).y1, argnums=(0, 1)))
    before, after = (end(p, jnp.array([0.4 + d, 0.4])) for d in (-1e-9, 1e-9))
    kinds = [run(p, jnp.array([0.4 + d, 0.4])).event_kinds[:2].tolist() for d in (-1e-9, 1e-9)]
    assert kinds == [[1, 0], [0, 1]]
    assert relative_error(before, after) < 1e-7


JUMPY = rs.EventSDE(
    drift=lambda t, y, p: -p * y,
    diffusion=lambda t, y, p: y[:, None],
    event=lambda t, y, p: y[:1] - 2.0,
    transition=lambda t, y, kind, u, p: y - 1.5,
)


def loss_of_jumps(point, method):
    """The event that a jump causes, and the end."""
    p, times, sizes = point
    driver = rs.PiecewisePath(jnp.array([0.0, 2.0]), jnp.array([0.0, 0.3])) + rs.PiecewisePath(times, jumps=sizes)
    options = {"t0": 0.0, "t1": 2.0, "num_steps": 16, "gradient": METHODS[method], "max_events": 4}
    sol = rs.solve(JUMPY, y0=jnp.array([1.2]), args=p, driver=driver, **options)
    fired = jnp.isfinite(sol.event_times)
    return jnp.sum(jnp.where(fired, jnp.where(fired, sol.event_times, 0.0), 0.0)) + sol.y1[0] ** 2, sol


@functools.cache
def differences_of_jumps():
    """The point, and central differences there."""
    point = (jnp.asarray(0.4), jnp.array([0.31, 1.04, 1.43]), jnp.array([[0.2], [0.9], [0.4]]))
    return point, central_differences(jax.jit(lambda x: loss_of_jumps(x, "direct")[0]), point)


@EACH
def test_jumps_of_the_driver(method):
    """Marcus jumps move the state, and may fire an event; gradients in their times and sizes."""
    point, differences = differences_of_jumps()
    found, sol = jax.jit(jax.grad(lambda x: loss_of_jumps(x, method), has_aux=True))(point)
    assert bool(sol.result.ok) and int(sol.num_events) == 1 and abs(float(sol.event_times[0]) - 1.04) < 1e-14
    assert relative_error(found, differences) < 1e-6
