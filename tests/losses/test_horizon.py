"""The horizon term: gradients of expectations against differences of means with common random numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs
from roughspike.losses.base import AbstractLoss

PATHS, CHUNK, T1, CURRENT, EPS = 200_000, 5_000, 3.0, 1.2, 0.05


class Count(AbstractLoss):
    """The spike counts."""

    def features(self, spikes):
        return jnp.isfinite(spikes.times).sum(-1).astype(spikes.times.dtype)

    def compare(self, simulated, recorded):
        return jnp.mean(simulated) - jnp.mean(recorded)


def noisy() -> rs.SLIF:
    return rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4, alpha=0.03)


def chunk(key, weights, loss):
    """For one set of paths, each row w of `weights`, and w . mean features: gradient with and without the term, and
    the difference.
    """

    def mean(current, of):
        cell = rs.Population(noisy(), current)
        sol = rs.simulate(cell, t1=T1, dt=0.01, key=key, num_samples=CHUNK, max_spikes=16)
        return weights @ jnp.mean(of.features(sol.spikes), axis=0), jnp.all(sol.result.ok)

    c = jnp.asarray(CURRENT)
    slope, ok = jax.jacrev(mean, has_aux=True)(c, rs.with_horizon(loss))
    blind, _ = jax.jacrev(mean, has_aux=True)(c, loss)
    wide, narrow = ((mean(c + e, loss)[0] - mean(c - e, loss)[0]) / (2 * e) for e in (EPS, EPS / 2))
    return jnp.stack([slope, blind, (4 * narrow - wide) / 3]), ok  # Richardson: cubes of counts bend within EPS


@pytest.fixture(scope="module")
def slopes():
    """Of the mean count, and of the depth-3 loss on [0, T] between c = 1.2 and data at c = 1.5: 200,000 paths for both.

    For each: (gradient, gradient without the term, difference with common random numbers, extrapolated from steps 0.05
    and 0.025), and their standard errors. The derivative of the loss is w . d E f / dc with w = 2 (E f - E y) / F,
    which more paths give; the count is the second coordinate of the signature.
    """
    loss = rs.ExpectedSignatureLoss(depth=3)

    @jax.jit
    def features(current):
        cell = rs.Population(noisy(), current)
        spikes = rs.simulate(cell, t1=T1, dt=0.01, key=jr.key(9), num_samples=4000, max_spikes=24).spikes
        return jnp.mean(loss.features(spikes), axis=0)

    gap = features(CURRENT) - features(1.5)
    weights = jnp.stack([jnp.zeros_like(gap).at[1].set(1.0), 2 * gap / gap.size])
    run = jax.jit(lambda key: chunk(key, weights, loss))
    found, ok = zip(*(jax.device_get(run(key)) for key in jr.split(jr.key(0), PATHS // CHUNK)), strict=True)
    assert np.all(ok)
    means, errors = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    return dict(zip(("count", "loss"), zip(means.T, errors.T, strict=True), strict=True))


@pytest.mark.slow
@pytest.mark.plain
def test_gradient_of_the_mean_count(slopes):
    (slope, blind, difference), (error, _, difference_error) = slopes["count"]
    print(f"count: {slope:.3f} +- {error:.3f}, difference {difference:.3f} +- {difference_error:.3f}, blind {blind}")
    assert blind == 0.0 and difference_error < 0.05 and difference > 15
    assert abs(slope - difference) < 3 * np.hypot(error, difference_error)


@pytest.mark.slow
@pytest.mark.plain
def test_gradient_of_the_expected_signature_loss(slopes):
    (slope, blind, difference), (error, _, difference_error) = slopes["loss"]
    print(f"loss: {slope:.2f} +- {error:.2f}, difference {difference:.2f} +- {difference_error:.2f}, blind {blind:.2f}")
    total = np.hypot(error, difference_error)
    assert abs(slope - difference) < 3 * total
    assert abs(blind - difference) > 50 * total


def test_homogeneous_poisson_has_gradient_t_with_zero_variance():
    """beta = 0 leaves the rate 1 / tau_s: (T - tau_N) + tau_N = T on every single path."""
    t1, rate = 4.0, 3.0

    def counts(rate):
        escape = rs.ExponentialEscape(beta=0.0, v_th=1.0, tau_s=1 / rate)
        cell = rs.Population(rs.SLIF(mu=(15.0, 0.0), v_reset=0.0, escape=escape), 0.0)
        spikes = rs.simulate(cell, t1=t1, dt=0.05, key=jr.key(0), num_samples=50, max_spikes=40).spikes
        return rs.with_horizon(Count()).features(spikes)[:, 0]

    value, slopes = counts(rate), jax.jacrev(counts)(rate)
    assert value.std() > 1
    np.testing.assert_allclose(slopes, t1 * np.ones(50), rtol=1e-10)


@pytest.mark.parametrize("loss", [rs.EnergyScore((0.1, 0.4)), rs.FirstSpikesLoss(n=8)], ids=["energy", "first"])
def test_continuous_losses_have_no_horizon_term(loss: AbstractLoss):
    data = rs.SpikeTrain(np.array([[0.4, 1.1, 1.7]]), 0.0, 2.0)

    def value(current, loss):
        cell = rs.Population(noisy(), current)
        return loss(rs.simulate(cell, t1=2.0, dt=0.01, key=jr.key(3), num_samples=64).spikes, data)

    plain, wrapped = (jax.value_and_grad(value)(1.3, x) for x in (loss, rs.with_horizon(loss)))
    assert plain[0] == wrapped[0]
    extra = abs(float(wrapped[1] - plain[1]))
    print(type(loss).__name__, "horizon term", extra, "of", float(plain[1]))
    assert plain[1] != 0 and extra <= 1e-13 * abs(float(plain[1]))


def test_value_is_unchanged_and_a_full_buffer_has_room():
    cell = rs.Population(noisy(), 1.5)
    sol = rs.simulate(cell, t1=2.0, dt=0.01, key=jr.key(0), num_samples=16)
    spikes = rs.simulate(
        cell, t1=2.0, dt=0.01, key=jr.key(0), num_samples=16, max_spikes=int(sol.result.needed.max())
    ).spikes
    loss, data = rs.ExpectedSignatureLoss(), sol.spikes[:3]
    assert float(rs.with_horizon(loss)(spikes, data)) == pytest.approx(float(loss(spikes, data)), rel=1e-14)
    assert float(loss(spikes, data)) == pytest.approx(float(loss(sol.spikes, data)), rel=1e-12)


def test_neurons_in_their_refractory_time_have_none():
    neuron = rs.SLIF(mu=(15.0, 0.0), v_reset=0.0, refractory=5.0, escape=rs.ExponentialEscape(tau_s=1e-3))
    total = lambda c: jnp.mean(  # noqa: E731
        rs.with_horizon(Count()).features(
            rs.simulate(rs.Population(neuron, c), t1=2.0, dt=0.01, key=jr.key(0), num_samples=4).spikes
        )
    )
    assert jax.value_and_grad(total)(2.0) == (1.0, 0.0)


def test_only_losses_with_features():
    with pytest.raises(ValueError, match="needs a loss with features of each sample, got builtin.*AbstractLoss"):
        rs.with_horizon(len)
