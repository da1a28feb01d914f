"""Figures of merit against what they must be by hand, by brute force, and in law."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from roughspike.evaluation.metrics import (
    coincidence_factor,
    count_coincidences,
    intervals,
    isi_statistics,
    join,
    rate_error,
    restrict,
    smoothed_rate,
    time_rescaling,
)

SPANS = ((0.0, 1.0), (2.0, 3.0))


def poisson(rng: np.random.Generator, rate: float, duration: float) -> np.ndarray:
    return np.sort(rng.uniform(0, duration, rng.poisson(rate * duration)))


def most_pairs(a: np.ndarray, b: np.ndarray, precision: float) -> int:
    """Largest one-to-one matching, by the assignment problem."""
    from scipy.optimize import linear_sum_assignment

    close = np.abs(a[:, None] - b[None, :]) <= precision
    rows, columns = linear_sum_assignment(~close)
    return int(close[rows, columns].sum())


def test_identical_trains_score_one():
    train = np.arange(0.05, 10, 0.1)
    assert coincidence_factor(train, train, 0.002, 10.0) == pytest.approx(1.0)


def test_coincidence_factor_by_hand():
    # 2 of 3 recorded and 4 simulated spikes coincide; nu = 4 / s, chance = 2 * 4 * 0.01 = 0.08
    recorded, simulated = np.array([0.1, 0.3, 0.7]), np.array([0.105, 0.5, 0.695, 0.9])
    expected = (2 - 0.08 * 3) / 3.5 / (1 - 0.08)
    assert coincidence_factor(recorded, simulated, 0.01, 1.0) == pytest.approx(expected)


def test_a_spike_takes_part_in_one_coincidence():
    assert count_coincidences(np.array([0.5]), np.array([0.499, 0.501]), 0.01) == 1


def test_greedy_matching_is_the_largest_one():
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = poisson(rng, 30, 1.0), poisson(rng, 40, 1.0)
        assert count_coincidences(a, b, 0.02) == most_pairs(a, b, 0.02)


def test_independent_trains_score_zero_on_average():
    rng = np.random.default_rng(1)
    values = [coincidence_factor(poisson(rng, 10, 50.0), poisson(rng, 10, 50.0), 0.002, 50.0) for _ in range(200)]
    # a spike takes part in one pair only, which costs about 2 nu Delta / 4 = 0.01 here
    assert -0.02 < np.mean(values) < 4 * np.std(values) / np.sqrt(200)


def test_undefined_coincidence_is_nan():
    assert np.isnan(coincidence_factor(np.empty(0), np.empty(0), 0.002, 1.0))
    assert np.isnan(coincidence_factor(np.array([0.5]), np.linspace(0, 0.99, 500), 0.002, 1.0))


def test_silent_model_scores_zero():
    assert coincidence_factor(np.array([0.2, 0.5]), np.empty(0), 0.002, 1.0) == 0.0


@pytest.mark.parametrize("train", [[0.3, 0.1], [0.1, np.inf], [0.1, np.nan]])
def test_bad_train_says_what_to_do(train: list[float]):
    with pytest.raises(ValueError, match=r"simulated must be one ascending row .* sort it and drop the \+inf padding"):
        coincidence_factor(np.array([0.1]), np.array(train), 0.002, 1.0)


def test_bad_precision():
    with pytest.raises(ValueError, match="precision and duration must be above 0"):
        coincidence_factor(np.array([0.1]), np.array([0.1]), 0.0, 1.0)


def test_fast_enough_for_forty_long_trains():
    rng = np.random.default_rng(2)
    recorded = poisson(rng, 100, 10.0)
    trains = [poisson(rng, 100, 10.0) for _ in range(40)]
    start = time.process_time()
    for precision in (0.001, 0.002, 0.004):
        for train in trains:
            coincidence_factor(recorded, train, precision, 10.0)
    assert time.process_time() - start < 2.0


def test_interval_distances_agree_with_scipy():
    rng = np.random.default_rng(3)
    a, b = rng.gamma(2.0, 0.005, 180), rng.gamma(2.5, 0.005, 5000)
    found = isi_statistics(a, b)
    assert found.ks == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert found.wasserstein == pytest.approx(stats.wasserstein_distance(a, b))
    assert found.recorded_cv == pytest.approx(np.std(a) / np.mean(a))
    assert found.simulated_mean == pytest.approx(np.mean(b))


def test_no_intervals_is_nan_not_an_error():
    found = isi_statistics(np.empty(0), np.array([0.1]))
    assert np.isnan([found.ks, found.wasserstein, found.recorded_cv, found.recorded_mean]).all()


def test_intervals_do_not_cross_windows():
    train = np.array([0.2, 0.9, 1.5, 2.1, 2.4, 2.9])
    np.testing.assert_allclose(intervals(train, SPANS), [0.7, 0.3, 0.5])


def test_windows_are_half_open():
    first, second = restrict(np.array([0.0, 1.0, 2.0, 3.0]), SPANS)
    assert first.tolist() == [0.0] and second.tolist() == [2.0]


def test_joined_windows_keep_their_distance():
    # 0.999 and 2.001 lie at the edges of windows that must not touch after joining
    joined = join(np.array([0.999, 2.001]), SPANS, gap=0.1)
    assert joined[1] - joined[0] > 0.1


def test_rate_error():
    assert rate_error(100, [90, 92]) == pytest.approx(0.09)
    assert np.isnan(rate_error(0, [1.0]))


def test_smoothed_rate_keeps_the_number_of_spikes():
    rng = np.random.default_rng(4)
    train = poisson(rng, 80, 4.0)
    times = np.linspace(0, 4, 8001)
    inner = smoothed_rate([train], times, 0.01, -1.0, 5.0)
    assert np.trapezoid(inner, times) == pytest.approx(len(train), rel=0.02)


def test_smoothed_rate_does_not_sag_at_the_ends():
    regular = np.arange(0.005, 1, 0.01)
    rate = smoothed_rate([regular, regular], np.array([0.0, 0.5, 1.0]), 0.05, 0.0, 1.0)
    np.testing.assert_allclose(rate, 100, rtol=0.03)


def test_smoothed_rate_rejects_no_width():
    with pytest.raises(ValueError, match="width must be above 0"):
        smoothed_rate([np.array([0.1])], np.array([0.1]), 0.0, 0.0, 1.0)


def test_rescaling_of_a_true_model_stays_in_the_band():
    rng = np.random.default_rng(5)
    inside = [time_rescaling(rng.uniform(size=150)).inside for _ in range(400)]
    assert 0.92 < np.mean(inside) < 0.98


def test_rescaling_agrees_with_scipy():
    z = np.random.default_rng(6).beta(1.2, 1.0, 300)
    found, expected = time_rescaling(z), stats.kstest(z, "uniform")
    assert found.distance == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, rel=0.1)


def test_rescaling_sees_a_wrong_model():
    rng = np.random.default_rng(7)
    true_rate, wrong_rate = 50.0, 80.0
    z = -np.expm1(-wrong_rate * rng.exponential(1 / true_rate, 300))
    assert not time_rescaling(z).inside


def test_rescaling_of_nothing():
    assert np.isnan(time_rescaling(np.empty(0)).distance)


def test_bad_rescaled_values():
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]: pass z = 1 - exp"):
        time_rescaling(np.array([0.2, 1.3]))
