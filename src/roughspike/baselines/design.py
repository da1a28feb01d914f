"""The design matrix of the generalised linear model: stimulus, spike history and drift, on bins."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from roughspike.currents.signal import SampledSignal
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows

STIMULUS_SPAN = 0.025  # s
HISTORY_SPAN = 0.1  # s
NUM_HISTORY = 10
NUM_DRIFT = 5


@dataclasses.dataclass(frozen=True)
class Design:
    """Features and spike counts of every bin, all trials one after the other.

    **Attributes**

    - `features`: shape (bins, columns).
    - `counts`: spikes per bin, shape (bins,).
    - `train`, `test`: which bins belong to which windows.
    - `bin_size`: in seconds, adjusted so that a whole number of bins fills the recording.
    """

    features: np.ndarray
    counts: np.ndarray
    train: np.ndarray
    test: np.ndarray
    bin_size: float


def build_design(
    spikes: SpikeTrain, stimulus: SampledSignal | None, train: Windows, test: Windows, bin_size: float, basis: Any
) -> Design:
    """Build the design with the basis functions of `basis` (the module nemos.basis).

    Stimulus: its mean in each bin, convolved with 10, 15 or 20 raised cosines over 25 ms. History: the spike counts,
    convolved with 10 logarithmic raised cosines over 100 ms. Drift: 5 B-splines over the recording. Both convolutions
    use past bins only; before the recording begins, stimulus and history are 0.

    **Raises** ValueError for several neurons, a bin that does not fit, or a stimulus that does not cover the spikes.
    """
    if spikes.num_neurons != 1:
        raise ValueError(f"the GLM baseline is for one neuron, got {spikes.num_neurons}: pick one, and fit each alone")
    num_bins = round(spikes.duration / bin_size) if bin_size > 0 else 0
    if num_bins < 2 or abs(num_bins * bin_size - spikes.duration) > 0.01 * bin_size:
        raise ValueError(
            f"bin_size {bin_size:g} s does not divide the window of {spikes.duration:g} s: pass one that does, such as "
            "0.001, 0.0005 or 0.00025"
        )
    width = spikes.duration / num_bins
    columns = [_drift(num_bins, basis)]
    if stimulus is not None:
        columns.append(_stimulus(stimulus, spikes, num_bins, basis))
    shared = np.concatenate(columns, axis=1)
    kernel = basis.RaisedCosineLogConv(NUM_HISTORY, window_size=max(round(HISTORY_SPAN / width), NUM_HISTORY))
    kernels = np.asarray(kernel.evaluate_on_grid(kernel.window_size)[1], dtype=np.float64)
    counts = [_counts(trial[0] - spikes.t0, width, num_bins) for trial in spikes.to_lists()]
    features = [np.concatenate([shared, _past(count, kernels)], axis=1) for count in counts]
    centres = spikes.t0 + (np.arange(num_bins) + 0.5) * width
    return Design(
        np.concatenate(features),
        np.concatenate(counts),
        np.tile(train.contains(centres), len(counts)),
        np.tile(test.contains(centres), len(counts)),
        width,
    )


def _counts(times: np.ndarray, width: float, num_bins: int) -> np.ndarray:
    # the small shift keeps a time that is a whole number of bins, up to rounding, in the bin that begins there
    index = np.floor(times / width + 1e-6).astype(np.int64)
    return np.bincount(np.clip(index, 0, num_bins - 1), minlength=num_bins).astype(np.float64)


def _past(signal: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    # column j at bin n is sum_k kernels[k, j] signal[n - 1 - k]
    columns = [np.convolve(signal, kernel)[: signal.size - 1] for kernel in kernels.T]
    return np.concatenate([np.zeros((1, kernels.shape[1])), np.stack(columns, axis=1)])


def _drift(num_bins: int, basis: Any) -> np.ndarray:
    splines = basis.BSplineEval(NUM_DRIFT).compute_features(np.linspace(0.0, 1.0, num_bins))
    return np.asarray(splines, dtype=np.float64)[:, 1:]  # the splines add up to 1, which is the intercept


def _stimulus(stimulus: SampledSignal, spikes: SpikeTrain, num_bins: int, basis: Any) -> np.ndarray:
    slack = stimulus.dt
    if stimulus.start > spikes.t0 + slack or stimulus.stop < spikes.t1 - slack:
        raise ValueError(
            f"the stimulus covers [{stimulus.start:g}, {stimulus.stop:g}] s and the spikes [{spikes.t0:g}, "
            f"{spikes.t1:g}] s: pass a stimulus that covers them, with start in the clock of the spikes"
        )
    width = spikes.duration / num_bins
    # mean of each bin = difference of the integral, which is linear between samples
    integral = np.concatenate([[0.0], np.cumsum(stimulus.values)]) * stimulus.dt
    knots = stimulus.start + stimulus.dt * np.arange(integral.size)
    mean = np.diff(np.interp(spikes.t0 + width * np.arange(num_bins + 1), knots, integral)) / width
    number = 10 if width >= 0.75e-3 else 15 if width >= 0.375e-3 else 20
    kernel = basis.RaisedCosineLinearConv(number, window_size=max(round(STIMULUS_SPAN / width), number))
    return _past(mean, np.asarray(kernel.evaluate_on_grid(kernel.window_size)[1], dtype=np.float64))
