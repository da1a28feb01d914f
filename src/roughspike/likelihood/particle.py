"""A bootstrap particle filter: the honest score of a neuron with diffusion.

Particles carry the deviation of (v, i) from the noise-free path and the hazard since the last spike. Over each piece
the weights take the probability of no spike, at a spike its intensity; what the filter predicts before it sees either
is the intensity given the past, so the same terms come out as for a neuron without noise, up to Monte Carlo error.
Particles are resampled (systematically) where their effective number falls below half.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from roughspike.likelihood.exact import Terms, past
from roughspike.likelihood.forced import at_time, forced, gauss_nodes
from roughspike.likelihood.importance import increments
from roughspike.likelihood.segments import Segments
from roughspike.networks.population import Population
from roughspike.neurons.flow import kappa


def particle_terms(cell: Population, segments: Segments, current: Any, num_particles: int, key: jax.Array) -> Terms:
    """Predicted log intensity at each spike and predicted compensator of each piece, given all spikes before it.

    Not meant to be differentiated (resampling is discrete): fit with `importance_terms`, judge with this.
    """
    neuron, escape = cell.neuron, cell.neuron.escape
    f = forced(cell, segments, current)
    dtype = f.h.dtype
    nodes = [(at_time(neuron, f, time), weight) for time, weight in gauss_nodes(f)]
    end = at_time(neuron, f, f.h)
    to_v, to_i = increments(neuron, f.h)
    variance = neuron.sigma[0, 0] ** 2 + neuron.sigma[0, 1] ** 2
    kappa_h = kappa(neuron.mu[0], neuron.mu[1], f.h)
    decay_i = jnp.exp(-neuron.mu[1] * f.h)
    lanes = f.h.shape[:-1]
    channels = neuron.noise_channels
    tiny = -jnp.log(jnp.asarray(num_particles, dtype))

    def body(carry, inputs):
        dv, di, since, log_w = carry
        f, nodes, end, to_v, to_i, kappa_h, decay_i, key = inputs
        normal_key, resample_key = jax.random.split(key)
        z = jax.random.normal(normal_key, (max(len(channels), 1), *lanes, num_particles), dtype)
        arriving = sum((to_v[c][..., None] * z[k] for k, c in enumerate(channels)), start=jnp.zeros_like(dv))
        pushed_i = sum((to_i[c][..., None] * z[k] for k, c in enumerate(channels)), start=jnp.zeros_like(di))

        def noisy(node):
            column = [x[..., None] for x in (node.v, node.keep_v, node.keep_i, node.share)]
            return column[0] + column[1] * dv + column[2] * di + column[3] * arriving

        hazard = sum(
            weight[..., None] * jnp.exp(escape.mean_log_rate(noisy(node), (variance * node.bridge)[..., None]))
            for node, weight in nodes
        )
        log_survived = log_w - (past(since + hazard, neuron.alpha) - past(since, neuron.alpha))
        survived = jax.nn.logsumexp(log_survived, axis=-1)
        spike = f.spike[..., None] > 0
        log_rate = jnp.where(since + hazard > neuron.alpha, escape.log_rate(noisy(end)), -jnp.inf)
        log_spiked = jnp.where(spike, log_survived + log_rate, log_survived)
        total = jax.nn.logsumexp(log_spiked, axis=-1)
        seen = jnp.where(f.spike > 0, total - survived, 0.0)
        terms = Terms(seen, -survived, jnp.where(jnp.isneginf(seen), jnp.inf, 0.0))

        dv = f.kept[..., None] * (end.keep_v[..., None] * dv + kappa_h[..., None] * di + arriving)
        di = decay_i[..., None] * di + pushed_i
        since = jnp.where(spike, 0.0, since + hazard)
        # after a spike that no particle can explain (log-likelihood -inf) the filter starts again from equal weights
        dead = jnp.isneginf(total)[..., None]
        log_w = jnp.where(dead, tiny, log_spiked - jnp.where(dead, 0.0, total[..., None]))
        state = (dv, di, since, log_w)
        few = jax.nn.logsumexp(2 * log_w, axis=-1) > -jnp.log(0.5 * num_particles)
        state = jax.lax.cond(jnp.any(few), lambda s: _resample(s, few, resample_key, tiny), lambda s: s, state)
        return state, terms

    zero = jnp.zeros((*lanes, num_particles), dtype)
    last = lambda tree: jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), tree)  # noqa: E731
    keys = jax.random.split(key, f.h.shape[-1])
    inputs = (last(f), last(nodes), last(end), last(to_v), last(to_i), last(kappa_h), last(decay_i), keys)
    _, terms = jax.lax.scan(body, (zero, zero, zero, zero + tiny), inputs)
    return Terms(*(jnp.moveaxis(x, 0, -1) for x in terms))


def _resample(state, few, key, uniform_log_w):
    """Systematic resampling of the lanes in which few particles carry the weight."""
    dv, di, since, log_w = state
    count = log_w.shape[-1]
    offset = jax.random.uniform(key, (*few.shape, 1), log_w.dtype)
    position = (jnp.broadcast_to(jnp.arange(count, dtype=log_w.dtype), log_w.shape) + offset) / count
    cumulative = jnp.cumsum(jnp.exp(log_w), axis=-1)
    cumulative = cumulative / cumulative[..., -1:]
    find = jnp.vectorize(jnp.searchsorted, signature="(m),(m)->(m)")
    index = jnp.minimum(find(cumulative, position), count - 1)
    index = jnp.where(few[..., None], index, jnp.broadcast_to(jnp.arange(count, dtype=index.dtype), index.shape))
    pick = lambda x: jnp.take_along_axis(x, index, axis=-1)  # noqa: E731
    return pick(dv), pick(di), pick(since), jnp.where(few[..., None], uniform_log_w, log_w)
