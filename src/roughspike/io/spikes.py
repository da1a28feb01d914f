"""Read and write spike times; the format follows the file's suffix."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np

from roughspike.io.raw import SECONDS, Header, RawSpikes
from roughspike.io.spikes_csv import read_csv, write_csv
from roughspike.io.spikes_npz import read_npz, write_npz
from roughspike.paths.spikes import SpikeTrain

_TEXT = (".csv", ".txt", ".tsv", ".dat")
_SLOWEST, _FASTEST = 0.01, 1000.0  # Hz; rates outside are taken for a wrong unit
_LARGEST = 300_000_000  # entries of the padded array, 2.4 GB


def read_spikes(
    path: str | os.PathLike[str],
    window: tuple[float, float] | None = None,
    num_trials: int | None = None,
    num_neurons: int | None = None,
    *,
    unit: str = "s",
    sort: bool = False,
    drop_duplicates: bool = False,
) -> SpikeTrain:
    r"""Read recorded spikes from a CSV (.csv, .txt, .tsv, .dat) or NumPy (.npz) file.

    A CSV has the header `trial,neuron,time_s`: indices from 0, one row per spike. `trial` and `neuron` may be absent
    (then 0), and a single column of times needs no header. An NPZ has 1-d arrays of the same names. A trial without
    a spike has no row and still counts: `num_trials` says how many there are.

    **Arguments**

    - `path`: the file.
    - `window`: (start, stop) in seconds of the recording's clock. Spikes outside are dropped with a warning. None:
      the window that `write_spikes` stored in the file.
    - `num_trials`, `num_neurons`: silent ones included. None: as stored in the file, else the largest index + 1.
    - `unit`: of the times in the file: "s", "ms" or "us". (`window` is always in seconds.)
    - `sort`: accept unsorted times and sort them.
    - `drop_duplicates`: keep one spike where a neuron has several at the same time.

    **Returns** a SpikeTrain with float64 NumPy times of shape (trials, neurons, capacity). With `window`, t0 = 0,
    t1 = stop - start, onset = start, and start is subtracted in float64: times late in a long recording keep
    their precision. Without, times, t0, t1 and onset are as they were written.

    **Raises** ValueError, naming file, line and remedy, for a file that is missing, empty or malformed, for times
    that are NaN, unsorted, repeated or all outside the window, for bad indices, and for an empty window.

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "trials.csv"
    >>> _ = file.write_text("trial,time_s\n0,3600.25\n0,3601.5\n2,3600.75\n")
    >>> spikes = read_spikes(file, window=(3600.0, 3602.0), num_trials=4)
    >>> spikes.times.shape, spikes.counts[:, 0].tolist(), spikes.t1, spikes.onset
    ((4, 1, 2), [2, 0, 1, 0], 2.0, 3600.0)
    """
    _check_unit(unit)
    window = _check_window(window)
    raw = _read(Path(path), unit)
    num_trials = _count("num_trials", num_trials, raw.header.num_trials, raw.trial, raw)
    num_neurons = _count("num_neurons", num_neurons, raw.header.num_neurons, raw.neuron, raw)
    raw = _in_order(raw, sort, drop_duplicates)
    time, t0, t1, onset = _cut(raw, window, unit)
    inside = (time >= t0) & (time <= t1)
    _report_outside(raw, inside, (t0 + onset, t1 + onset), unit)
    times = _padded(raw.trial[inside], raw.neuron[inside], time[inside], (num_trials, num_neurons), raw.path)
    _warn_about_rates(times, t1 - t0, raw.path, unit)
    return SpikeTrain(times, t0, t1, onset=onset)


def write_spikes(path: str | os.PathLike[str], spikes: SpikeTrain) -> None:
    """Write spikes to a .csv or .npz file, atomically; `read_spikes(path)` gives back the same train.

    The file stores the times as they are (seconds after `onset`, with all digits) with window, onset and the numbers
    of trials and neurons, so silent trials and float64 values survive. A single train becomes one trial.

    **Arguments**

    - `path`: ends in .csv or .npz.
    - `spikes`: times of shape (neurons, capacity) or (trials, neurons, capacity).

    **Raises** ValueError for another suffix or more than one batch axis; OSError if the disk refuses (an old file at
    `path` is then unchanged).

    >>> import pathlib, tempfile, roughspike as rs
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "trials.csv"
    >>> write_spikes(file, rs.SpikeTrain([[[0.1, 0.30000000000000004]]], t1=2.0))
    >>> print(file.read_text().splitlines()[0])
    # roughspike: {"window": [0.0, 2.0], "onset": 0.0, "num_trials": 1, "num_neurons": 1}
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".npz"):
        raise ValueError(f"cannot write spikes to {path.name!r}: name a file that ends in .csv or .npz")
    if len(spikes.batch_shape) > 1:
        raise ValueError(
            f"spikes has batch axes {spikes.batch_shape}; a file holds one axis of trials: index or reshape first"
        )
    times = np.asarray(spikes.times, dtype=np.float64)
    times = times.reshape((-1, *times.shape[-2:]))
    trial, neuron, slot = np.nonzero(np.isfinite(times))
    header = Header((spikes.t0, spikes.t1), spikes.onset, len(times), spikes.num_neurons)
    raw = RawSpikes(path, trial, neuron, times[trial, neuron, slot], str, header)
    (write_csv if path.suffix.lower() == ".csv" else write_npz)(path, raw)


def _read(path: Path, unit: str) -> RawSpikes:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return read_npz(path)
    if suffix in _TEXT:
        return read_csv(path, unit)
    raise ValueError(f"cannot tell the format of {path.name!r}: name the file {', '.join(_TEXT)} or .npz")


def _check_unit(unit: str) -> None:
    if unit not in SECONDS:
        raise ValueError(f'unit must be "s", "ms" or "us", got {unit!r}')


def _check_window(window: tuple[float, float] | None) -> tuple[float, float] | None:
    if window is None:
        return None
    if len(window) != 2 or not np.isfinite(window).all():
        raise ValueError(f"window must be two finite times (start, stop) in seconds, got {window}")
    start, stop = float(window[0]), float(window[1])
    if not stop > start:
        raise ValueError(f"window must end after it starts, got {window}: pass (start, stop) with start < stop")
    return start, stop


def _count(name: str, given: int | None, stored: int | None, index: np.ndarray, raw: RawSpikes) -> int:
    if given is None and stored is None and not index.size:
        if name == "num_trials":
            raise ValueError(f"{raw.path} holds no spikes: if all trials are silent, pass num_trials")
        return 1
    needed = int(index.max()) + 1 if index.size else 1
    number = needed if given is None and stored is None else int(stored or 0) if given is None else int(given)
    if number < needed:
        largest = int(np.argmax(index)) if index.size else 0
        where = f"{raw.row_name(largest)} has {name[4:-1]} {needed - 1}" if index.size else "at least one is needed"
        source = "is" if given is not None else "in the file is"
        raise ValueError(f"{name} {source} {number}, but {raw.path}, {where}: pass num_{name[4:]}={needed} or more")
    return number


def _in_order(raw: RawSpikes, sort: bool, drop_duplicates: bool) -> RawSpikes:
    # lexsort is stable: without `sort`, the rows of one neuron keep the order of the file
    keys = (raw.time, raw.neuron, raw.trial) if sort else (raw.neuron, raw.trial)
    order = np.lexsort(keys)
    trial, neuron, time = raw.trial[order], raw.neuron[order], raw.time[order]
    same = (np.diff(trial) == 0) & (np.diff(neuron) == 0)
    step = np.diff(time)
    unsorted = np.flatnonzero(same & (step < 0))
    if unsorted.size:
        k = int(unsorted[np.argmin(order[unsorted + 1])])
        raise ValueError(
            f"{raw.path}, {raw.row_name(int(order[k + 1]))}: unsorted, time {time[k + 1]:.9g} follows {time[k]:.9g} in "
            f"trial {trial[k]}, neuron {neuron[k]} (a negative interval; {unsorted.size} in the file): pass sort=True "
            "if the order has no meaning"
        )
    repeated = np.flatnonzero(same & (step == 0))
    if repeated.size and not drop_duplicates:
        k = int(repeated[np.argmin(order[repeated + 1])])
        raise ValueError(
            f"{raw.path}, {raw.row_name(int(order[k + 1]))}: duplicate, trial {trial[k]}, neuron {neuron[k]} already "
            f"has a spike at time {time[k]:.9g} ({repeated.size} duplicates in the file): pass drop_duplicates=True "
            "to keep one of each"
        )
    keep = np.setdiff1d(np.arange(order.size), repeated + 1)
    return RawSpikes(raw.path, trial[keep], neuron[keep], time[keep], raw.row_name, raw.header)


def _cut(raw: RawSpikes, window: tuple[float, float] | None, unit: str) -> tuple[np.ndarray, float, float, float]:
    # times in seconds in the clock of the new train, and its t0, t1, onset
    time = raw.time / SECONDS[unit]
    shift = raw.header.onset or 0.0
    if window is None:
        if raw.header.window is None:
            found = f" (its times span {time.min():.9g} to {time.max():.9g} s)" if time.size else ""
            raise ValueError(f"{raw.path} does not say its window{found}: pass window=(start, stop) in seconds")
        t0, t1 = raw.header.window
        if not t1 > t0:
            raise ValueError(f"{raw.path}: its window {[t0, t1]} must end after it starts: pass window=(start, stop)")
        return time, t0, t1, shift
    start, stop = window
    # both clocks start at `shift` in the file: take it off the window, never add it to the times
    return time - (start - shift), 0.0, stop - start, start


def _report_outside(raw: RawSpikes, inside: np.ndarray, window: tuple[float, float], unit: str) -> None:
    outside = int(inside.size - np.count_nonzero(inside))
    if not outside:
        return
    time = raw.time / SECONDS[unit] + (raw.header.onset or 0.0)
    span = f"{time.min():.9g} to {time.max():.9g} s"
    hint = _unit_hint(raw.time, window, unit)
    if outside == inside.size:
        remedy = hint or "pass a window that holds them, in seconds of the recording's clock"
        raise ValueError(
            f"{raw.path}: all {outside} spikes lie outside the window [{window[0]:.9g}, {window[1]:.9g}] s, they span "
            f"{span}: {remedy}"
        )
    text = f"{raw.path}: dropped {outside} of {inside.size} spikes outside the window [{window[0]:.9g}, "
    text += f"{window[1]:.9g}] s; the file spans {span}"
    if 2 * outside > inside.size and hint:
        text += f": {hint}"
    warnings.warn(text, UserWarning, stacklevel=3)


def _unit_hint(values: np.ndarray, window: tuple[float, float], unit: str) -> str:
    beyond_the_corner = window[0] + 0.05 * (window[1] - window[0])  # any unit small enough would fit the corner
    for other, per_second in SECONDS.items():
        time = values / per_second
        fits = np.mean((time >= window[0]) & (time <= window[1])) > 0.5 and time.max() > beyond_the_corner
        if other != unit and fits:
            hint = f'they would fit if they are in {other}: pass unit="{other}"'
            break
    else:
        hint = ""
    if np.abs(values).max() > 1000 and np.all(values == np.round(values)):
        more = "if they are sample numbers, divide them by the sampling rate in Hz"
        hint = f"{hint}; {more}" if hint else more
    return hint


def _padded(trial: np.ndarray, neuron: np.ndarray, time: np.ndarray, shape: tuple[int, int], path: Path) -> np.ndarray:
    group = trial * shape[1] + neuron  # rows come sorted by trial, neuron, time
    counts = np.bincount(group, minlength=1) if group.size else np.zeros(1, dtype=np.int64)
    capacity = max(1, int(counts.max()))
    if shape[0] * shape[1] * capacity > _LARGEST:
        raise ValueError(
            f"{path}: {shape[0]} trials x {shape[1]} neurons x {capacity} spikes do not fit in memory: check that the "
            "trial and neuron columns hold indices counted from 0, not times or identifiers"
        )
    first = np.concatenate([[0], np.cumsum(counts)])[group]
    times = np.full((*shape, capacity), np.inf)
    times[trial, neuron, np.arange(group.size) - first] = time
    return times


def _warn_about_rates(times: np.ndarray, duration: float, path: Path, unit: str) -> None:
    counts = np.isfinite(times).sum(axis=-1).sum(axis=0)
    if not counts.any():
        return
    rate = counts[counts > 0].mean() / (duration * times.shape[0])
    with np.errstate(invalid="ignore"):
        intervals = np.diff(times, axis=-1)
    intervals = intervals[np.isfinite(intervals)]
    # the median interval sees a unit that squeezes all spikes into a corner of the window, the mean rate does not
    burst = 1.0 / float(np.median(intervals)) if intervals.size else rate
    if rate > _FASTEST or burst > _FASTEST:
        warnings.warn(
            f"{path}: active neurons fire at {rate:.4g} Hz on average (median interval {1e3 / burst:.4g} ms), above "
            f'{_FASTEST:g} Hz: check unit="{unit}" and whether the window, which is in seconds, is right',
            UserWarning,
            stacklevel=3,
        )
    elif rate < _SLOWEST:
        warnings.warn(
            f"{path}: active neurons fire at {rate:.4g} Hz on average, below {_SLOWEST:g} Hz: check "
            f'unit="{unit}" and whether the window, which is in seconds, is right',
            UserWarning,
            stacklevel=3,
        )
