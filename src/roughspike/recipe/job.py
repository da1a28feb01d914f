"""What is fitted: a recording or a user's files, and which part of it trains and which judges."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from roughspike.currents.signal import SampledSignal
from roughspike.io.recordings import load_recording, split_windows
from roughspike.io.spikes import read_spikes
from roughspike.io.stimulus import read_stimulus
from roughspike.paths.spikes import SpikeTrain, unchecked
from roughspike.paths.windows import Windows

RECORDINGS = ("grasshopper-1", "grasshopper-2")
_TRIALS_TO_SPLIT = 5
_REMARKS = (
    "The form of the input (decibels, a second, low-passed arm of the stimulus) was chosen in earlier work that looked "
    "at the held-out figure of grasshopper-1, split A. Split B and grasshopper-2 were only run with the final form.",
    "The generalised linear models use default bases without a penalty and were not tuned. Most of their distance to "
    "this model at 1 ms is time resolution: compare with the finest bins.",
    "Two splits of one recording of 10 s give no error bar: read differences under about 0.05 bits as ties.",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A recording, split.

    **Attributes**

    - `data`, `windows`: what trains (windows None: all of `data`). `held_out`: windows of it, or other trials.
    - `signal`: the stimulus in the clock of the spikes, z-scored; None without one.
    - `title`, `subject`, `stimulus_label` (name, unit): for the report.
    - `recorded_as`: (recording, split) of which baseline figures were recorded.
    - `remarks`: what a reader must know to judge the figures fairly.
    """

    title: str
    subject: str
    data: SpikeTrain
    windows: Windows | None
    held_out: Windows | SpikeTrain
    signal: SampledSignal | None
    stimulus_label: tuple[str, str]
    split: str
    recorded_as: tuple[str, str] | None = None
    remarks: tuple[str, ...] = ()


def shipped_job(name: str, split: str) -> Job:
    """One of the recordings that come with nitime, with a named split into windows."""
    recording = load_recording(name)
    train, test = split_windows(split, recording.spikes.t0, recording.spikes.t1)
    return Job(
        title=f"{name}, split {split}",
        subject=recording.description[:1].upper() + recording.description[1:],
        data=recording.spikes,
        windows=train,
        held_out=test,
        signal=recording.stimulus,
        stimulus_label=("Sound", "dB, z-score"),
        split=f"{split}: tests on windows {test.starts} + 0.5 s of 20",
        recorded_as=(name, split),
        remarks=_REMARKS,
    )


def file_job(
    path: Path,
    *,
    window: tuple[float, float] | None,
    num_trials: int | None,
    neuron: int | None,
    unit: str,
    stimulus: Path | None,
    stimulus_dt: float | None,
    decibel: bool,
    split: str,
) -> Job:
    """A user's spikes and stimulus. One trial is split by windows, five or more by every fifth trial.

    The same stimulus drives every trial.

    **Raises** ValueError for files that cannot be read (see `read_spikes` and `read_stimulus`), for several neurons of
    which none was chosen, or for a stimulus that does not cover the window.
    """
    data = _one_neuron(read_spikes(path, window, num_trials, unit=unit), neuron, path)
    signal = None if stimulus is None else _signal(read_stimulus(stimulus, dt=stimulus_dt), data, decibel, stimulus)
    trials = data.batch_shape[0]
    if trials < _TRIALS_TO_SPLIT:
        train, test = split_windows(split, data.t0, data.t1)
        data_train, windows, held_out, how = data, train, test, f"{split}: 4 of 20 windows of each trial are held out"
    else:
        out = np.arange(trials) % _TRIALS_TO_SPLIT == {"A": 2, "B": 4}[split]
        data_train, windows, held_out = _trials(data, ~out), None, _trials(data, out)
        how = f"{split}: trials {np.flatnonzero(out).tolist()} are held out"
    count = sum(len(row) for trial in data.to_lists() for row in trial)
    return Job(
        title=path.name,
        subject=f"{path.name} holds {count} spikes in {trials} trial{'s' if trials > 1 else ''} of {data.duration:g} s",
        data=data_train,
        windows=windows,
        held_out=held_out,
        signal=signal,
        stimulus_label=("Stimulus", "dB, z-score" if decibel else "z-score"),
        split=how,
    )


def _one_neuron(data: SpikeTrain, neuron: int | None, path: Path) -> SpikeTrain:
    if neuron is None and data.num_neurons > 1:
        raise ValueError(
            f"{path} holds {data.num_neurons} neurons: say which one to fit with --neuron 0, --neuron 1, ..."
        )
    index = 0 if neuron is None else neuron
    if not 0 <= index < data.num_neurons:
        raise ValueError(f"--neuron {index}: {path} holds neurons 0 to {data.num_neurons - 1}")
    return unchecked(data.times[:, index : index + 1], data.t0, data.t1, data.onset)


def _trials(data: SpikeTrain, chosen: np.ndarray) -> SpikeTrain:
    return unchecked(np.asarray(data.times)[chosen], data.t0, data.t1, data.onset)


def _signal(signal: SampledSignal, data: SpikeTrain, decibel: bool, path: Path) -> SampledSignal:
    """In the clock of the spikes, z-scored, and long enough."""
    values = np.asarray(signal.values)
    if decibel:
        if values.min() <= 0:
            raise ValueError(f"{path} has amplitudes of 0 or less, which have no decibels: leave --decibel out")
        values = 20 * np.log10(values)
    shifted = SampledSignal(values, signal.dt, signal.start - data.onset)
    missing = max(shifted.start - data.t0, data.t1 - shifted.stop)
    if missing > 0.01 * data.duration:
        raise ValueError(
            f"{path} runs from {signal.start:g} to {signal.stop:g} s and the spikes' window from "
            f"{data.t0 + data.onset:g} to {data.t1 + data.onset:g} s: the stimulus must cover it (choose --window)"
        )
    return shifted.zscore()
