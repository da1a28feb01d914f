"""Time windows of a recording: which parts train a model and which parts judge it."""

from __future__ import annotations

from collections.abc import Iterable

import equinox as eqx
import numpy as np


class Windows(eqx.Module):
    """Disjoint half-open time windows [start, stop), in the clock of the SpikeTrain they are used with.

    >>> import roughspike as rs
    >>> all_windows = rs.Windows.tile(0.0, 10.0, 20)          # 20 windows of half a second
    >>> test = all_windows.select([2, 7, 12, 17])
    >>> train = all_windows.drop([2, 7, 12, 17])
    >>> len(test), len(train), test.duration
    (4, 16, 2.0)
    """

    starts: tuple[float, ...] = eqx.field(static=True)
    stops: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, starts: Iterable[float], stops: Iterable[float]):
        self.starts = tuple(float(t) for t in starts)
        self.stops = tuple(float(t) for t in stops)
        if len(self.starts) != len(self.stops) or not self.starts:
            raise ValueError("starts and stops must have the same length, at least 1")
        if any(not b > a for a, b in zip(self.starts, self.stops, strict=True)):
            raise ValueError("every window must end after it starts")
        if any(later < before - 1e-9 for later, before in zip(self.starts[1:], self.stops, strict=False)):
            raise ValueError("windows must be sorted and must not overlap")

    @staticmethod
    def tile(t0: float, t1: float, num: int) -> Windows:
        """`num` windows of equal length that cover [t0, t1)."""
        edges = [t0 + (t1 - t0) * k / num for k in range(num + 1)]
        return Windows(edges[:-1], edges[1:])

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def duration(self) -> float:
        """Total length."""
        return float(sum(b - a for a, b in zip(self.starts, self.stops, strict=True)))

    def select(self, indices: Iterable[int]) -> Windows:
        """The windows of these indices, in order of time."""
        chosen = sorted(set(indices))
        return Windows([self.starts[k] for k in chosen], [self.stops[k] for k in chosen])

    def drop(self, indices: Iterable[int]) -> Windows:
        """All windows but these."""
        gone = set(indices)
        return self.select(k for k in range(len(self)) if k not in gone)

    def split(self, length: float) -> Windows:
        """The same time, cut into pieces of about `length` (each window into a whole number of equal pieces)."""
        pieces = [
            Windows.tile(a, b, max(1, round((b - a) / length))) for a, b in zip(self.starts, self.stops, strict=True)
        ]
        return Windows([t for p in pieces for t in p.starts], [t for p in pieces for t in p.stops])

    def index_of(self, times: np.ndarray) -> np.ndarray:
        """Index of the window that holds each time, -1 where none does."""
        times = np.asarray(times, dtype=np.float64)
        k = np.searchsorted(np.asarray(self.starts), times, side="right") - 1
        inside = (k >= 0) & (times < np.asarray(self.stops)[np.maximum(k, 0)])
        return np.where(inside, k, -1)

    def contains(self, times: np.ndarray) -> np.ndarray:
        """Boolean per time: does any window hold it?"""
        return self.index_of(times) >= 0
