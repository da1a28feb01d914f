"""Simulate windows of a recording side by side: lanes with a start state and an input current of their own."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike._types import SPIKE_BUFFER_FULL
from roughspike.networks.lanes import LaneStart, draw_noise, run_lanes
from roughspike.networks.noise import Key
from roughspike.networks.options import check_rates, room_in_a_step
from roughspike.networks.population import Population
from roughspike.networks.step import settings
from roughspike.networks.times import gather_times
from roughspike.neurons.lif import SLIF
from roughspike.paths.drivers import LinearDriver


class WindowLanes(NamedTuple):
    """Simulated lanes.

    - `times`: from the start of the lane, (lanes, samples, capacity), +inf padded.
    - `threshold`, `open`: as in `Horizon`, (lanes, samples).
    - `flags`, `needed`: as in `Result`, (lanes, samples).
    """

    times: jax.Array
    threshold: jax.Array
    open: jax.Array
    flags: jax.Array
    needed: jax.Array


def lanes_per_step(network: Population, h: float) -> int:
    """How many spikes of one neuron a step of length h should have room for, to begin with.

    **Raises** ValueError if h is too coarse for the neuron.
    """
    check_rates(network.neuron, h)
    return room_in_a_step(network.neuron, h)


@eqx.filter_jit
def simulate_lanes(
    neuron: SLIF,
    means: jax.Array,
    start: LaneStart,
    *,
    h: float,
    num_samples: int,
    capacity: int,
    max_spikes_per_step: int,
    key: Key,
) -> WindowLanes:
    """Run independent copies of one neuron, each from its own start with its own current.

    The engine's lanes are (neurons, samples): what stands for a neuron here is a window. Differentiable in the neuron,
    the currents and the start states by the hand-written adjoint.

    **Arguments**

    - `means`: means of the current over the half steps, shape (lanes, 2 steps).
    - `h`: length of a step. `capacity`: room for the spikes of a lane.
    """
    lanes, steps = means.shape[0], means.shape[1] // 2
    dtype = jnp.result_type(neuron.mu)
    driver = LinearDriver()
    noise = draw_noise(key, neuron, driver, steps, lanes, num_samples, capacity, dtype)
    static = settings(h, driver, neuron.reset.keep, max_spikes_per_step, dtype)
    halves = means.reshape(lanes, steps, 2).transpose(1, 2, 0)[..., None]
    run = run_lanes(neuron, static, halves, start, noise, False, False)
    times, counts = gather_times(run.fractions, run.counts, capacity, 0.0, h)
    flags = run.flags | jnp.where(counts > capacity, SPIKE_BUFFER_FULL, 0)
    return WindowLanes(jnp.moveaxis(times, 0, -1), run.threshold, run.open, flags, counts)
