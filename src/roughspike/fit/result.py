"""FitResult: what `fit` returns, and its folder on disk."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from roughspike.fit import serialise
from roughspike.fit.history import History, read_csv, to_csv
from roughspike.fit.trainable import parameters
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows

CONFIG_FILE, SPIKES_FILE, HISTORY_FILE = "config.json", "spikes.npz", "history.csv"
_KIND = "roughspike fit"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FitResult:
    """A fitted model and how it came about.

    **Attributes**

    - `model`: the fitted model.
    - `history`: float64 arrays by name: `step`, `loss`, `gradient_norm`, `seconds` (CPU, without compilation) with
      one entry per step; `score_step`, `train_score`, `held_out_score` with one per chunk: bits per spike, or
      minus the loss for a loss that simulates (`config["score"]` says which).
    - `status`: how the run ended, in words.
    - `trainable`: the names of the trained parameters.
    - `config`: steps, dt, key, optimiser, versions, platform, seconds of compilation.
    - `data`: the spikes, `windows` those trained on (None: all), `held_out` the spikes or windows that judged it.
    """

    model: Any
    history: History
    status: str
    trainable: tuple[str, ...]
    config: dict[str, Any]
    data: SpikeTrain
    windows: Windows | None = None
    held_out: SpikeTrain | Windows | None = None

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the run into `folder`; `load` is the inverse. Other files there, such as a report, stay.

        All files are written in full before the first one takes its place, so a full disk leaves an older run as it
        was: `model.json` and `arrays.npz` (the model), `history.csv`, `config.json`, `spikes.npz` (the data).

        **Returns** the folder. **Raises** ValueError if the model cannot be read back, OSError if the disk refuses.
        """
        nodes, spikes = {}, {}
        for name in ("data", "windows", "held_out"):
            nodes[name], arrays = serialise.encode(getattr(self, name), name)
            spikes |= arrays
        config = {
            **serialise.header_start(_KIND),
            "status": self.status,
            "trainable": list(self.trainable),
            **self.config,
            **nodes,
            "arrays": serialise.array_table(spikes),
        }
        files = {
            **serialise.model_files(self.model),
            HISTORY_FILE: to_csv(self.history),
            SPIKES_FILE: serialise.npz_bytes(spikes),
            CONFIG_FILE: serialise.json_bytes(config),
        }
        return _write_together(Path(folder), files)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write a self-contained HTML page about the fit to `path`; returns the path."""
        from roughspike.report import write_report  # drawing is slow to import

        write_report(self, path)
        return Path(path)

    def table(self) -> str:
        """The parameters as text: name, value, unit, and whether it was trained."""
        rows = [("parameter", "value", "unit", "")]
        for p in parameters(self.model):
            trained = p.name in self.trainable
            if trained or p.constraint is not None:
                rows.append((p.name, _show(p.value), p.unit.replace("time", "s"), "trained" if trained else "fixed"))
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        cells = [[c.ljust(w) for c, w in zip(row, widths, strict=False)] + [row[3]] for row in rows]
        return "\n".join("  ".join(line).rstrip() for line in cells)

    def __repr__(self) -> str:
        lines = [f"FitResult: {self.status}"]
        for name, label in (("train_score", "training"), ("held_out_score", "held-out")):
            column = self.history[name]
            if column.size and np.isfinite(column[-1]):
                lines.append(f"{label} score at the last step: {column[-1]:.4g} ({score_name(self.config)})")
        return "\n".join([*lines, self.table()])


def score_name(config: dict[str, Any]) -> str:
    """What the scores of a run are: bits per spike, or minus the loss."""
    return str(config.get("score", "bits per spike"))


def load(folder: str | os.PathLike[str]) -> FitResult:
    """The FitResult that `FitResult.save` wrote.

    **Raises** FileNotFoundError or ValueError, naming the file and the remedy, for a folder that holds no run, a
    newer format, or damaged files.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}: give the folder that `save` wrote")
    if not (root / CONFIG_FILE).is_file() and (root / serialise.MODEL_FILE).is_file():
        raise FileNotFoundError(f"{root} holds a model but no {CONFIG_FILE}, so it is no run: use load_model")
    config = serialise.read_header(root / CONFIG_FILE, _KIND)
    names = ("data", "windows", "held_out")
    try:
        node = {"tuple": [config.pop(name) for name in names]}
        table, status, trainable = config.pop("arrays"), str(config.pop("status")), tuple(config.pop("trainable"))
    except KeyError as error:
        raise ValueError(f"{root / CONFIG_FILE} is corrupted (no entry {error}): restore it from a copy") from error
    data, windows, held_out = serialise.unpack(node, table, root / SPIKES_FILE, root / CONFIG_FILE)
    config = {k: v for k, v in config.items() if k not in serialise.header_start(_KIND)}
    model = serialise.load_model(root)
    return FitResult(model, read_csv(root / HISTORY_FILE), status, trainable, config, data, windows, held_out)


def _write_together(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as staging:
        for name, content in files.items():
            with open(Path(staging) / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for name in files:
            os.replace(Path(staging) / name, folder / name)
    return folder


def _show(value: Any) -> str:
    array = np.asarray(jax.device_get(value))
    if array.size <= 4:
        return np.array2string(array, precision=4, separator=", ").replace("\n", "")
    return f"{array.size} values, {array.min():.4g} to {array.max():.4g}"
