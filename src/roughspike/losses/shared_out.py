"""A loss of samples that lie on several devices: each device has its samples, and gathers others where it needs them.

Features of a sample need nothing else, so devices compute those of their own samples. A kernel compares all pairs of
samples: every device gathers all trains, which are small, and computes the pairs (i, i + 1), .., (i, i + n / 2) of its
own samples i, counted around a circle, so that every pair is computed once and all devices have as many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from roughspike import parallel
from roughspike.losses.base import AbstractLoss, batched, check_pair
from roughspike.losses.horizon import PairsWithHorizon, open_crossing, with_room
from roughspike.losses.mmd import SignatureMMD, evenly, joined, mean_within, weighted, within_features
from roughspike.paths.spikes import SpikeTrain, unchecked
from roughspike.signatures.gram import early


def loss_on(
    loss: Callable[[SpikeTrain, SpikeTrain], Any], simulated: SpikeTrain, recorded: SpikeTrain, mesh: Mesh | None
) -> Any:
    """loss(simulated, recorded), with the samples shared out over the devices of a mesh. Inside of `jit` only.

    A function of two trains that is no loss of this package is left to the compiler.
    """
    if mesh is None or not isinstance(loss, AbstractLoss | SignatureMMD | PairsWithHorizon):
        return loss(simulated, recorded)
    check_pair(simulated, recorded)
    if isinstance(loss, AbstractLoss):
        return loss.compare(features_on(loss, batched(simulated), mesh), loss.features(batched(recorded)))
    pairs = loss.loss if isinstance(loss, PairsWithHorizon) else loss
    value = _mmd(pairs, simulated, recorded, mesh)
    if isinstance(loss, PairsWithHorizon) and simulated.horizon is not None:
        value = value + _horizon(pairs, simulated, recorded, mesh)
    return value


def features_on(loss: AbstractLoss, spikes: SpikeTrain, mesh: Mesh | None, axis: int = 0) -> Float[Array, "..."]:
    """Features of trains with any number of leading axes, of which `axis` is shared out."""

    def own(device: Any, loss: AbstractLoss, spikes: SpikeTrain) -> jax.Array:
        del device
        return loss.features(batched(spikes)).reshape(*spikes.batch_shape, -1)

    if mesh is None:
        return own(0, loss, spikes)
    return parallel.spread(own, mesh, (loss, spikes), (None, axis), axis)


def _mmd(loss: SignatureMMD, simulated: SpikeTrain, recorded: SpikeTrain, mesh: Mesh) -> jax.Array:
    """As `SignatureMMD.__call__`."""
    x, y, kernel = loss.sides(simulated, recorded)
    n = x.batch_shape[0]
    if loss.unbiased and n < 2:
        raise ValueError("unbiased=True needs two simulated samples or more: pass num_samples=2 or more")
    alone = y.batch_shape[0] > 1 or not loss.unbiased
    if loss.landmarks is not None:
        marks = evenly(y, loss.landmarks)
        f = parallel.spread(lambda _, k, x, m: k.features(x, m), mesh, (kernel, x, marks), (None, 0, None), 0)
        g = kernel.features(y, marks)
        rest = within_features(g, loss.unbiased) if alone else 0.0
        return within_features(f, loss.unbiased) - 2 * jnp.vdot(jnp.mean(f, axis=0), jnp.mean(g, axis=0)) + rest
    with early(y, kernel):
        rest = mean_within(kernel, y, loss.unbiased) if alone else 0.0

    def own_pairs(device: jax.Array, kernel: Any, x: SpikeTrain, y: SpikeTrain) -> jax.Array:
        first, second, weights = pairs_of(x.batch_shape[0], n, y.batch_shape[0], loss.unbiased)
        return weighted(kernel, joined(_own_first(x, device, mesh), y), first, second, weights)[None]

    return jnp.sum(parallel.spread(own_pairs, mesh, (kernel, x, y), (None, 0, None), 0)) + rest


def pairs_of(own: int, n: int, m: int, unbiased: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of the first `own` of n trains in a circle with those that follow and with m others, and weights.

    Over all devices they are the squared MMD without the term of the others alone.
    """
    steps = np.repeat(np.arange(0 if not unbiased else 1, n // 2 + 1), own)
    first = np.tile(np.arange(own), len(steps) // own)
    met_twice = (steps == 0) | (2 * steps == n)  # with itself, and half way round
    among = np.where(met_twice, 1, 2) / (n * (n - 1) if unbiased else n * n)
    mine, others = np.divmod(np.arange(own * m), m)
    pairs = np.concatenate([first, mine]), np.concatenate([(first + steps) % n, n + others])
    return *pairs, np.concatenate([among, np.full(own * m, -2 / (n * m))])


def _horizon(loss: SignatureMMD, simulated: SpikeTrain, recorded: SpikeTrain, mesh: Mesh) -> jax.Array:
    """What `with_horizon` adds: 0, with a gradient."""

    def own(device: jax.Array, loss: SignatureMMD, spikes: SpikeTrain, recorded: SpikeTrain) -> jax.Array:
        fixed = jax.lax.stop_gradient(spikes)
        crossing = open_crossing(spikes)
        longer, full = with_room(fixed)
        everyone = _own_first(longer, device, mesh)
        total = jnp.zeros((), crossing.dtype)
        for k in range(spikes.num_neurons):
            changed = unchecked(jnp.where(full(k), spikes.t1, longer.times), spikes.t0, spikes.t1)
            gains = jax.lax.stop_gradient(loss.gains(changed, longer, recorded, everyone))
            total = total + jnp.vdot(gains, crossing[:, k])
        return total[None]

    arguments = loss, batched(simulated), recorded
    return jnp.sum(parallel.spread(own, mesh, arguments, (None, 0, None), 0))


def _own_first(x: SpikeTrain, device: jax.Array, mesh: Mesh) -> SpikeTrain:
    """The trains of all devices, in a circle that begins with those of this one."""
    times = jax.lax.all_gather(x.times, mesh.axis_names, tiled=True)
    return unchecked(jnp.roll(times, -device * x.batch_shape[0], axis=0), x.t0, x.t1)
