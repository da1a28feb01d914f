"""The contract of an input current: what drives the membrane, seen through its means over pieces of time."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._constraints import Real, declare
from roughspike._types import as_float


class AbstractCurrent(eqx.Module):
    """An input current c(t), in the unit of the membrane potential.

    An engine asks in two steps, so that everything that depends on time alone is done once, on the host, in float64:
    `prepare(starts, lengths)` returns arrays that enter a compiled function as arguments, and
    `means(prepared)` returns the mean of c over every piece [start, start + length), differentiable in every numeric
    field. Pieces lie along the last axis, in order of time and without gaps; the last but one axis is the neuron, of
    length 1 or the number of neurons. A piece may be empty (length 0). Currents add with `+`. A minimal member:

        class Sine(AbstractCurrent):
            amplitude: Array = parameter(Real())
            period: float = eqx.field(static=True)
            def prepare(self, starts, lengths): return np.sin(2 * np.pi * (starts + lengths / 2) / self.period)
            def means(self, prepared): return self.amplitude * prepared
    """

    @abc.abstractmethod
    def prepare(self, starts: np.ndarray, lengths: np.ndarray) -> Any:
        """Host work for pieces of shape (..., neurons or 1, pieces): a pytree of NumPy arrays."""

    @abc.abstractmethod
    def means(self, prepared: Any) -> Float[Array, "*batch neurons pieces"]:
        """Mean of the current over each piece."""

    @property
    def num_neurons(self) -> int:
        """Number of neurons it drives; 1 unless the current says otherwise."""
        return 1

    def __add__(self, other: AbstractCurrent) -> SumOfCurrents:
        mine = self.parts if isinstance(self, SumOfCurrents) else (self,)
        others = other.parts if isinstance(other, SumOfCurrents) else (other,)
        return SumOfCurrents(mine + others)


class SumOfCurrents(AbstractCurrent):
    """c(t) = sum of the parts; what `+` returns."""

    parts: tuple[AbstractCurrent, ...]

    def prepare(self, starts: np.ndarray, lengths: np.ndarray) -> Any:
        """One entry per part."""
        return tuple(part.prepare(starts, lengths) for part in self.parts)

    def means(self, prepared: Any) -> Float[Array, "*batch neurons pieces"]:
        """Sum of the parts' means."""
        total = self.parts[0].means(prepared[0])
        for part, samples in zip(self.parts[1:], prepared[1:], strict=True):
            total = total + part.means(samples)
        return total

    @property
    def num_neurons(self) -> int:
        """The largest of the parts'."""
        return max(part.num_neurons for part in self.parts)


class Constant(AbstractCurrent):
    """c(t) = value, a scalar or one value per neuron: the offset in a sum of currents."""

    value: Float[Array, "*neurons"] = eqx.field(converter=as_float, metadata=declare(Real()))

    def prepare(self, starts: np.ndarray, lengths: np.ndarray) -> Any:
        """Zeros of the shape of the answer."""
        del lengths
        return np.zeros(np.shape(starts))

    def means(self, prepared: Any) -> Float[Array, "*batch neurons pieces"]:
        """The value."""
        zeros = jnp.asarray(prepared, self.value.dtype)
        value = self.value[:, None] if self.value.ndim else self.value
        return zeros + value.reshape((1,) * (zeros.ndim - value.ndim) + value.shape)

    @property
    def num_neurons(self) -> int:
        """Length of `value`."""
        return self.value.shape[0] if self.value.ndim else 1


def as_current(current: Any) -> AbstractCurrent:
    """A scalar or (neurons,) array as `Constant`; a current as it is."""
    return current if isinstance(current, AbstractCurrent) else Constant(current)


def float_of(*arrays: jax.Array) -> jnp.dtype:
    """The float type in which a current with these parameters computes."""
    return jnp.result_type(*arrays)
