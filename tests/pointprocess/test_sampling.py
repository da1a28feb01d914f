"""Samples and likelihood of point-process networks: laws, closed forms, and what is refused."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats
from scipy.special import expi

import roughspike as rs
from roughspike.likelihood.score import time_rescaling
from roughspike.pointprocess.basis import Span
from roughspike.pointprocess.events import events_of
from roughspike.pointprocess.likelihood import default_step, log_likelihood_of, rescaled_intervals

LEVEL = 1e-3  # of every test of a law, for fixed keys


@pytest.fixture(scope="module")
def net():
    """The paper's network (2 + 4 neurons, a = 5) with weights that do not saturate its intensities."""
    basis, link = rs.EpanechnikovBasis(centres=(0.0, 10.0)), rs.SigmoidIntensity(5.0)
    with jax.enable_x64(True):
        drawn = rs.PointProcessNetwork(2, 4, basis=basis, link=link, key=jr.key(0))
        return scaled(drawn, 0.2)


@pytest.fixture(scope="module")
def thinned(net):
    with jax.enable_x64(True):
        return rs.sample(net, t1=50.0, key=jr.key(1), num_samples=20)


def scaled(net, factor):
    """The same network with other weights."""
    return eqx.tree_at(lambda n: n.weights, net, factor * net.weights)


def test_thinning_passes_time_rescaling(net, thinned):
    """20 samples, 600 to 5000 spikes a neuron: Kolmogorov-Smirnov of each neuron, level 1e-3 / 6."""
    for k, intervals in enumerate(rescaled_intervals(net, thinned)):
        p = stats.kstest(intervals, "expon").pvalue
        print(f"neuron {k}: {len(intervals)} intervals, p = {p:.3f}")
        assert len(intervals) > 300 and p > LEVEL / 6
    z = time_rescaling(net, thinned)
    assert len(z) == int(thinned.counts.sum()) and stats.kstest(z, "uniform").pvalue > LEVEL


def test_time_rescaling_sees_a_wrong_model(net, thinned):
    other = scaled(net, 2.5)
    assert min(stats.kstest(r, "expon").pvalue for r in rescaled_intervals(other, thinned)) < 1e-9


def test_counts_of_independent_neurons_are_poisson(net):
    """No weights: 20 samples of 6 neurons; each mean and the dispersion of all, level 1e-3."""
    counts = np.asarray(rs.sample(scaled(net, 0.0), t1=50.0, key=jr.key(2), num_samples=20).counts)
    mean = 50 * np.asarray(net.link.rate(net.bias))
    z = (counts.mean(0) - mean) / np.sqrt(mean / 20)
    dispersion = ((counts - mean) ** 2 / mean).sum()
    assert np.all(np.abs(z) < stats.norm.ppf(1 - LEVEL / 12)), z
    assert LEVEL / 2 < stats.chi2.cdf(dispersion, 120) < 1 - LEVEL / 2, dispersion


def test_time_rescaling_samples_have_the_right_law_given_observed_spikes():
    """No bound, one observed neuron with a burst: hidden neurons in 20 samples of T = 20, KS each, level 1e-3 / 2."""
    weights = np.random.default_rng(0).uniform(-1.0, 1.0, (2, 3, 3))
    net = rs.PointProcessNetwork(
        1,
        2,
        basis=rs.EpanechnikovBasis(centres=(0.0, 2.0)),
        link=rs.SoftplusIntensity(3.0),
        weights=weights - 2 * np.eye(3),
        bias=np.array([0.0, 0.5, 0.2]),
    )
    observed = rs.SpikeTrain(np.sort(np.random.default_rng(1).uniform(5.0, 15.0, (1, 40))), 0.0, 20.0)
    hidden = rs.sample(net, t1=20.0, key=jr.key(0), num_samples=20, dt=0.1, observed=observed)
    assert hidden.batch_shape == (20,) and hidden.num_neurons == 2
    capacity = max(40, hidden.capacity)
    pad = lambda x: np.pad(x, [(0, 0)] * 2 + [(0, capacity - x.shape[-1])], constant_values=np.inf)  # noqa: E731
    both = [pad(np.broadcast_to(observed.times, (20, 1, 40))), pad(np.asarray(hidden.times))]
    for intervals in rescaled_intervals(net, rs.SpikeTrain(np.concatenate(both, 1), 0.0, 20.0))[1:]:
        p = stats.kstest(intervals, "expon").pvalue
        print(len(intervals), p)
        assert len(intervals) > 250 and p > LEVEL / 2


def test_likelihood_in_closed_form():
    """Log-intensity b + w e^{-(t - s)} of two neurons after a spike of the first at s: exponential integrals."""
    w, b, s, t1 = np.array([1.3, -0.7]), np.array([-0.4, 0.3]), 0.8, 4.0
    net = rs.PointProcessNetwork(
        2,
        basis=rs.ExponentialBasis(tau=(1.0,)),
        link=rs.ExponentialIntensity(),
        weights=np.stack([w, np.zeros(2)], 1)[None],
        bias=b,
    )
    events = events_of(rs.SpikeTrain(np.array([[s + 1.0], [np.inf]]), 1.0, t1 + 1.0), jnp.float64)
    wanted = np.array([b[0], 0.0]) - np.exp(b) * (s + expi(w) - expi(w * np.exp(-(t1 - s))))
    steps = np.array([0.4, 0.2])
    found = jax.jit(lambda: [log_likelihood_of(net, events, Span(1.0, t1 + 1.0), dt) for dt in steps])()
    errors = np.abs(np.array(found) - wanted)
    orders = np.log2(errors[0] / errors[1])
    print("errors", errors, "orders", orders)
    assert errors[-1].max() < 1e-5 and np.all((orders > 3.7) & (orders < 4.3))  # two Gauss points: order 4
    whole = rs.log_likelihood(net, rs.SpikeTrain(np.array([[s], [np.inf]]), 0.0, t1), dt=0.2)
    np.testing.assert_allclose(whole, wanted.sum(), atol=1e-5)


def test_compensator_is_accurate(net):
    """T = 10, weights as strong as the paper's: each of 10 trials within 0.02 nats of a quadrature 8 times finer."""
    strong, span = scaled(net, 5.0), Span(0.0, 10.0)
    events = events_of(rs.sample(net, t1=10.0, key=jr.key(3), num_samples=10), jnp.float64)
    default = default_step(net.basis)

    def value(dt):
        return jax.jit(jax.vmap(lambda one: jnp.sum(log_likelihood_of(strong, one, span, dt))))(events)

    error = np.abs(value(default) - value(default / 8))
    print("errors", error)
    assert 0 < error.max() < 0.02


def test_gradient_of_the_likelihood_and_float32(net, thinned):
    """Against central differences along random directions; the value in float32."""
    data = rs.SpikeTrain(np.asarray(thinned.times)[:2, :, :40], 0.0, 50.0)
    value = jax.jit(jax.value_and_grad(lambda net: rs.log_likelihood(net, data)))
    exact, slope = value(net)
    rng, h = np.random.default_rng(0), 1e-5
    for _ in range(2):
        step = jax.tree.map(lambda x: h * jnp.asarray(rng.standard_normal(x.shape)), net)
        ends = [value(jax.tree.map(lambda x, d, s=s: x + s * d, net, step))[0] for s in (1.0, -1.0)]
        along = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(step), strict=True))
        np.testing.assert_allclose(0.5 * (ends[0] - ends[1]), along, rtol=1e-7)
    small = jax.tree.map(lambda x: x.astype(jnp.float32), net)
    np.testing.assert_allclose(rs.log_likelihood(small, data), exact, atol=0.01)


def test_what_is_refused(net, thinned):
    unbounded = rs.PointProcessNetwork(1, basis=net.basis, link=rs.SoftplusIntensity(), key=jr.key(0))
    with pytest.raises(ValueError, match="upper bound.*pass dt=.*time rescaling"):
        rs.sample(unbounded, t1=1.0, key=jr.key(0))
    with pytest.raises(ValueError, match="upper bound"):
        rs.sample_relaxed(unbounded, t1=1.0, key=jr.key(0), temperature=0.3)
    with pytest.raises(ValueError, match="t1 must lie after t0"):
        rs.sample(net, t1=-1.0, key=jr.key(0))
    with pytest.raises(ValueError, match="temperature must be greater than 0"):
        rs.sample_relaxed(net, t1=1.0, key=jr.key(0), temperature=0.0)
    with pytest.raises(ValueError, match="num_observed = 2"):
        rs.sample(net, t1=50.0, key=jr.key(0), observed=thinned[0])
    with pytest.raises(ValueError, match="spikes are of 6 neurons"):
        rs.log_likelihood(unbounded, thinned)
    with pytest.raises(ValueError, match="scored on whole trials"):
        rs.log_likelihood(net, thinned, windows=rs.Windows.tile(0.0, 50.0, 2))
    with pytest.raises(ValueError, match="weights must have shape"):
        rs.PointProcessNetwork(1, basis=net.basis, link=net.link, weights=np.zeros((1, 1, 1)), bias=np.zeros(1))
    with pytest.raises(ValueError, match="pass key="):
        rs.PointProcessNetwork(1, basis=net.basis, link=net.link)


def test_an_explosion_is_an_error():
    net = rs.PointProcessNetwork(
        1,
        basis=rs.ExponentialBasis(tau=(1.0,)),
        link=rs.ExponentialIntensity(),
        weights=np.full((1, 1, 1), 3.0),
        bias=np.ones(1),
    )
    with pytest.raises(rs.SimulationError, match="can explode"):
        rs.sample(net, t1=10.0, key=jr.key(0), dt=0.1, max_spikes=64)
