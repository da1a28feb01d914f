"""Spike times as a NumPy archive: arrays trial, neuron, time_s (one entry per spike), window, onset and counts."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from roughspike.io.atomic import atomic_path
from roughspike.io.raw import RawSpikes, check_header, whole_numbers
from roughspike.io.text import existing_file

_FIELDS = ("window", "onset", "num_trials", "num_neurons")
_INDICES = ("trial", "neuron")


def read_npz(path: Path) -> RawSpikes:
    """Read an NPZ archive of spikes. Only the array `time_s` must be there; nothing in it is unpickled.

    **Raises** ValueError for a damaged archive, a missing or misshapen array, NaN, or a bad index.
    """
    try:
        with np.load(existing_file(path), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise ValueError(f"{path} is not an NPZ archive ({error}): write it with write_spikes or np.savez") from None
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): store plain number arrays, not objects") from None
    if "time_s" not in arrays:
        raise ValueError(
            f"{path} has no array 'time_s', it has {', '.join(arrays) or 'nothing'}: store the spike times (seconds, "
            "1-d) under the name 'time_s'"
        )
    time = _column(arrays, "time_s", path)
    columns = {name: _column(arrays, name, path) if name in arrays else np.zeros(time.size) for name in _INDICES}
    for name, values in columns.items():
        if values.size != time.size:
            raise ValueError(
                f"{path}: array {name!r} has {values.size} entries and 'time_s' has {time.size}: every spike needs one"
            )

    def row_name(k: int) -> str:
        return f"entry {k}"

    header = check_header({name: arrays[name].tolist() for name in _FIELDS if name in arrays}, path)
    indices = [whole_numbers(values, name, path, row_name) for name, values in columns.items()]
    return RawSpikes(path, indices[0], indices[1], time, row_name, header)


def write_npz(path: Path, raw: RawSpikes) -> None:
    """Write spikes as an NPZ archive, atomically; inverse of `read_npz`."""
    header = raw.header
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            trial=raw.trial,
            neuron=raw.neuron,
            time_s=raw.time,
            window=np.asarray(header.window),
            onset=np.asarray(header.onset),
            num_trials=np.asarray(header.num_trials),
            num_neurons=np.asarray(header.num_neurons),
        )


def _column(arrays: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    values = arrays[name]
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise ValueError(
            f"{path}: array {name!r} must be a 1-d array of numbers, got {values.dtype} of shape {values.shape}: "
            "store one entry per spike"
        )
    values = values.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ValueError(f"{path}, entry {bad[0]}: {name!r} is NaN or infinite: fix or delete the spike")
    return values
