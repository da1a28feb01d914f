"""SpikeTrain and Windows: what they hold, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import roughspike as rs
from roughspike.paths.spikes import from_lists, unchecked

INF = np.inf


def test_shapes_counts_and_batches():
    train = rs.SpikeTrain(np.array([[[0.1, 0.4, INF]], [[INF, INF, INF]]]), t0=0.0, t1=1.0, onset=3600.0)
    assert (train.num_neurons, train.capacity, train.batch_shape, train.duration) == (1, 3, (2,), 1.0)
    np.testing.assert_array_equal(train.counts, [[2], [0]])
    silent = train[1]
    assert silent.batch_shape == () and silent.onset == 3600.0 and int(silent.counts[0]) == 0
    assert train[:1].batch_shape == (1,)
    with pytest.raises(IndexError, match="no batch axis"):
        silent[0]


def test_lists_are_the_inverse():
    trials = [[np.array([0.1, 0.2]), np.array([])], [np.array([]), np.array([0.7])]]
    train = from_lists(trials, 0.0, 1.0, onset=2.0)
    assert train.times.shape == (2, 2, 2) and train.onset == 2.0
    for row, again in zip(trials, train.to_lists(), strict=True):
        for x, y in zip(row, again, strict=True):
            np.testing.assert_array_equal(x, y)
    assert from_lists([[np.array([])]]).times.shape == (1, 1, 1)


def test_host_times_stay_float64_and_traced_times_pass():
    assert rs.SpikeTrain(np.array([[0.1]])).times.dtype == np.float64
    assert rs.SpikeTrain(np.array([[0]])).times.dtype == np.float64
    shifted = jax.jit(lambda t: rs.SpikeTrain(t, t1=2.0).counts)(jnp.array([[0.5, jnp.inf]]))
    assert int(shifted[0]) == 1
    doubled = jax.tree.map(lambda t: 2 * t, rs.SpikeTrain(np.array([[0.1, INF]])))
    np.testing.assert_array_equal(doubled.times, [[0.2, INF]])


def test_spikes_at_both_ends_belong_to_the_window():
    assert int(rs.SpikeTrain(np.array([[0.0, 1.0]])).counts[0]) == 2


def test_float32_rounding_at_the_end_is_forgiven():
    end = np.nextafter(np.float32(1.0), np.float32(2.0))
    assert int(rs.SpikeTrain(jnp.asarray([[end]], jnp.float32)).counts[0]) == 1


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([[0.1, np.nan]], "NaN: drop those spikes, and pad with"),
        ([[0.1, INF, 0.4]], "padded at the end.*a spike stands after a pad"),
        ([[-INF, 0.4]], "padded at the end"),
        ([[0.4, 0.1]], r"1 unsorted spike times, the first at index \(0, 0\).*sort each neuron's times"),
        ([[0.1, 0.1, INF]], "repeated.*drop duplicates"),
        ([[0.1, 1.5]], r"1 spikes outside the window \[0.0, 1.0\], the first at 1.5: widen t0, t1, or cut"),
        ([[-0.2, 0.5]], "outside the window.*-0.2"),
        ([0.1, 0.2], r"shape \(..., neurons, capacity\), got \(2,\)"),
    ],
)
def test_bad_times(times, message):
    with pytest.raises(ValueError, match=message):
        rs.SpikeTrain(np.array(times))


@pytest.mark.parametrize(("t0", "t1"), [(1.0, 1.0), (2.0, 1.0), (0.0, np.nan)])
def test_empty_window(t0, t1):
    with pytest.raises(ValueError, match="t1 must lie after t0, got the window"):
        rs.SpikeTrain(np.array([[INF]]), t0=t0, t1=t1)


def test_unchecked_is_the_same_type():
    train = unchecked(jnp.array([[0.5]]), 0.0, 1.0)
    assert isinstance(train, rs.SpikeTrain) and jax.tree.structure(train) == jax.tree.structure(
        rs.SpikeTrain(jnp.array([[0.5]]))
    )


def test_windows_select_drop_split_and_find():
    tiles = rs.Windows.tile(0.0, 10.0, 20)
    test, train = tiles.select([7, 2, 2]), tiles.drop([2, 7])
    assert (len(test), len(train), test.duration, train.duration) == (2, 18, 1.0, 9.0)
    assert test.starts == (1.0, 3.5)
    np.testing.assert_array_equal(test.index_of(np.array([0.99, 1.0, 1.49, 1.5, 3.6, 99.0])), [-1, 0, 0, -1, 1, -1])
    np.testing.assert_array_equal(test.contains(np.array([0.0, 1.2])), [False, True])
    pieces = test.split(0.1)
    assert len(pieces) == 10
    np.testing.assert_allclose(pieces.duration, test.duration, rtol=1e-12)
    assert len(test.split(100.0)) == 2


@pytest.mark.parametrize(
    ("starts", "stops", "message"),
    [
        ([], [], "same length, at least 1"),
        ([0.0], [1.0, 2.0], "same length"),
        ([0.0], [0.0], "must end after it starts"),
        ([0.0], [np.nan], "must end after it starts"),
        ([1.0, 0.0], [2.0, 0.5], "sorted and must not overlap"),
        ([0.0, 0.5], [1.0, 2.0], "sorted and must not overlap"),
    ],
)
def test_bad_windows(starts, stops, message):
    with pytest.raises(ValueError, match=message):
        rs.Windows(starts, stops)
