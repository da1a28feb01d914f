"""The GLM baseline finds what is there, scores it in continuous time, and falls back with a label."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from roughspike.baselines import glm, glm_process
from roughspike.baselines.design import _counts, _past
from roughspike.baselines.glm import GLMScore, fit_glm, recorded_glm
from roughspike.baselines.glm_process import start_glm_process
from roughspike.currents.signal import SampledSignal
from roughspike.io.recordings import load_recording, split_windows
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows


def driven_cell(t1=4.0, gain=1.5):
    """Inhomogeneous Poisson spikes with rate 50 exp(gain x(t - 5 ms)), and the expected bits per spike."""
    rng = np.random.default_rng(3)
    values = np.repeat(rng.standard_normal(round(t1 / 0.01)), 10)  # one value per 10 ms, sampled at 1 kHz
    rate = 50 * np.exp(gain * np.concatenate([np.zeros(5), values[:-5]]))
    times = np.flatnonzero(rng.uniform(size=rate.size) < rate * 1e-3) * 1e-3 + rng.uniform(size=rate.size)[0] * 1e-3
    bits = np.sum(rate * np.log2(rate / rate.mean())) / rate.sum()
    return SpikeTrain(times[None, None, :], 0.0, t1), SampledSignal(values, 1e-3), bits


def windows(t1=4.0):
    tiles = Windows.tile(0.0, t1, 8)
    return tiles.drop([2, 7]), tiles.select([2, 7])


@pytest.mark.plain
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fit_finds_the_drive_and_depends_on_no_test_spike():
    pytest.importorskip("nemos")
    spikes, stimulus, bits = driven_cell(t1=8.0)
    train, test = windows(8.0)
    score = fit_glm(spikes, stimulus, train, test, 1e-3)
    assert score.source == "measured in this run" and score.converged is not False and score.seconds > 0
    assert 0.6 * bits < score.bits_per_spike < 1.4 * bits
    # remove the spikes of the last test window, which no training window follows: the fit must not change
    gone = spikes.times[0, 0][~Windows([test.starts[1]], [test.stops[1]]).contains(spikes.times[0, 0])]
    silent = fit_glm(SpikeTrain(gone[None, None, :], 0.0, 8.0), stimulus, train, test, 1e-3)
    assert silent.train_bits_per_spike == pytest.approx(score.train_bits_per_spike, abs=1e-9)
    assert silent.bits_per_spike != score.bits_per_spike


@pytest.mark.plain
@pytest.mark.slow
def test_the_background_process_reproduces_the_recorded_figure():
    pytest.importorskip("nemos")
    recording = load_recording("grasshopper-1")
    train, test = split_windows("A")
    with start_glm_process(recording.spikes, recording.stimulus, train, test, [1e-3]) as handle:
        (score,) = handle.result(timeout=300.0)
    recorded = recorded_glm("grasshopper-1", "A", 1e-3)
    assert handle.problem is None and score.source == "measured in this run" and score.converged is not False
    assert score.bits_per_spike == pytest.approx(recorded.bits_per_spike, abs=0.03)
    assert score.train_bits_per_spike == pytest.approx(recorded.train_bits_per_spike, abs=0.03)


def test_past_uses_past_bins_only():
    kernels = np.array([[1.0], [10.0]])
    np.testing.assert_array_equal(_past(np.array([1.0, 2.0, 3.0]), kernels)[:, 0], [0.0, 1.0, 12.0])


def test_times_on_bin_edges_fall_in_the_bin_that_begins_there():
    times = np.arange(1000) * 1e-4  # as recorded, with rounding
    np.testing.assert_array_equal(_counts(times, 1e-3, 100), 10.0)
    np.testing.assert_array_equal(_counts(times, 0.5e-3, 200), 5.0)


def test_recorded_figures_are_labelled():
    score = recorded_glm("grasshopper-2", "B", 0.25e-3, note="why")
    assert (score.bits_per_spike, score.train_bits_per_spike, score.converged) == (1.514, 1.62, None)
    assert score.source == "recorded figure (NeMoS 0.2.8)" and score.note == "why"
    with pytest.raises(
        ValueError, match="no GLM figure.*'mine'.*there are grasshopper-1 A.*install NeMoS and use fit_glm"
    ):
        recorded_glm("mine", "A", 1e-3)


def test_bad_input():
    pytest.importorskip("nemos")
    spikes, stimulus, _ = driven_cell()
    train, test = windows()
    two = SpikeTrain(np.concatenate([spikes.times, spikes.times], axis=1), 0.0, 4.0)
    with pytest.raises(ValueError, match="for one neuron, got 2: pick one"):
        fit_glm(two, stimulus, train, test, 1e-3)
    with pytest.raises(ValueError, match="bin_size 0.0007 s does not divide the window of 4 s: pass one that does"):
        fit_glm(spikes, stimulus, train, test, 0.7e-3)


@pytest.mark.plain
@pytest.mark.filterwarnings("ignore")
def test_stimulus_and_windows_must_fit():
    pytest.importorskip("nemos")
    spikes, stimulus, _ = driven_cell()
    train, test = windows()
    with pytest.raises(ValueError, match=r"stimulus covers \[0, 1\] s and the spikes \[0, 4\] s: pass a stimulus"):
        fit_glm(spikes, SampledSignal(stimulus.values[:1000], 1e-3), train, test, 0.1)
    with pytest.raises(ValueError, match="train and test windows overlap: keep them apart"):
        fit_glm(spikes, stimulus, train, train, 0.1)
    late = SpikeTrain(spikes.times[..., spikes.times[0, 0] > 0.6], 0.0, 4.0)
    with pytest.raises(ValueError, match="no spike lies in the test windows: choose windows"):
        fit_glm(late, stimulus, Windows([1.0], [4.0]), Windows([0.0], [0.5]), 0.1)


def test_without_nemos_the_fit_says_how_to_install(monkeypatch):
    monkeypatch.setattr(glm, "nemos_is_installed", lambda: False)
    spikes, stimulus, _ = driven_cell()
    with pytest.raises(ModuleNotFoundError, match="needs NeMoS: pip install nemos"):
        fit_glm(spikes, stimulus, *windows(), 1e-3)


def fake_worker(monkeypatch, tmp_path, body):
    """Let the background process run `body` in place of the fit; its folder is argv[1]."""
    script = tmp_path / "worker.py"
    script.write_text(f"import json, sys, time, pathlib\nfolder = pathlib.Path(sys.argv[1])\n{body}\n")
    popen = subprocess.Popen

    def launch(command, **options):
        return popen([sys.executable, str(script), command[-1]], **options)

    monkeypatch.setattr(glm_process, "nemos_is_installed", lambda: True)
    monkeypatch.setattr(glm_process.subprocess, "Popen", launch)


ONE_LINE = (
    "line = json.dumps(dict(bin_size=1e-3, bits_per_spike=1.5, train_bits_per_spike=1.6, seconds=2.0, converged=True,"
    " source='measured in this run', version='9'))\n(folder / 'scores.jsonl').write_text(line + '\\n{\"half')"
)


def start(**options):
    spikes, stimulus, _ = driven_cell()
    return start_glm_process(spikes, stimulus, *windows(), **options)


def test_process_without_nemos_gives_recorded_figures(monkeypatch):
    monkeypatch.setattr(glm_process, "nemos_is_installed", lambda: False)
    with start(recorded_as=("grasshopper-1", "A")) as handle:
        scores = handle.result()
    assert [s.bits_per_spike for s in scores] == [1.653, 2.094, 2.257] and not handle.running
    assert {s.source for s in scores} == {"recorded figure (NeMoS 0.2.8)"}
    assert "not measured in this run: NeMoS is not installed" in scores[0].note


def test_an_error_in_the_process_becomes_a_labelled_fallback(monkeypatch, tmp_path):
    fake_worker(monkeypatch, tmp_path, f"{ONE_LINE}\nraise RuntimeError('out of luck')")
    handle = start(recorded_as=("grasshopper-1", "B"))
    first, second, third = handle.result(timeout=60.0)
    assert first == GLMScore(1e-3, 1.5, 1.6, 2.0, True, "measured in this run", "9")
    assert (second.bits_per_spike, third.bits_per_spike) == (1.973, 2.103)
    assert second.source == "recorded figure (NeMoS 0.2.8)" and "RuntimeError: out of luck" in second.note
    assert handle.problem is not None and "out of luck" in handle.problem
    assert handle.result() == (first, second, third)


def test_for_other_data_nothing_stands_in(monkeypatch, tmp_path):
    fake_worker(monkeypatch, tmp_path, "raise SystemExit('no')")
    handle = start()
    assert handle.result(timeout=60.0) == () and handle.problem is not None and handle.problem.endswith("no")


def test_a_process_that_takes_too_long_is_stopped(monkeypatch, tmp_path):
    fake_worker(monkeypatch, tmp_path, "time.sleep(60)")
    handle = start(recorded_as=("grasshopper-1", "A"), bin_sizes=[0.5e-3])
    begin = time.perf_counter()
    (score,) = handle.result(timeout=0.2)
    assert time.perf_counter() - begin < 10 and not handle.running
    assert score.bits_per_spike == 2.094 and "stopped after 0.2 s" in score.note


@pytest.mark.parametrize("how", ["close", "collect"])
def test_no_process_and_no_file_stays_behind(monkeypatch, tmp_path, how):
    fake_worker(monkeypatch, tmp_path, "time.sleep(60)")
    handle = start()
    process, folder = handle._process, handle._folder
    assert process is not None and process.poll() is None and folder.is_dir()
    if how == "close":
        handle.close()
        handle.close()
        assert handle.result() == () and "closed before" in str(handle.problem)
    else:
        del handle
    assert process.poll() is not None and not folder.exists()


@pytest.mark.skipif(os.name != "posix", reason="kills its parent with a signal")
def test_the_process_ends_when_its_parent_is_killed(tmp_path):
    child = (
        "import threading, time, roughspike.baselines.glm_process as g;"
        "threading.Thread(target=g._end_with_parent, daemon=True).start(); print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        process.stdin.close()  # what the system does when the parent dies
        assert process.wait(timeout=10) == 3
    finally:
        process.kill()
        process.stdout.close()
