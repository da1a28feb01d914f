"""Likelihoods of neurons with diffusion: the particle filter and the importance-sampled objective."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.special import logsumexp

import roughspike as rs
from roughspike.likelihood.importance import stationary


def noisy(cell, sigma):
    return rs.Population(
        rs.SLIF(
            mu=cell.neuron.mu,
            sigma=sigma,
            v_reset=cell.neuron.v_reset,
            alpha=cell.neuron.alpha,
            escape=cell.neuron.escape,
            reset=cell.neuron.reset,
            refractory=cell.neuron.refractory,
            self_weight=cell.neuron.self_weight,
        ),
        cell.current,
        cell.v0,
        cell.i0,
    )


def short():
    """A neuron of moderate noise on a short train: brute force still works."""
    neuron = rs.SLIF(mu=(6.0, 3.0), v_reset=0.8, refractory=0.02, self_weight=-0.2)
    return rs.Population(neuron, 1.1, v0=0.1, i0=0.1), rs.SpikeTrain(np.array([[0.21, 0.44, 0.8]]), 0.0, 1.0)


def brute_force(cell, train, samples, steps, seed):
    """log E_B exp(sum log lambda - int lambda) over sample paths of (v, i), by Euler-Maruyama and the trapezoid rule.

    Returns the estimate and its standard error.
    """
    neuron, rng = cell.neuron, np.random.default_rng(seed)
    (mu1, mu2), sigma = (float(x) for x in neuron.mu), np.asarray(neuron.sigma)
    beta, v_th = float(neuron.escape.beta), float(neuron.escape.v_th)
    spikes = list(train.to_lists()[0][0])
    refractory = float(neuron.refractory)
    v, i = np.full(samples, float(cell.v0)), np.full(samples, float(cell.i0))
    weight, last = np.zeros(samples), -np.inf
    edges = np.unique(np.concatenate([np.linspace(0.0, 1.0, steps + 1), spikes, np.array(spikes) + refractory]))
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        h = b - a
        active = 0.5 * (a + b) > last + refractory
        before = np.exp(beta * (v - v_th))
        push = sigma @ rng.normal(size=(2, samples)) * np.sqrt(h)
        drift = i + float(cell.current)
        # exponential Euler with i frozen at its mean over the step
        i_next = i * np.exp(-mu2 * h) + push[1]
        decay = np.exp(-mu1 * h)
        v = decay * v + (1 - decay) * (drift + 0.5 * (i_next - i)) + push[0] * np.exp(-0.5 * mu1 * h)
        i = i_next
        if active:
            weight -= 0.5 * h * (before + np.exp(beta * (v - v_th)))
        if b in spikes:
            weight += beta * (v - v_th)
            v = neuron.reset.keep * v + float(neuron.reset.shift(neuron.v_reset))
            i = i + float(neuron.self_weight)
            last = b
    relative = np.exp(weight - weight.max())
    return logsumexp(weight) - np.log(samples), relative.std() / relative.mean() / np.sqrt(samples)


SIGMAS = {"potential": ((0.5, 0.0), (0.0, 0.0)), "both": ((0.3, 0.2), (-0.5, 0.8))}


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("reset", [rs.SubtractiveReset, rs.ResetToValue])
def test_particle_filter_against_brute_force(sigma, reset):
    cell, train = short()
    cell = eqx.tree_at(lambda c: c.neuron.reset, cell, reset())
    cell = noisy(cell, SIGMAS[sigma])
    expected, error = brute_force(cell, train, samples=40_000, steps=250, seed=1)
    found = [float(rs.log_likelihood(cell, train, dt=0.02, key=jr.key(k), num_particles=4000)) for k in range(5)]
    tolerance = 4 * np.hypot(error, np.std(found) / np.sqrt(5)) + 0.01  # 0.01: the Euler grid of the brute force
    assert abs(np.mean(found) - expected) < tolerance, (np.mean(found), expected, tolerance)
    assert tolerance < 0.12
    silent = float(rs.log_likelihood(noisy(cell, ((0.0, 0.0), (0.0, 0.0))), train, dt=0.02))
    assert abs(silent - expected) > 2 * tolerance  # the noise matters here


def test_particle_filter_without_noise_is_exact():
    cell, train = short()
    exact = rs.log_likelihood(cell, train, dt=0.01)
    tiny = noisy(cell, ((1e-7, 0.0), (1e-7, 1e-7)))
    np.testing.assert_allclose(rs.log_likelihood(tiny, train, dt=0.01, key=jr.key(0)), exact, atol=1e-5)
    cell = eqx.tree_at(lambda c: c.neuron.alpha, cell, jnp.asarray(0.02))
    exact = rs.log_likelihood(cell, train, dt=0.01)
    found = rs.log_likelihood(noisy(cell, ((1e-7, 0.0), (0.0, 0.0))), train, dt=0.01, key=jr.key(0))
    np.testing.assert_allclose(found, exact, atol=1e-5)


def test_particle_filter_is_stable_in_dt():
    cell, train = short()
    cell = noisy(cell, SIGMAS["potential"])
    means = [
        np.mean([rs.log_likelihood(cell, train, dt=dt, key=jr.key(k), num_particles=4000) for k in range(6)])
        for dt in (0.04, 0.01)
    ]
    np.testing.assert_allclose(means[0], means[1], atol=0.02)


def test_an_impossible_spike_leaves_the_rest_finite():
    neuron = rs.SLIF(alpha=0.05, sigma=((0.1, 0.0), (0.0, 0.0)))
    cell, train = rs.Population(neuron, 1.5), rs.SpikeTrain(np.array([[0.01, 0.9]]))
    assert float(rs.log_likelihood(cell, train, key=jr.key(0))) == -np.inf
    assert np.isfinite(rs.log_likelihood(cell, train, key=jr.key(0), windows=rs.Windows([0.5], [1.0])))


@pytest.fixture(scope="module")
def fast_membrane():
    """A neuron that forgets within an interval (mean interval about 8 membrane times), and 20 trials of it."""
    with jax.enable_x64(True):
        neuron = rs.SLIF(
            mu=(40.0, 30.0),
            sigma=((3.0, 0.0), (2.0, 1.5)),
            v_reset=0.5,
            escape=rs.ExponentialEscape(beta=2.0, tau_s=0.2),
            refractory=0.01,
            self_weight=-0.3,
        )
        cell = rs.Population(neuron, 0.7)
        sol = rs.simulate(cell, t1=2.0, dt=0.005, key=jr.key(3), num_samples=20, throw=True)
        return cell, rs.SpikeTrain(np.asarray(sol.spikes.times), 0.0, 2.0)


def test_importance_objective_approaches_the_particle_filter(fast_membrane):
    """On 80 trials, about 530 spikes: with 20 the gap varies by 0.01 nats per spike from data set to data set."""
    cell, _ = fast_membrane
    times = rs.simulate(cell, t1=2.0, dt=0.005, key=jr.key(3), num_samples=80, throw=True).spikes.times
    train = rs.SpikeTrain(np.asarray(times), 0.0, 2.0)
    count = int(np.sum(train.counts))
    filtered = [float(rs.log_likelihood(cell, train, dt=0.01, key=jr.key(k), num_particles=400)) for k in range(2)]
    objective = rs.NegativeLogLikelihood(num_particles=400, stretches_per_step=10**6)
    prepared = objective.prepare(cell, train, dt=0.01)
    loss = eqx.filter_jit(objective)
    sampled = [-float(loss(cell, prepared, jr.key(k))) * count for k in range(2)]
    without = float(rs.log_likelihood(noisy(cell, ((0.0, 0.0), (0.0, 0.0))), train, dt=0.01))
    gap = abs(np.mean(sampled) - np.mean(filtered)) / count
    assert gap < 0.02  # nats per spike
    assert gap < 0.2 * abs(np.mean(filtered) - without) / count


def test_importance_objective_is_an_unbiased_choice_of_stretches(fast_membrane):
    cell, train = fast_membrane
    every = rs.NegativeLogLikelihood(num_particles=64, stretches_per_step=10**6)
    some = rs.NegativeLogLikelihood(num_particles=64)
    prepared = every.prepare(cell, train, dt=0.01)
    loss_every, loss_some = eqx.filter_jit(every), eqx.filter_jit(some)
    whole = np.mean([loss_every(cell, prepared, jr.key(k)) for k in range(4)])
    parts = np.array([loss_some(cell, prepared, jr.key(k)) for k in range(40)])
    assert abs(parts.mean() - whole) < 4 * parts.std() / np.sqrt(40)


@pytest.mark.slow
def test_importance_gradient_against_differences(fast_membrane):
    cell, train = fast_membrane
    objective = rs.NegativeLogLikelihood(num_particles=16)
    prepared = objective.prepare(cell, train[:3], dt=0.01)
    loss = eqx.filter_jit(objective)
    gradient = eqx.filter_jit(eqx.filter_grad(objective))(cell, prepared, jr.key(0))
    for where in (
        lambda c: c.neuron.sigma,
        lambda c: c.neuron.mu,
        lambda c: c.neuron.v_reset,
        lambda c: c.current,
        lambda c: c.neuron.self_weight,
        lambda c: c.neuron.escape.beta,
    ):
        here, eps = where(cell), 1e-5
        for k in range(here.size):
            if here.size > 1 and not here.ravel()[k]:
                continue
            move = jnp.zeros(here.size).at[k].set(eps).reshape(here.shape)
            up, down = (loss(eqx.tree_at(where, cell, here + s * move), prepared, jr.key(0)) for s in (1, -1))
            np.testing.assert_allclose(where(gradient).ravel()[k], (up - down) / (2 * eps), rtol=2e-5, atol=1e-8)


def test_score_is_bits_over_poisson(fast_membrane):
    cell, train = fast_membrane
    exact = rs.NegativeLogLikelihood()
    quiet = noisy(cell, ((0.0, 0.0), (0.0, 0.0)))
    prepared = exact.prepare(quiet, train, dt=0.01)
    log_p = float(rs.log_likelihood(quiet, train, dt=0.01))
    count, duration = int(np.sum(train.counts)), 40.0
    poisson = count * np.log(count / duration) - count
    np.testing.assert_allclose(exact.score(quiet, prepared, jr.key(0)), (log_p - poisson) / count / np.log(2))
    np.testing.assert_allclose(exact(quiet, prepared, jr.key(0)), -log_p / count)
    doubled = exact.prepare(quiet, train, dt=0.01, rate=2 * count / duration)
    held = count * np.log(2 * count / duration) - 2 * count
    np.testing.assert_allclose(exact.score(quiet, doubled, jr.key(0)), (log_p - held) / count / np.log(2))


def test_windows_of_the_objectives(fast_membrane):
    cell, train = fast_membrane
    windows = rs.Windows.tile(0.0, 2.0, 4).select([1, 3])
    objective = rs.NegativeLogLikelihood(num_particles=300, stretches_per_step=10**6)
    prepared = objective.prepare(cell, train, windows=windows, dt=0.01)
    inside = windows.contains(np.asarray(train.times))
    assert int(prepared.num_spikes) == inside.sum() and float(prepared.duration) == pytest.approx(20.0)
    found = -float(eqx.filter_jit(objective)(cell, prepared, jr.key(0))) * inside.sum()
    filtered = float(rs.log_likelihood(cell, train, windows=windows, dt=0.01, key=jr.key(1)))
    assert abs(found - filtered) / inside.sum() < 0.03


def test_stationary_noise_solves_the_lyapunov_equation():
    neuron = rs.SLIF(mu=(4.0, 3.0), sigma=((0.3, -0.4), (0.5, 0.2)))
    v, i = stationary(neuron, (200_000,), jr.key(0), jnp.float64)
    flow = np.array([[-4.0, 4.0], [0.0, -3.0]])
    covariance = np.cov(np.stack([v, i]))
    rest = flow @ covariance + covariance @ flow.T + np.asarray(neuron.sigma) @ np.asarray(neuron.sigma).T
    np.testing.assert_allclose(rest, 0.0, atol=0.01)  # 200,000 draws: four standard errors
