"""Spikes come back from a file exactly as they were written."""

import errno
import os
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from roughspike.io.spikes import read_spikes, write_spikes
from roughspike.paths.spikes import SpikeTrain, from_lists

SUFFIXES = [".csv", ".npz"]


def random_train(onset=0.0, t0=0.0, t1=2.0):
    rng = np.random.default_rng(0)
    trials = [[np.sort(rng.uniform(t0, t1, n)) for n in row] for row in ([3, 0], [0, 0], [1, 7], [0, 0])]
    return from_lists(trials, t0, t1, onset=onset)


def same(a, b):
    assert (a.t0, a.t1, a.onset) == (b.t0, b.t1, b.onset)
    assert a.times.dtype == b.times.dtype == np.float64 and isinstance(b.times, np.ndarray)
    np.testing.assert_array_equal(a.times, b.times)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("clock", [(0.0, 0.0, 2.0), (3600.1, 0.0, 2.0), (-0.3, -1.0, 1.0)])
def test_round_trip_is_exact(tmp_path, suffix, clock):
    train = random_train(*clock)
    write_spikes(tmp_path / f"a{suffix}", train)
    same(train, read_spikes(tmp_path / f"a{suffix}"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_simulated_trains_and_single_trains_are_written_too(tmp_path, suffix):
    single = SpikeTrain(jnp.array([[0.1, 0.7, jnp.inf], [jnp.inf, jnp.inf, jnp.inf]], dtype=jnp.float32))
    write_spikes(tmp_path / f"a{suffix}", single)
    back = read_spikes(tmp_path / f"a{suffix}")
    assert back.times.shape == (1, 2, 2)
    np.testing.assert_array_equal(back.times[0, 0], np.array([0.1, 0.7], dtype=np.float32))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_late_times_keep_their_precision_and_the_window_is_in_the_recordings_clock(tmp_path, suffix):
    late = 3600.0 + np.array([1.25e-7, 0.1000001, 1.9999999])
    file = tmp_path / f"late{suffix}"
    if suffix == ".csv":
        file.write_text("time_s\n" + "\n".join(repr(t) for t in late.tolist()))
    else:
        np.savez(file, time_s=late)
    spikes = read_spikes(file, window=(3600.0, 3602.0))
    np.testing.assert_allclose(spikes.times[0, 0], [1.25e-7, 0.1000001, 1.9999999], rtol=0, atol=5e-13)
    assert (spikes.t0, spikes.t1, spikes.onset) == (0.0, 2.0, 3600.0)
    write_spikes(file, spikes)
    same(spikes, read_spikes(file))
    same(spikes, read_spikes(file, window=(3600.0, 3602.0)))
    with pytest.warns(UserWarning, match=r"dropped 2 of 3 spikes outside the window \[3601, 3602\]"):
        cut = read_spikes(file, window=(3601.0, 3602.0))
    np.testing.assert_allclose(cut.times[0, 0], [0.9999999], rtol=0, atol=5e-13)


def test_a_csv_is_readable_by_people(tmp_path):
    write_spikes(tmp_path / "a.csv", from_lists([[np.array([0.1])], [np.array([])]], t1=2.0, onset=5.0))
    assert (tmp_path / "a.csv").read_text() == (
        '# roughspike: {"window": [0.0, 2.0], "onset": 5.0, "num_trials": 2, "num_neurons": 1}\n'
        "trial,neuron,time_s\n0,0,0.1\n"
    )


@pytest.mark.parametrize(
    "text",
    ["0.1\n0.2\n", "time_s\n0.1\n0.2", "\ufefftime_s\n0.1\n0.2", "# my cell\n\nneuron;time_s\n0;0.1\n\n0;0.2\n"],
)
def test_missing_columns_are_zero(tmp_path, text):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    spikes = read_spikes(tmp_path / "a.txt", window=(0.0, 1.0))
    np.testing.assert_array_equal(spikes.times, [[[0.1, 0.2]]])


def test_silent_trials_and_neurons_are_kept(tmp_path):
    (tmp_path / "a.csv").write_text("trial,neuron,time_s\n1,1,0.5\n")
    file = tmp_path / "a.csv"
    assert read_spikes(file, window=(0.0, 1.0)).times.shape == (2, 2, 1)
    spikes = read_spikes(file, window=(0.0, 1.0), num_trials=5, num_neurons=3)
    assert np.asarray(spikes.counts).sum(axis=1).tolist() == [0, 1, 0, 0, 0] and spikes.num_neurons == 3


def test_a_trial_whose_spikes_lie_outside_is_silent_and_kept(tmp_path):
    (tmp_path / "a.csv").write_text("trial,time_s\n0,0.5\n1,7.0\n")
    with pytest.warns(UserWarning, match="dropped 1 of 2 spikes"):
        assert read_spikes(tmp_path / "a.csv", window=(0.0, 1.0)).counts[:, 0].tolist() == [1, 0]


def test_header_only_means_all_silent(tmp_path):
    (tmp_path / "a.csv").write_text("trial,neuron,time_s\n")
    spikes = read_spikes(tmp_path / "a.csv", window=(0.0, 1.0), num_trials=3)
    assert spikes.times.shape == (3, 1, 1) and not np.isfinite(spikes.times).any()
    write_spikes(tmp_path / "b.npz", spikes)
    same(spikes, read_spikes(tmp_path / "b.npz"))


@pytest.mark.parametrize(("unit", "factor"), [("ms", 1e3), ("us", 1e6)])
def test_units(tmp_path, unit, factor):
    (tmp_path / "a.csv").write_text(f"time_{unit}\n{0.125 * factor}\n{0.5 * factor}\n")
    np.testing.assert_array_equal(read_spikes(tmp_path / "a.csv", (0.0, 1.0), unit=unit).times, [[[0.125, 0.5]]])


def test_sort_and_drop_duplicates(tmp_path):
    (tmp_path / "a.csv").write_text("trial,time_s\n1,0.5\n0,0.4\n1,0.2\n1,0.5\n")
    spikes = read_spikes(tmp_path / "a.csv", (0.0, 1.0), sort=True, drop_duplicates=True)
    np.testing.assert_array_equal(spikes.times[:, 0], [[0.4, np.inf], [0.2, 0.5]])


def test_rows_of_different_trials_may_be_mixed(tmp_path):
    (tmp_path / "a.csv").write_text("trial,time_s\n1,0.2\n0,0.4\n1,0.5\n0,0.6\n")
    np.testing.assert_array_equal(read_spikes(tmp_path / "a.csv", (0.0, 1.0)).times[:, 0], [[0.4, 0.6], [0.2, 0.5]])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    file = tmp_path / f"a{suffix}"
    train = random_train()
    write_spikes(file, train)

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_spikes(file, train[:1])
    same(train, read_spikes(file))
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_shared_recording(shared):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spikes = read_spikes(shared / "stn_trials.csv", window=(-1.0, 1.0), num_trials=50)
    assert spikes.times.shape[:2] == (50, 1) and int(spikes.counts.sum()) == 4696
    assert (spikes.t0, spikes.t1, spikes.onset) == (0.0, 2.0, -1.0)
