"""Strong orders of event times and states, on the same Brownian paths, against the same solver on a fine grid."""

from __future__ import annotations

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs
from roughspike.paths.realised import AbstractPath, RealisedPath

FINE, PATHS = 512, 64


class Realised(AbstractPath):
    """A driver that has been drawn already."""

    path: RealisedPath

    @property
    def rough(self):
        return (True,) * self.path.num_channels

    def realise(self, key, t0, t1, num_steps, dtype):
        return self.path


def hazard_system(additive: bool) -> rs.EventSDE:
    """x with noise, s with ds = 1.5 exp(x) dt that fires at 1 and starts again; x falls at an event.

    The transitions commute with the diffusion: a shift under additive noise, a factor under proportional noise.
    """
    if additive:
        sigma, fall = (lambda t, y, p: jnp.array([[0.5], [0.0]])), (lambda x: x - 0.5)
    else:
        sigma, fall = (lambda t, y, p: jnp.stack([0.5 * y[0], 0.0 * y[0]])[:, None]), (lambda x: 0.6 * x)
    return rs.EventSDE(
        drift=lambda t, y, p: jnp.stack([1.0 - y[0], 1.5 * jnp.exp(y[0])]),
        diffusion=sigma,
        event=lambda t, y, p: y[1:] - 1.0,
        transition=lambda t, y, kind, u, p: jnp.stack([fall(y[0]), y[1] - 1.0]),
    )


def orders(solver, additive, steps=(8, 32)):
    system = hazard_system(additive)
    key = jr.split(jr.key(11), PATHS)
    driver = rs.BrownianPath(1, areas=True)

    def errors(key):
        path = driver.realise(key, 0.0, 1.0, FINE, jnp.float64)

        def run(n):
            coarse = path if n == FINE else path.coarsen(FINE // n)
            sol = rs.solve(
                system,
                t0=0.0,
                t1=1.0,
                num_steps=n,
                y0=jnp.array([0.3, 0.0]),
                driver=Realised(coarse),
                solver=solver,
                max_events=12,
            )
            return sol.event_times[0], sol.y1[0]

        fine = run(FINE)
        return jnp.stack([jnp.stack([jnp.abs(a - b) for a, b in zip(run(n), fine, strict=True)]) for n in steps])

    found = np.asarray(jnp.mean(jax.jit(jax.vmap(errors))(key), axis=0))
    assert np.all(np.isfinite(found))
    return [float(-np.polyfit(np.log(steps), np.log(found[:, k]), 1)[0]) for k in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "additive", "order"),
    [
        (diffrax.Euler(), False, 0.5),
        (diffrax.ItoMilstein(), False, 1.0),
        (diffrax.StratonovichMilstein(), False, 1.0),
        (diffrax.Heun(), False, 1.0),
        (diffrax.ShARK(), True, 1.5),
    ],
    ids=["Euler", "ItoMilstein", "StratonovichMilstein", "Heun", "ShARK"],
)
def test_strong_order(solver, additive, order):
    """64 paths, 8 and 32 steps against 512: the first event time, and x at the end, at least of the stated order."""
    of_time, of_state = orders(solver, additive)
    assert of_time > order - 0.2 and of_state > order - 0.2, (of_time, of_state)
