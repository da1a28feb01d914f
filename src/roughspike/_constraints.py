"""Which values a parameter may take, and the coordinate in which an optimiser moves it.

A constraint stands next to the parameter it guards, in the field's metadata:

    tau_s: Array = parameter(Positive())

so `fit` finds it by walking the model, and an optimiser never sees an illegal value.
"""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from roughspike._types import as_float


class AbstractConstraint(eqx.Module):
    """A smooth bijection between the legal values of a parameter and the whole real line.

    A minimal member defines `check` (return the complaint about an illegal start value, or None), `to_free` and
    `to_legal`. Both maps get the start value, so that signs and structural zeros can be kept.
    """

    @abc.abstractmethod
    def check(self, start: np.ndarray) -> str | None:
        """What is wrong with `start` as the start of training, with the remedy; None if nothing."""

    @abc.abstractmethod
    def to_free(self, start: jax.Array) -> jax.Array:
        """Legal value -> unconstrained coordinate."""

    @abc.abstractmethod
    def to_legal(self, free: jax.Array, start: jax.Array) -> jax.Array:
        """Unconstrained coordinate -> legal value."""


class Real(AbstractConstraint):
    """Any real number; the coordinate is the value itself."""

    def check(self, start: np.ndarray) -> str | None:
        del start
        return None

    def to_free(self, start: jax.Array) -> jax.Array:
        return start

    def to_legal(self, free: jax.Array, start: jax.Array) -> jax.Array:
        del start
        return free


class Positive(AbstractConstraint):
    """Greater than zero; the coordinate is the logarithm."""

    def check(self, start: np.ndarray) -> str | None:
        if np.all(start > 0):
            return None
        return f"must start above 0 to be trained, got {start}: give it a small positive value"

    def to_free(self, start: jax.Array) -> jax.Array:
        return jnp.log(start)

    def to_legal(self, free: jax.Array, start: jax.Array) -> jax.Array:
        del start
        return jnp.exp(free)


class KeepsSign(AbstractConstraint):
    """Every entry keeps its sign, and an entry that is 0 is structural and stays 0 (rates `mu`, diffusion `sigma`)."""

    def check(self, start: np.ndarray) -> str | None:
        if np.any(start != 0):
            return None
        return "is 0 in every entry, and entries that are 0 stay 0: start from a small nonzero value to train it"

    def to_free(self, start: jax.Array) -> jax.Array:
        return jnp.where(start == 0, 0.0, jnp.log(jnp.abs(jnp.where(start == 0, 1.0, start))))

    def to_legal(self, free: jax.Array, start: jax.Array) -> jax.Array:
        return jnp.sign(start) * jnp.exp(free)


def declare(constraint: AbstractConstraint, unit: str = "") -> dict[str, Any]:
    """Field metadata of a trainable parameter: its constraint and unit.

    `unit` is written with the placeholders `time`, `1/time`, `1/sqrt(time)` or is empty for a dimensionless number
    (potentials are measured in the unit of `v_th`).
    """
    return {"constraint": constraint, "unit": unit}


def parameter(constraint: AbstractConstraint, *, unit: str = "", **kwargs: Any) -> Any:
    """A trainable field of a model: an array (converted to float), with its constraint and unit.

    For classes with an `__init__` of their own. Where the dataclass writes it, use
    `eqx.field(converter=as_float, metadata=declare(...))`, from which a type checker learns that numbers are welcome.
    """
    return eqx.field(converter=as_float, metadata=declare(constraint, unit), **kwargs)
