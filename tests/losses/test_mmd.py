"""SignatureMMD: values, gradients, the horizon term, the permutation test, and a fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs

KERNEL = rs.SignatureKernel(jump_size=0.5, orders=(3, 4, 1))  # little to compile


def uniform(seed: int, n: int, spikes: int, neurons: int = 1, end: float = 1.0) -> rs.SpikeTrain:
    times = np.sort(np.random.default_rng(seed).uniform(0, end, (n, neurons, spikes)), axis=-1)
    return rs.SpikeTrain(times)


def noisy() -> rs.SLIF:
    return rs.SLIF(mu=(15.0, 0.0), v_reset=1.4, alpha=0.03)


def test_values_by_their_definition():
    x, y = uniform(0, 5, 4), uniform(1, 4, 6)
    xx, xy, yy = (np.asarray(KERNEL.gram(*pair)) for pair in ((x,), (x, y), (y,)))
    off = lambda gram: (gram.sum() - np.trace(gram)) / (len(gram) * (len(gram) - 1))  # noqa: E731
    expected = off(xx) - 2 * xy.mean() + off(yy)
    np.testing.assert_allclose(rs.signature_mmd(x, y, kernel=KERNEL), expected, rtol=1e-11)
    np.testing.assert_allclose(rs.SignatureMMD(KERNEL)(x, y), expected, rtol=1e-11)
    biased = xx.mean() - 2 * xy.mean() + yy.mean()
    np.testing.assert_allclose(rs.signature_mmd(x, y, kernel=KERNEL, unbiased=False), biased, rtol=1e-11)
    assert biased > 0
    stacked = rs.SpikeTrain(np.stack([x.times[:4], x.times[1:]]))
    score = rs.kernel_score(stacked, y[:2], kernel=KERNEL)
    by_hand = [off(xx[s, s]) / 2 - xy[s, c].mean() for c, s in enumerate((slice(0, 4), slice(1, 5)))]
    np.testing.assert_allclose(score, np.mean(by_hand), rtol=1e-11)


def test_default_for_several_neurons_is_the_kernel_of_filtered_trains():
    x, y = uniform(0, 3, 2, 2), uniform(1, 3, 2, 2)
    filtered = rs.SignatureKernel(lift=rs.FilteredLift())
    np.testing.assert_allclose(rs.signature_mmd(x, y), rs.signature_mmd(x, y, kernel=filtered), rtol=1e-12)
    np.testing.assert_allclose(rs.SignatureMMD()(x, y), rs.SignatureMMD(filtered)(x, y), rtol=1e-12)


@pytest.mark.parametrize("case", ["one neuron", "filtered"])
def test_gradient_in_spike_times_against_differences(case: str):
    neurons, kernel = (
        (1, rs.SignatureKernel(jump_size=0.5, orders=(7, 7, 1)))
        if case == "one neuron"
        else (2, rs.SignatureKernel(jump_size=0.5, lift=rs.FilteredLift(0.1, 12), orders=(8,)))
    )
    x, y, loss = uniform(2, 3, 3, neurons), uniform(3, 2, 3, neurons), rs.SignatureMMD(kernel)
    both = jax.jit(jax.value_and_grad(lambda times: loss(rs.SpikeTrain(times), y)))
    times, run = jnp.asarray(x.times), lambda times: both(times)[0]
    gradient = both(times)[1]
    for index in [(0, 0, 0), (1, 0, 2), (2, neurons - 1, 1)]:
        difference = (run(times.at[index].add(1e-5)) - run(times.at[index].add(-1e-5))) / 2e-5
        np.testing.assert_allclose(gradient[index], difference, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_a_poisson_process_has_the_gradient_of_its_rate():
    """d/dr of the MMD of two Poisson processes, by common random numbers: 16 times 60 trains, within 4 errors."""
    y = uniform(0, 20, 3)
    loss = rs.with_horizon(rs.SignatureMMD(rs.SignatureKernel(jump_size=0.7, orders=(5, 6, 1))))

    def value(rate, key, loss):
        escape = rs.ExponentialEscape(beta=0.0, v_th=1.0, tau_s=1 / rate)
        cell = rs.Population(rs.SLIF(mu=(15.0, 0.0), v_reset=0.0, escape=escape), 0.0)
        spikes = rs.simulate(cell, t1=1.0, dt=0.1, key=key, num_samples=60, max_spikes=16).spikes
        return loss(spikes, y)

    slope, plain = jax.jit(jax.grad(value), static_argnums=2), jax.jit(value, static_argnums=2)
    slopes, differences, e = [], [], 0.2
    for key in jr.split(jr.key(0), 16):
        slopes.append(float(slope(2.0, key, loss)))
        differences.append(float(plain(2.0 + e, key, loss.loss) - plain(2.0 - e, key, loss.loss)) / (2 * e))
    slopes, differences = np.array(slopes), np.array(differences)
    gap = slopes - differences
    error = gap.std(ddof=1) / np.sqrt(len(gap))
    print(f"gradient {slopes.mean():.4f}, differences {differences.mean():.4f}, gap's error {error:.4f}")
    assert abs(gap.mean()) < 4 * error and abs(slopes.mean()) > 8 * error


def test_the_test_has_its_level_and_its_power():
    alike = [
        rs.mmd_test(uniform(2 * s, 8, 3), uniform(2 * s + 1, 8, 3), kernel=KERNEL, num_permutations=39).p_value
        for s in range(60)
    ]
    assert np.mean(np.array(alike) <= 0.1) < 0.22  # 60 tests at level 0.1: 0.22 has probability 0.004
    found = rs.mmd_test(uniform(0, 12, 3), uniform(1, 12, 3, end=0.6), kernel=KERNEL, num_permutations=99)
    assert found.p_value <= 0.02 and found.statistic > np.quantile(found.null, 0.95)


@pytest.mark.slow
@pytest.mark.plain
def test_fit_finds_the_current():
    data = rs.simulate(rs.Population(noisy(), 1.5), t1=1.0, dt=0.01, key=jr.key(1), num_samples=128).spikes
    data = rs.SpikeTrain(np.asarray(data.times), 0.0, 1.0)
    loss = rs.with_horizon(rs.SignatureMMD(rs.SignatureKernel(orders=(3, 5, 1))))
    start = rs.Population(noisy(), rs.Constant(1.2))
    found = rs.fit(
        start,
        data,
        loss=loss,
        trainable=lambda c: c.current,
        num_samples=64,
        steps=60,
        dt=0.01,
        learning_rate=0.02,
        key=jr.key(0),
    )
    assert abs(float(found.model.current.value) - 1.5) < 0.04


def test_errors():
    x = uniform(0, 2, 2)
    with pytest.raises(ValueError, match="two simulated samples or more"):
        rs.SignatureMMD()(x[:1], x)
    with pytest.raises(ValueError, match="x must have batch shape"):
        rs.kernel_score(x, x)
    with pytest.raises(ValueError, match="has its horizon term already"):
        rs.with_horizon(rs.with_horizon(rs.SignatureMMD()))


def test_nystroem_features_are_exact_at_landmarks_and_close_elsewhere():
    x, y = uniform(0, 16, 4), uniform(1, 16, 4, end=0.7)
    losses = [rs.SignatureMMD(KERNEL, landmarks=number) for number in (None, 8)]
    f, g = (np.asarray(KERNEL.features(z, y)) for z in (x, y))
    np.testing.assert_allclose(f @ g.T, KERNEL.gram(x, y), rtol=1e-4)
    exact, few = (float(loss(x, y)) for loss in losses)
    assert exact > 0.01 and abs(few / exact - 1) < 0.05
    exact, few = (np.asarray(loss.gains(rs.SpikeTrain(x.times * 0.9), x, y)) for loss in losses)
    np.testing.assert_allclose(few, exact, atol=0.05 * np.abs(exact).max())
    with pytest.raises(ValueError, match="landmarks must be at least 1"):
        rs.SignatureMMD(landmarks=0)


def test_gradient_under_vmap_is_that_of_each():
    """Recorded trains are known when the program is traced: their own term is computed then."""
    x, y, loss = uniform(5, 6, 3), uniform(6, 3, 3), rs.SignatureMMD(KERNEL)
    slope = jax.grad(lambda times: loss(rs.SpikeTrain(times), y))
    sets = jnp.asarray(x.times).reshape(2, 3, 1, 3)
    one = jax.jit(slope)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(slope))(sets), jnp.stack([one(sets[0]), one(sets[1])]), rtol=1e-10, atol=1e-14
    )
