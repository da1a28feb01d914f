"""An SLIF network as a network of intensities: the same likelihood, potentials that solve the membrane's equation."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import roughspike as rs
from roughspike.pointprocess.basis import Span
from roughspike.pointprocess.events import events_of


@pytest.fixture
def neuron():
    return rs.SLIF(mu=(8.0, 30.0), v_reset=0.7, escape=rs.SigmoidEscape(beta=3.0, v_th=1.0, tau_s=0.02))


def test_likelihood_of_one_neuron_is_that_of_the_population(neuron):
    data = rs.SpikeTrain(np.array([[0.05, 0.11, 0.4, 0.62]]), 0.0, 1.0)
    net = rs.PointProcessNetwork.from_slif(neuron, np.zeros((1, 1)), 0.9, 1)
    wanted = rs.log_likelihood(rs.Population(neuron, current=0.9, v0=0.9), data, dt=2e-3)
    np.testing.assert_allclose(rs.log_likelihood(net, data, dt=2e-3), wanted, rtol=1e-7)


@pytest.mark.parametrize("jumps", [False, True])
def test_potentials_solve_the_equation_of_the_membrane(neuron, jumps):
    """Explicit Euler with steps of 0.1 ms; three neurons, weights (pre, post)."""
    rng, mu, dt = np.random.default_rng(0), np.array([8.0, 30.0]), 1e-4
    weights, current = rng.normal(0, 1, (3, 3)), np.array([0.2, 0.8, 1.1])
    times = np.sort(rng.uniform(0, 0.5, (3, 4)), axis=1)
    net = rs.PointProcessNetwork.from_slif(neuron, weights, current, 1, jumps=jumps)
    v, i, found = current.copy(), np.zeros(3), []
    for step in range(5000):
        v, i = v + dt * mu[0] * (i + current - v), i * (1 - dt * mu[1])
        new = ((times > step * dt) & (times <= (step + 1) * dt)).sum(1)
        kick = new @ weights
        v, i = (v + kick, i) if jumps else (v, i + kick)
        v = v - 0.7 * new
        found.append(v)
    at = np.arange(99, 5000, 100)
    events = events_of(rs.SpikeTrain(times, 0.0, 0.5), jnp.float64)
    u = net.potentials(net.basis.features(jnp.asarray(dt * (at + 1) + 1e-9), *events, Span(0.0, 0.5)))
    np.testing.assert_allclose(u, 3.0 * (np.array(found)[at] - 1.0), atol=0.02)


@pytest.mark.parametrize(
    "neuron, message",
    [
        (rs.SLIF(sigma=((0.1, 0.0), (0.0, 0.0))), "has diffusion"),
        (rs.SLIF(alpha=0.1, mu=(8.0, 30.0)), "is refractory"),
        (rs.SLIF(mu=(8.0, 30.0), reset=rs.ResetToValue()), "reset is not linear"),
        (rs.SLIF(mu=(8.0, 8.0), alpha=0.0), "pass jumps=True"),
    ],
)
def test_what_is_refused(neuron, message):
    with pytest.raises(ValueError, match=message):
        rs.PointProcessNetwork.from_slif(neuron, np.zeros((2, 2)), 1.0, 1)


def test_shapes(neuron):
    with pytest.raises(ValueError, match=r"square \(pre, post\)"):
        rs.PointProcessNetwork.from_slif(neuron, np.zeros((2, 3)), 1.0, 1)
