"""The losses by themselves: values by hand, gradients against differences, symmetries, and what they refuse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs
from roughspike.paths.spikes import Horizon, unchecked

LOSSES = {
    "signature": lambda: rs.ExpectedSignatureLoss(depth=3),
    "signature, unbiased": lambda: rs.ExpectedSignatureLoss(depth=3, unbiased=True, jump=0.5, time_weight=2.0),
    "signature, joint, first two": lambda: rs.ExpectedSignatureLoss(depth=3, joint=True, first=2),
    "first, squared": lambda: rs.FirstSpikesLoss(n=3),
    "first, absolute": lambda: rs.FirstSpikesLoss(n=2, kind="absolute"),
    "energy": lambda: rs.EnergyScore(filters=(0.1, 0.3)),
}


def trains(seed: int, samples: int, neurons: int = 2, capacity: int = 4, t1: float = 2.0) -> rs.SpikeTrain:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, t1, (samples, neurons, capacity)), axis=-1)
    keep = np.arange(capacity) < rng.integers(0, capacity + 1, (samples, neurons, 1))
    return rs.SpikeTrain(np.where(keep, times, np.inf), 0.0, t1)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_against_differences(name: str):
    loss, data, simulated = LOSSES[name](), trains(1, 3), trains(2, 5)
    start = jnp.asarray(simulated.times)
    value = jax.jit(lambda times: loss(unchecked(times, 0.0, 2.0), data))
    gradient, eps = jax.grad(value)(start), 1e-6
    assert np.all(np.isfinite(gradient))
    for index in zip(*np.nonzero(np.isfinite(simulated.times)), strict=True):
        difference = (value(start.at[index].add(eps)) - value(start.at[index].add(-eps))) / (2 * eps)
        np.testing.assert_allclose(gradient[index], difference, rtol=1e-6, atol=2e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_order_of_samples_and_padding_change_nothing(name: str):
    loss, data, simulated = LOSSES[name](), trains(1, 3), trains(2, 5)
    value = loss(simulated, data)
    mixed = unchecked(simulated.times[::-1], 0.0, 2.0)
    padded = unchecked(np.pad(simulated.times, ((0, 0), (0, 0), (0, 3)), constant_values=np.inf), 0.0, 2.0)
    np.testing.assert_allclose([loss(mixed, data), loss(padded, data)], [value, value], rtol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_trains_that_do_not_fit_together(name: str):
    with pytest.raises(ValueError, match="simulated spikes are of 2 neurons.*of 1: select neurons"):
        LOSSES[name]()(trains(1, 3), trains(2, 3, neurons=1))
    with pytest.raises(ValueError, match=r"lie on \[0, 2\].*on \[0, 3\]: simulate on the window of the data"):
        LOSSES[name]()(trains(1, 3), trains(2, 3, t1=3.0))


def test_the_unbiased_square_is_the_mean_over_pairs():
    loss, data, simulated = rs.ExpectedSignatureLoss(depth=2, unbiased=True), trains(1, 3), trains(2, 5)
    g = np.asarray(loss.features(simulated) - loss.features(data).mean(0, keepdims=True))
    pairs = np.mean([np.mean(g[i] * g[j]) for i in range(5) for j in range(5) if i != j])
    assert float(loss(simulated, data)) == pytest.approx(pairs, rel=1e-12)
    with pytest.raises(ValueError, match="two samples or more: pass num_samples=2"):
        loss(simulated[:1], data)


def test_first_caps_both_trains():
    loss = rs.ExpectedSignatureLoss(depth=3, first=2)
    a, b = (rs.SpikeTrain(np.array([[0.3, 0.5, last]]), 0.0, 2.0) for last in (0.9, 1.7))
    assert float(loss(a, b)) == 0.0 < float(rs.ExpectedSignatureLoss(depth=3)(a, b))


def test_a_swap_of_two_neurons_moves_only_the_joint_signature():
    before, after = (rs.SpikeTrain(np.array([[1.0], [1.0 + x]]), 0.0, 2.0) for x in (-1e-9, 1e-9))
    assert float(rs.ExpectedSignatureLoss()(before, after)) < 1e-15
    assert float(rs.ExpectedSignatureLoss(joint=True)(before, after)) > 1e-3
    pair = lambda x: unchecked(jnp.stack([x.times, x.times]), 0.0, 2.0)  # noqa: E731
    assert float(rs.EnergyScore((0.1,))(pair(before), after)) < 1e-9


def test_missing_spikes_count_as_times_after_the_window():
    horizon = Horizon(jnp.array([[-0.5]]), jnp.array([[True]]))
    simulated = unchecked(jnp.array([[[0.4, jnp.inf]]]), 0.0, 2.0, horizon=horizon)
    loss = rs.FirstSpikesLoss(n=3, rate=4.0)
    np.testing.assert_allclose(loss.features(simulated), [[0.4, 2.125, 2.375]])
    recorded = rs.SpikeTrain(np.array([[[0.4, np.inf]]]), 0.0, 2.0)
    np.testing.assert_allclose(loss.features(recorded), [[0.4, 2.25, 2.5]])
    np.testing.assert_allclose(rs.FirstSpikesLoss(n=3, rate=float("inf")).features(simulated), [[0.4, 2.0, 2.0]])


def test_a_silent_neuron_is_pushed_towards_firing():
    quiet = rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4)
    data = rs.SpikeTrain(np.array([[0.3, 0.6, 0.9]]), 0.0, 1.0)

    def value(current):
        spikes = rs.simulate(rs.Population(quiet, current), t1=1.0, dt=0.01, key=jr.key(0), num_samples=32).spikes
        return rs.FirstSpikesLoss(n=3)(spikes, data), jnp.sum(spikes.counts)

    (_, count), slope = jax.value_and_grad(value, has_aux=True)(-1.0)
    assert count == 0 and slope < 0


def test_energy_score_by_quadrature():
    """Against a fine Riemann sum of the alpha functions: the grid's error, and the limit of a fine grid."""
    simulated, data = trains(3, 4, neurons=1), trains(4, 2, neurons=1)
    t, taus, smoothing = (np.arange(40_000) + 0.5) * 5e-5, (0.1, 0.3), 1e-2

    def curves(spikes, tau):
        lags = np.where(np.isfinite(spikes.times[None, :, 0]), t[:, None, None] - spikes.times[None, :, 0], -1.0) / tau
        return np.sum(np.where(lags > 0, lags * np.exp(-np.maximum(lags, 0)), 0), axis=-1).T

    expected = 0.0
    for tau in taus:
        x, y = curves(simulated, tau), curves(data, tau)
        distance = lambda a, b, tau=tau: np.sqrt(np.sum((a - b) ** 2) * 5e-5 / tau + smoothing**2) - smoothing  # noqa: E731
        to_data = np.mean([distance(a, b) for a in x for b in y])
        within = np.mean([distance(x[i], x[j]) for i in range(4) for j in range(4) if i != j])
        expected += to_data - 0.5 * within
    errors = [abs(float(rs.EnergyScore(taus, resolution=r)(simulated, data)) - expected) for r in (8, 32)]
    print("energy score", expected, "errors", errors)
    assert errors[0] < 2e-3 and errors[1] < 1.5e-4


def test_energy_score_is_lowest_at_the_law_of_the_data():
    """800 Poisson trains at each of three rates against 300 recorded ones at the middle one."""
    rng = np.random.default_rng(0)
    draw = lambda rate, n: rs.SpikeTrain(poisson(rng, rate, n), 0.0, 1.0)  # noqa: E731
    data, loss = draw(4.0, 300), rs.EnergyScore((0.1,))
    means = [float(loss(draw(rate, 800), data)) for rate in (2.5, 4.0, 6.0)]
    assert means[1] < means[0] and means[1] < means[2]


def poisson(rng: np.random.Generator, rate: float, samples: int) -> np.ndarray:
    times = np.cumsum(rng.exponential(1 / rate, (samples, 1, 40)), axis=-1)
    return np.where(times < 1.0, times, np.inf)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rs.ExpectedSignatureLoss(depth=0), "depth must be a whole number of at least 1.*pass depth=3"),
        (lambda: rs.ExpectedSignatureLoss(first=0), "first must be at least 1 spike, got 0: pass None"),
        (lambda: rs.ExpectedSignatureLoss(jump=0.0), "jump must be a finite number above 0.*pass 1.0"),
        (lambda: rs.FirstSpikesLoss(n=0), "n must be at least 1 spike, got 0: pass n=3"),
        (lambda: rs.FirstSpikesLoss(rate=-1.0), "rate must be above 0.*pass None"),
        (lambda: rs.FirstSpikesLoss(kind="absolute", unbiased=True), 'unbiased is for kind="squared"'),
        (lambda: rs.EnergyScore(()), "filters must be time constants above 0.*pass filters="),
        (lambda: rs.EnergyScore((0.1, -1.0)), "filters must be time constants above 0"),
        (lambda: rs.EnergyScore((0.1,), resolution=1), "resolution must be at least 2.*pass 8"),
        (lambda: rs.EnergyScore((0.1,), smoothing=0.0), "smoothing must be above 0.*pass 1e-2"),
        (lambda: rs.EnergyScore((0.1,))(trains(1, 1), trains(2, 2)), "two simulated samples or more: pass num_sam"),
        (lambda: rs.with_horizon(rs.with_horizon(rs.ExpectedSignatureLoss())), "has its horizon term already"),
    ],
)
def test_bad_input(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.plain
@pytest.mark.parametrize("name", LOSSES)
def test_float32_and_jit(name: str):
    simulated = jnp.asarray(trains(2, 5).times, jnp.float32)
    value = jax.jit(lambda t: LOSSES[name]()(unchecked(t, 0.0, 2.0), trains(1, 3)))(simulated)
    assert value.dtype == jnp.float32 and np.isfinite(value)
