"""The bouncing ball has a closed form: times, states and derivatives, over twenty impacts, by every method."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from event_systems import METHODS, bouncing_ball, central_differences, impacts, relative_error

import roughspike as rs

IMPACTS = 20
Y0 = (1.0, 0.3)
ARGS = {"g": 9.81, "e": 0.85}


def start():
    return jax.tree.map(jnp.asarray, (ARGS, jnp.array(Y0), jnp.asarray(0.0)))


def run(args, y0, t0, method="direct", **options):
    ball = bouncing_ball()
    return rs.solve(
        ball, t0=t0, t1=5.5, num_steps=80, y0=y0, args=args, max_events=26, gradient=METHODS[method], **options
    )


def test_times_and_states():
    args, y0, t0 = start()
    sol = run(args, y0, t0)
    assert bool(sol.result.ok) and int(sol.num_events) >= IMPACTS
    np.testing.assert_allclose(sol.event_times[:IMPACTS], impacts(IMPACTS, y0, args), atol=1e-13)
    speed = jnp.sqrt(y0[1] ** 2 + 2 * args["g"] * y0[0]) * args["e"] ** jnp.arange(1.0 * IMPACTS)
    np.testing.assert_allclose(sol.event_states[:IMPACTS, 0, 1], -speed, atol=1e-12)
    np.testing.assert_allclose(sol.event_states[:IMPACTS, 1, 1], args["e"] * speed, atol=1e-12)
    np.testing.assert_allclose(sol.event_states[:IMPACTS, :, 0], 0.0, atol=1e-13)
    assert np.all(np.isinf(sol.event_times[int(sol.num_events) :]))
    assert np.all(np.asarray(sol.event_kinds) == np.where(np.arange(26) < int(sol.num_events), 0, -1))


@pytest.mark.parametrize("method", METHODS)
def test_derivatives_of_all_impacts(method):
    weights = jnp.cos(jnp.arange(1.0 * IMPACTS) + 0.3)

    def loss(point):
        args, y0, t0 = point
        return jnp.dot(weights, run(args, y0, t0, method).event_times[:IMPACTS])

    def closed(point):
        args, y0, t0 = point
        return jnp.dot(weights, t0 + impacts(IMPACTS, y0, args))

    found = jax.jit(jax.grad(loss))(start())
    assert relative_error(found, jax.grad(closed)(start())) < 1e-10


def everything(point, method):
    """A loss that looks at all that a solution holds."""
    args, y0, t0, save_at = point
    sol = run(args, y0, t0, method, save_at=save_at)
    of_states = jnp.sum(jnp.cos(sol.event_states[:12, :, 1]))
    return jnp.sum(jnp.sin(sol.event_times[:12])) + of_states + jnp.sum(sol.ys**2) + sol.y1[0]


def point():
    return *start(), jnp.array([0.2, 0.61, 1.0, 2.5, 3.31, 4.9])


@functools.cache
def differences():
    return central_differences(jax.jit(lambda x: everything(x, "direct")), point())


@pytest.mark.parametrize("method", METHODS)
def test_states_saves_and_end(method):
    found = jax.jit(jax.grad(lambda x: everything(x, method)))(point())
    assert relative_error(found, differences()) < 1e-6
