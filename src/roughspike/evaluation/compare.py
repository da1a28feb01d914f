"""Compare recorded with simulated spike trains on the held-out windows. NumPy on the host, seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from roughspike.evaluation.metrics import (
    Spans,
    coincidence_factor,
    intervals,
    isi_statistics,
    join,
    rate_error,
    smoothed_rate,
)
from roughspike.evaluation.types import Coincidence, Intervals, Metrics, Rate, Trains

PRECISIONS = (0.001, 0.002, 0.004)
MOST_PAIRS = 400


def compare_intervals(recorded: Trains, simulated: Sequence[Trains], spans: Spans) -> tuple[Intervals, ...]:
    """Inter-spike intervals of every neuron, pooled over trials and samples."""
    out = []
    for neuron in range(len(recorded[0])):
        ours = _pool(intervals(trial[neuron], spans) for trial in recorded)
        theirs = _pool(intervals(trial[neuron], spans) for sample in simulated for trial in sample)
        out.append(Intervals(neuron, ours, theirs, isi_statistics(ours, theirs)))
    return tuple(out)


def compare_trains(
    recorded: Trains,
    simulated: Sequence[Trains],
    spans: Spans,
    found: tuple[Intervals, ...],
    precisions: Sequence[float] = PRECISIONS,
) -> Metrics:
    """Rates, interval distances and coincidence factors on the windows `spans`.

    **Arguments**

    - `recorded`: the trials that judge the model. `simulated`: samples, each with as many trials, or one for all.
    - `found`: what `compare_intervals` said of the same trains; neurons count by their number of intervals.
    - `precisions`: of the coincidence factor, in seconds.
    """
    joined = _joined(recorded, spans, max(precisions))
    samples = [_joined(sample, spans, max(precisions)) for sample in simulated]
    duration = sum(stop - start for start, stop in spans)
    recorded_count = np.mean([sum(map(len, trial)) for trial in joined])
    counts = [float(np.mean([sum(map(len, trial)) for trial in sample])) for sample in samples]
    per_rate = duration * len(recorded[0])
    weight = np.array([i.statistics.recorded_count for i in found], dtype=float)
    return Metrics(
        recorded_rate=float(recorded_count) / per_rate,
        simulated_rate=float(np.mean(counts)) / per_rate if counts else float("nan"),
        rate_error=rate_error(float(recorded_count), counts) if counts else float("nan"),
        isi_ks=_weighted([i.statistics.ks for i in found], weight),
        isi_w1=_weighted([i.statistics.wasserstein for i in found], weight),
        coincidence=tuple(_coincidence(joined, samples, p, duration) for p in precisions),
    )


def compare_rates(
    recorded: Trains,
    simulated: Sequence[Trains],
    t0: float,
    t1: float,
    *,
    width: float | None = None,
    points: int = 400,
) -> tuple[Rate, ...]:
    """Smoothed rate of every neuron over [t0, t1], with the range in which 90 % of simulated recordings lie.

    **Arguments**

    - `width`: standard deviation of the Gaussian in seconds; by default as narrow as the number of spikes allows.
    - `points`: number of times at which the curves are drawn.
    """
    times = np.linspace(t0, t1, points)
    if width is None:
        width = smoothing_width(recorded, t0, t1)
    out = []
    for neuron in range(len(recorded[0])):
        ours = smoothed_rate([trial[neuron] for trial in recorded], times, width, t0, t1)
        curves = np.array([smoothed_rate([t[neuron] for t in s], times, width, t0, t1) for s in simulated])
        if not len(curves):
            curves = np.full((1, points), np.nan)
        # The recording is a mean of more trials than a sample and scatters less; the simulated mean scatters too.
        shrink = np.sqrt(len(simulated[0]) / len(recorded) + 1 / len(simulated)) if len(simulated) else 1.0
        mean, half = curves.mean(axis=0), 1.645 * curves.std(axis=0) * shrink
        out.append(Rate(neuron, times, ours, mean, np.maximum(mean - half, 0.0), mean + half, width))
    return tuple(out)


def smoothing_width(recorded: Trains, t0: float, t1: float) -> float:
    """A round width (1, 2 or 5 times a power of ten seconds) under which about 20 spikes fall, all trials together."""
    neurons = len(recorded[0])
    spikes = max(1, sum(len(row) for trial in recorded for row in trial)) / neurons
    wanted = np.clip(20 * (t1 - t0) / spikes / np.sqrt(4 * np.pi), (t1 - t0) / 100, (t1 - t0) / 10)
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(power * min((1, 2, 5, 10), key=lambda m: abs(np.log(m * power / wanted))))


def _coincidence(
    recorded: list[list[np.ndarray]], samples: list[list[list[np.ndarray]]], precision: float, duration: float
) -> Coincidence:
    def mean(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> float | None:
        values = [coincidence_factor(a, b, precision, duration) for a, b in pairs]
        values = [v for v in values if not np.isnan(v)]
        return float(np.mean(values)) if values else None

    against_data = mean(_thin(_data_pairs(recorded, samples)))
    models = mean(_thin(_neighbours([trial for sample in samples for trial in sample[:1]])))
    trials = mean(_thin(_neighbours(recorded)))
    return Coincidence(precision, float("nan") if against_data is None else against_data, models, trials)


def _data_pairs(
    recorded: list[list[np.ndarray]], samples: list[list[list[np.ndarray]]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (row, sample[min(k, len(sample) - 1)][neuron])
        for sample in samples
        for k, trial in enumerate(recorded)
        for neuron, row in enumerate(trial)
    ]


def _neighbours(trials: list[list[np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each train with that of the next trial, both ways round since the factor is not symmetric."""
    pairs = []
    for first, second in zip(trials[:-1], trials[1:], strict=True):
        for a, b in zip(first, second, strict=True):
            pairs += [(a, b), (b, a)]
    return pairs


def _thin(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """At most MOST_PAIRS of the pairs, evenly spaced: more would cost time and change nothing."""
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_PAIRS)).round().astype(int))
    return (pairs[k] for k in chosen)


def _joined(trials: Trains, spans: Spans, precision: float) -> list[list[np.ndarray]]:
    return [[join(row, spans, gap=4 * precision) for row in trial] for trial in trials]


def _pool(pieces: Iterator[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0), *pieces])


def _weighted(values: list[float], weight: np.ndarray) -> float:
    known = ~np.isnan(values) & (weight > 0)
    return float(np.average(np.asarray(values)[known], weights=weight[known])) if known.any() else float("nan")
