"""The Yin-Yang task is the published one."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import roughspike as rs


@pytest.mark.parametrize(("part", "seed", "count"), [("train", 42, 5000), ("validation", 41, 1000), ("test", 40, 1000)])
def test_the_seeds_give_the_published_sets(shared, part, seed, count):
    features, labels = rs.yin_yang(count, seed)
    np.testing.assert_allclose(features, np.load(shared / "yin_yang" / f"{part}_samples.npy"), rtol=1e-12)
    np.testing.assert_array_equal(labels, np.load(shared / "yin_yang" / f"{part}_labels.npy"))


PUBLISHED = {  # of the published files, for where they are not at hand: labels, sums of x and y, the last sample
    ("train", 42, 5000): ("7ea074c03c7531b4", (2528.32245657, 2505.76686175), (0.76907972, 0.58833893)),
    ("validation", 41, 1000): ("6a5d1f872dddf69d", (496.40889649, 493.64854667), (0.7107041, 0.80473335)),
    ("test", 40, 1000): ("2e48e04154ecf043", (498.25698935, 488.78023568), (0.32834061, 0.38998304)),
}


@pytest.mark.parametrize(("part", "seed", "count"), PUBLISHED)
def test_the_seeds_give_what_is_known_of_the_published_sets(part, seed, count):
    features, labels = rs.yin_yang(count, seed)
    digest, sums, last = PUBLISHED[part, seed, count]
    assert hashlib.sha256(labels.astype(np.uint8).tobytes()).hexdigest()[:16] == digest
    np.testing.assert_allclose(features[:, :2].sum(axis=0), sums, rtol=1e-9)
    np.testing.assert_allclose(features[-1, :2], last, rtol=1e-7)


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
