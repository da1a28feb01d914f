"""A neuron to start the fit of a recording from, with time scales read off the training data."""

from __future__ import annotations

import math

import numpy as np

from roughspike.currents.base import AbstractCurrent, Constant
from roughspike.currents.curves import BSplineCurrent, ExponentialDrift
from roughspike.currents.signal import SampledSignal
from roughspike.currents.stimulus import Stimulus
from roughspike.networks.population import Population
from roughspike.neurons.escape import ExponentialEscape
from roughspike.neurons.lif import SLIF
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows

_BASIS = 12  # splines of the baseline when no stimulus is known


def start_cell(
    data: SpikeTrain, train: Windows | None, signal: SampledSignal | None = None, *, poor: bool = False
) -> Population:
    """An SLIF neuron without diffusion, before training.

    One time scale, a tenth of the median interval between spikes, sets the membrane; the rest are multiples of it.
    The refractory time is 0.9 of the shortest training interval and stays fixed; so do v_th = 1, beta = 1 (redundant
    with the scale of gain, reset and self weight) and tau_s, the inverse rate outside the refractory time. With a
    stimulus, the delay starts at the peak of the spike-triggered average; without one, the input is a smooth baseline.

    **Arguments**

    - `data`, `train`: one neuron, and the windows that may be looked at (None: all).
    - `signal`: its stimulus, z-scored, in the clock of the spikes.
    - `poor`: a start far from the answer, to show that the fit does not depend on it.

    **Raises** ValueError if the training data hold fewer than 10 intervals.
    """
    intervals = training_intervals(data, train)
    if len(intervals) < 10:
        raise ValueError(
            f"the training data hold {len(intervals)} intervals between spikes: at least 10 are needed to start; "
            "choose a longer window or more trials"
        )
    scale = float(np.median(intervals)) / 10
    refractory = 0.9 * float(intervals.min())
    rate = _rate(data, train)
    neuron = SLIF(
        mu=(1 / (5 * scale), 1 / (10 * scale)) if poor else (1 / scale, 1 / (3 * scale)),
        v_reset=1.0 if poor else 2.0,
        escape=ExponentialEscape(beta=1.0, v_th=1.0, tau_s=(1 - rate * refractory) / rate),
        refractory=refractory,
        self_weight=0.0 if poor else -2.0,
    )
    return Population(neuron, _current(data, train, signal, scale, poor))


def training_intervals(data: SpikeTrain, train: Windows | None) -> np.ndarray:
    """Intervals between spikes whose two ends lie in one training window."""
    windows = Windows([data.t0], [np.nextafter(data.t1, np.inf)]) if train is None else train
    found = [np.zeros(0)]
    for trial in data.to_lists():
        for row in trial:
            index = windows.index_of(row)
            found.append(np.diff(row)[(index[1:] == index[:-1]) & (index[1:] >= 0)])
    return np.concatenate(found)


def _current(data: SpikeTrain, train: Windows | None, signal: SampledSignal | None, scale: float, poor: bool):
    if signal is None:
        return BSplineCurrent(np.full(_BASIS, 1.0 if poor else 1.5), data.t0, data.t1)
    peak = max(_peak_of_average(data, train, signal, 20 * scale), 0.3 * scale)
    drift: AbstractCurrent = ExponentialDrift(0.0 if poor else 1.0, data.duration * (0.15 if poor else 0.2))
    if poor:
        delay = max(peak - 2 * scale, 0.2 * peak)
        return Stimulus(signal, 0.1, delay, 0.0, 5 * scale) + drift + Constant(1.0)
    return Stimulus(signal, 2.0, peak + 0.3 * scale, -1.0, 3 * scale) + drift + Constant(1.5)


def _peak_of_average(data: SpikeTrain, train: Windows | None, signal: SampledSignal, longest: float) -> float:
    """Lag at which the average stimulus before training spikes is farthest from its mean."""
    spikes = np.concatenate([row for trial in data.to_lists() for row in trial])
    spikes = spikes if train is None else spikes[train.contains(spikes)]
    lags = np.arange(max(2, math.ceil(longest / signal.dt)))
    at = np.floor((spikes - signal.start) / signal.dt).astype(int)
    at = at[(at >= len(lags)) & (at < len(signal.values))]
    if not len(at):
        raise ValueError("no training spike has a stimulus before it: check the window and the start of the stimulus")
    average = np.asarray(signal.values)[at[:, None] - lags].mean(axis=0)
    return float(np.argmax(np.abs(average - np.mean(np.asarray(signal.values)))) * signal.dt)


def _rate(data: SpikeTrain, train: Windows | None) -> float:
    rows = [row for trial in data.to_lists() for row in trial]
    count = sum(len(row) if train is None else int(train.contains(row).sum()) for row in rows)
    return count / (len(rows) * (data.duration if train is None else train.duration))
