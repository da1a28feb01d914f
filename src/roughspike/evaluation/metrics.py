"""Figures of merit of a fitted neuron: coincidences, intervals, rates, time rescaling. NumPy on the host, seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Spans = tuple[tuple[float, float], ...]
"""Disjoint time windows (start, stop), sorted."""


def coincidence_factor(recorded: np.ndarray, simulated: np.ndarray, precision: float, duration: float) -> float:
    r"""Coincidence factor of two spike trains, corrected for chance.

    $$\Gamma = \frac{N_{coinc} - 2 \nu \Delta N_{rec}}{\tfrac12 (N_{rec} + N_{sim})} \cdot \frac{1}{1 - 2\nu\Delta}$$

    with $\nu$ the rate of the simulated train and $\Delta$ the precision: 1 for trains that agree spike by spike, 0 for
    a Poisson train of the same rate (a little less where $2\nu\Delta$ is not small, as a spike is in one pair only),
    below 0 for worse than chance. It is NOT divided by the reliability of the cell.

    **Arguments**

    - `recorded`, `simulated`: ascending times, all inside the `duration`.
    - `precision`: largest distance $\Delta$ of two coincident spikes. Each spike takes part in one coincidence.

    **Returns** the factor; NaN when both trains are silent or chance alone fills the train ($2\nu\Delta \ge 1$).

    Reference: Kistler, Gerstner & van Hemmen, Neural Computation 9 (1997); Jolivet et al., J Neurosci Methods 169
    (2008).

    >>> import numpy as np
    >>> train = np.array([0.1, 0.3, 0.7])
    >>> float(coincidence_factor(train, train + 0.001, precision=0.002, duration=1.0))
    1.0
    """
    recorded, simulated = _ascending("recorded", recorded), _ascending("simulated", simulated)
    if not precision > 0 or not duration > 0:
        raise ValueError(f"precision and duration must be above 0 seconds, got {precision} and {duration}")
    rate = len(simulated) / duration
    chance = 2 * rate * precision
    if len(recorded) + len(simulated) == 0 or chance >= 1:
        return float("nan")
    excess = count_coincidences(recorded, simulated, precision) - chance * len(recorded)
    return excess / (0.5 * (len(recorded) + len(simulated))) / (1 - chance)


def count_coincidences(a: np.ndarray, b: np.ndarray, precision: float) -> int:
    """Number of pairs (one spike of each sorted train) at most `precision` apart, each spike in one pair.

    Matching from the left, always the earliest spikes that fit, attains the largest possible number of pairs.
    """
    left, right = a.tolist(), b.tolist()
    i = j = pairs = 0
    while i < len(left) and j < len(right):
        lag = left[i] - right[j]
        if abs(lag) <= precision:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif lag < 0:
            i += 1
        else:
            j += 1
    return pairs


def rate_error(recorded_count: float | int, simulated_counts: np.ndarray | Sequence[float | int]) -> float:
    """Relative error of the mean simulated spike count, without sign; NaN for a silent recording.

    >>> round(rate_error(100, [96, 100]), 3)
    0.02
    """
    if recorded_count == 0:
        return float("nan")
    return float(abs(np.mean(np.asarray(simulated_counts)) - recorded_count) / recorded_count)


@dataclass(frozen=True)
class IntervalStatistics:
    """Inter-spike intervals of a recording and of simulations, compared (seconds).

    `cv`: standard deviation over mean. `ks`: largest gap of the two distribution functions. `wasserstein`: area
    between them, the mean distance by which intervals must be moved.
    """

    recorded_count: int
    simulated_count: int
    recorded_mean: float
    simulated_mean: float
    recorded_cv: float
    simulated_cv: float
    ks: float
    wasserstein: float


def isi_statistics(recorded: np.ndarray, simulated: np.ndarray) -> IntervalStatistics:
    """Compare two sets of inter-spike intervals; figures without data are NaN.

    >>> import numpy as np
    >>> round(isi_statistics(np.array([0.01, 0.03]), np.array([0.02, 0.04])).wasserstein, 6)
    0.01
    """
    a, b = np.sort(np.asarray(recorded, float)), np.sort(np.asarray(simulated, float))
    ks, wasserstein = _distribution_distances(a, b)
    return IntervalStatistics(len(a), len(b), _mean(a), _mean(b), _cv(a), _cv(b), ks, wasserstein)


@dataclass(frozen=True, eq=False)
class Rescaling:
    """Time-rescaling test: under the true model the values `z` are independent and uniform on [0, 1].

    `distance` is the Kolmogorov-Smirnov distance of `z` from the uniform law, `band` its 95 % limit 1.36 / sqrt(n).
    """

    model: str
    z: np.ndarray
    distance: float
    band: float
    p: float

    @property
    def inside(self) -> bool:
        """Is the distance within the 95 % band?"""
        return self.distance <= self.band


def time_rescaling(z: np.ndarray, model: str = "model") -> Rescaling:
    """Kolmogorov-Smirnov test of rescaled intervals against the uniform law on [0, 1].

    **Arguments**

    - `z`: one value per interval, 1 - exp(-integral of the fitted rate over the interval).
    - `model`: whose values these are, for labels.

    **Raises** ValueError for values outside [0, 1] or NaN.

    Reference: Brown et al., Neural Computation 14 (2002).

    >>> import numpy as np
    >>> time_rescaling((np.arange(100) + 0.5) / 100).inside
    True
    """
    z = np.sort(np.asarray(z, dtype=np.float64).ravel())
    if not np.all((z >= 0) & (z <= 1)):
        raise ValueError("rescaled values must lie in [0, 1]: pass z = 1 - exp(-integral of the rate) of each interval")
    n = len(z)
    if n == 0:
        return Rescaling(model, z, float("nan"), float("nan"), float("nan"))
    from scipy.special import kolmogorov

    steps = np.arange(n + 1) / n
    distance = float(max(np.max(steps[1:] - z), np.max(z - steps[:-1])))
    root = np.sqrt(n)
    # Stephens (1970): the limit law, corrected for small n
    return Rescaling(model, z, distance, float(1.358 / root), float(kolmogorov(distance * (root + 0.12 + 0.11 / root))))


def restrict(train: np.ndarray, spans: Spans) -> list[np.ndarray]:
    """The spikes of a sorted train in each half-open window."""
    edges = np.searchsorted(train, np.asarray(spans, dtype=np.float64).reshape(-1, 2))
    return [train[a:b] for a, b in edges]


def join(train: np.ndarray, spans: Spans, gap: float) -> np.ndarray:
    """The spikes inside the windows, the windows moved `gap` apart, so that no pair crosses from one to the next."""
    pieces, clock = [np.empty(0)], 0.0
    for (start, stop), piece in zip(spans, restrict(train, spans), strict=True):
        pieces.append(piece - start + clock)
        clock += stop - start + gap
    return np.concatenate(pieces)


def intervals(train: np.ndarray, spans: Spans) -> np.ndarray:
    """Inter-spike intervals whose two spikes lie in the same window."""
    return np.concatenate([np.empty(0), *(np.diff(piece) for piece in restrict(train, spans))])


def smoothed_rate(trains: Sequence[np.ndarray], times: np.ndarray, width: float, t0: float, t1: float) -> np.ndarray:
    """Mean rate of several trains: a Gaussian of standard deviation `width`, renormalised at the ends of [t0, t1].

    With one train this is a smoothed rate, with many repeats a peri-stimulus time histogram (PSTH) without bins.

    **Returns** spikes per second at `times`.

    >>> import numpy as np
    >>> float(smoothed_rate([np.arange(0.05, 10, 0.1)], np.array([5.0]), 0.5, 0.0, 10.0)[0].round(3))
    10.0
    """
    if not width > 0:
        raise ValueError(f"width must be above 0 seconds, got {width}")
    from scipy.special import ndtr

    spikes = np.concatenate([np.empty(0), *trains])
    total = np.zeros(len(times))
    for block in np.array_split(spikes, 1 + len(spikes) * len(times) // 2_000_000):
        total += np.exp(-0.5 * ((times[:, None] - block[None, :]) / width) ** 2).sum(axis=1)
    inside = ndtr((t1 - times) / width) - ndtr((t0 - times) / width)
    return total / (max(1, len(trains)) * width * np.sqrt(2 * np.pi) * inside)


def _ascending(name: str, train: np.ndarray) -> np.ndarray:
    train = np.asarray(train, dtype=np.float64)
    if train.ndim != 1 or not np.all(np.isfinite(train)) or np.any(np.diff(train) < 0):
        raise ValueError(f"{name} must be one ascending row of finite times: sort it and drop the +inf padding")
    return train


def _distribution_distances(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Kolmogorov-Smirnov and Wasserstein-1 distance of two sorted samples."""
    if len(a) == 0 or len(b) == 0:
        return float("nan"), float("nan")
    points = np.sort(np.concatenate([a, b]))
    gap = np.abs(np.searchsorted(a, points, "right") / len(a) - np.searchsorted(b, points, "right") / len(b))
    return float(gap.max()), float(np.sum(gap[:-1] * np.diff(points)))


def _mean(x: np.ndarray) -> float:
    return float(x.mean()) if len(x) else float("nan")


def _cv(x: np.ndarray) -> float:
    return float(x.std() / x.mean()) if len(x) > 1 else float("nan")
