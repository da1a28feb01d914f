"""The program of the README's contract: names and shapes that programs outside of this repository rely on."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs

pytestmark = pytest.mark.plain


@pytest.fixture(scope="module")
def cell():
    escape = rs.ExponentialEscape(beta=5.0, v_th=1.0, tau_s=1.0)
    neuron = rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4, alpha=0.03, escape=escape)
    return rs.Population(neuron, current=1.5)


@pytest.fixture(scope="module")
def trials():
    """Recorded trials of a neuron without diffusion, and that neuron."""
    neuron = rs.SLIF(mu=(15.0, 0.0), v_reset=1.4, escape=rs.ExponentialEscape(beta=5.0, v_th=1.0, tau_s=1.0))
    truth = rs.Population(neuron, current=1.5)
    spikes = rs.simulate(truth, t1=2.0, dt=0.01, key=jr.key(7), num_samples=50).spikes
    return truth, rs.SpikeTrain(np.asarray(spikes.times, np.float64), 0.0, 2.0)


def test_simulate(cell):
    sol = rs.simulate(cell, t1=5.0, dt=0.01, key=jr.key(0), num_samples=128)
    times = np.asarray(sol.spikes.times)
    assert times.shape[:2] == (128, 1) and sol.spikes.counts.shape == (128, 1)
    finite = np.isfinite(times)
    np.testing.assert_array_equal(finite.sum(-1), sol.spikes.counts)
    assert np.all(np.diff(np.where(finite, times, 1e9), axis=-1) >= 0) and np.all(times[~finite] == np.inf)
    assert bool(sol.result.ok) and sol.result.messages() == []


def test_gradient_of_the_mean_first_time(cell):
    def mean_first_time(current):
        population = rs.Population(cell.neuron, current=current)
        return rs.simulate(population, t1=5.0, dt=0.01, key=jr.key(0), num_samples=128).spikes.times[:, 0, 0].mean()

    gradient = jax.jit(jax.grad(mean_first_time))(1.5)
    difference = (mean_first_time(1.502) - mean_first_time(1.498)) / 0.004
    assert float(gradient) == pytest.approx(float(difference), rel=5e-3)


def test_single_sample_under_jit_vmap_and_grad(cell):
    sol = rs.simulate(cell, t1=1.0, dt=0.01, key=jr.key(0))
    assert sol.spikes.times.shape[:1] == (1,) and sol.spikes.counts.shape == (1,) and sol.result.flags.shape == ()

    def first(c, key):
        times = rs.simulate(rs.Population(cell.neuron, c), t1=1.0, dt=0.01, key=key).spikes.times
        return times[0, 0], times

    run = jax.jit(jax.vmap(jax.grad(first, has_aux=True), in_axes=(None, 0)))
    gradients, times = run(1.5, jr.split(jr.key(1), 3))
    assert times.shape[:2] == (3, 1) and gradients.shape == (3,) and np.all(gradients < 0)


def test_currents_by_neuron_and_in_time(cell):
    per_neuron = rs.Population(cell.neuron, current=jnp.array([1.2, 1.5, 2.0]))
    sol = rs.simulate(per_neuron, t1=2.0, dt=0.01, key=jr.key(0), num_samples=64)
    assert sol.spikes.times.shape[:2] == (64, 3)
    assert np.all(np.diff(np.asarray(sol.spikes.counts).mean(0)) > 0)
    ramp = rs.Population(cell.neuron, current=rs.PiecewiseLinear([0.0, 2.0], [0.0, 3.0]))
    times = np.asarray(rs.simulate(ramp, t1=2.0, dt=0.01, key=jr.key(0), num_samples=64).spikes.times)
    assert np.sum(times < 1.0) < np.sum(np.isfinite(times)) / 4


def test_read_fit_save_load_report(tmp_path, trials):
    truth, spikes = trials
    rs.write_spikes(tmp_path / "trials.csv", spikes)
    data = rs.read_spikes(tmp_path / "trials.csv", window=(0.0, 2.0), num_trials=50)
    start = rs.Population(truth.neuron, current=1.2)
    fit = rs.fit(
        start,
        data,
        loss=rs.NegativeLogLikelihood(),
        trainable=lambda m: m.current,
        optimiser=None,
        steps=60,
        dt=0.01,
        key=jr.key(1),
        progress=False,
    )
    # 50 trials of about 8 spikes; the standard error of c is about 0.01
    assert float(fit.model.current) == pytest.approx(1.5, abs=0.05)
    assert fit.history["loss"][-1] < fit.history["loss"][0]
    fit.save(tmp_path / "runs" / "mine")
    again = rs.load(tmp_path / "runs" / "mine")
    assert float(again.model.current) == float(fit.model.current)
    again.report(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().count("<svg") >= 4
    assert rs.log_likelihood(fit.model, data, dt=0.01) > rs.log_likelihood(start, data, dt=0.01)


def test_spike_train_pads_with_infinity():
    batch = rs.SpikeTrain([[[0.1, 0.4, np.inf]], [[np.inf, np.inf, np.inf]]], t0=0.0, t1=1.0)
    assert batch.times.shape == (2, 1, 3) and batch.counts.tolist() == [[2], [0]]
    assert batch[0].times.shape == (1, 3)
