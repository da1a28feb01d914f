"""Read a regularly sampled stimulus."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from roughspike.currents.signal import SampledSignal
from roughspike.io.raw import SECONDS
from roughspike.io.text import TextTable, find_column, read_table

_JITTER = 0.01  # of the sampling interval: more is called irregular


def read_stimulus(
    path: str | os.PathLike[str], *, dt: float | None = None, column: str | None = None, unit: str = "s"
) -> SampledSignal:
    r"""Read a stimulus from a text file: columns `time_s,value`, or `value` alone with `dt`.

    Without a header, two columns are time and value, and a single column is the value. Sampling must be regular.

    **Arguments**

    - `path`: a CSV or text file.
    - `dt`: the sampling interval in seconds, for a file without times (the first sample is then at time 0).
    - `column`: the name of the column to read; None: `value`, or the only column that is not the time.
    - `unit`: of the time column: "s", "ms" or "us".

    **Returns** a SampledSignal: float64 values; dt and start in seconds.

    **Raises** ValueError, naming file, line and remedy, for a file that is missing or empty, a cell that is not a
    number, a missing column, irregular sampling, or a sampling interval that is unknown or contradicts the file.

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "sound.csv"
    >>> _ = file.write_text("time_s,value\n0.0,1.5\n0.001,2.5\n0.002,1.0\n")
    >>> signal = read_stimulus(file)
    >>> signal.values.tolist(), round(signal.dt, 9)
    ([1.5, 2.5, 1.0], 0.001)
    """
    if unit not in SECONDS:
        raise ValueError(f'unit must be "s", "ms" or "us", got {unit!r}')
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise ValueError(f"dt must be greater than 0, got {dt}: pass the sampling interval in seconds")
    table = read_table(Path(path))
    time_column = _time_column(table, unit)
    values = table.numbers(_value_column(table, time_column, column))
    if values.size < 2:
        raise ValueError(f"{path} holds {values.size} samples: a stimulus needs at least 2")
    if time_column is None:
        if dt is None:
            raise ValueError(f"{path} has no column 'time_s': pass dt, the sampling interval in seconds")
        return SampledSignal(values, dt)
    start, interval = _sampling(table, time_column, unit)
    if dt is not None and abs(dt - interval) > _JITTER * interval:
        raise ValueError(f"dt is {dt:g} s, but samples in {path} are {interval:g} s apart: leave dt out, or check unit")
    return SampledSignal(values, interval, start)


def _time_column(table: TextTable, unit: str) -> int | None:
    if table.names is None:
        if table.num_columns > 2:
            raise ValueError(
                f"{table.path} has {table.num_columns} columns but no header: begin it with a line of names such as "
                "'time_s,value'"
            )
        return 0 if table.num_columns == 2 else None
    other = [name for name in ("time_ms", "time_us") if name in table.names and name != f"time_{unit}"]
    found = find_column(table, ["time_s", f"time_{unit}", "time"])
    if found is None and other:
        raise ValueError(f"{table.path} has the time column {other[0]!r}: pass unit={other[0][5:]!r}")
    return found


def _value_column(table: TextTable, time_column: int | None, column: str | None) -> int:
    others = [k for k in range(table.num_columns) if k != time_column]
    if table.names is None:
        if column is not None:
            raise ValueError(f"{table.path} has no header, so no column {column!r}: leave column out")
        return others[0]
    found = find_column(table, [column.lower() if column is not None else "value"])
    if found is not None:
        return found
    if column is None and len(others) == 1:
        return others[0]
    names = ", ".join(table.names)
    wanted = "value" if column is None else column
    raise ValueError(f"{table.path} has no column {wanted!r}, it has {names}: pass column= one of them")


def _sampling(table: TextTable, column: int, unit: str) -> tuple[float, float]:
    time = table.numbers(column) / SECONDS[unit]
    step = np.diff(time)
    usual = float(np.median(step))
    if not usual > 0:
        raise ValueError(f"{table.path}: times in column {table.label(column)} do not ascend: sort the rows by time")
    # times rounded to few digits jitter by a rounding unit, which is allowed; a missing sample is not
    bad = np.flatnonzero(np.abs(step - usual) > _JITTER * usual + 4 * np.spacing(np.abs(time).max()))
    if bad.size:
        k = int(bad[0]) + 1
        raise ValueError(
            f"{table.path}, line {table.lines[k]}: irregular sampling, {step[k - 1]:.6g} s after the sample before "
            f"where {usual:.6g} s is usual ({bad.size} such lines): resample the stimulus at regular times"
        )
    return float(time[0]), float((time[-1] - time[0]) / (time.size - 1))
