"""Run a population: uncoupled neurons, all of them and all samples side by side."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike._types import SPIKE_BUFFER_FULL, Result
from roughspike.networks.lanes import LaneStart, simulate_samples
from roughspike.networks.means import half_means
from roughspike.networks.noise import Key
from roughspike.networks.options import Options
from roughspike.networks.population import Population
from roughspike.networks.solution import Solution, undeclared_noise
from roughspike.networks.step import settings
from roughspike.paths.spikes import Horizon, unchecked


@eqx.filter_jit
def run_population(network: Population, prepared: Any, inputs: None, key: Key, options: Options) -> Solution:
    """Draw the noise and run. `prepared`: what `prepare_means` returns for the current; `inputs`: it has none."""
    del inputs
    neuron, capacity, h = network.neuron, options.capacity, options.h
    dtype = jnp.result_type(neuron.mu)
    static = settings(h, options.driver, neuron.reset.keep, options.per_step[0], dtype)
    means = half_means(network.current, prepared, options.steps, network.num_neurons)
    size = (options.steps, network.num_neurons, options.lanes, capacity)
    modes = {name: getattr(options, name) for name in ("trace", "forward_mode", "checkpoint")}
    run = simulate_samples(neuron, static, means, _start(network), key, size, **modes)
    flags = run.flags | jnp.where(run.counts > capacity, SPIKE_BUFFER_FULL, 0)
    flags = jax.lax.reduce(flags, jnp.int32(0), jax.lax.bitwise_or, (0,)) | undeclared_noise(neuron)
    lead = lambda x: x if options.samples is not None else x[0]  # noqa: E731
    times = lead(jnp.moveaxis(options.t0 + run.times, 0, -1).swapaxes(0, 1))
    horizon = Horizon(lead(run.threshold.T), lead(run.open.T))
    return Solution(
        spikes=unchecked(times, options.t0, options.t1, horizon=horizon),
        result=Result(lead(flags), lead(jnp.max(run.counts, axis=0))),
        times=options.t0 + h * jnp.arange(options.steps + 1, dtype=dtype),
        membrane=None if run.membrane is None else lead(jnp.moveaxis(run.membrane, 0, -1).swapaxes(0, 1)),
    )


def _start(network: Population) -> LaneStart:
    column = lambda x: jnp.broadcast_to(jnp.atleast_1d(x), (network.num_neurons,))[:, None]  # noqa: E731
    return LaneStart(column(network.v0), column(network.i0), None, network.neuron.alpha)
