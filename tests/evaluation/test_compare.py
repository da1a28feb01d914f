"""Comparison of recorded with simulated trains: several trials, several neurons, held-out windows only."""

from __future__ import annotations

import numpy as np
import pytest

from roughspike.evaluation.compare import compare_intervals, compare_rates, compare_trains, smoothing_width
from roughspike.evaluation.types import Evaluation, Metrics

WHOLE = ((0.0, 10.0),)


def renewal(rng: np.random.Generator, rate: float = 50.0, duration: float = 10.0) -> np.ndarray:
    spikes = np.cumsum(0.003 + rng.exponential(1 / rate - 0.003, int(3 * rate * duration)))
    return spikes[spikes < duration]


def merits(recorded, simulated, spans=WHOLE) -> Metrics:
    return compare_trains(recorded, simulated, spans, compare_intervals(recorded, simulated, spans))


def test_perfect_simulations():
    rng = np.random.default_rng(0)
    recorded = ((renewal(rng),),)
    found = merits(recorded, (recorded, recorded))
    assert found.rate_error == 0 and found.isi_ks == 0 and found.isi_w1 == 0
    assert [c.value for c in found.coincidence] == pytest.approx([1, 1, 1])
    assert found.coincidence_at(0.002) == pytest.approx(1) and np.isnan(found.coincidence_at(0.003))


def test_only_the_windows_count():
    rng = np.random.default_rng(1)
    spans = ((2.0, 3.0), (6.0, 7.0))
    train = renewal(rng)
    outside = train[~((train >= 2) & (train < 3)) & ~((train >= 6) & (train < 7))]
    inside = np.setdiff1d(train, outside)
    found = merits(((train,),), (((inside,),),), spans)
    assert found.rate_error == 0 and found.coincidence_at(0.002) == pytest.approx(1)
    assert found.recorded_rate == pytest.approx(len(inside) / 2)


def test_rates_are_per_neuron_and_trial():
    rng = np.random.default_rng(2)
    recorded = tuple(tuple(renewal(rng, 40) for _ in range(3)) for _ in range(5))
    simulated = tuple((tuple(renewal(rng, 44) for _ in range(3)),) for _ in range(20))
    found = merits(recorded, simulated)
    assert found.recorded_rate == pytest.approx(40, rel=0.05)
    assert found.rate_error == pytest.approx(0.1, abs=0.05)
    assert abs(found.coincidence_at(0.002)) < 0.05
    assert found.coincidence[0].between_trials is not None
    assert len(compare_intervals(recorded, simulated, WHOLE)) == 3


def test_single_trial_has_no_reliability():
    rng = np.random.default_rng(3)
    found = merits(((renewal(rng),),), tuple(((renewal(rng),),) for _ in range(4)))
    assert found.coincidence[0].between_trials is None and found.coincidence[0].between_models is not None


def test_silence_is_not_an_error():
    silent = ((np.empty(0),),)
    found = merits(silent, (silent,))
    assert found.recorded_rate == 0 and np.isnan(found.rate_error) and np.isnan(found.coincidence_at(0.001))


def test_no_simulations():
    found = merits(((np.array([0.1, 0.2]),),), ())
    assert found.recorded_rate == pytest.approx(0.2) and np.isnan(found.simulated_rate)


@pytest.mark.parametrize("trials", [1, 12])
def test_the_band_holds_ninety_percent_of_recordings(trials: int):
    rng = np.random.default_rng(4)
    shares = []
    for _ in range(12):
        recorded = tuple((renewal(rng, 60, 4.0),) for _ in range(trials))
        simulated = tuple(((renewal(rng, 60, 4.0),),) for _ in range(40))
        rate = compare_rates(recorded, simulated, 0.0, 4.0)[0]
        shares.append(np.mean((rate.recorded >= rate.low) & (rate.recorded <= rate.high)))
    assert 0.84 < np.mean(shares) < 0.95


def test_smoothing_narrows_with_more_spikes():
    few, many = ((np.linspace(0, 10, 100),),), ((np.linspace(0, 10, 3000),),)
    assert smoothing_width(few, 0.0, 10.0) > smoothing_width(many, 0.0, 10.0)
    assert smoothing_width(((np.empty(0),),), 0.0, 10.0) <= 1.0


def build(recorded, simulated) -> Evaluation:
    metrics = Metrics(1.0, 1.0, 0.0, 0.0, 0.0)
    return Evaluation("t", "s", "m", 0.0, 1.0, recorded, simulated, WHOLE, WHOLE, (0.0, 1.0), metrics)


def test_an_evaluation_needs_a_trial():
    with pytest.raises(ValueError, match="no trial or no neuron: pass at least one, silent if need be"):
        build((), ())


def test_simulations_must_have_the_shape_of_the_recording():
    one = np.array([0.1])
    with pytest.raises(ValueError, match="must have 1 or 1 trials of 2 neurons like the recording"):
        build(((one, one),), (((one,),),))
