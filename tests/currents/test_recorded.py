"""RecordedInput: traces against quadrature, likelihood against the response of the membrane, weights found again."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs
from roughspike.currents.recorded import RecordedInput

MU, TAU = (20.0, 10.0), 0.1


def trains(trials: int, pre: int, seed: int = 0) -> rs.SpikeTrain:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 1, (trials, pre, 5)), axis=-1)
    return rs.SpikeTrain(np.where(np.arange(5) < rng.integers(1, 6, (trials, pre, 1)), times, np.inf))


def test_means_of_the_traces_by_quadrature():
    spikes, weights = trains(2, 3), np.array([[1.0, -0.5], [0.3, 0.0], [2.0, 0.7]])
    starts = np.array([0.0, 0.13, 0.2, 0.2, 0.55])
    lengths = np.array([0.13, 0.07, 0.0, 0.35, 0.45])
    current = RecordedInput(spikes, weights, TAU)
    pieces = [np.broadcast_to(x, (2, 1, 5)) for x in (starts, lengths)]
    found = current.means(current.prepare(*pieces))
    t = (np.arange(20_000) + 0.5) / 20_000
    for trial in range(2):
        lag = t - spikes.times[trial][..., None]
        traces = np.sum(np.where(lag > 0, np.exp(-np.maximum(lag, 0) / TAU), 0.0), axis=1)  # (pre, t)
        for k, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            if length:
                inside = (t > start) & (t < start + length)
                expected = weights.T @ traces[:, inside].mean(axis=1)
                np.testing.assert_allclose(found[trial, :, k], expected, atol=1e-3)
    own = [np.broadcast_to(x, (2, 2, 5)) for x in (starts, lengths)]
    np.testing.assert_allclose(current.means(current.prepare(*own)), found, rtol=1e-12)


def test_the_likelihood_is_that_of_the_synaptic_response():
    """Against a Riemann sum of lambda with v = sum w kappa(t - tau): the step's error is of second order."""
    pre, w = trains(1, 2), np.array([[1.2], [0.7]])
    neuron = rs.SLIF(mu=MU, v_reset=0.8)
    cell, post = rs.Population(neuron, RecordedInput(pre, w, TAU)), rs.SpikeTrain(np.array([[[0.4, 0.71]]]))
    t = (np.arange(20_000) + 0.5) / 20_000
    response = lambda lag: np.where(  # noqa: E731
        lag > 0, 2.0 * (np.exp(-10 * np.maximum(lag, 0)) - np.exp(-20 * np.maximum(lag, 0))), 0.0
    )

    def potential(t):
        lags = t - pre.times[0][..., None]
        v = np.sum(w * response(lags).sum(axis=1), axis=0)
        for spike in (0.4, 0.71):
            v = v - 0.8 * np.where(t > spike, np.exp(-20 * np.maximum(t - spike, 0)), 0.0)
        return v

    log_rate = lambda t: 5.0 * (potential(t) - 1.0)  # noqa: E731
    expected = log_rate(np.array([0.4, 0.71])).sum() - np.exp(log_rate(t)).mean()
    errors = [abs(float(rs.log_likelihood(cell, post, dt=dt)) - expected) for dt in (0.02, 0.005)]
    assert errors[1] < 2e-3 and errors[1] < errors[0] / 6


@pytest.mark.plain
def test_weights_of_a_layer_are_found():
    """300 trials of 3 inputs and 2 neurons; a fit from 0 ends within four standard errors, about 0.2."""
    truth = jnp.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.4]])
    neuron = rs.SLIF(mu=MU, v_reset=1.0, escape=rs.ExponentialEscape(tau_s=0.05))
    inputs = rs.poisson_spikes(jr.key(0), 5.0 * jnp.ones(3), t1=1.0, batch=300)
    net = rs.FeedForward([3, 2], neuron, weights=[truth])
    sol = rs.simulate(net, inputs=inputs, t1=1.0, dt=0.005, key=jr.key(1), max_spikes=32)
    assert bool(jnp.all(sol.result.ok))
    start = rs.Population(neuron, RecordedInput(inputs, jnp.zeros((3, 2)), TAU))
    data = rs.SpikeTrain(np.asarray(sol.spikes.times, float))
    fit = rs.fit(start, data, loss=rs.NegativeLogLikelihood(), steps=60, learning_rate=0.1, dt=0.02, key=jr.key(2),
                 trainable=lambda m: m.current.weights, chunk=60, progress=False)  # fmt: skip
    off = np.abs(np.asarray(fit.model.current.weights) - np.asarray(truth))
    print("weights off by", off.round(3))
    assert off.max() < 0.2


def test_bad_input():
    spikes = trains(2, 3)
    with pytest.raises(ValueError, match=r"shape \(pre, post\) with one row for each of the 3 neurons.*got \(2, 1\)"):
        RecordedInput(spikes, np.ones((2, 1)), TAU)
    with pytest.raises(ValueError, match="tau must be a time constant above 0, got 0.0"):
        RecordedInput(spikes, np.ones((3, 1)), 0.0)
    with pytest.raises(ValueError, match="concrete: make the current outside of jit"):
        jax.jit(lambda t: RecordedInput(rs.SpikeTrain(t), np.ones((3, 1)), TAU).weights)(jnp.asarray(spikes.times))
    cell = rs.Population(rs.SLIF(mu=MU), RecordedInput(spikes, np.ones((3, 1)), TAU))
    with pytest.raises(ValueError, match="holds 2 trials.*held-out trials a current of their own"):
        rs.log_likelihood(cell, rs.SpikeTrain(np.full((3, 1, 1), 0.5)), dt=0.05)
