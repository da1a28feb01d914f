"""What a run of `fit` was: its configuration, and the identity that a checkpoint is compared with."""

from __future__ import annotations

import json
import zlib
from typing import Any

import jax
import numpy as np

from roughspike._types import default_float
from roughspike.fit import fingerprint
from roughspike.fit.advance import State
from roughspike.fit.simulated import SimulatedObjective
from roughspike.fit.trainable import Trainable
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows


def configuration(
    cell: Any, loss: Any, start: State, steps: int, dt: float, key: jax.Array, default: bool, learning_rate: float
) -> dict[str, Any]:
    """How the run was made, as plain values for its folder."""
    states = [type(s).__name__ for s in jax.tree.leaves(start.optimiser, is_leaf=_is_named) if _is_named(s)]
    rule = (
        f"clip_by_global_norm(10), adam(cosine decay of {learning_rate:g} to a twentieth in {steps} steps)"
        if default
        else f"given by the caller, with the state {', '.join(states) or 'of no name'}"
    )
    return {
        "steps": steps,
        "dt": float(dt),
        "key": fingerprint.key_numbers(key),
        "optimiser": rule,
        "loss": fingerprint.structure(loss),
        "score": "minus the loss" if isinstance(loss, SimulatedObjective) else "bits per spike",
        "model": type(cell).__name__,
        "x64": bool(default_float() == np.float64),
        "versions": fingerprint.versions(),
        "platform": fingerprint.machine(),
    }


def numbered(identity: dict[str, Any]) -> dict[str, int]:
    """An identity as whole numbers, for processes to compare."""
    return {name: zlib.crc32(json.dumps(value, sort_keys=True).encode()) for name, value in identity.items()}


def _is_named(node: Any) -> bool:
    return isinstance(node, tuple) and hasattr(node, "_fields")


def identify(
    cell: Any,
    loss: Any,
    trainable: Trainable,
    start: State,
    config: dict[str, Any],
    data: SpikeTrain,
    windows: Windows | None,
    held_out: SpikeTrain | Windows | None,
) -> dict[str, Any]:
    """What a checkpoint must agree with to be resumed."""
    return {
        "trainable": list(trainable.names),
        "steps": config["steps"],
        "dt": config["dt"],
        "key": config["key"],
        "optimiser": config["optimiser"],
        "optimiser state": fingerprint.shapes(start.optimiser),
        "x64": config["x64"],
        "loss": config["loss"],
        "loss values": fingerprint.digest(loss),
        "data": fingerprint.digest(data),
        "windows": fingerprint.digest(windows),
        "held_out": fingerprint.digest(held_out),
        "model structure": fingerprint.structure(cell),
        "start values": fingerprint.leaf_digests(cell),
    }
