"""Teacher forcing: the state that a recorded spike train and its input current leave in the neuron, without noise.

Given the spikes, (v, i) is linear in its past, so its values at all pieces are three linear recurrences computed in
parallel over blocks of time (`paths.recurrence`): exact from the start of each trial, no burn-in. Noise adds a
deviation that obeys the same recurrence, whatever the data (`likelihood.importance`, `likelihood.particle`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from roughspike.currents.base import as_current
from roughspike.likelihood.segments import Segments
from roughspike.networks.population import Population
from roughspike.neurons.flow import kappa
from roughspike.neurons.lif import SLIF
from roughspike.paths.recurrence import linear_recurrence

_GAUSS_X, _GAUSS_W = (x.tolist() for x in np.polynomial.legendre.leggauss(3))
NODES = tuple(0.5 * (1 + x) for x in _GAUSS_X)
WEIGHTS = tuple(0.5 * w for w in _GAUSS_W)


class Forced(NamedTuple):
    """At the start of every piece, shape (trials, neurons, segments): v, i; over it: mean current c, length h, where
    the hazard begins (after the refractory time), whether a spike ends it, and the share of v that survives its end.
    """

    v: jax.Array
    i: jax.Array
    c: jax.Array
    h: jax.Array
    begin: jax.Array
    spike: jax.Array
    kept: jax.Array


def forced(cell: Population, segments: Segments, current: Any) -> Forced:
    """State of the neuron at every piece; `current` is what the cell's current prepared for the pieces."""
    return forced_by(cell, segments, as_current(cell.current).means(current))


def forced_by(cell: Population, segments: Segments, means: jax.Array) -> Forced:
    """The same from the mean current over every piece."""
    neuron = cell.neuron
    mu1, mu2, dtype = neuron.mu[0], neuron.mu[1], neuron.mu.dtype
    h, spike, since = (jnp.asarray(x, dtype) for x in (segments.lengths, segments.spike, segments.since))
    c = jnp.broadcast_to(means, h.shape).astype(dtype)
    start = lambda x: jnp.broadcast_to(jnp.broadcast_to(x, (cell.num_neurons,)), h.shape[:-1]).astype(dtype)  # noqa: E731

    weight = jnp.zeros((), dtype) if neuron.self_weight is None else neuron.self_weight
    i = linear_recurrence(jnp.exp(-mu2 * h), weight * spike, start(cell.i0))[..., :-1]
    decay = jnp.exp(-mu1 * h)
    kept = 1 + spike * (neuron.reset.keep - 1)
    pushed = kept * (kappa(mu1, mu2, h) * i + (1 - decay) * c) + spike * neuron.reset.shift(neuron.v_reset)
    v = linear_recurrence(kept * decay, pushed, start(cell.v0))[..., :-1]
    begin = jnp.zeros_like(h) if neuron.refractory is None else jnp.clip(neuron.refractory - since, 0.0, h)
    return Forced(v, i, c, h, begin, spike, kept)


class AtNode(NamedTuple):
    """The flow at one time of every piece: v without noise, how much of a deviation of v and i at its start is left,
    which share of the piece's noise has arrived, and how long the Brownian bridge of the rest is.
    """

    v: jax.Array
    keep_v: jax.Array
    keep_i: jax.Array
    share: jax.Array
    bridge: jax.Array


def at_time(neuron: SLIF, f: Forced, time: jax.Array) -> AtNode:
    """The flow at `time` after the start of every piece.

    v(t) = e^{-mu1 t} v + kappa(t) i + (1 - e^{-mu1 t}) c; noise that is linear inside the piece arrives as
    (1 - e^{-mu1 t}) / (1 - e^{-mu1 h}).
    """
    mu1, mu2 = neuron.mu[0], neuron.mu[1]
    keep_v, keep_i = jnp.exp(-mu1 * time), kappa(mu1, mu2, time)
    v = keep_v * f.v + keep_i * f.i + (1 - keep_v) * f.c
    full = -jnp.expm1(-mu1 * f.h)
    safe = jnp.where(f.h > 0, f.h, 1.0)
    share = jnp.where(f.h > 0, (1 - keep_v) / jnp.where(f.h > 0, full, 1.0), 0.0)
    return AtNode(v, keep_v, keep_i, share, time * (1 - time / safe))


def gauss_nodes(f: Forced) -> list[tuple[jax.Array, jax.Array]]:
    """(time after the start of the piece, weight) of a three-point Gauss rule on its part with hazard."""
    active = f.h - f.begin
    return [(f.begin + x * active, w * active) for x, w in zip(NODES, WEIGHTS, strict=True)]
