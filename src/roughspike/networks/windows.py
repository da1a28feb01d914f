"""Simulate windows of a recording side by side: lanes with a start state and an input current of their own."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike._types import SPIKE_BUFFER_FULL
from roughspike.networks.adjoint import scan_with_adjoint
from roughspike.networks.lanes import draw_noise
from roughspike.networks.population import Population
from roughspike.networks.scan import Scanned
from roughspike.networks.simulate import _check_step, _spikes_per_step
from roughspike.networks.step import State, Static, coefficients, driven
from roughspike.networks.times import gather_times
from roughspike.neurons.lif import SLIF
from roughspike.paths.drivers import LinearDriver


class LaneStart(NamedTuple):
    """State of each lane at the start, shape (lanes, samples) or (lanes, 1).

    - `v`, `i`: potential and synaptic current.
    - `rest`: refractory time left; None for a neuron without one.
    - `owed`: hazard that must still accumulate before a spike is possible, (alpha - hazard since the last spike)^+.
    """

    v: jax.Array
    i: jax.Array
    rest: jax.Array | None
    owed: jax.Array


class Lanes(NamedTuple):
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
    _check_step(network, h)
    return _spikes_per_step(network, h)


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
    key: jax.Array,
) -> Lanes:
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
    single = dtype == jnp.float32
    static = Static(h, driver, neuron.reset.keep, max_spikes_per_step, 1 if single else 2, 1e-4 if single else 1e-9)
    co = coefficients(neuron, h, driver)
    shape = (lanes, num_samples)
    state = State(
        v=jnp.broadcast_to(start.v, shape),
        i=jnp.broadcast_to(start.i, shape),
        s=noise.log_u[0] - start.owed,
        rest=None if start.rest is None else jnp.broadcast_to(start.rest, shape),
    )
    halves = means.reshape(lanes, steps, 2).transpose(1, 2, 0)[..., None]
    out: Scanned = scan_with_adjoint(
        static, False, co, state, driven(co, halves[:, 0], halves[:, 1]), noise.normals, noise.log_u
    )
    times, counts = gather_times(out.fractions, out.counts, capacity, 0.0, h)
    # past the soft refractory part the hazard since the last spike exceeds alpha, that is s > log u
    log_u = jnp.take_along_axis(noise.log_u, jnp.minimum(counts, capacity)[None], axis=0)[0]
    can_spike = out.end.s > log_u if out.end.rest is None else (out.end.s > log_u) & (out.end.rest <= 0)
    flags = out.flags | jnp.where(counts > capacity, SPIKE_BUFFER_FULL, 0)
    return Lanes(jnp.moveaxis(times, 0, -1), out.end.s, can_spike, flags, counts)
