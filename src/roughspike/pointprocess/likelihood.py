"""The likelihood of a network's spikes, with a compensator that is accurate across the jumps of the intensity."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike.paths.grid import num_steps
from roughspike.paths.spikes import SpikeTrain
from roughspike.pointprocess.basis import AbstractBasis, Span
from roughspike.pointprocess.events import Events, by_trial, events_of
from roughspike.pointprocess.network import PointProcessNetwork

_GAUSS = 0.5 - 0.5 / math.sqrt(3), 0.5 + 0.5 / math.sqrt(3)


def default_step(basis: AbstractBasis) -> float:
    """A sixteenth of the shortest time over which a filter changes: the longest panel of the quadrature."""
    return basis.scale / 16


def gauss_panels(
    breaks: Float[Array, " breaks"],
) -> tuple[Float[Array, " nodes"], Float[Array, " nodes"]]:
    """Nodes and weights of the two-point Gauss rule on every panel between ascending breaks."""
    width = jnp.diff(breaks)
    nodes = breaks[:-1, None] + width[:, None] * jnp.asarray(_GAUSS, breaks.dtype)[None]
    return nodes.reshape(-1), jnp.repeat(0.5 * width, 2)


def panel_breaks(times: Float[Array, " events"], span: Span, dt: float) -> Float[Array, " breaks"]:
    """Where the intensity may jump, and a grid of step `dt` at most: ascending, from end to end of the window."""
    return jnp.sort(jnp.concatenate([times, grid_times(span, dt, times.dtype)]))


def grid_times(span: Span, dt: float, dtype: Any) -> Float[Array, " grid"]:
    """A grid of step `dt` at most, both ends included."""
    return jnp.asarray(np.linspace(span.start, span.stop, num_steps(span.start, span.stop, dt) + 1), dtype)


def log_likelihood_of(net: PointProcessNetwork, events: Events, span: Span, dt: float) -> Float[Array, " neurons"]:
    """log p of the spikes of each neuron, given the past of all: one trial with hard marks."""
    quadrature = gauss_panels(panel_breaks(events.times, span, dt))
    return sum_terms(intensity_terms(net, (events,), events, quadrature, span))


class Terms(NamedTuple):
    """What a log-likelihood is the sum of, for each neuron: at spikes, and minus the integral at nodes."""

    at_spikes: Float[Array, "spikes post"]
    at_nodes: Float[Array, "nodes post"]


def intensity_terms(
    net: PointProcessNetwork,
    past: tuple[Events, ...],
    spikes: Events,
    quadrature: tuple[jax.Array, jax.Array],
    span: Span,
    post: slice = slice(None),
) -> Terms:
    """mark x log lambda at spikes, and - weight x lambda at nodes, of the neurons in `post`.

    **Arguments**

    - `past`: the events that drive the network, in groups of neurons that together are all of them.
    - `spikes`: the events whose probability is asked, with a mark for each neuron in `post`; soft marks weigh.
    - `quadrature`: nodes and weights of the integral.
    """
    nodes, weights = quadrature
    features = features_of(net.basis, jnp.concatenate([spikes.times, nodes]), past, span)
    u = net.potentials(features, post)
    count = len(spikes.times)
    return Terms(spikes.marks * net.link.log_rate(u[:count]), -weights[:, None] * net.link.rate(u[count:]))


def sum_terms(terms: Terms) -> Float[Array, " post"]:
    """The log-likelihood of each neuron."""
    return jnp.sum(terms.at_spikes, 0) + jnp.sum(terms.at_nodes, 0)


def terms_at_events(net: PointProcessNetwork, events: Events, span: Span) -> Float[Array, "events neurons"]:
    """What each event adds to the log-likelihood of each neuron, where events are many and reach from end to end.

    That is mark x log lambda, less the integral up to the next event by the trapezium rule between the right limit
    here and the left limit there, which need no nodes beside the events: order 2 in their distance.
    """
    before = net.potentials(net.basis.features(events.times, events.times, events.marks, span))
    onset = net.basis.values(jnp.full((), jnp.finfo(before.dtype).tiny, before.dtype))
    after = before + jnp.einsum("kij,k,qj->qi", net.weights, onset, events.marks)
    left, right = net.link.rate(after[:-1]), net.link.rate(before[1:])
    integral = 0.5 * jnp.diff(events.times)[:, None] * (left + right)
    return events.marks * net.link.log_rate(before) - jnp.pad(integral, ((0, 1), (0, 0)))


def features_of(
    basis: AbstractBasis, queries: Float[Array, " queries"], past: tuple[Events, ...], span: Span
) -> Float[Array, "queries basis neurons"]:
    """What the basis sums over groups of events, neurons of the first group first."""
    return jnp.concatenate([basis.features(queries, group.times, group.marks, span) for group in past], axis=-1)


def network_log_likelihood(
    net: PointProcessNetwork, spikes: SpikeTrain, dt: float | None = None
) -> Float[Array, " trials"]:
    """log p of the spikes of all neurons, observed and hidden, of each trial, summed over neurons.

    The compensator is integrated by two-point Gauss panels between all spikes and the points of a grid of step `dt`
    (None: a sixteenth of the width or time constant of the narrowest filter). Differentiable in the network.
    """
    check_neurons(net.num_neurons, spikes, "the network has num_observed + num_hidden")
    dt = default_step(net.basis) if dt is None else dt
    return _of_trials(net, events_of(spikes, net.bias.dtype), Span(spikes.t0, spikes.t1), dt)


@eqx.filter_jit
def _of_trials(net: PointProcessNetwork, events: Events, span: Span, dt: float) -> jax.Array:
    # trial by trial: what is kept for one does not grow with their number
    return jax.lax.map(lambda one: jnp.sum(log_likelihood_of(net, one, span, dt)), by_trial(events))


def rescaled_intervals(net: PointProcessNetwork, spikes: SpikeTrain, dt: float | None = None) -> list[np.ndarray]:
    """For each neuron, the compensator between its spikes, trials joined end to end: unit exponentials if right."""
    check_neurons(net.num_neurons, spikes, "the network has num_observed + num_hidden")
    dt = default_step(net.basis) if dt is None else dt
    events = by_trial(events_of(spikes, net.bias.dtype))
    at_events, at_end = (np.asarray(x, np.float64) for x in _compensators(net, events, Span(spikes.t0, spikes.t1), dt))
    real = np.asarray(events.marks) > 0
    before = np.cumsum(at_end, axis=0) - at_end  # what earlier trials accumulated
    return [
        np.diff((at_events[..., i] + before[:, None, i])[real[..., i]], prepend=0.0) for i in range(net.num_neurons)
    ]


@eqx.filter_jit
def _compensators(net: PointProcessNetwork, events: Events, span: Span, dt: float) -> tuple[jax.Array, jax.Array]:
    """Integral of each intensity from the start to every event, and to the end."""

    def one(trial: Events) -> tuple[jax.Array, jax.Array]:
        breaks = panel_breaks(trial.times, span, dt)
        nodes, weights = gauss_panels(breaks)
        rate = net.link.rate(net.potentials(net.basis.features(nodes, trial.times, trial.marks, span)))
        panels = (weights[:, None] * rate).reshape(-1, 2, rate.shape[1]).sum(1)
        total = jnp.concatenate([jnp.zeros((1, rate.shape[1]), rate.dtype), jnp.cumsum(panels, 0)])
        return total[jnp.searchsorted(breaks, trial.times)], total[-1]

    return jax.lax.map(one, events)


def check_neurons(wanted: int, spikes: SpikeTrain, whose: str) -> None:
    """**Raises** ValueError if the train is not of so many neurons."""
    if spikes.num_neurons != wanted:
        raise ValueError(
            f"the spikes are of {spikes.num_neurons} neurons and {whose} = {wanted}: select neurons of the data, or "
            "build the network for them"
        )
