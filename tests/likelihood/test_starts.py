"""Start states of windows: what the spikes before them, and the noise, leave in the neuron."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import expm

import roughspike as rs
from roughspike.likelihood.forced import forced
from roughspike.likelihood.segments import lay_out
from roughspike.likelihood.starts import Cut, Starts, cut_windows, draw_start, window_starts

SPIKES = [[np.array([0.12, 0.31, 0.55]), np.array([0.2])], [np.zeros(0), np.array([0.05, 0.4, 0.43, 0.81])]]
WINDOWS = rs.Windows([0.1, 0.4, 0.6], [0.3, 0.6, 0.8])
CURRENTS = (0.4, 0.7)


def data() -> rs.SpikeTrain:
    times = np.full((2, 2, 4), np.inf)
    for t, trial in enumerate(SPIKES):
        for k, row in enumerate(trial):
            times[t, k, : len(row)] = row
    return rs.SpikeTrain(times, 0.0, 1.0)


def population(alpha: float = 0.0, sigma=((0.0, 0.0), (0.0, 0.0)), reset=None) -> rs.Population:
    neuron = rs.SLIF((15.0, 6.0), sigma, 1.2, alpha, reset=reset, refractory=0.02, self_weight=-0.8)
    return rs.Population(neuron, np.array(CURRENTS), v0=0.3, i0=0.1)


def on_device(cut: Cut) -> Cut:
    return jax.tree.map(jnp.asarray, cut)


def potential(t: float, train: np.ndarray, current: float) -> tuple[float, float]:
    """v and i at t by the closed form of the linear neuron."""
    kappa = lambda x: 15.0 * (np.exp(-6.0 * x) - np.exp(-15.0 * x)) / 9.0  # noqa: E731
    ago = t - train[train <= t]
    v = 0.3 * np.exp(-15.0 * t) + (1 - np.exp(-15.0 * t)) * current + 0.1 * kappa(t)
    return v + np.sum(-1.2 * np.exp(-15.0 * ago) - 0.8 * kappa(ago)), 0.1 * np.exp(-6.0 * t) - 0.8 * np.sum(
        np.exp(-6.0 * ago)
    )


def test_teacher_forced_states():
    starts, means = window_starts(population(), on_device(cut_windows(population(), data(), WINDOWS, 0.01)))
    assert starts.v.shape == (6, 2) and means.shape == (3, 2, 40)
    for t in range(2):
        for w, begin in enumerate(WINDOWS.starts):
            for k in range(2):
                train = SPIKES[t][k]
                v, i = potential(begin, train, CURRENTS[k])
                last = max([-np.inf, *train[train <= begin + 1e-12]])
                where = 3 * t + w, k
                assert starts.v[where] == pytest.approx(v, abs=1e-12)
                assert starts.i[where] == pytest.approx(i, abs=1e-12)
                assert starts.rest[where] == pytest.approx(max(0.02 - (begin - last), 0.0), abs=1e-9)
                assert starts.owed[where] == 0.0


def test_states_of_a_driven_neuron_are_those_of_the_likelihood():
    rng = np.random.default_rng(0)
    signal = rs.SampledSignal(rng.normal(size=200), 0.005)
    current = rs.Stimulus(signal, 1.0, 0.013, -0.5, 0.03) + rs.ExponentialDrift(0.4, 0.5)
    cell = rs.Population(population().neuron, current)
    train = rs.SpikeTrain(np.array([[SPIKES[0][0]]]), 0.0, 1.0)
    laid = lay_out(train, 0.0025, WINDOWS)
    f = forced(cell, laid, current.prepare(laid.starts, laid.lengths))
    at = [int(np.argmax(laid.window[0, 0] == w)) for w in range(3)]
    starts, _ = window_starts(cell, on_device(cut_windows(cell, train, WINDOWS, 0.0025)))
    # the likelihood averages the current over pieces that spikes cut, a simulation over its steps
    np.testing.assert_allclose(starts.v[:, 0], f.v[0, 0, at], atol=4e-4)
    np.testing.assert_allclose(starts.i[:, 0], f.i[0, 0, at], atol=1e-12)
    assert float(np.ptp(starts.v)) > 0.1


def test_what_is_owed_of_a_soft_refractory_threshold():
    cell = population(alpha=0.05)
    starts, _ = window_starts(cell, on_device(cut_windows(cell, data(), WINDOWS, 0.002)))
    rate = lambda t: np.exp(5.0 * (potential(t, SPIKES[0][0], CURRENTS[0])[0] - 1.0))  # noqa: E731
    for w, (last, begin) in enumerate([(-0.02, 0.1), (0.31, 0.4), (0.55, 0.6)]):
        hazard = quad(rate, last + 0.02, begin)[0]
        assert starts.owed[w, 0] == pytest.approx(max(0.05 - hazard, 0.0), rel=1e-5)
    assert float(starts.owed[2, 0]) > 0.04


@pytest.mark.parametrize("reset", [rs.SubtractiveReset(), rs.ResetToValue()])
def test_covariance_of_the_noise(reset):
    sigma = np.array([[0.4, 0.1], [0.2, 0.7]])
    cell = population(sigma=sigma, reset=reset)
    starts, _ = window_starts(cell, on_device(cut_windows(cell, data(), WINDOWS, 0.002)))
    drift = np.array([[-15.0, 15.0], [0.0, -6.0]])

    def grown(covariance: np.ndarray, t: float) -> np.ndarray:
        """Van Loan's formula for the covariance of a linear diffusion."""
        block = expm(np.block([[-drift, sigma @ sigma.T], [np.zeros((2, 2)), drift.T]]) * t)
        flow = block[2:, 2:].T
        return flow @ covariance @ flow.T + flow @ block[:2, 2:]

    kept = np.diag([reset.keep, 1.0])
    for w, begin in enumerate(WINDOWS.starts):
        covariance, at = np.zeros((2, 2)), 0.0
        for spike in SPIKES[0][0][SPIKES[0][0] < begin]:
            covariance, at = kept @ grown(covariance, spike - at) @ kept, spike
        covariance = grown(covariance, begin - at)
        found = [float(x[w, 0]) for x in (starts.vv, starts.vi, starts.ii)]
        # noise that is straight inside a step of h has a variance that is too small by about (mu h)^2 / 12
        np.testing.assert_allclose(found, [covariance[0, 0], covariance[0, 1], covariance[1, 1]], rtol=4e-4)


def test_drawn_starts_have_this_covariance():
    neuron = population(sigma=((0.4, 0.1), (0.2, 0.7))).neuron
    column = lambda *x: jnp.array(x)[:, None]  # noqa: E731
    starts = Starts(
        *(column(*x) for x in ((1.0, 2.0), (0.5, 0.0), (0.0, 0.1), (0.0, 0.0))),
        *(column(*x) for x in ((0.09, 0.0), (0.03, 0.0), (0.04, 0.0))),
    )
    lanes = draw_start(neuron, starts, 40_000, jr.key(0))
    np.testing.assert_allclose(lanes.v[1], 2.0)
    np.testing.assert_allclose(lanes.rest, [[0.0], [0.1]])
    # 40,000 samples: standard errors are below 0.0015 for means and 0.7 % for variances, five of them
    np.testing.assert_allclose([lanes.v[0].mean(), lanes.i[0].mean()], [1.0, 0.5], atol=0.0075)
    found = np.cov(np.stack([lanes.v[0], lanes.i[0]]))
    np.testing.assert_allclose(found, [[0.09, 0.03], [0.03, 0.04]], rtol=0.04)


def test_recorded_spikes_of_each_window():
    cut = cut_windows(population(), data(), WINDOWS, 0.01)
    rows = [[[t - a for t in SPIKES[j][k] if a < t <= b] for k in range(2)] for j in range(2) for a, b in
            zip(WINDOWS.starts, WINDOWS.stops, strict=True)]  # fmt: skip
    for found, expected in zip(cut.recorded, rows, strict=True):
        for row, times in zip(found, expected, strict=True):
            np.testing.assert_allclose(row[np.isfinite(row)], times, atol=1e-12)
    assert cut.num_conditions == 6 and cut.steps == 20 and cut.duration == pytest.approx(0.2)


def test_windows_of_different_lengths():
    with pytest.raises(ValueError, match=r"equally long, got lengths from 0.1 to 0.2: cut them with"):
        cut_windows(population(), data(), rs.Windows([0.0, 0.5], [0.1, 0.7]), 0.01)
