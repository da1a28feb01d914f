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


WEIGHTS = np.cos(np.arange(IMPACTS) + 0.3)


def losses(point, method):
    """A sum over all impacts, which has a closed form, and a loss that looks at all that a solution holds."""
    args, y0, t0, save_at = point
    sol = run(args, y0, t0, method, save_at=save_at)
    of_states = jnp.sum(jnp.cos(sol.event_states[:12, :, 1]))
    everything = jnp.sum(jnp.sin(sol.event_times[:12])) + of_states + jnp.sum(sol.ys**2) + sol.y1[0]
    return jnp.stack([jnp.dot(WEIGHTS, sol.event_times[:IMPACTS]), everything])


def closed(args, y0, t0):
    return jnp.dot(WEIGHTS, t0 + impacts(IMPACTS, y0, args))


@functools.cache
def differences():
    """The point; central differences of the second loss there."""
    point = *start(), jnp.array([0.2, 0.61, 1.0, 2.5, 3.31, 4.9])
    return point, central_differences(jax.jit(lambda x: losses(x, "direct")[1]), point)


@pytest.mark.parametrize("method", METHODS)
def test_derivatives(method):
    """Of all impacts against the closed form; of states, saves and the end against central differences."""
    point, of_everything = differences()
    found = jax.jit(jax.jacrev(lambda x: losses(x, method)))(point)
    first, second = (jax.tree.map(lambda x, k=k: x[k], found) for k in range(2))
    assert relative_error(first[:3], jax.grad(closed, argnums=(0, 1, 2))(*point[:3])) < 1e-10
    assert np.all(np.abs(first[3]) < 1e-10)  # a save time moves no impact
    assert relative_error(second, of_everything) < 1e-6
