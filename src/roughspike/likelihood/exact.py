"""The exact likelihood of a recorded spike train for a neuron without diffusion.

With sigma = 0 the spikes determine v, and with the hazard H accumulated since the last spike the log-likelihood is

    sum over spikes log lambda(v(tau-)) - sum over intervals (H - alpha)^+

and -infinity if a spike comes while H < alpha. For alpha = 0 this is a point process of intensity lambda(v_t).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.likelihood.forced import Forced, at_time, forced, gauss_nodes
from roughspike.likelihood.segments import Segments
from roughspike.networks.population import Population
from roughspike.neurons.lif import SLIF
from roughspike.paths.recurrence import linear_recurrence

_PENALTY = 10.0
_PENALTY_SLOPE = 100.0


class Terms(NamedTuple):
    """Per piece, shape (trials, neurons, segments).

    - `log_intensity`: of the spike that ends the piece, 0 if none does.
    - `compensator`: integrated intensity over the piece.
    - `shortfall`: by how much the hazard missed alpha at that spike: where it is above 0 the spike is impossible.
    """

    log_intensity: jax.Array
    compensator: jax.Array
    shortfall: jax.Array


def exact_terms(cell: Population, segments: Segments, current: Any) -> Terms:
    """The parts of the log-likelihood for every piece. Differentiable in the cell."""
    neuron, escape = cell.neuron, cell.neuron.escape
    f = forced(cell, segments, current)
    hazard = noise_free_hazard(neuron, f)
    log_rate = escape.log_rate(at_time(neuron, f, f.h).v)

    def soft() -> tuple[jax.Array, jax.Array]:
        before = hazard_since_spike(hazard, f.spike)
        return past(before + hazard, neuron.alpha) - past(before, neuron.alpha), before + hazard

    effective, since = jax.lax.cond(neuron.alpha > 0, soft, lambda: (hazard, jnp.ones_like(hazard)))
    shortfall = jnp.where(f.begin < f.h, jnp.maximum(neuron.alpha - since, 0.0), jnp.inf)
    spiked = f.spike > 0
    return Terms(jnp.where(spiked, log_rate, 0.0), effective, jnp.where(spiked, shortfall, 0.0))


def noise_free_hazard(neuron: SLIF, f: Forced) -> jax.Array:
    """Integral of lambda over every piece, without diffusion."""
    hazard = jnp.zeros_like(f.h)
    for time, weight in gauss_nodes(f):
        hazard = hazard + weight * neuron.escape.rate(at_time(neuron, f, time).v)
    return hazard


def hazard_since_spike(hazard: jax.Array, spike: jax.Array) -> jax.Array:
    """Hazard accumulated since the last spike (or the start of the trial) at the start of every piece."""
    survives = 1 - spike
    return linear_recurrence(survives, survives * hazard, jnp.zeros_like(hazard[..., 0]))[..., :-1]


def past(hazard: jax.Array, alpha: jax.Array) -> jax.Array:
    """(hazard - alpha)^+: the part of the hazard that counts."""
    return jnp.maximum(hazard - alpha, 0.0)


def penalty(shortfall: jax.Array, alpha: jax.Array) -> jax.Array:
    """What training pays, in nats, for a spike that the model holds impossible.

    The truth is infinite and has no gradient. This is at least 10 and grows with the missing share of alpha, so that
    an optimiser finds its way to parameters that can have made the data.
    """
    share = shortfall / jnp.where(alpha > 0, alpha, 1.0)
    return jnp.where(shortfall > 0, _PENALTY + _PENALTY_SLOPE * share, 0.0)


def in_windows(
    terms: Terms, segments: Segments, alpha: jax.Array | None = None, *, per_trial: bool = False
) -> jax.Array:
    """The log-likelihood of the windows that are scored; what happens outside of them may be impossible.

    -inf for an impossible spike; with `alpha`, the penalised log-likelihood that training uses in its place.
    """
    cost = jnp.where(terms.shortfall > 0, jnp.inf, 0.0) if alpha is None else penalty(terms.shortfall, alpha)
    inside = jnp.asarray(segments.inside) > 0
    each = jnp.where(inside, terms.log_intensity - terms.compensator - cost, 0.0)
    return jnp.sum(each, range(1, each.ndim) if per_trial else None)
