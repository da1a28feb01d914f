"""A population of uncoupled neurons: the simplest network."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from roughspike._constraints import Real, parameter
from roughspike._types import as_float
from roughspike.currents.base import AbstractCurrent, as_current
from roughspike.neurons.base import AbstractNeuron
from roughspike.neurons.lif import SLIF
from roughspike.neurons.threshold import is_hard


class Population(eqx.Module):
    """Uncoupled neurons of one kind, each with its own input current and its own noise.

    **Arguments**

    - `neuron`: the dynamics.
    - `current`: a scalar (one neuron), shape (neurons,), or a current such as `PiecewiseLinear` or `Stimulus`.
    - `v0`, `i0`: initial membrane potential and synaptic current, scalars or shape (neurons,).

    >>> import roughspike as rs
    >>> rs.Population(rs.SLIF(), current=1.5).num_neurons
    1
    """

    neuron: Any  # SLIF or AbstractNeuron
    current: Float[Array, "*neurons"] | AbstractCurrent = eqx.field(metadata={"constraint": Real(), "unit": ""})
    v0: Float[Array, "*neurons"] = parameter(Real())
    i0: Float[Array, "*neurons"] = parameter(Real())

    def __init__(self, neuron: SLIF | AbstractNeuron, current: Any = 0.0, v0: Any = 0.0, i0: Any = 0.0):
        self.neuron = neuron
        self.current = current if isinstance(current, AbstractCurrent) else as_float(current)
        self.v0, self.i0 = as_float(v0), as_float(i0)
        if isinstance(neuron, SLIF) and is_hard(neuron):
            raise ValueError(
                "neuron has a hard threshold, for which a population has no engine: give it an escape rate "
                "(rs.SLIF), or make it a layer of rs.FeedForward"
            )
        if isinstance(self.current, jax.Array) and self.current.ndim > 1:
            raise ValueError(
                f"current must be a scalar, of shape (neurons,), or a current object, got shape {self.current.shape}: "
                "for a current that changes in time pass rs.PiecewiseLinear(times, values)"
            )
        sizes = {x.shape[0] for x in (self.v0, self.i0) if x.ndim}
        if sizes - {self.num_neurons}:
            raise ValueError(f"v0 and i0 must be scalars or have one value for each of {self.num_neurons} neurons")

    @property
    def num_neurons(self) -> int:
        """Number of neurons: what the current says."""
        return as_current(self.current).num_neurons
