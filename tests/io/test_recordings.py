"""The grasshopper recordings have the facts that the recipe relies on."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from roughspike.io import recordings
from roughspike.io.recordings import load_recording, split_windows


@pytest.mark.parametrize(
    ("name", "count", "shortest"), [("grasshopper-1", 929, 3.2e-3), ("grasshopper-2", 868, 3.7e-3)]
)
def test_facts(name, count, shortest):
    recording = load_recording(name)
    times = recording.spikes.times
    assert times.shape == (1, 1, count) and times.dtype == np.float64
    assert (recording.spikes.t0, recording.spikes.t1, recording.spikes.onset) == (0.0, 10.0, 0.0)
    assert np.diff(times[0, 0]).min() == pytest.approx(shortest, abs=1e-9)
    np.testing.assert_allclose(times * 1e4, np.round(times * 1e4), atol=1e-7)  # multiples of 0.1 ms
    stimulus = recording.stimulus
    assert stimulus.values.shape == (200_000,) and (stimulus.dt, stimulus.start) == (5e-5, 0.0)
    assert abs(stimulus.values.mean()) < 1e-10 and abs(stimulus.values.std() - 1) < 1e-10
    assert recording.name == name and "2006" in recording.citation and "BSD" in recording.licence


def test_stimulus_is_in_decibels_and_aligned_with_the_spikes():
    recording = load_recording("grasshopper-1")
    folder = recordings._data_folder()
    clock, amplitude = np.loadtxt(folder / "grasshopper_stimulus1.txt").T
    assert np.all(np.diff(clock) == 50)  # microseconds: 20 kHz
    db = 20 * np.log10(amplitude)
    np.testing.assert_allclose(recording.stimulus.values * db.std() + db.mean(), db, rtol=1e-9)
    sample = np.round(recording.spikes.times[0, 0] / 5e-5).astype(int)
    sample = sample[sample > 400]
    average = np.array([recording.stimulus.values[sample - lag].mean() for lag in range(400)])
    assert np.argmax(average) * 0.05 == pytest.approx(6.0, abs=0.5)  # ms: the spike-triggered average peaks there


def test_nitime_is_not_imported():
    code = (
        "import sys; from roughspike.io.recordings import load_recording; load_recording('grasshopper-2');"
        "assert 'nitime' not in sys.modules, 'nitime was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_splits():
    train, test = split_windows("B")
    assert test.starts == (2.0, 4.5, 7.0, 9.5) and len(train) == 16
    assert not train.contains(np.array(test.starts)).any()
    with pytest.raises(ValueError, match="no split 'C': the names are A, B"):
        split_windows("C")


def test_bad_name():
    with pytest.raises(ValueError, match="no recording 'cricket': the names are grasshopper-1, grasshopper-2"):
        load_recording("cricket")


def test_absent_nitime_says_how_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="not installed: pip install nitime"):
        load_recording("grasshopper-1")
    monkeypatch.setattr(recordings, "_data_folder", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="no data file grasshopper_spike_times1.txt: pip install"):
        load_recording("grasshopper-1")
