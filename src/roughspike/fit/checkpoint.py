"""Checkpoints: one NPZ file that holds all a run needs to go on as if nothing had happened.

The file is replaced atomically after every chunk, so a killed process loses no finished chunk.
"""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from roughspike.fit.advance import State
from roughspike.fit.history import History, empty
from roughspike.fit.serialise import FORMAT_VERSION, NPZ_ERRORS, array_hash, npz_bytes, read_npz
from roughspike.io.atomic import write_atomic

FILE, PREVIOUS = "checkpoint.npz", "checkpoint.previous.npz"
_KIND = "roughspike checkpoint"


@dataclasses.dataclass
class Record:
    """What a run remembers between chunks beside its `State`.

    **Attributes**

    - `history`: see `fit.history`.
    - `best`: free coordinates with the best held-out score so far, that score, and its step.
    - `chunks_since_best`: for early stopping.
    - `seconds`: CPU seconds spent on training so far.
    """

    best: dict[str, jax.Array]
    best_score: float = -np.inf
    best_step: int = 0
    chunks_since_best: int = 0
    seconds: float = 0.0
    history: History = dataclasses.field(default_factory=empty)


class Checkpoint:
    """The checkpoint file of one run.

    **Arguments**

    - `folder`: where it lies; created if missing.
    - `identity`: what the run is made of, by name; a resumed run must agree in all of it.
    - `versions`: versions of the software; a difference is only warned about.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: dict[str, Any], versions: dict[str, str]):
        self.path = Path(folder) / FILE
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._identity, self._versions = json.loads(json.dumps(identity)), versions
        self._full = False

    def set_aside(self) -> None:
        """Keep an older run's checkpoint as `checkpoint.previous.npz`."""
        if self.path.exists():
            os.replace(self.path, self.path.with_name(PREVIOUS))

    def write(self, state: State, record: Record) -> str | None:
        """Replace the checkpoint. If the disk refuses, the old one stays and the complaint is returned, once."""
        arrays = _arrays(state, record)
        header = {
            "format": _KIND,
            "version": FORMAT_VERSION,
            "identity": self._identity,
            "versions": self._versions,
            "best_score": repr(record.best_score),
            "best_step": record.best_step,
            "chunks_since_best": record.chunks_since_best,
            "seconds": record.seconds,
            "hashes": {name: array_hash(array) for name, array in arrays.items()},
        }
        try:
            write_atomic(self.path, npz_bytes({"header": np.asarray(json.dumps(header)), **arrays}))
        except OSError as error:
            complaint = f"cannot write {self.path} ({error}); training goes on, the last good checkpoint is intact"
            first, self._full = not self._full, True
            return complaint if first else None
        self._full = False
        return None

    def read(self, state: State) -> tuple[State, Record] | None:
        """The state to go on from, in the shape of the fresh `state`; None if there is no checkpoint yet.

        **Raises** ValueError naming what differs from the run that wrote it, or that the file is damaged.
        """
        if not self.path.exists():
            return None
        header, arrays = self._open()
        self._compare(header)
        try:
            filled = jax.tree.unflatten(jax.tree.structure(state), _filled(state, arrays))
            best = {name: jnp.asarray(arrays[f"best:{name}"]) for name in state.free}
            record = Record(
                best=best,
                best_score=float(header["best_score"]),
                best_step=int(header["best_step"]),
                chunks_since_best=int(header["chunks_since_best"]),
                seconds=float(header["seconds"]),
                history={name: arrays[f"history:{name}"] for name in empty()},
            )
        except (KeyError, ValueError) as error:
            raise self._damaged(error) from error
        return filled, record

    def _open(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        try:
            arrays = read_npz(self.path)
            header = json.loads(str(arrays.pop("header")))
            kind, version, hashes = header["format"], header["version"], header["hashes"]
        except (*NPZ_ERRORS, TypeError) as error:
            raise self._damaged(error) from error
        if version > FORMAT_VERSION:
            raise ValueError(
                f"{self.path} has format version {version}, this roughspike reads {FORMAT_VERSION}: upgrade"
            )
        if kind != _KIND or hashes != {name: array_hash(array) for name, array in arrays.items()}:
            raise self._damaged("the arrays do not match its header")
        return header, arrays

    def _damaged(self, why: object) -> ValueError:
        return ValueError(f"{self.path} is damaged ({why}): delete it and start again with resume=False")

    def _compare(self, header: dict[str, Any]) -> None:
        different = _differences(header["identity"], self._identity)
        if different:
            raise ValueError(
                f"{self.path} is of another run; these differ: {', '.join(different)}. Pass the same arguments as "
                "that run to continue it, or resume=False to start again"
            )
        moved = _differences(header["versions"], self._versions)
        if moved:
            warnings.warn(
                f"{self.path} was written with other versions of {', '.join(moved)}: the continuation may differ in "
                "the last bits; install the same versions to repeat the run exactly",
                stacklevel=5,
            )


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in [*old, *(k for k in new if k not in old)]:
            found += _differences(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        return found
    if old == new:
        return []
    short = all(isinstance(x, int | float | str) and len(str(x)) < 120 for x in (old, new)) and not _is_hash(old)
    return [f"{name} ({old} then, {new} now)" if short else name]


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 16 and all(c in "0123456789abcdef" for c in value)


def _arrays(state: State, record: Record) -> dict[str, np.ndarray]:
    parts = {f"state:{k}": leaf for k, leaf in enumerate(jax.tree.leaves(state))}
    parts |= {f"best:{name}": value for name, value in record.best.items()}
    parts |= {f"history:{name}": column for name, column in record.history.items()}
    return {name: np.asarray(value) for name, value in parts.items()}


def _filled(state: State, arrays: dict[str, np.ndarray]) -> list[jax.Array]:
    leaves = []
    for k, like in enumerate(jax.tree.leaves(state)):
        array = arrays[f"state:{k}"]
        if array.shape != like.shape or array.dtype != like.dtype:
            raise ValueError(f"entry {k} of the state has shape {array.shape} and type {array.dtype}")
        leaves.append(jnp.asarray(array))
    return leaves
