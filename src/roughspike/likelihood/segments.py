"""A recorded spike train laid out on the time axis: pieces between grid points, spikes and window edges.

All of it depends on times alone, so it is done once on the host in float64; what enters a compiled function are the
lengths of pieces and small offsets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from roughspike.paths.grid import num_steps
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows

_NEVER = 1e30


class Segments(NamedTuple):
    """Pieces of every lane (trial, neuron), shape (trials, neurons, segments); padded with empty pieces at the end.

    - `starts`, `lengths`: where a piece lies, in the clock of the SpikeTrain.
    - `spike`: 1 if a spike ends the piece.
    - `since`: time from the last spike to the start of the piece (1e30 before the first).
    - `inside`: 1 if the piece lies in the windows that are scored.
    - `window`: index of that window, -1 outside.
    """

    starts: np.ndarray
    lengths: np.ndarray
    spike: np.ndarray
    since: np.ndarray
    inside: np.ndarray
    window: np.ndarray

    @property
    def num_spikes(self) -> int:
        """Spikes inside the windows."""
        return int(np.sum(self.spike * self.inside))

    @property
    def duration(self) -> float:
        """Time inside the windows, summed over trials and neurons."""
        return float(np.sum(self.lengths * self.inside))


def lay_out(data: SpikeTrain, dt: float, windows: Windows | None = None, grid: np.ndarray | None = None) -> Segments:
    """Cut the window of every trial and neuron at a grid of step dt, at its spikes and at the edges of `windows`.

    A spike at a grid point or at an edge cuts once: it ends the piece before it, and belongs to the window that holds
    that piece. `grid`: cuts from data.t0 to data.t1, in place of the uniform ones.
    """
    grid = np.linspace(data.t0, data.t1, num_steps(data.t0, data.t1, dt) + 1) if grid is None else grid
    if windows is not None:
        edges = np.unique([*windows.starts, *windows.stops])  # adjacent windows share an edge
        edges = edges[(edges > data.t0) & (edges < data.t1)]
        grid = _merge(grid, edges, dt)
    trials = data.to_lists()
    rows = [[_one_lane(train, grid, dt, windows) for train in trial] for trial in trials]
    longest = max(len(row[0]) for trial in rows for row in trial)
    fill = (data.t1, 0.0, 0.0, _NEVER, 0.0, -1)
    return Segments(*(np.stack([[_pad(row[k], longest, fill[k]) for row in t] for t in rows]) for k in range(6)))


def _one_lane(train: np.ndarray, grid: np.ndarray, dt: float, windows: Windows | None) -> tuple[np.ndarray, ...]:
    train = np.maximum(train, grid[0] + 2e-6 * dt)  # a spike at the onset ends a first, almost empty piece
    edges = _merge(grid, train, dt)
    starts, stops = edges[:-1], edges[1:]
    spike = np.zeros(len(starts))
    spike[np.minimum(np.searchsorted(stops, train - 1e-6 * dt), len(starts) - 1)] = 1.0
    last = np.concatenate([[-_NEVER], stops[spike > 0]])
    before = np.cumsum(spike).astype(int) - spike.astype(int)
    since = np.minimum(starts - last[before], _NEVER)
    window = np.zeros(len(starts), int) if windows is None else windows.index_of(0.5 * (starts + stops))
    return starts, stops - starts, spike, since, (window >= 0).astype(float), window


def _merge(grid: np.ndarray, cuts: np.ndarray, dt: float) -> np.ndarray:
    """Sorted union in which a grid point within 1e-6 dt of a cut gives way to it; the ends of the grid stay."""
    near = np.zeros(len(grid), bool)
    if len(cuts):
        right = np.clip(np.searchsorted(cuts, grid), 0, len(cuts) - 1)
        left = np.maximum(right - 1, 0)
        near = np.minimum(np.abs(grid - cuts[right]), np.abs(grid - cuts[left])) < 1e-6 * dt
    inner = ~near
    inner[[0, -1]] = True
    cuts = cuts[(cuts > grid[0] + 1e-6 * dt) & (cuts < grid[-1] - 1e-6 * dt)]
    return np.sort(np.concatenate([grid[inner], cuts]))


def _pad(values: np.ndarray, length: int, fill: float) -> np.ndarray:
    return np.concatenate([values, np.full(length - len(values), fill)]).astype(values.dtype)
