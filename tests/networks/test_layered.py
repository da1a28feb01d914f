"""The layered engine: against an event-driven oracle, the noise of a population, shapes and complaints."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from lane_tools import fig1
from scipy.optimize import brentq

import roughspike as rs
from roughspike.networks.lanes import LaneStart, draw_noise, run_lanes
from roughspike.networks.layered import run_layers
from roughspike.networks.options import Options
from roughspike.networks.step import settings

TAU_MEM, TAU_SYN, T1 = 20e-3, 5e-3, 45e-3


def response(t):
    """v at t after a unit of current at 0."""
    a, b = 1 / TAU_MEM, 1 / TAU_SYN
    return a * (np.exp(-b * t) - np.exp(-a * t)) / (a - b)


def spikes_of(arrivals, weights, v_th=1.0):
    """Spike times of one neuron, exact between events: brackets on a fine grid, then Brent's method."""
    mine = []

    def v(t):
        seen = arrivals < t
        before = np.array([s for s in mine if s < t])
        return np.sum(weights[seen] * response(t - arrivals[seen])) - v_th * np.sum(np.exp(-(t - before) / TAU_MEM))

    marks = np.unique(np.concatenate([arrivals[arrivals < T1], np.linspace(0.0, T1, 1001)]))
    for left, right in zip(marks[:-1], marks[1:], strict=True):
        if v(right) >= v_th:
            mine.append(brentq(lambda t: v(t) - v_th, left, right, xtol=1e-14) if v(left + 1e-15) < v_th else left)
    return mine


@pytest.fixture(scope="module")
def two_layers():
    """A network of two layers, and its spike times by the oracle for four inputs."""
    with jax.enable_x64(True):
        w1, w2 = 4.0 + 2.0 * jr.normal(jr.key(1), (4, 6)), 0.8 + 0.6 * jr.normal(jr.key(2), (6, 2))
        net = rs.FeedForward([4, 6, 2], neuron=rs.LIF(TAU_MEM, TAU_SYN), weights=[w1, w2])
        times = 0.2e-3 + 30e-3 * jr.uniform(jr.key(0), (4, 4, 1))
        oracle = []
        for x in np.asarray(times[..., 0]):
            first = [spikes_of(x, np.asarray(w1[:, k])) for k in range(6)]
            arrivals = np.concatenate([np.asarray(s) for s in first])
            order, who = np.argsort(arrivals), np.repeat(np.arange(6), [len(s) for s in first])
            second = [spikes_of(arrivals[order], np.asarray(w2)[who[order], k]) for k in range(2)]
            oracle.append((first, second))
        yield net, times, oracle


def test_spike_times_converge_to_those_of_the_event_driven_oracle(two_layers):
    net, times, oracle = two_layers
    mean, worst = [], []
    for dt in (0.4e-3, 0.1e-3):
        sol = rs.simulate(net, inputs=rs.SpikeTrain(times, 0.0, T1), t1=T1, dt=dt, max_spikes=8)
        assert bool(sol.result.ok) and sol.engine == "layered"
        errors = []
        for k, train in enumerate(sol.layers):
            for found, wanted in zip(train.to_lists(), oracle, strict=True):
                assert [len(row) for row in found] == [len(row) for row in wanted[k]]
                errors += list(np.abs(np.concatenate(found) - np.concatenate(wanted[k])))
        assert len(errors) > 40 and np.median(errors) < 1e-12  # exact where nothing arrives in the same step
        mean.append(np.mean(errors))
        worst.append(np.max(errors))
    assert mean[0] < 5e-6 and worst[0] < 1e-4  # against a step of 4e-4
    assert mean[0] > 4.0 * mean[1]


def test_without_spikes_from_below_a_layer_is_a_population():
    neuron, steps, shape = fig1(), 60, (3, 2)
    noise = draw_noise(jr.key(4), neuron, rs.LinearDriver(), steps, *shape, 16, jnp.float64)
    net = rs.FeedForward([1, 3], neuron=neuron, weights=[jnp.zeros((1, 3))], current=1.5)
    options = Options(0.0, 1.2, steps, 2, rs.LinearDriver(), forward_mode=True, capacity=16, per_step=(2,))
    ours = run_layers(net, (None,), None, [noise], options)[0].scanned
    static = settings(1.2 / steps, rs.LinearDriver(), 1.0, 2, jnp.float64)
    zeros = jnp.zeros(shape)
    start = LaneStart(zeros, zeros, None, neuron.alpha)
    lanes = run_lanes(neuron, static, jnp.full((2, 3, 1), 1.5), start, noise, False, True)
    assert int(lanes.counts[-1].sum()) > 10
    np.testing.assert_allclose(jnp.stack(ours.fractions, 1), lanes.fractions, atol=1e-12)


def test_samples_and_batch_are_leading_axes_and_samples_differ():
    neuron = rs.SLIF(mu=(50.0, 200.0), escape=rs.ExponentialEscape(8.0, 1.0, 1e-3))
    net = rs.FeedForward([2, 5, 3], neuron=neuron, key=jr.key(0), readout=rs.Readout())
    inputs = rs.poisson_spikes(jr.key(1), 200.0 * jnp.ones(2), t1=20e-3, batch=4)
    sol = rs.simulate(net, inputs=inputs, t1=20e-3, dt=1e-3, key=jr.key(2), num_samples=3, max_spikes=16)
    assert sol.layers[0].times.shape == (3, 4, 5, 16) and sol.membrane.shape == (3, 4, 3, 21)
    assert sol.result.flags.shape == (3, 4) and sol.spikes.horizon.threshold.shape == (3, 4, 5)
    assert not np.allclose(sol.membrane[0], sol.membrane[1])


def test_fresh_weights_leave_few_neurons_silent():
    features, _ = rs.yin_yang(100, seed=0)
    net = rs.FeedForward([5, 120, 3], neuron=rs.LIF(TAU_MEM, TAU_SYN), key=jr.key(0), readout=rs.Readout())
    sol = rs.simulate(net, inputs=rs.latency_code(features, 48e-3, 30e-3), t1=48e-3, dt=1e-3, max_spikes=32)
    counts = sol.layers[0].counts
    assert float(jnp.mean(jnp.all(counts == 0, axis=0))) < 0.1 and 0.5 < float(counts.mean()) < 4.0


def complaints():
    lif, one = rs.LIF(), jr.key(0)
    net = rs.FeedForward([2, 3], neuron=lif, key=one)
    train = rs.SpikeTrain(jnp.array([[0.5], [0.7]]), 0.0, 1.0)
    noisy = rs.FeedForward([2, 3], neuron=rs.SLIF(), key=one)
    run = {"t1": 0.1, "dt": 1e-3}
    yield "sizes must name", lambda: rs.FeedForward([2], neuron=lif, key=one)
    yield "key is missing: pass key=", lambda: rs.FeedForward([2, 3], neuron=lif)
    yield "weights of layer 0 must be", lambda: rs.FeedForward([2, 3], neuron=lif, weights=[jnp.ones((3, 2))])
    yield "neuron must have one entry", lambda: rs.FeedForward([2, 3], neuron=[lif, lif], key=one)
    yield "only the last layer can be", lambda: rs.FeedForward([2, 3, 1], neuron=[rs.Readout(), lif], key=one)
    yield "delays must not be negative", lambda: rs.FeedForward([2, 3], neuron=lif, key=one, delays=-1.0)
    yield "delays must be a scalar or", lambda: rs.FeedForward([2, 3], neuron=lif, key=one, delays=jnp.ones(3))
    yield "current must be a scalar or", lambda: rs.FeedForward([2, 3], neuron=lif, key=one, current=jnp.ones(2))
    yield "inputs has 2 channels", lambda: rs.simulate(rs.FeedForward([4, 3], neuron=lif, key=one), inputs=train, **run)
    yield "inputs has spikes before t0", lambda: rs.simulate(net, inputs=train, t0=0.6, t1=1.0, dt=1e-3)
    yield "key is missing: a layer with", lambda: rs.simulate(noisy, inputs=train, t1=0.1, dt=1e-2)
    yield "too coarse for the fastest rate", lambda: rs.simulate(net, inputs=train, t1=0.1, dt=2e-2)
    yield "hard threshold, for which a population", lambda: rs.Population(lif)
    yield (
        "a hard threshold does not go with alpha",
        lambda: rs.FeedForward([2, 3], neuron=rs.SLIF(alpha=0.1, escape=rs.HardThreshold()), key=one),
    )
    yield "tau_mem must be greater than 0", lambda: rs.LIF(tau_mem=0.0)
    yield "tau_syn must be greater than 0", lambda: rs.Readout(tau_syn=-1.0)
    yield "rates must not be negative", lambda: rs.poisson_spikes(one, -1.0, 1.0)


def test_complaints_name_the_argument_and_the_remedy():
    for message, call in complaints():
        with pytest.raises(ValueError, match=message):
            call()


def test_poisson_inputs_have_the_law_of_poisson():
    spikes = rs.poisson_spikes(jr.key(3), jnp.array([0.0, 20.0, 80.0]), t1=0.5, batch=2000)
    counts = np.asarray(spikes.counts)
    np.testing.assert_array_equal(counts[:, 0], 0)
    for k, mean in ((1, 10.0), (2, 40.0)):  # 2000 trains: four standard errors of mean and variance
        assert abs(counts[:, k].mean() - mean) < 4 * np.sqrt(mean / 2000)
        assert abs(counts[:, k].var() - mean) < 4 * mean * np.sqrt(2.0 / 2000) * 1.1
