"""The exact likelihood of a recorded spike train for a neuron without diffusion.

With sigma = 0 the spikes determine v, and with the hazard H accumulated since the last spike the log-likelihood is

    sum over spikes log lambda(v(tau-)) - sum over intervals (H - alpha)^+

and -infinity if a spike comes while H < alpha. For alpha = 0 this is a point process of intensity lambda(v_t).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.likelihood.forced import at_time, forced, gauss_nodes
from roughspike.likelihood.segments import Segments
from roughspike.networks.population import Population
from roughspike.paths.recurrence import linear_recurrence


class Terms(NamedTuple):
    """Per piece, shape (trials, neurons, segments): log intensity of the spike that ends it (0 if none), and the
    compensator (integrated intensity) over it.
    """

    log_intensity: jax.Array
    compensator: jax.Array


def exact_terms(cell: Population, segments: Segments, current: Any) -> Terms:
    """Both parts of the log-likelihood for every piece. Differentiable in the cell."""
    neuron, escape = cell.neuron, cell.neuron.escape
    f = forced(cell, segments, current)
    hazard = jnp.zeros_like(f.h)
    for time, weight in gauss_nodes(f):
        hazard = hazard + weight * escape.rate(at_time(neuron, f, time).v)
    log_rate = escape.log_rate(at_time(neuron, f, f.h).v)
    effective, possible = jax.lax.cond(
        neuron.alpha > 0,
        lambda: above_soft_threshold(hazard, f.spike, neuron.alpha),
        lambda: (hazard, jnp.ones_like(f.spike, bool)),
    )
    log_rate = jnp.where(possible & (f.begin < f.h), log_rate, -jnp.inf)
    return Terms(jnp.where(f.spike > 0, log_rate, 0.0), effective)


def in_windows(terms: Terms, segments: Segments) -> jax.Array:
    """The log-likelihood of the windows that are scored; what happens outside of them may be impossible (-inf)."""
    return jnp.sum(jnp.where(jnp.asarray(segments.inside) > 0, terms.log_intensity - terms.compensator, 0.0))


def above_soft_threshold(hazard: jax.Array, spike: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The part of the hazard that counts, past alpha since the last spike; and whether a spike is possible there."""
    survives = 1 - spike
    before = linear_recurrence(survives, survives * hazard, jnp.zeros_like(hazard[..., 0]))[..., :-1]
    past = lambda x: jnp.maximum(x - alpha, 0.0)  # noqa: E731
    return past(before + hazard) - past(before), before + hazard > alpha
