"""The importance-sampled likelihood: diffusion inside, differentiated path by path.

The deviation of (v, i) from the noise-free path does not depend on the spikes (a subtractive reset moves both alike),
so M copies of it are drawn from their own law and each interval between two spikes is averaged over them:

    sum over intervals  log mean_m exp(log lambda(v_m(tau)) - (integral lambda(v_m) dt - alpha)^+)

The average starts anew at each spike, as if the noise had forgotten the earlier ones: right when the membrane
forgets within an interval (tau_m well below the interval), which the particle filter then judges honestly.
A biased-low estimate of the log-likelihood for small M (Jensen), tight as M grows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from roughspike import parallel
from roughspike.likelihood.exact import hazard_since_spike, noise_free_hazard, past, penalty
from roughspike.likelihood.forced import Forced, at_time, forced, gauss_nodes
from roughspike.likelihood.segments import Segments
from roughspike.networks.population import Population
from roughspike.neurons.flow import kappa, phi
from roughspike.neurons.lif import SLIF
from roughspike.paths.recurrence import linear_recurrence


class Stretches(NamedTuple):
    """Short stretches of time that are evaluated together, from window edge to window edge.

    - `pieces`: indices into the flattened (trials, neurons, segments), shape (stretches, pieces).
    - `valid`: 1 where a piece is not padding.
    - `interval`: number of the spike interval inside the stretch that a piece belongs to.
    - `at_start`: 1 if the stretch begins where its trial does, so the noise is still 0.
    """

    pieces: np.ndarray
    valid: np.ndarray
    interval: np.ndarray
    at_start: np.ndarray


def stretches(segments: Segments) -> Stretches:
    """One stretch for each window of each lane that `segments` were laid out with."""
    lanes = segments.window.reshape(-1, segments.window.shape[-1])
    spikes = segments.spike.reshape(lanes.shape)
    found = []
    for lane, (window, spike) in enumerate(zip(lanes, spikes, strict=True)):
        for w in np.unique(window[window >= 0]):
            at = np.flatnonzero(window == w)
            interval = np.cumsum(spike[at]) - spike[at]
            found.append((lane * lanes.shape[1] + at, interval, at[0] == 0))
    longest = max(len(pieces) for pieces, _, _ in found)
    fill = lambda x: np.pad(x, (0, longest - len(x)), mode="edge")  # noqa: E731
    return Stretches(
        pieces=np.stack([fill(pieces) for pieces, _, _ in found]).astype(np.int32),
        valid=np.stack([np.arange(longest) < len(pieces) for pieces, _, _ in found]).astype(float),
        interval=np.stack([fill(interval) for _, interval, _ in found]).astype(np.int32),
        at_start=np.array([first for _, _, first in found]).astype(float),
    )


def importance_terms(
    cell: Population,
    segments: Segments,
    current: Any,
    chosen: Stretches,
    num_intervals: int,
    num_particles: int,
    key: jax.Array,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Estimated log-likelihood and number of spikes of each chosen stretch, shape (stretches,).

    A particle in which a spike is impossible (hazard below alpha) pays the penalty of `exact.penalty`. With a mesh its
    devices share out the particles.
    """
    neuron, escape = cell.neuron, cell.neuron.escape
    f = forced(cell, segments, current)
    before = jax.lax.cond(
        neuron.alpha > 0,
        lambda: hazard_since_spike(noise_free_hazard(neuron, f), f.spike),
        lambda: jnp.zeros_like(f.h),
    ).reshape(-1)[chosen.pieces[:, 0]]
    f = Forced(*(x.reshape(-1)[chosen.pieces] for x in f))
    valid = jnp.asarray(chosen.valid, f.h.dtype)
    f = f._replace(h=f.h * valid, begin=f.begin * valid, spike=f.spike * valid)
    noise = deviations(neuron, f, jnp.asarray(chosen.at_start, f.h.dtype), num_particles, key, mesh)

    variance = neuron.sigma[0, 0] ** 2 + neuron.sigma[0, 1] ** 2
    hazard = jnp.zeros_like(noise.v)
    for time, weight in gauss_nodes(f):
        node = at_time(neuron, f, time)
        v = _noisy(node, noise)
        hazard = hazard + weight[..., None] * jnp.exp(escape.mean_log_rate(v, (variance * node.bridge)[..., None]))
    log_rate = escape.log_rate(_noisy(at_time(neuron, f, f.h), noise))
    member = jax.nn.one_hot(chosen.interval, num_intervals, dtype=f.h.dtype) * valid[..., None]
    by_interval = lambda x: jnp.einsum("spi,spm->sim", member, x)  # noqa: E731
    log_spike = by_interval(jnp.where(f.spike[..., None] > 0, log_rate, 0.0))
    spiked = jnp.einsum("spi,sp->si", member, f.spike)[..., None] > 0
    # a stretch begins inside an interval, whose earlier hazard is taken without noise
    earlier = jnp.pad(before[:, None], ((0, 0), (0, num_intervals - 1)))[..., None]
    total = earlier + by_interval(hazard)
    shortfall = jnp.where(spiked, jnp.maximum(neuron.alpha - total, 0.0), 0.0)
    each = log_spike - past(total, neuron.alpha) + past(earlier, neuron.alpha) - penalty(shortfall, neuron.alpha)
    mean = jax.nn.logsumexp(each, axis=-1) - jnp.log(num_particles)
    return jnp.sum(mean, axis=-1), jnp.sum(f.spike, axis=-1)


class Deviations(NamedTuple):
    """Noise of v and i at the start of every piece and the noise that arrives in v over it, last axis the particles."""

    v: jax.Array
    i: jax.Array | None
    arriving: jax.Array


def deviations(
    neuron: SLIF, f: Forced, at_start: jax.Array, num_particles: int, key: jax.Array, mesh: Mesh | None = None
) -> Deviations:
    """Draw the noise of (v, i) along stretches, from its stationary law unless the trial begins there.

    `f` has shape (stretches, pieces). The increments are linear inside a piece, as in `simulate`.
    """
    mu1, mu2 = neuron.mu[0], neuron.mu[1]
    first_key, key = jax.random.split(key)
    channels = neuron.noise_channels
    z = jax.random.normal(key, (len(channels), *f.h.shape, num_particles), f.h.dtype)
    z = parallel.along(z, mesh, -1)
    to_v, to_i = increments(neuron, f.h)
    nothing = jnp.zeros_like(z[0])
    arriving = sum((to_v[c][..., None] * z[k] for k, c in enumerate(channels)), start=nothing)
    start_v, start_i = stationary(neuron, (f.h.shape[0], num_particles), first_key, f.h.dtype)
    start_v, start_i = (parallel.along(x * (1 - at_start)[:, None], mesh, -1) for x in (start_v, start_i))

    def run(a: jax.Array, b: jax.Array, y0: jax.Array) -> jax.Array:
        rows = jnp.broadcast_to(jnp.moveaxis(a, -1, 0)[..., None], jnp.moveaxis(b, 1, 0).shape)
        y = linear_recurrence(jnp.moveaxis(rows, 0, -1), jnp.moveaxis(b, 1, -1), y0)
        return jnp.moveaxis(y[..., :-1], -1, 1)

    i = None
    pushed = arriving
    if any(neuron.noise[1]):
        push_i = sum((to_i[c][..., None] * z[k] for k, c in enumerate(channels)), start=nothing)
        i = run(jnp.exp(-mu2 * f.h), push_i, start_i)
        pushed = pushed + kappa(mu1, mu2, f.h)[..., None] * i
    v = run(f.kept * jnp.exp(-mu1 * f.h), f.kept[..., None] * pushed, start_v)
    return Deviations(v, i, arriving)


def increments(neuron: SLIF, h: jax.Array) -> tuple[dict[int, jax.Array], dict[int, jax.Array]]:
    """What a unit normal of each Brownian motion adds to v and to i over pieces of length h (linear driver)."""
    mu1, mu2, sigma = neuron.mu[0], neuron.mu[1], neuron.sigma
    root = jnp.sqrt(jnp.where(h > 0, h, 1.0))
    direct = jnp.where(h > 0, phi(mu1, h) / root, 0.0)
    on_i = jnp.where(h > 0, phi(mu2, h) / root, 0.0)
    # response of v to a steady push on i: psi = phi(mu2) - kappa / mu1, from psi' = kappa = mu1 (phi(mu2) - psi)
    through_i = jnp.where(h > 0, (phi(mu2, h) - kappa(mu1, mu2, h) / mu1) / root, 0.0)
    to_v = {c: sigma[0, c] * direct + sigma[1, c] * through_i for c in neuron.noise_channels}
    to_i = {c: sigma[1, c] * on_i for c in neuron.noise_channels}
    return to_v, to_i


def stationary(neuron: SLIF, shape: tuple[int, ...], key: jax.Array, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """A draw of the stationary deviations of v and i driven by their own noise.

    With the rows s1, s2 of sigma, from the Lyapunov equation of the linear flow:

        <ii> = |s2|^2 / (2 mu2),  <vi> = (mu1 <ii> + s1.s2) / (mu1 + mu2),  <vv> = <vi> + |s1|^2 / (2 mu1)
    """
    (mu1, mu2), (s1, s2) = neuron.mu, neuron.sigma
    z = jax.random.normal(key, shape, dtype)
    vv = jnp.sum(s1 * s1) / (2 * mu1)
    if not any(neuron.noise[1]):
        return _root(vv) * z, jnp.zeros_like(z)
    ii = jnp.sum(s2 * s2) / (2 * mu2)
    vi = (mu1 * ii + jnp.sum(s1 * s2)) / (mu1 + mu2)
    slope = vi / jnp.where(ii > 0, ii, 1.0)
    i = _root(ii) * jax.random.normal(jax.random.fold_in(key, 1), shape, dtype)
    return slope * i + _root(vv + vi - slope * vi) * z, i


def _root(x: jax.Array) -> jax.Array:
    """Square root with derivative 0 at 0."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)


def _noisy(node: Any, noise: Deviations) -> jax.Array:
    v = node.v[..., None] + node.keep_v[..., None] * noise.v + node.share[..., None] * noise.arriving
    return v if noise.i is None else v + node.keep_i[..., None] * noise.i
