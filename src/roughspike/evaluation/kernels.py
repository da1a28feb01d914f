"""Kernels that a fitted neuron amounts to: what a flash of stimulus and what a spike do to the membrane."""

from __future__ import annotations

from typing import Any

import numpy as np

from roughspike.currents.base import SumOfCurrents
from roughspike.currents.signal import SampledSignal
from roughspike.currents.stimulus import Stimulus
from roughspike.evaluation.types import Kernel
from roughspike.neurons.lif import SLIF
from roughspike.neurons.reset import SubtractiveReset


def kernels(cell: Any, spikes: np.ndarray) -> tuple[Kernel, ...]:
    """Stimulus kernel (beside the spike-triggered average of `spikes`) and spike-history kernel, where they exist."""
    stimulus = find_stimulus(cell.current)
    found = [] if stimulus is None else [stimulus_kernel(cell.neuron, stimulus, spikes)]
    if isinstance(cell.neuron.reset, SubtractiveReset):
        found.append(history_kernel(cell.neuron))
    return tuple(found)


def find_stimulus(current: Any) -> Stimulus | None:
    """The first `Stimulus` of a current, None if it has none."""
    parts = current.parts if isinstance(current, SumOfCurrents) else (current,)
    return next((part for part in parts if isinstance(part, Stimulus)), None)


def stimulus_kernel(neuron: SLIF, stimulus: Stimulus, spikes: np.ndarray) -> Kernel:
    """Response of the potential to a brief pulse of stimulus, in potential per (unit of stimulus and millisecond).

    With a the membrane rate, b = 1 / tau_low_pass and s the time since the delayed pulse:
    gain a e^{-a s} + low_pass_gain a b (e^{-b s} - e^{-a s}) / (a - b).
    """
    membrane, delay = float(neuron.mu[0]), float(stimulus.delay)
    tail = 6 / membrane if stimulus.tau_low_pass is None else max(6 / membrane, 4 * float(stimulus.tau_low_pass))
    lag = np.linspace(0.0, delay + tail, 500)
    since = np.maximum(lag - delay, 0.0)
    values = float(stimulus.gain) * membrane * np.exp(-membrane * since)
    if stimulus.low_pass_gain is not None and stimulus.tau_low_pass is not None:
        slow = 1 / float(stimulus.tau_low_pass)
        values += float(stimulus.low_pass_gain) * slow * _kappa(membrane, slow, since)
    values = np.where(lag >= delay, values, 0.0) * 1e-3
    average = spike_triggered_average(stimulus.signal, spikes, lag)
    compared = ()
    if np.max(np.abs(average), initial=0.0) > 0:
        scaled = average / np.max(np.abs(average)) * np.max(np.abs(values))
        compared = (("spike-triggered average, scaled", lag, scaled),)
    note = (
        "what a brief pulse of stimulus does to the membrane, this long after it. The average stimulus before a spike "
        "is wider, since it also holds the stimulus's own correlations and the membrane's history of spikes"
    )
    return Kernel(
        "Effect of the stimulus", "per unit\N{MIDDLE DOT}ms", lag, values, "Time since the stimulus", compared, note
    )


def history_kernel(neuron: SLIF) -> Kernel:
    """What a spike at time 0 adds to the potential at time t: -v_reset e^{-mu1 t} + self_weight kappa(t)."""
    rates = np.asarray(neuron.mu, np.float64)
    with_weight = neuron.self_weight is not None
    slowest = rates[rates > 0].min() if with_weight else rates[0]
    lag = np.linspace(0.0, 6 / slowest, 400)
    values = -float(neuron.v_reset) * np.exp(-rates[0] * lag)
    if neuron.self_weight is not None:
        values = values + float(neuron.self_weight) * _kappa(rates[0], rates[1], lag)
    note = (
        "what a spike does to the membrane afterwards. Below zero the next spike is less likely, above zero more. The "
        "curve is better determined than the numbers behind it (reset, self-weight, rate of the current)"
    )
    if neuron.refractory is not None:
        note += f"; for the first {1e3 * float(neuron.refractory):.1f} ms no spike can come at all"
    return Kernel("Effect of a spike", "threshold units", lag, values, "Time since the spike", (), note)


def _kappa(a: float, b: float, t: np.ndarray) -> np.ndarray:
    """a (e^{-b t} - e^{-a t}) / (a - b), also where the rates are equal; the engine's own is for compiled code."""
    gap = abs(a - b)
    spread = t if gap * t.max() < 1e-6 else -np.expm1(-gap * t) / gap
    return a * np.exp(-min(a, b) * t) * spread


def spike_triggered_average(signal: SampledSignal, spikes: np.ndarray, lag: np.ndarray) -> np.ndarray:
    """Mean of the signal `lag` seconds before each spike, less its overall mean."""
    values = np.asarray(signal.values, np.float64)
    at = np.floor((spikes[:, None] - lag[None, :] - signal.start) / signal.dt).astype(int)
    inside = np.all((at >= 0) & (at < len(values)), axis=1)
    return values[at[inside]].mean(axis=0) - values.mean() if inside.any() else np.zeros(len(lag))
