"""Bits per spike against closed forms."""

import math

import numpy as np
import pytest

from roughspike.baselines.poisson import bits_per_spike, count_spikes, poisson_log_likelihood, train_rate
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows


def test_a_process_with_two_rates_has_the_known_gain():
    # rate 30 where 30 spikes fall in 1 s, and 10 where 10 do: gain = sum of n log(rate / mean), no change of the total
    two_rates = poisson_log_likelihood(30, 30.0, 1.0) + poisson_log_likelihood(10, 10.0, 1.0)
    expected = (30 * math.log2(30 / 20) + 10 * math.log2(10 / 20)) / 40
    assert bits_per_spike(two_rates, 40, 20.0, 2.0) == pytest.approx(expected, rel=1e-12)


def test_the_yardstick_scores_zero_and_a_wrong_rate_less():
    assert bits_per_spike(poisson_log_likelihood(7, 3.0, 2.0), 7, 3.0, 2.0) == 0.0
    assert bits_per_spike(poisson_log_likelihood(7, 9.0, 2.0), 7, 3.5, 2.0) < 0


def test_rate_counts_every_trial_and_silent_ones():
    spikes = SpikeTrain(np.array([[[0.1, 0.2, 1.5]], [[np.inf] * 3]]), t1=2.0)
    windows = Windows([0.0], [1.0])
    assert count_spikes(spikes, windows) == 2
    assert train_rate(spikes, windows) == 1.0


def test_bad_input():
    with pytest.raises(ValueError, match="num_spikes is 0: .*score windows that hold spikes"):
        bits_per_spike(0.0, 0, 1.0, 1.0)
    with pytest.raises(ValueError, match="rate must be greater than 0, got 0.0: take it from windows that hold spikes"):
        poisson_log_likelihood(1, 0.0, 1.0)
    with pytest.raises(ValueError, match="no spike lies in the training windows: choose windows"):
        train_rate(SpikeTrain(np.array([[1.5]]), t1=2.0), Windows([0.0], [1.0]))
