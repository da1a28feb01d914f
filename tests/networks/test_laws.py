"""Simulated spikes and potentials in law, at fixed keys. Sizes and levels are stated with each test."""

import jax
import jax.random as jr
import numpy as np
import pytest
from lane_tools import fig1
from scipy.integrate import solve_ivp
from scipy.linalg import expm, solve_continuous_lyapunov
from scipy.stats import kstest, poisson

import roughspike as rs
from roughspike.networks.step import coefficients


def test_a_constant_potential_gives_a_poisson_process():
    """2000 samples of a rate of 4 on [0, 3]. Level 0.001: uniform times, Poisson counts, uncorrelated halves."""
    neuron = rs.SLIF(mu=(1.0, 0.0), v_reset=0.0, escape=rs.ExponentialEscape(beta=2.0, tau_s=0.25))
    sol = rs.simulate(rs.Population(neuron, 1.0, v0=1.0), t1=3.0, dt=0.05, key=jr.key(11), num_samples=2000)
    times, counts = np.asarray(sol.spikes.times), np.asarray(sol.spikes.counts)[:, 0]
    assert kstest(times[np.isfinite(times)] / 3.0, "uniform").pvalue > 1e-3
    expected = 2000 * poisson.pmf(np.arange(4, 21), 12.0)
    observed = np.array([(counts == k).sum() for k in range(4, 21)])
    assert np.sum((observed - expected) ** 2 / expected) < 40.8  # chi-square, 17 cells, level 0.001
    early = (times < 1.5).sum(axis=(1, 2))
    late = counts - early
    assert abs(np.corrcoef(early, late)[0, 1]) < 3.3 / np.sqrt(2000)


@pytest.mark.parametrize("refractory", [None, 0.05])
def test_first_interval_against_quadrature_of_its_hazard(refractory):
    """Without diffusion: the law of the first and of the second interval after a reset to a value, 4000 samples."""
    neuron = rs.SLIF(
        mu=(8.0, 3.0),
        v_reset=0.2,
        alpha=0.1,
        reset=rs.ResetToValue(),
        refractory=refractory,
        escape=rs.SoftplusEscape(tau_s=0.3),
    )
    cell = rs.Population(neuron, 1.2, v0=0.2, i0=0.0)
    sol = rs.simulate(cell, t1=8.0, dt=0.02, key=jr.key(5), num_samples=4000, throw=True)
    times = np.asarray(sol.spikes.times)[:, 0]
    assert np.isfinite(times[:, 1]).mean() > 0.999
    rate = lambda v: np.log1p(np.exp(5.0 * (v - 1.0))) / 0.3  # noqa: E731
    grid = np.linspace(0.0, 8.0, 4001)

    def survival(dead):
        v = 1.2 + (0.2 - 1.2) * np.exp(-8.0 * grid)
        slope = np.where(grid >= dead, rate(v), 0.0)
        total = np.concatenate([[0.0], np.cumsum(0.5 * (slope[1:] + slope[:-1]) * np.diff(grid))])
        return np.exp(-np.maximum(total - 0.1, 0.0))

    law = lambda dead: lambda t: 1 - np.interp(t, grid, survival(dead))  # noqa: E731
    assert kstest(times[:, 0], law(0.0)).pvalue > 1e-3
    second = np.diff(times[:, :2], axis=1)[:, 0]
    assert kstest(second[np.isfinite(second)], law(refractory or 0.0)).pvalue > 1e-3
    assert kstest(second[np.isfinite(second)], law(0.2)).pvalue < 1e-6  # the test can fail


def test_moments_of_the_potential():
    """Ornstein-Uhlenbeck moments of v on the grid, 20,000 samples, no spikes; within 4.5 standard errors."""
    sigma = np.array([[0.3, -0.2], [0.4, 0.5]])
    neuron = rs.SLIF(mu=(6.0, 3.0), sigma=sigma, escape=rs.ExponentialEscape(v_th=50.0))
    cell = rs.Population(neuron, 0.8, v0=0.3, i0=0.2)
    sol = rs.simulate(cell, t1=0.6, dt=0.02, key=jr.key(1), num_samples=20_000, max_spikes=1, trace=True)
    v = np.asarray(sol.membrane)[:, 0]
    flow, noise = np.array([[-6.0, 6.0], [0.0, -3.0]]), sigma @ sigma.T

    def moments(t, y):
        mean, cov = y[:2], y[2:].reshape(2, 2)
        return np.concatenate([flow @ mean + [6.0 * 0.8, 0.0], (flow @ cov + cov @ flow.T + noise).ravel()])

    exact = solve_ivp(
        moments, (0.0, 0.6), [0.3, 0.2, 0, 0, 0, 0], t_eval=np.asarray(sol.times), rtol=1e-10, atol=1e-12
    ).y
    mean, variance = exact[0], exact[2]
    spread = np.sqrt(variance)
    assert np.all(np.abs(v.mean(axis=0) - mean)[1:] < 4.5 * spread[1:] / np.sqrt(20_000))
    # a driver that is straight inside a step carries a variance that is right to second order in mu1 dt
    relative = v.var(axis=0)[1:] / variance[1:] - 1
    assert np.all(np.abs(relative) < 4.5 * np.sqrt(2 / 20_000) + 0.25 * (6.0 * 0.02) ** 2)
    lag = np.mean((v[:, 20] - mean[20]) * (v[:, 10] - mean[10]))
    transfer = np.exp(-6.0 * 0.2), 6.0 * (np.exp(-3.0 * 0.2) - np.exp(-6.0 * 0.2)) / 3.0
    expected = transfer[0] * exact[2, 10] + transfer[1] * exact[3, 10]
    np.testing.assert_allclose(lag, expected, atol=4.5 * spread[20] * spread[10] / np.sqrt(20_000))


@pytest.mark.parametrize(("driver", "order"), [(rs.LinearDriver, 2), (rs.ParabolaDriver, 4), (rs.ExplicitEuler, 1)])
def test_the_covariance_of_potential_and_current_has_the_order_of_the_driver(driver, order):
    """Var v, Cov(v, i), Var i after 0.6, from the coefficients of the step, against the Lyapunov equation."""
    sigma = np.array([[0.3, -0.2], [0.4, 0.5]])
    neuron = rs.SLIF(mu=(6.0, 3.0), sigma=sigma)
    flow, end = np.array([[-6.0, 6.0], [0.0, -3.0]]), 0.6
    stationary = solve_continuous_lyapunov(flow, -sigma @ sigma.T)
    exact = stationary - expm(end * flow) @ stationary @ expm(end * flow).T

    def errors(steps):
        co = coefficients(neuron, end / steps, driver())
        onward = np.array([[co.decay, co.kappa], [0.0, co.decay_i]], float)
        noise = np.array([[on_v, 0.0 if on_i is None else on_i] for _, on_v, on_i in co.noise], float).T
        found = np.zeros((2, 2))
        for _ in range(steps):
            found = onward @ found @ onward.T + noise @ noise.T
        return np.abs(found / exact - 1)

    coarse, fine = errors(15), errors(60)
    np.testing.assert_allclose(np.log(coarse / fine) / np.log(4), order, atol=0.1)


def test_the_refractory_period_is_respected():
    neuron = rs.SLIF(mu=(20.0, 0.0), sigma=((0.5, 0.0), (0.0, 0.0)), v_reset=0.1, refractory=0.03)
    cell = rs.Population(neuron, 1.8)
    times = np.asarray(rs.simulate(cell, t1=3.0, dt=0.01, key=jr.key(0), num_samples=50).spikes.times)
    with np.errstate(invalid="ignore"):
        gaps = np.diff(times, axis=-1)
    gaps = gaps[np.isfinite(gaps)]
    assert len(gaps) > 2000 and gaps.min() >= 0.03
    assert gaps.min() < 0.0305  # and not longer than it says


def test_the_soft_threshold_delays_spikes():
    """With alpha the accumulated hazard at a spike exceeds alpha: its excess is exponential. 3000 intervals."""
    neuron = rs.SLIF(mu=(1.0, 0.0), v_reset=0.0, alpha=0.7, escape=rs.ExponentialEscape(beta=1.0, tau_s=0.2))
    times = np.asarray(
        rs.simulate(rs.Population(neuron, 1.0, v0=1.0), t1=40.0, dt=0.05, key=jr.key(4), num_samples=50).spikes.times
    )
    with np.errstate(invalid="ignore"):
        gaps = np.diff(times[:, 0], axis=-1)
    gaps = gaps[np.isfinite(gaps)]
    assert len(gaps) > 3000 and gaps.min() > 0.7 * 0.2 - 1e-9
    assert kstest(5.0 * gaps - 0.7, "expon").pvalue > 1e-3


def test_the_gradient_of_a_mean_time_is_the_derivative_of_the_mean():
    """d E tau_1 / dc of a noisy neuron against a difference of means with common noise, 4000 samples."""

    @jax.jit
    def mean(current):
        sol = rs.simulate(
            rs.Population(fig1(), current), t1=4.0, dt=0.01, key=jr.key(2), num_samples=4000, max_spikes=2
        )
        return sol.spikes.times[:, 0, 0].mean()

    difference = (mean(1.501) - mean(1.499)) / 0.002
    np.testing.assert_allclose(jax.jit(jax.grad(mean))(1.5), difference, rtol=1e-4)
