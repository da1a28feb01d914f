"""What the grid engines need of a neuron: its kind of step, coefficients, drive and state at the start."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.networks.decay import Decay, decay_polynomials
from roughspike.networks.few import room_for
from roughspike.networks.general import General
from roughspike.networks.general import State as GeneralState
from roughspike.networks.kinds import Escape, Kind, Leaky, LeakyCoefficients, Threshold
from roughspike.networks.options import Options
from roughspike.networks.step import State, coefficients, driven, settings
from roughspike.networks.threshold import Membrane, threshold_coefficients
from roughspike.neurons.base import AbstractNeuron
from roughspike.neurons.lif import SLIF
from roughspike.neurons.readout import Readout
from roughspike.neurons.threshold import is_hard


class Cell(NamedTuple):
    """Neurons of one kind, ready for an engine that goes from grid point to grid point.

    - `kind`: their step. `co`: its coefficients. `decay`: those of what arrives.
    - `drive`: input current in the form of the kind. `start`: state of the kind.
    """

    kind: Kind | General
    co: Any
    decay: Decay
    drive: Any
    start: Any


def is_random(neuron: SLIF | AbstractNeuron | Readout) -> bool:
    """Has the neuron escape noise, and so thresholds that are drawn?"""
    return isinstance(neuron, AbstractNeuron) or (isinstance(neuron, SLIF) and not is_hard(neuron))


def cell(
    neuron: SLIF | AbstractNeuron | Readout,
    options: Options,
    slots: int,
    means: tuple[jax.Array, jax.Array],
    v0: jax.Array,
    i0: jax.Array,
    log_u: jax.Array | None,
) -> Cell:
    """The cell of a neuron.

    **Arguments**

    - `slots`: spikes that a step has room for.
    - `means`: of the input current over the two halves of a step, each of a shape that broadcasts to the neurons.
    - `v0`, `i0`: state at the start. `log_u`: of its first interval, of the same shape; None for a neuron without.
    """
    at_a_rate = isinstance(neuron, SLIF) and log_u is not None
    h, decay = options.h, decay_polynomials(neuron.mu, options.h, middle=at_a_rate)
    room = 0 if options.forward_mode else room_for(v0.size)  # JAX itself cannot go backward through a loop of `few`
    if log_u is None:
        assert not isinstance(neuron, AbstractNeuron), "it spikes at a rate, so it has a threshold of its own"
        kind = Threshold(slots, room) if isinstance(neuron, SLIF) else Leaky()
        co = threshold_coefficients(neuron, h) if isinstance(neuron, SLIF) else LeakyCoefficients.of(neuron, h)
        fade = jnp.exp(-neuron.mu[0] * h / 2)
        return Cell(kind, co, decay, ((fade * means[0] + means[1]) / (1 + fade), None), Membrane(v0, i0))
    if isinstance(neuron, AbstractNeuron):
        if options.driver.num_normals != 1:
            raise ValueError(f"driver must be rs.LinearDriver() for an {type(neuron).__name__}: leave it out")
        kind = General(settings(h, options.driver, 1.0, slots, v0.dtype))
        y = neuron.start(v0, i0)
        start = GeneralState(y.v, y.i, log_u - neuron.alpha, y.more)
        return Cell(kind, neuron, decay, (0.5 * (means[0] + means[1]), None), start)
    assert isinstance(neuron, SLIF)
    kind = Escape(settings(h, options.driver, neuron.reset.keep, slots, v0.dtype), room)
    co = coefficients(neuron, h, options.driver)
    rest = None if neuron.refractory is None else jnp.zeros_like(v0)
    return Cell(kind, co, decay, driven(co, *means), State(v0, i0, log_u - neuron.alpha, rest))
