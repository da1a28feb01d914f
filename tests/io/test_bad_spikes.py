"""Every bad spike file is refused with a message that names the place and the remedy."""

import numpy as np
import pytest

from roughspike.io.spikes import read_spikes, write_spikes
from roughspike.paths.spikes import SpikeTrain

WINDOW = (0.0, 2.0)


def write(tmp_path, text, name="a.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trial,time_s\n0,0.1\n1,0.5\n1,0.3\n", "line 4: unsorted.*0.3 follows 0.5.*negative interval.*sort=True"),
        ("time_s\n0.1\n0.2\n0.2\n", "line 4: duplicate.*time 0.2 .1 duplicates.*drop_duplicates=True"),
        ("time_s\n0.1\n# note\nnan\n", "line 4: column 'time_s' is NaN or infinite .nan.: fix or delete the line"),
        ("time_s\n0.1\ninf\n", "line 3: column 'time_s' is NaN or infinite"),
        ("trial,time_s\n0,0.1\n0.2\n", "line 3: 1 cells where the first line has 2: every line needs the same columns"),
        ("time_s\n0.1\nspike\n", "line 3: 'spike' in column 'time_s' is not a number: write a plain decimal number"),
        (
            "trial,time_s\n-1,0.1\n",
            "line 2: trial index -1 is negative: trial indices are whole numbers counted from 0",
        ),
        ("neuron,time_s\n0,0.1\n1.5,0.1\n", "line 3: neuron index 1.5 is not a whole number"),
        ("trial,neuron,spike\n0,0,0.1\n", "no column 'time_s', it has trial, neuron, spike: rename the column"),
        ("trial,time_ms\n0,0.1\n", "no column 'time_s', it has trial, time_ms: pass unit='ms'"),
        ("0,0,0.1\n0,0,0.2\n", "3 columns but no header: begin it with the line 'trial,neuron,time_s'"),
        ("", "is empty: it needs a header line"),
        ("# only a comment\n", "is empty: it needs a header line"),
        ("trial,neuron,time_s\n", "holds no spikes: if all trials are silent, pass num_trials"),
        ("time_s\n5.0\n9.0\n", r"all 2 spikes lie outside the window \[0, 2\] s, they span 5 to 9 s: pass a window"),
        ("time_s\n100.5\n900\n1500\n", r"all 3 spikes lie outside.*100.5 to 1500 s: .*in ms: pass unit=\"ms\""),
        ("time_s\n100500\n1500000\n", r"all 2 spikes.*in us: pass unit=\"us\"; if they are sample numbers, divide"),
        ("time_s\n5000\n48000000\n", "all 2 spikes lie outside.*sample numbers, divide them by the sampling rate"),
        ("# roughspike: {window}\ntime_s\n0.1\n", "not valid JSON.*delete the line"),
        ('# roughspike: {"window": 3}\ntime_s\n0.1\n', "description.*cannot be read.*window is two numbers"),
        ("trial,time_s\n999999999,0.1\n", "do not fit in memory: check that the trial and neuron columns hold indices"),
    ],
)
def test_bad_text(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_spikes(write(tmp_path, text), window=WINDOW)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"spikes": np.ones(2)}, "no array 'time_s', it has spikes: store the spike times"),
        ({"time_s": np.ones((2, 2))}, "'time_s' must be a 1-d array of numbers.*one entry per spike"),
        ({"time_s": np.array(["a"])}, "'time_s' must be a 1-d array of numbers"),
        ({"time_s": np.array([0.1, np.nan])}, "entry 1: 'time_s' is NaN or infinite: fix or delete the spike"),
        ({"time_s": np.array([0.5, 0.1])}, "entry 1: unsorted.*sort=True"),
        ({"time_s": np.array([0.5, 0.7]), "trial": np.zeros(3)}, "'trial' has 3 entries and 'time_s' has 2"),
        ({"time_s": np.array([0.5, 0.7]), "trial": np.array([0, -2])}, "entry 1: trial index -2 is negative"),
        ({"time_s": np.array([{}], dtype=object)}, "cannot be read.*store plain number arrays"),
    ],
)
def test_bad_archive(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_spikes(tmp_path / "a.npz", window=WINDOW)


def test_damaged_archive(tmp_path):
    with pytest.raises(ValueError, match="cannot be read|not an NPZ archive"):
        read_spikes(write(tmp_path, "this is text", "a.npz"), window=WINDOW)


def test_missing_file_folder_and_binary_file(tmp_path):
    with pytest.raises(ValueError, match="no such file: .*nowhere.csv.*check the path"):
        read_spikes(tmp_path / "nowhere.csv", window=WINDOW)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="is a folder, not a file: pass the path of one file"):
        read_spikes(tmp_path / "folder.csv", window=WINDOW)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match="not UTF-8 text: save it as a UTF-8 CSV"):
        read_spikes(tmp_path / "b.csv", window=WINDOW)


def test_unknown_suffix_and_unit(tmp_path):
    with pytest.raises(ValueError, match="cannot tell the format of 'a.mat': name the file .csv"):
        read_spikes(tmp_path / "a.mat", window=WINDOW)
    with pytest.raises(ValueError, match='unit must be "s", "ms" or "us", got \'min\''):
        read_spikes(tmp_path / "a.csv", window=WINDOW, unit="min")
    with pytest.raises(ValueError, match="name a file that ends in .csv or .npz"):
        write_spikes(tmp_path / "a.mat", SpikeTrain([[0.5]]))
    with pytest.raises(ValueError, match=r"batch axes \(2, 1\).*index or reshape first"):
        write_spikes(tmp_path / "a.csv", SpikeTrain(np.full((2, 1, 1, 1), 0.5)))


@pytest.mark.parametrize("window", [(2.0, 0.0), (1.0, 1.0)])
def test_window_must_end_after_it_starts(tmp_path, window):
    with pytest.raises(ValueError, match="window must end after it starts.*start < stop"):
        read_spikes(tmp_path / "a.csv", window=window)


def test_window_must_be_known(tmp_path):
    with pytest.raises(ValueError, match=r"does not say its window .its times span 0.1 to 0.4 s.: pass window="):
        read_spikes(write(tmp_path, "time_s\n0.1\n0.4\n"))
    with pytest.raises(ValueError, match="window must be two finite times"):
        read_spikes(tmp_path / "a.csv", window=(0.0, float("nan")))


def test_counts_smaller_than_an_index(tmp_path):
    file = write(tmp_path, "trial,neuron,time_s\n0,0,0.1\n7,2,0.1\n")
    with pytest.raises(ValueError, match="num_trials is 5, but .*line 3 has trial 7: pass num_trials=8 or more"):
        read_spikes(file, window=WINDOW, num_trials=5)
    with pytest.raises(ValueError, match="num_neurons is 1, but .*line 3 has neuron 2: pass num_neurons=3 or more"):
        read_spikes(file, window=WINDOW, num_neurons=1)


def test_times_outside_are_dropped_with_a_warning(tmp_path):
    file = write(tmp_path, "time_s\n-0.5\n0.1\n1.5\n2.5\n")
    with pytest.warns(UserWarning, match=r"dropped 2 of 4 spikes outside the window \[0, 2\] s; the file spans -0.5"):
        spikes = read_spikes(file, window=WINDOW)
    np.testing.assert_array_equal(spikes.times, [[[0.1, 1.5]]])


def test_mostly_outside_suggests_the_unit(tmp_path):
    file = write(tmp_path, "time_s\n1.5\n" + "\n".join(str(k) for k in range(100, 1900, 100)))
    with pytest.warns(UserWarning, match=r"dropped 18 of 19 spikes.*in ms: pass unit=\"ms\""):
        read_spikes(file, window=WINDOW)


def test_rates_that_suggest_a_wrong_unit_warn(tmp_path):
    fast = write(tmp_path, "time_s\n" + "\n".join(repr(k * 1e-5) for k in range(1, 60)))
    with pytest.warns(UserWarning, match=r"median interval 0.01 ms.*above 1000 Hz: check unit=.s.*window"):
        read_spikes(fast, window=WINDOW)
    slow = write(tmp_path, "time_s\n5.0\n")
    with pytest.warns(UserWarning, match=r"fire at 0.001 Hz on average, below 0.01 Hz: check unit=.s.*window"):
        read_spikes(slow, window=(0.0, 1000.0))
