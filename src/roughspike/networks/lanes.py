"""The engine for uncoupled neurons: one scan over the grid, every neuron and sample a lane of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.networks.adjoint import scan_with_adjoint
from roughspike.networks.scan import Scanned, scan_steps
from roughspike.networks.step import State, Static, coefficients, driven
from roughspike.neurons.lif import SLIF
from roughspike.paths.drivers import AbstractDriver


class Noise(NamedTuple):
    """Everything random in a run, drawn before it starts.

    `normals`: (steps, normals, neurons, samples). `log_u`: (capacity + 1, neurons, samples), one per interval.
    """

    normals: jax.Array
    log_u: jax.Array


class Run(NamedTuple):
    """Per step spike fractions (steps, slots, neurons, samples) and running counts; flags, threshold, trace."""

    fractions: jax.Array
    counts: jax.Array
    flags: jax.Array
    threshold: jax.Array
    open: jax.Array  # can the neuron spike at the end?
    membrane: jax.Array | None


def draw_noise(
    key: jax.Array,
    neuron: SLIF,
    driver: AbstractDriver,
    steps: int,
    neurons: int,
    samples: int,
    capacity: int,
    dtype: Any,
) -> Noise:
    """Draw normals for the Brownian motions that the neuron has, and one uniform for each interval.

    Interval m has a key of its own, so a larger buffer repeats the same run.
    """
    diffusion_key, threshold_key = jax.random.split(key)
    count = len(neuron.noise_channels) * driver.num_normals
    normals = jax.random.normal(diffusion_key, (steps, count, neurons, samples), dtype)
    keys = jax.vmap(lambda m: jax.random.fold_in(threshold_key, m))(jnp.arange(capacity + 1))
    tiny = float(jnp.finfo(dtype).tiny)
    uniform = jax.vmap(lambda k: jax.random.uniform(k, (neurons, samples), dtype, minval=tiny))(keys)
    return Noise(normals, jnp.log(uniform))


def run_lanes(
    neuron: SLIF,
    static: Static,
    current: jax.Array,
    start: tuple[jax.Array, jax.Array],
    noise: Noise,
    trace: bool,
    forward_mode: bool,
) -> Run:
    """Run every neuron and sample over the grid.

    `current`: half-step means, (2, neurons, 1) if constant, else (steps, 2, neurons, 1).
    `start`: v and i, (neurons, 1). `forward_mode`: leave the derivative to JAX, for `jax.jvp`.
    """
    co = coefficients(neuron, static.h, static.driver)
    shape = noise.log_u.shape[1:]
    state = State(
        v=jnp.broadcast_to(start[0], shape),
        i=jnp.broadcast_to(start[1], shape),
        s=noise.log_u[0] - co.alpha,
        rest=None if co.refractory is None else jnp.zeros(shape, noise.log_u.dtype),
    )
    means = jnp.moveaxis(current, 1, 0) if current.ndim == 4 else current
    drive = driven(co, means[0], means[1])
    advance = scan_steps if forward_mode else scan_with_adjoint
    out: Scanned = advance(static, trace, co, state, drive, noise.normals, noise.log_u)
    # past the soft refractory part the hazard since the last spike exceeds alpha, that is s > log u
    last = jnp.minimum(out.counts[-1], noise.log_u.shape[0] - 1)
    current_u = jnp.take_along_axis(noise.log_u, last[None], axis=0)[0]
    can_spike = out.end.s > current_u if out.end.rest is None else (out.end.s > current_u) & (out.end.rest <= 0)
    membrane = None if out.membrane is None else jnp.concatenate([state.v[None], out.membrane])
    return Run(out.fractions, out.counts, out.flags, out.end.s, can_spike, membrane)
