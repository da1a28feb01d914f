"""Rows of the parameter table of a cell: readable names, units in seconds, start values, what was fitted."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

import jax
import numpy as np

from roughspike.evaluation.types import Parameter

_WORDS = {
    "mu[0]": ("membrane rate", "μ₁"),
    "mu[1]": ("rate of the synaptic current", "μ₂"),
    "sigma[0,0]": ("diffusion of the potential", "σ₁₁"),
    "sigma[0,1]": ("diffusion of the potential, second noise", "σ₁₂"),
    "sigma[1,0]": ("diffusion of the current, first noise", "σ₂₁"),
    "sigma[1,1]": ("diffusion of the current", "σ₂₂"),
    "v_reset": ("reset", "v_reset"),
    "alpha": ("soft refractory threshold", "α"),
    "beta": ("steepness of the escape rate", "β"),
    "v_th": ("threshold", "v_th"),
    "tau_s": ("time constant of the escape rate", "τ_s"),
    "refractory": ("absolute refractory time", "τ_ref"),
    "self_weight": ("self-weight of a spike", "w"),
    "current": ("input current", "c"),
    "value": ("offset of the input", "c₀"),
    "gain": ("stimulus gain", "g"),
    "delay": ("stimulus delay", "δ"),
    "low_pass_gain": ("gain of the low-passed stimulus", "g_u"),
    "tau_low_pass": ("time constant of the low-pass", "τ_u"),
    "amplitude": ("drift of the input", "d"),
    "tau": ("time constant of the drift", "τ_d"),
    "v0": ("initial potential", "v(0)"),
    "i0": ("initial current", "i(0)"),
}
_MOST_ENTRIES = 12


def parameter_rows(cell: Any, *, start: Any = None, trainable: Collection[str] = ()) -> tuple[Parameter, ...]:
    """One row per number of the cell; parameters that are fixed at 0 are absent and get none.

    **Arguments**

    - `cell`: the fitted model. Its numbers are found by walking its fields, so any neuron or current has a table.
    - `start`: the model before training, of the same structure.
    - `trainable`: names of the fitted leaves, such as `neuron.mu` or `current.parts[0].gain`.
    """
    before = {} if start is None else dict(_numbers(start))
    rows = []
    for (leaf, index, unit), value in _numbers(cell):
        fitted = leaf in trainable
        if value == 0 and not fitted or value == before.get((leaf, index, unit)) == 0:
            continue
        name, symbol = _words(leaf, index)
        note = f"time constant {1e3 / value:.3g} ms" if leaf.endswith("mu") and value > 0 else ""
        rows.append(Parameter(name, symbol, value, unit, before.get((leaf, index, unit)), fitted, note))
    return tuple(rows)


def _numbers(cell: Any) -> Iterator[tuple[tuple[str, str, str], float]]:
    """((leaf, index inside it, unit), value) of every number that is declared as a parameter."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(cell)[0]:
        declared = _metadata(cell, path)
        values = np.asarray(leaf)
        if "constraint" not in declared or not np.issubdtype(values.dtype, np.floating):
            continue
        name = jax.tree_util.keystr(path).removeprefix(".")
        unit = declared.get("unit", "").replace("time", "s").replace("sqrt(s)", "√s")
        if values.size > _MOST_ENTRIES:
            yield (name, f" (mean of {values.size})", unit), float(values.mean())
            continue
        for index, value in np.ndenumerate(values):
            yield (name, f"[{','.join(map(str, index))}]" if index else "", unit), float(value)


def _metadata(cell: Any, path: tuple[Any, ...]) -> dict[str, Any]:
    """What the class declares about the field at the end of the path; {} for data that are no parameters."""
    node: Any = cell
    found: dict[str, Any] = {}
    for key in path:
        if isinstance(key, jax.tree_util.SequenceKey):
            node = node[key.idx]
            continue
        if not isinstance(key, jax.tree_util.GetAttrKey):
            return {}
        fields = {f.name: f for f in dataclasses.fields(node)}
        found = dict(fields[key.name].metadata)
        node = getattr(node, key.name)
    return found


def _words(leaf: str, index: str) -> tuple[str, str]:
    last = leaf.rpartition(".")[2]
    if last + index in _WORDS:
        return _WORDS[last + index]
    if last in _WORDS:
        name, symbol = _WORDS[last]
        return name + index, symbol + index
    return leaf + index, ""
