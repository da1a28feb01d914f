"""SampledSignal: a stimulus as it was recorded, at regular times."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import is_concrete


class SampledSignal(eqx.Module):
    """A signal sampled at the times start + k dt, k = 0 ... n - 1.

    **Arguments**

    - `values`: shape (n,), at least 2 samples, finite. Concrete values are kept as float64 on the host.
    - `dt`: the distance of two samples in seconds, greater than 0.
    - `start`: the time of the first sample in seconds, in the clock of the spikes it is used with.

    **Raises** ValueError for values that are not a finite 1-d array of at least 2 numbers, or dt <= 0.

    >>> from roughspike.currents.signal import SampledSignal
    >>> signal = SampledSignal([0.0, 1.0, 2.0, 1.0], dt=0.5)
    >>> signal.duration
    2.0
    >>> round(float(signal.zscore().values.std()), 9)
    1.0
    """

    values: Float[Array | np.ndarray, " n"]
    dt: float = eqx.field(static=True)
    start: float = eqx.field(static=True)

    def __init__(self, values: Any, dt: float, start: float = 0.0):
        self.values = np.asarray(values, dtype=np.float64) if is_concrete(values) else values
        self.dt, self.start = float(dt), float(start)
        if self.values.ndim != 1 or self.values.shape[0] < 2:
            raise ValueError(f"values must be 1-d with at least 2 samples, got shape {self.values.shape}")
        if not (np.isfinite(self.dt) and self.dt > 0):
            raise ValueError(f"dt must be greater than 0, got {dt}: pass the sampling interval in seconds")
        if not np.isfinite(self.start):
            raise ValueError(f"start must be finite, got {start}: pass the time of the first sample in seconds")
        if isinstance(self.values, np.ndarray) and not np.isfinite(self.values).all():
            bad = np.flatnonzero(~np.isfinite(self.values))
            raise ValueError(
                f"values has {bad.size} samples that are NaN or infinite, the first at index {bad[0]}: "
                "fill the gaps (for example by interpolation) before making a SampledSignal"
            )

    @property
    def duration(self) -> float:
        """Length of the signal in seconds, n dt: each sample stands for one interval."""
        return self.values.shape[0] * self.dt

    @property
    def stop(self) -> float:
        """The end of the interval of the last sample, start + n dt, in seconds."""
        return self.start + self.duration

    @property
    def times(self) -> Float[np.ndarray, " n"]:
        """The time of every sample in seconds, float64."""
        return self.start + self.dt * np.arange(self.values.shape[0])

    def zscore(self) -> SampledSignal:
        """The signal shifted to mean 0 and scaled to standard deviation 1.

        **Raises** ValueError if the signal is constant.
        """
        values = self.values
        spread = values.std()
        if is_concrete(values) and not spread > 0:
            raise ValueError(
                f"a constant signal (value {float(values[0]):g}) has no standard deviation: it cannot be z-scored; "
                "check that the right column was read"
            )
        return SampledSignal((values - values.mean()) / spread, self.dt, self.start)
