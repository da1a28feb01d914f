"""Spike times as text: columns trial, neuron, time_s, with a comment line that holds window and counts.

    # roughspike: {"window": [0.0, 2.0], "onset": 0.0, "num_trials": 50, "num_neurons": 1}
    trial,neuron,time_s
    0,0,0.0125
    0,0,0.0431

Times are written with as many digits as float64 needs to come back exactly.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from roughspike.io.atomic import write_atomic
from roughspike.io.raw import Header, RawSpikes, check_header, whole_numbers
from roughspike.io.text import TextTable, find_column, read_table

_MARK = "roughspike:"


def read_csv(path: Path, unit: str) -> RawSpikes:
    """Read a CSV or text file of spikes.

    The time column is named `time_s` (or `time`, or `time_ms` / `time_us` to match `unit`). Columns `trial` and
    `neuron` may be absent: all spikes then belong to trial 0 and neuron 0. A file with a single column of numbers
    needs no header.

    **Raises** ValueError for a missing column, a cell that is not a number, or a bad index; it names the line.
    """
    table = read_table(path)
    columns = [_time_column(table, unit), find_column(table, ["trial"]), find_column(table, ["neuron"])]

    def row_name(k: int) -> str:
        return f"line {table.lines[k]}"

    time, trial, neuron = (np.zeros(len(table.rows)) if c is None else table.numbers(c) for c in columns)
    return RawSpikes(
        path,
        whole_numbers(trial, "trial", path, row_name),
        whole_numbers(neuron, "neuron", path, row_name),
        time,
        row_name,
        _header(table),
    )


def write_csv(path: Path, raw: RawSpikes) -> None:
    """Write spikes as CSV, atomically; inverse of `read_csv`."""
    header = raw.header
    fields = {
        "window": header.window,
        "onset": header.onset,
        "num_trials": header.num_trials,
        "num_neurons": header.num_neurons,
    }
    lines = [f"# {_MARK} {json.dumps(fields)}", "trial,neuron,time_s"]
    # repr of a float is the shortest text that reads back as the same float64
    lines += [
        f"{trial},{neuron},{time!r}"
        for trial, neuron, time in zip(raw.trial.tolist(), raw.neuron.tolist(), raw.time.tolist(), strict=True)
    ]
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def _time_column(table: TextTable, unit: str) -> int:
    if table.names is None:
        if table.num_columns == 1:
            return 0
        raise ValueError(
            f"{table.path} has {table.num_columns} columns but no header: begin it with the line 'trial,neuron,time_s' "
            "(only a file with a single column of times needs no header)"
        )
    column = find_column(table, ["time_s", f"time_{unit}", "time"])
    if column is None:
        others = [u for u in ("ms", "us") if f"time_{u}" in table.names]
        remedy = f"pass unit={others[0]!r}" if others else "rename the column of spike times to 'time_s'"
        raise ValueError(f"{table.path} has no column 'time_s', it has {', '.join(table.names)}: {remedy}")
    return column


def _header(table: TextTable) -> Header:
    for comment in table.comments:
        if comment.startswith(_MARK):
            try:
                fields = json.loads(comment[len(_MARK) :])
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{table.path}: the comment '# {comment}' is not valid JSON ({error}): correct it, or delete the "
                    "line and pass window and num_trials to read_spikes"
                ) from None
            return check_header(fields if isinstance(fields, dict) else {"window": fields}, table.path)
    return Header()
