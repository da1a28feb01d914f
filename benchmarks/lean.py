"""The cheapest thing that could be called a simulation: an Euler scan with its noise drawn beforehand.

Same neuron and grid as Fig. 1. Left-point hazard, spike time by linear interpolation of the threshold variable, reset
at the end of the step, at most one spike per step, only the first three times kept. Its mean spike times are wrong by
some 5e-3, where roughspike's default scheme is biased by some 1e-5; it is here as a floor for speed.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from published import Setting


class Drawn(NamedTuple):
    """Normals (steps, samples), and log of a uniform for each step and the start (steps + 1, samples)."""

    normals: jax.Array
    log_u: jax.Array


def draw(key: jax.Array, setting: Setting, samples: int) -> Drawn:
    """All the noise of a run."""
    steps = round(setting.t1 / setting.dt)
    one, two = jr.split(key)
    log_u = jnp.log(jr.uniform(two, (steps + 1, samples), minval=jnp.finfo(jnp.float32).tiny))
    return Drawn(jr.normal(one, (steps, samples)), log_u)


def spike_times(c: jax.Array, drawn: Drawn, p: Setting) -> jax.Array:
    """The first three spike times, t1 where one is missing, shape (3, samples)."""

    def body(carry, inputs):
        v, s, count, times = carry
        step, z, log_u = inputs
        hazard = jnp.exp(p.beta * jnp.minimum(v - p.v_th, 10.0)) / p.tau_s
        after = s + p.dt * hazard
        spiked = after >= 0
        at = p.dt * step - s / jnp.where(spiked, hazard, 1.0)
        times = jnp.where(spiked & (count == jnp.arange(3)[:, None]), at, times)
        v = v + p.dt * p.mu1 * (c - v) + p.sigma * p.dt**0.5 * z - jnp.where(spiked, p.v_reset, 0.0)
        return (v, jnp.where(spiked, log_u - p.alpha, after), count + spiked, times), None

    samples = drawn.normals.shape[1]
    zero = jnp.zeros(samples)
    start = (zero, drawn.log_u[0] - p.alpha, jnp.zeros(samples, jnp.int32), jnp.full((3, samples), p.t1))
    steps = jnp.arange(drawn.normals.shape[0], dtype=jnp.float32)
    return jax.lax.scan(body, start, (steps, drawn.normals, drawn.log_u[1:]))[0][3]
