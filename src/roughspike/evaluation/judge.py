"""Which data trained a model and which judge it; counts, rates and bits per spike of either."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from roughspike.evaluation.metrics import Spans, restrict
from roughspike.evaluation.types import Trains
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows


class Judge:
    """Which data trained the cell and which judge it.

    `on`: the spikes to score, with `windows` (None: all of them). `train_on`, `train_windows`: the same for training.
    """

    def __init__(self, data: SpikeTrain, windows: Windows | None, held_out: Windows | SpikeTrain | None):
        whole = ((data.t0, data.t1),)
        self.data, self.train_on, self.train_windows = data, data, windows
        self.train: Spans = whole if windows is None else spans_of(windows)
        self.recorded: Trains = trains_of(data)
        self.trials: tuple[int, ...] | None = None
        self.on, self.windows, self.spans = data, windows, self.train
        if isinstance(held_out, SpikeTrain):
            other = trains_of(held_out)
            self.trials = tuple(range(len(self.recorded), len(self.recorded) + len(other)))
            self.recorded += other
            self.on, self.windows, self.spans = held_out, None, ((held_out.t0, held_out.t1),)
        elif held_out is not None:
            self.windows, self.spans = held_out, spans_of(held_out)

    @property
    def judging(self) -> Trains:
        """The recorded trials that judge."""
        return self.recorded if self.trials is None else tuple(self.recorded[k] for k in self.trials)


def spans_of(windows: Windows) -> Spans:
    """(start, stop) of each window."""
    return tuple(zip(windows.starts, windows.stops, strict=True))


def trains_of(data: SpikeTrain) -> Trains:
    """Trials of neurons, as arrays."""
    return tuple(tuple(trial) for trial in data.to_lists())


def shown_window(judge: Judge) -> tuple[float, float]:
    """A held-out window near the middle, cut where it would hold more spikes than a raster can show."""
    chosen = [span for span in judge.spans if span not in judge.train] or list(judge.spans)
    start, stop = chosen[(len(chosen) - 1) // 2]
    spikes = [len(piece) for trial in judge.recorded for row in trial for piece in restrict(row, ((start, stop),))]
    rate = max(spikes) / (stop - start)
    return start, min(stop, start + 150 / rate) if rate > 0 else stop


def bits_above_poisson(judge: Judge, log_likelihood: Callable[[SpikeTrain, Windows | None], float]) -> list[float]:
    """Bits per spike above a Poisson process at the training rate: on what judges, and on training data."""
    rate = counts(judge.train_on, judge.train_windows) / duration(judge.train_on, judge.train_windows)
    both = []
    for data, windows in ((judge.on, judge.windows), (judge.train_on, judge.train_windows)):
        found, time = counts(data, windows), duration(data, windows)
        poisson = float(np.sum(found * np.log(np.maximum(rate, 0.5 / time)) - rate * time))
        both.append((log_likelihood(data, windows) - poisson) / max(1.0, float(found.sum())) / math.log(2))
    return both


def counts(data: SpikeTrain, windows: Windows | None) -> np.ndarray:
    """Spikes of each neuron in the windows, all trials together."""
    spans = ((data.t0, data.t1),) if windows is None else spans_of(windows)
    trials = trains_of(data)
    return np.array([sum(len(p) for t in trials for p in restrict(t[j], spans)) for j in range(data.num_neurons)])


def duration(data: SpikeTrain, windows: Windows | None) -> float:
    """Time in the windows, all trials together."""
    return (data.duration if windows is None else windows.duration) * max(1, math.prod(data.batch_shape))


def subject_of(judge: Judge) -> str:
    """What was recorded, in a sentence."""
    spikes = sum(len(row) for trial in judge.recorded for row in trial)
    neurons, trials = len(judge.recorded[0]), len(judge.recorded)
    who = "One neuron was" if neurons == 1 else f"{neurons} neurons were"
    times = "once" if trials == 1 else f"in {trials} trials"
    return f"{who} recorded {times} for {judge.data.duration:g} s ({spikes} spikes)"
