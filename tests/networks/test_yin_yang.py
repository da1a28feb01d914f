"""The Yin-Yang task is the published one."""

from __future__ import annotations

import numpy as np
import pytest

import roughspike as rs


@pytest.mark.parametrize(("part", "seed", "count"), [("train", 42, 5000), ("validation", 41, 1000), ("test", 40, 1000)])
def test_the_seeds_give_the_published_sets(shared, part, seed, count):
    features, labels = rs.yin_yang(count, seed)
    np.testing.assert_allclose(features, np.load(shared / "yin_yang" / f"{part}_samples.npy"), rtol=1e-12)
    np.testing.assert_array_equal(labels, np.load(shared / "yin_yang" / f"{part}_labels.npy"))


def test_the_classes_are_balanced_and_point_symmetric():
    features, labels = rs.yin_yang(1500, seed=1)
    assert np.all(np.abs(np.bincount(labels) - 500) < 5 * np.sqrt(1500 * 2 / 9))  # 5 standard deviations
    assert np.all(np.hypot(features[:, 0] - 0.5, features[:, 1] - 0.5) <= 0.5)
    np.testing.assert_allclose(features[:, :2] + features[:, 2:], 1.0)
    dots = labels == 2
    near = np.minimum(*(np.hypot(features[:, 0] - x, features[:, 1] - 0.5) for x in (0.25, 0.75)))
    np.testing.assert_array_equal(near < 0.1, dots)


def test_the_latency_code_has_one_spike_per_channel_and_a_bias():
    features, _ = rs.yin_yang(20, seed=3)
    train = rs.latency_code(features, t1=48e-3, latest=30e-3)
    np.testing.assert_allclose(train.times[:, :4, 0], 30e-3 * features)
    np.testing.assert_array_equal(train.times[:, 4, 0], 0.0)
    assert rs.latency_code(features, t1=48e-3, latest=30e-3, bias=False).num_neurons == 4


def test_bad_codes_are_refused():
    with pytest.raises(ValueError, match="features must have shape .batch, channels. and lie in"):
        rs.latency_code(np.array([[1.5]]), t1=1.0, latest=0.5)
    with pytest.raises(ValueError, match="latest must lie in"):
        rs.latency_code(np.array([[0.5]]), t1=1.0, latest=2.0)
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        rs.yin_yang(0)
