"""Adaptive steps for systems without driver."""

from __future__ import annotations

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from event_systems import relative_error

import roughspike as rs
from roughspike.solve import result as flags

SAVES = np.array([0.31, 2.2, 4.0])
IMPACTS = 5


def pendulum(p, gradient=None, **options):
    """A pendulum, damped ever more, that hits a wall at its lowest point; p is its frequency squared."""
    wall = rs.EventSDE(
        drift=lambda t, y, p: jnp.stack([y[1], -p * jnp.sin(y[0]) - 0.1 * t * y[1]]),
        event=lambda t, y, p: -y[:1],
        transition=lambda t, y, kind, u, p: jnp.stack([y[0], -0.9 * y[1]]),
    )
    given = {"dt": 0.1, "controller": diffrax.PIDController(rtol=1e-9, atol=1e-10), "max_steps": 200}
    given |= {"solver": diffrax.Tsit5(), "max_events": 8, "save_at": jnp.asarray(SAVES), "gradient": gradient}
    return rs.solve(wall, t0=0.0, t1=4.0, y0=jnp.array([1.0, 0.0]), args=p, **(given | options))


def loss(p, gradient=None, **options):
    sol = pendulum(p, gradient, **options)
    return jnp.sum(jnp.sin(sol.event_times[:2])) + jnp.sum(sol.ys**2) + jnp.sum(sol.event_states[:2, :, 1] ** 2), sol


@pytest.fixture(scope="module")
def reference():
    """Uniform steps of 0.002, and the derivative there."""
    with jax.enable_x64(True):
        options = {"controller": None, "dt": 0.002}
        return jax.jit(jax.value_and_grad(lambda p: loss(p, **options), has_aux=True))(jnp.asarray(4.0))


@pytest.mark.parametrize("gradient", [rs.Direct(), rs.Adjoint(), rs.Forward()], ids=["direct", "adjoint", "forward"])
def test_states_and_derivatives(reference, gradient):
    (_, wanted), slope = reference
    (_, sol), found = jax.jit(jax.value_and_grad(lambda p: loss(p, gradient), has_aux=True))(jnp.asarray(4.0))
    number = int(sol.num_events)
    assert bool(sol.result.ok) and number == int(wanted.num_events) >= 2
    np.testing.assert_allclose(sol.event_times[:number], wanted.event_times[:number], atol=1e-8)
    np.testing.assert_allclose(sol.ys, wanted.ys, atol=1e-8)
    assert relative_error(found, slope) < 1e-6


def test_too_few_steps_and_a_controller_that_gives_up():
    few = pendulum(jnp.asarray(4.0), max_steps=12)
    assert int(few.result.flags) == flags.STEPS_USED_UP and "max_steps" in repr(few.result)
    narrow = diffrax.PIDController(rtol=1e-9, atol=1e-10, dtmin=0.05, force_dtmin=False)
    stuck = pendulum(jnp.asarray(4.0), controller=narrow)
    assert bool(stuck.result.has(flags.SOLVER_FAILED)) and "dtmin" in repr(stuck.result)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="driver"):
        pendulum(4.0, driver=rs.BrownianPath(1))
    with pytest.raises(ValueError, match="estimates no error"):
        pendulum(4.0, solver=diffrax.Euler())
    with pytest.raises(ValueError, match="must be adaptive"):
        pendulum(4.0, controller=diffrax.ConstantStepSize())
    with pytest.raises(ValueError, match="num_steps"):
        pendulum(4.0, num_steps=10)
    with pytest.raises(ValueError, match="implicit"):
        pendulum(4.0, solver=diffrax.Kvaerno3())
