"""The exact likelihood against brute force, and its properties."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import spike_oracle
from jax.flatten_util import ravel_pytree

import roughspike as rs
from roughspike.likelihood.exact import exact_terms
from roughspike.likelihood.segments import lay_out

T1 = 2.0
# 3 trials of 2 neurons: spikes at both ends of the window and at grid points; a silent row, a silent trial
DATA = [
    [[0.0, 0.31, 0.5, 1.234, 2.0], [0.4, 0.95, 1.0, 1.7]],
    [[], [0.25, 0.75, 1.999]],
    [[], []],
]


def data():
    times = np.full((3, 2, 6), np.inf)
    for k, trial in enumerate(DATA):
        for j, row in enumerate(trial):
            times[k, j, : len(row)] = row
    return rs.SpikeTrain(times, 0.0, T1)


KNOTS, VALUES = [0.0, 0.7, 1.3, 2.0], [0.6, 1.1, 0.5, 0.9]
CASES = {
    "plain": lambda: (rs.SLIF(mu=(15.0, 0.0), v_reset=1.4), [1.2, 0.8], 0.0),
    "adapting": lambda: (rs.SLIF(mu=(8.0, 3.0), v_reset=0.9, self_weight=-0.4), [1.0, 0.9], 0.3),
    "refractory, equal rates, to value": lambda: (
        rs.SLIF(mu=(9.0, 9.0), v_reset=0.2, reset=rs.ResetToValue(), refractory=0.021, self_weight=0.5),
        [0.7, 1.1],
        0.0,
    ),
    "alpha": lambda: (
        rs.SLIF(
            mu=(12.0, 2.0),
            v_reset=0.3,
            alpha=0.01,
            escape=rs.SoftplusEscape(beta=3.0, tau_s=0.5),
            refractory=0.0131,
            self_weight=-0.1,
        ),
        [1.1, 1.0],
        0.1,
    ),
    "sigmoid": lambda: (
        rs.SLIF(mu=(4.0, 0.5), v_reset=1.0, escape=rs.SigmoidEscape(beta=4.0, tau_s=0.1)),
        [0.8, 1.0],
        0.2,
    ),
}


def make(name):
    neuron, current, i0 = CASES[name]()
    if name == "alpha":  # a spike at the onset is impossible then: its hazard is 0
        return rs.Population(neuron, current, v0=0.1, i0=i0), rs.SpikeTrain(
            np.where(data().times == 0.0, 0.2, np.asarray(data().times)), 0.0, T1
        )
    return rs.Population(neuron, current, v0=0.1, i0=i0), data()


def _expected(cell, train, current):
    rows = [(row, j) for trial in train.to_lists() for j, row in enumerate(trial)]
    return sum(spike_oracle.log_likelihood(cell, row, 0.0, T1, current(j), j) for row, j in rows)


@pytest.mark.parametrize("name", CASES)
def test_equals_brute_force(name):
    cell, train = make(name)
    expected = _expected(cell, train, lambda j: lambda t: float(cell.current[j]))
    assert np.isfinite(expected)
    found = {dt: float(rs.log_likelihood(cell, train, dt=dt)) for dt in (0.05, 0.0125)}
    np.testing.assert_allclose(found[0.05], expected, rtol=2e-4)
    np.testing.assert_allclose(found[0.0125], expected, rtol=1e-7)


def test_equals_brute_force_with_a_current_that_changes():
    neuron = rs.SLIF(mu=(8.0, 3.0), v_reset=0.9, refractory=0.02, self_weight=-0.4)
    current = rs.PiecewiseLinear(KNOTS, VALUES) + rs.ExponentialDrift(0.4, 1.5) + rs.Constant([0.1, 0.3])
    cell = rs.Population(neuron, current)
    drive = lambda j: lambda t: np.interp(t, KNOTS, VALUES) + 0.4 * np.exp(-t / 1.5) + (0.1, 0.3)[j]  # noqa: E731
    expected = _expected(cell, data(), drive)
    errors = [abs(float(rs.log_likelihood(cell, data(), dt=dt)) - expected) for dt in (0.02, 0.005)]
    assert errors[1] < 1e-3 * abs(expected) / 10
    assert errors[1] < errors[0] / 8  # second order in the grid of the current


def test_one_trial_without_its_axis():
    cell, train = make("adapting")
    total = sum(rs.log_likelihood(cell, train[k], dt=0.02) for k in range(3))
    np.testing.assert_allclose(rs.log_likelihood(cell, train, dt=0.02), total, rtol=1e-12)


def test_an_impossible_spike():
    cell = rs.Population(rs.SLIF(alpha=0.05), current=1.5)
    train = rs.SpikeTrain(np.array([[0.01, 0.9]]))
    assert float(rs.log_likelihood(cell, train)) == -np.inf
    later = rs.log_likelihood(cell, train, windows=rs.Windows([0.5], [1.0]))
    assert np.isfinite(later)


@pytest.mark.parametrize("name", ["adapting", "alpha", "refractory, equal rates, to value"])
def test_windows_add_up(name):
    cell, train = make(name)
    edges = [0.0, 0.31, 0.7, 1.000003, 1.5, T1]  # one of them at a spike
    windows = rs.Windows(edges[:-1], edges[1:])
    total = rs.log_likelihood(cell, train, dt=0.01)
    np.testing.assert_allclose(rs.log_likelihood(cell, train, windows=windows, dt=0.01), total, rtol=1e-8)
    parts = [rs.log_likelihood(cell, train, windows=windows.select([k]), dt=0.01) for k in range(5)]
    np.testing.assert_allclose(sum(parts), total, rtol=1e-8)


@pytest.mark.parametrize("name", ["alpha", "refractory, equal rates, to value"])
def test_gradient_against_differences(name):
    cell, train = make(name)
    flat, back = ravel_pytree(cell)
    segments = lay_out(train, 0.02)
    prepared = np.zeros((1, 1, segments.starts.shape[-1]))

    @jax.jit
    def value(x):
        cell = back(x)
        terms = exact_terms(cell, segments, prepared)
        return jnp.sum(terms.log_intensity - terms.compensator)

    gradient = np.asarray(jax.jit(jax.grad(value))(flat))
    kept = np.flatnonzero(np.asarray(flat) != 0)  # all but the absent sigma
    for k in kept:
        eps = 1e-6
        move = jnp.zeros_like(flat).at[k].set(eps)
        difference = (value(flat + move) - value(flat - move)) / (2 * eps)
        np.testing.assert_allclose(gradient[k], difference, rtol=1e-6, atol=1e-6)
    assert len(kept) >= 11
    # the same through the public function
    public = ravel_pytree(jax.grad(lambda c: rs.log_likelihood(c, train, dt=0.02))(cell))[0]
    np.testing.assert_allclose(public, gradient, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def recovered():
    """1000 simulated trials of an adapting refractory neuron, and the cell that made them."""
    with jax.enable_x64(True):
        neuron = rs.SLIF(mu=(10.0, 4.0), v_reset=0.8, refractory=0.02, self_weight=-0.3)
        cell = rs.Population(neuron, 1.3, v0=0.1, i0=0.2)
        sol = rs.simulate(cell, t1=1.5, dt=0.01, key=jr.key(8), num_samples=1000, throw=True)
        return cell, rs.SpikeTrain(np.asarray(sol.spikes.times), 0.0, 1.5)


def test_the_expected_score_is_zero(recovered):
    """The density integrates to 1: E d log p = 0 for data from the model. 1000 trials, within 4 standard errors."""
    cell, train = recovered
    segments = lay_out(train, 0.02)
    current = np.zeros(segments.starts.shape)
    flat, back = ravel_pytree(cell)
    names = np.flatnonzero(np.asarray(flat) != 0)

    def per_trial(x):
        terms = exact_terms(back(x), segments, current)
        return jnp.sum(terms.log_intensity - terms.compensator, axis=(1, 2))

    basis = jnp.eye(flat.size)[names]
    score = np.asarray(jax.jit(lambda x: jax.vmap(lambda d: jax.jvp(per_trial, (x,), (d,))[1])(basis))(flat))
    assert np.isfinite(score).all()
    standard = score.std(axis=1) / np.sqrt(score.shape[1])
    # the support depends on the refractory time (and on everything if alpha > 0), so its score has another mean
    smooth = [k for k, p in enumerate(names) if float(flat[p]) != 0.02]
    assert len(smooth) >= 10
    assert (np.abs(score.mean(axis=1)) < 4 * standard)[smooth].all(), score.mean(axis=1) / standard


def test_the_true_parameters_beat_others(recovered):
    cell, train = recovered
    truth = float(rs.log_likelihood(cell, train, dt=0.02))
    for where, factor in [
        (lambda c: c.current, 0.97),
        (lambda c: c.current, 1.03),
        (lambda c: c.neuron.escape.beta, 0.9),
        (lambda c: c.neuron.escape.beta, 1.1),
        (lambda c: c.neuron.v_reset, 0.8),
        (lambda c: c.neuron.v_reset, 1.2),
        (lambda c: c.neuron.self_weight, 0.5),
        (lambda c: c.neuron.mu, 0.8),
    ]:
        other = eqx.tree_at(where, cell, factor * where(cell))
        assert float(rs.log_likelihood(other, train, dt=0.02)) < truth - 2.0


@pytest.mark.plain
def test_float32_agrees():
    with jax.enable_x64(True):
        cell, train = make("adapting")
        exact = float(rs.log_likelihood(cell, train, dt=0.01))
    cell, train = make("adapting")
    found = rs.log_likelihood(cell, train, dt=0.01)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, rtol=2e-5)
