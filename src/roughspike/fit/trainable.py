"""Which leaves of a model are trained, and the free coordinates in which an optimiser moves them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax import lax

from roughspike._constraints import AbstractConstraint, Real
from roughspike._types import as_float

Selector = Callable[[Any], Any]
"""A function model -> leaf, tuple or list of leaves, or submodule of the model."""

_REMEDY = (
    "return leaves or submodules of the model as they stand, e.g. trainable=lambda m: (m.neuron.mu, m.current), "
    "and transform nothing inside the selector"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Parameter:
    """A numeric leaf of a model.

    **Attributes**

    - `name`: its path, such as `neuron.mu` or `current.parts[0].gain`.
    - `position`: its index among the leaves of the model.
    - `value`: the leaf itself.
    - `constraint`: as declared by `parameter(...)` in its class; None if none is declared.
    - `unit`: as declared, with the placeholder `time`.
    """

    name: str
    position: int
    value: Any
    constraint: AbstractConstraint | None
    unit: str


def parameters(model: Any) -> list[Parameter]:
    """All numeric leaves of a model, in the order of its fields, with what their classes declare about them."""
    found = []
    for position, (path, value) in enumerate(jtu.tree_flatten_with_path(model)[0]):
        if _is_numeric(value):
            constraint, unit = _declared(model, path)
            found.append(Parameter(path_name(path), position, value, constraint, unit))
    return found


def path_name(path: tuple[Any, ...]) -> str:
    """The readable name of a leaf's path in its tree: `current.parts[0].gain`."""
    return jtu.keystr(path).removeprefix(".")


class Trainable(eqx.Module):
    """The trained leaves of a model: their names, units and constraints.

    It holds no value, so it serves every model of the same structure. The free coordinates are a dict name -> array.

    >>> import equinox as eqx, jax
    >>> from roughspike._constraints import Positive, parameter
    >>> class Decay(eqx.Module):
    ...     tau: jax.Array = parameter(Positive(), unit="time")
    >>> chosen = Trainable.select(Decay(2.0), lambda m: m.tau)
    >>> chosen.names, {name: round(float(x), 4) for name, x in chosen.to_free(Decay(2.0)).items()}
    (('tau',), {'tau': 0.6931})
    """

    names: tuple[str, ...] = eqx.field(static=True)
    units: tuple[str, ...] = eqx.field(static=True)
    positions: tuple[int, ...] = eqx.field(static=True)
    constraints: tuple[AbstractConstraint, ...]

    @staticmethod
    def select(model: Any, selector: Selector | None = None) -> Trainable:
        """Find the leaves that `selector` returns.

        The selector is applied to a copy of the model whose leaves are placeholders, so a leaf is found by its place
        in the tree and not by its value. A leaf named directly is trained with its declared constraint, or as any
        real number if none is declared. Of a submodule (and of the whole model, `selector=None`) the leaves with a
        declared constraint are trained; those that are 0 in every entry and must not be, such as sigma = 0, count
        as switched off and are left out.

        **Raises** ValueError if nothing is selected, if something selected is not a numeric leaf of the model, or if
        a constraint rejects the start value.
        """
        known = {p.position: p for p in parameters(model)}
        chosen = [known[k] for k in sorted(_positions(model, known, selector))]
        for p in chosen:
            _check_start(p)
        return Trainable(
            names=tuple(p.name for p in chosen),
            units=tuple(p.unit for p in chosen),
            positions=tuple(p.position for p in chosen),
            constraints=tuple(p.constraint or Real() for p in chosen),
        )

    def values(self, model: Any) -> dict[str, jax.Array]:
        """The trained values of `model` by name."""
        leaves = jax.tree.leaves(model)
        return {name: _strong(leaves[k]) for name, k in zip(self.names, self.positions, strict=True)}

    def to_free(self, model: Any) -> dict[str, jax.Array]:
        """The free coordinates of `model` by name."""
        pairs = zip(self.values(model).items(), self.constraints, strict=True)
        return {name: _strong(constraint.to_free(value)) for (name, value), constraint in pairs}

    def to_model(self, free: dict[str, jax.Array], model: Any) -> Any:
        """`model` with its trained leaves replaced; `model` must hold the start values, and nothing else changes."""
        leaves, structure = jax.tree.flatten(model)
        start = self.values(model)
        for name, k, constraint in zip(self.names, self.positions, self.constraints, strict=True):
            leaves[k] = constraint.to_legal(free[name], start[name])
        return jax.tree.unflatten(structure, leaves)


@dataclasses.dataclass(frozen=True)
class _Placeholder:
    position: int


def _positions(model: Any, known: dict[int, Parameter], selector: Selector | None) -> set[int]:
    leaves, structure = jax.tree.flatten(model)
    marked = jax.tree.unflatten(structure, [_Placeholder(k) for k in range(len(leaves))])
    try:
        selection = marked if selector is None else selector(marked)
    except Exception as error:
        raise ValueError(f"trainable: the selector failed with {type(error).__name__}: {error}; {_REMEDY}") from error
    chosen: set[int] = set()
    for item in jax.tree.leaves(selection, is_leaf=_is_item):
        if isinstance(item, _Placeholder):
            chosen.add(_numeric_leaf(item, leaves, known))
        elif isinstance(item, eqx.Module):
            chosen |= _implicit(item, known)
        elif item is None:
            raise ValueError(f"trainable: a selected leaf is None in this model: give it a value first, or {_REMEDY}")
        else:
            raise ValueError(f"trainable: {item!r} is not a leaf of the model: {_REMEDY}")
    if not chosen:
        raise ValueError(f"trainable selects nothing that can be trained: {_REMEDY}")
    return chosen


def _is_item(node: Any) -> bool:
    return node is None or isinstance(node, _Placeholder | eqx.Module)


def _numeric_leaf(item: _Placeholder, leaves: list[Any], known: dict[int, Parameter]) -> int:
    if item.position not in known:
        raise ValueError(f"trainable: {leaves[item.position]!r} is not a floating-point leaf of the model: {_REMEDY}")
    return item.position


def _implicit(module: eqx.Module, known: dict[int, Parameter]) -> set[int]:
    inside = [
        leaf.position
        for leaf in jax.tree.leaves(module, is_leaf=lambda x: isinstance(x, _Placeholder))
        if isinstance(leaf, _Placeholder)
    ]
    return {k for k in inside if k in known and known[k].constraint is not None and not _switched_off(known[k])}


def _switched_off(p: Parameter) -> bool:
    value = np.asarray(p.value)
    return p.constraint is not None and p.constraint.check(value) is not None and not np.any(value)


def _check_start(p: Parameter) -> None:
    value = np.asarray(p.value)
    if not np.all(np.isfinite(value)):
        raise ValueError(f"{p.name} starts at {value}, which is not finite: give it a finite start value")
    complaint = p.constraint.check(value) if p.constraint is not None else None
    if complaint is not None:
        raise ValueError(f"{p.name} {complaint}, or leave it out of trainable")


def _is_numeric(value: Any) -> bool:
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return jnp.issubdtype(value.dtype, jnp.floating)
    return isinstance(value, float)


def _declared(model: Any, path: tuple[Any, ...]) -> tuple[AbstractConstraint | None, str]:
    constraint, unit, node = None, "", model
    for key in path:
        if isinstance(key, jtu.GetAttrKey):
            # a declaration covers the containers in its field, but not the modules in it, whose fields have their own
            fields = {f.name: f for f in dataclasses.fields(node)} if dataclasses.is_dataclass(node) else {}
            metadata = fields[key.name].metadata if key.name in fields else {}
            constraint, unit = metadata.get("constraint"), metadata.get("unit", "")
            node = getattr(node, key.name)
        else:
            node = _child(node, key)
    return constraint, unit


def _child(node: Any, key: Any) -> Any:
    if isinstance(key, jtu.SequenceKey):
        return node[key.idx]
    return node[key.key] if isinstance(key, jtu.DictKey) else None


def _strong(value: Any) -> jax.Array:
    # A Python number gives a weakly typed array; an optimiser's state needs one type from the first step to the last.
    array = as_float(value)
    return lax.convert_element_type(array, np.dtype(array.dtype))
