"""What a run of a network is compiled for, and what its step must suit."""

from __future__ import annotations

import math
from typing import NamedTuple

from roughspike._types import concrete
from roughspike.neurons.base import AbstractNeuron
from roughspike.neurons.lif import SLIF
from roughspike.neurons.readout import Readout
from roughspike.neurons.threshold import HardThreshold
from roughspike.paths.drivers import AbstractDriver


class Options(NamedTuple):
    """Window, samples and modes as `simulate` takes them, and the room that the run has.

    - `samples`: None for a solution without that axis. `batch`: leading axes of the inputs.
    - `capacity`: spikes of a neuron in the run. `per_step`: spikes of a neuron in a step, for each layer.
    """

    t0: float
    t1: float
    steps: int
    samples: int | None
    driver: AbstractDriver
    trace: bool = False
    forward_mode: bool = False
    checkpoint: bool = False
    batch: tuple[int, ...] = ()
    capacity: int = 64
    per_step: tuple[int, ...] = (1,)

    @property
    def h(self) -> float:
        """Length of a step."""
        return (self.t1 - self.t0) / self.steps

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes of the solution."""
        return self.batch if self.samples is None else (self.samples, *self.batch)

    @property
    def lanes(self) -> int:
        """Samples times inputs."""
        return math.prod(self.shape)


def room_in_a_step(neuron: SLIF | AbstractNeuron | Readout, h: float) -> int:
    """How many spikes of a neuron a step should have room for, to begin with."""
    if not isinstance(neuron, SLIF) or isinstance(neuron.escape, HardThreshold):
        return 1
    refractory = None if neuron.refractory is None else concrete(neuron.refractory)
    return 1 if refractory is not None and refractory >= h else 2


def check_rates(neuron: SLIF | AbstractNeuron | Readout, h: float) -> None:
    """Static complaints about dt, where the rates are known.

    **Raises** ValueError if a step of length h is too coarse for the neuron.
    """
    mu = concrete(neuron.mu)
    if mu is not None and mu.max() * h > 2.0:
        raise ValueError(
            f"dt={h:g} is too coarse for the fastest rate mu={mu.max():g} (time constant {1 / mu.max():g}): "
            f"pass dt={0.5 / mu.max():.2g} or less"
        )
    refractory = concrete(neuron.refractory) if isinstance(neuron, SLIF) and neuron.refractory is not None else None
    if refractory is not None and 0 < refractory < h:
        raise ValueError(
            f"dt={h:g} is too coarse for the refractory time {refractory:g}: pass dt={refractory:.2g} or less"
        )
