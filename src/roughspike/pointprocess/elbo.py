"""elbo: a lower bound of the probability of observed spikes where some neurons are hidden."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from roughspike.paths.spikes import SpikeTrain
from roughspike.pointprocess.basis import Span
from roughspike.pointprocess.estimators import AbstractEstimator, Problem, StraightThrough
from roughspike.pointprocess.events import Events, by_trial, events_of
from roughspike.pointprocess.likelihood import check_neurons, log_likelihood_of
from roughspike.pointprocess.network import PointProcessNetwork
from roughspike.pointprocess.thinning import check_bounded


def elbo(
    net: PointProcessNetwork,
    observed: SpikeTrain,
    posterior: PointProcessNetwork | None = None,
    *,
    key: jax.Array,
    estimator: AbstractEstimator | None = None,
    num_samples: int = 8,
    dt: float | None = None,
) -> Float[Array, ""]:
    """A lower bound of log p(observed spikes), summed over trials, for a network with hidden neurons,

        E [ log p(o, h) - log q(h | o) ],    h ~ q: hidden spikes drawn forward in time, given all earlier spikes.

    `jax.grad` of it, in `net` and `posterior`, is the estimator's gradient. With q = p it is E log p(o | h); the gap to
    log p(o) is then what the observed spikes tell about hidden ones that came before them.

    **Arguments**

    - `observed`: trains of the observed neurons, batch shape (trials,) or ().
    - `posterior`: q, a network with the same numbers of neurons; None is the model itself.
    - `key`, `num_samples`: samples of the hidden neurons for each trial.
    - `estimator`: `StraightThrough(0.3)` by default; `Pathwise`, `Score`, `EventTime` (docs, "Hidden neurons").
    - `dt`: spacing of the nodes of integrals; None for an eighth of the narrowest filter.

    **Returns** the bound, estimated without bias by estimators with hard spikes (all but `Pathwise`); without hidden
    neurons, log p itself. **Raises** ValueError for networks or data that do not go together.

    **Reference**: Kajino (2021), section 3; Jimenez Rezende & Gerstner (2014).

    >>> import jax.random as jr, numpy as np, roughspike as rs
    >>> net = rs.PointProcessNetwork(1, 1, basis=rs.AlphaBasis(tau=(1.0,)), link=rs.SigmoidIntensity(5.0),
    ...                              key=jr.key(0))
    >>> data = rs.SpikeTrain(np.array([[0.5, 1.5]]), 0.0, 3.0)
    >>> bool(rs.elbo(net, data, key=jr.key(1)) < 0)
    True
    """
    estimator = StraightThrough() if estimator is None else estimator
    check_problem(net, observed, posterior, estimator, num_samples)
    events = by_trial(events_of(observed, net.bias.dtype))
    dt = default_spacing(net) if dt is None else dt
    return bound_of(net, posterior, events, Span(observed.t0, observed.t1), dt, key, estimator, num_samples)


def trial_keys(key: jax.Array, events: Events) -> jax.Array:
    """A key for each trial."""
    return jr.split(key, events.times.shape[0])


@eqx.filter_jit
def bound_of(
    net: PointProcessNetwork,
    posterior: PointProcessNetwork | None,
    events: Events,
    span: Span,
    dt: float,
    key: jax.Array,
    estimator: AbstractEstimator,
    num_samples: int,
) -> Float[Array, ""]:
    """The bound, summed over trials (the leading axis of `events`), all of them at once."""
    return sum_over_trials(net, posterior, events, span, dt, trial_keys(key, events), estimator, num_samples)


def sum_over_trials(
    net: PointProcessNetwork,
    posterior: PointProcessNetwork | None,
    events: Events,
    span: Span,
    dt: float,
    keys: jax.Array,
    estimator: AbstractEstimator,
    num_samples: int,
) -> Float[Array, ""]:
    """`bound_of` with a key for each trial."""
    if net.num_hidden == 0:
        return jnp.sum(jax.vmap(lambda one: jnp.sum(log_likelihood_of(net, one, span, 0.5 * dt)))(events))

    def one(given: Events, key: jax.Array) -> jax.Array:
        return estimator.bound(Problem(net, posterior, given, span, dt), key, num_samples)

    return jnp.sum(jax.vmap(one)(events, keys))


def default_spacing(net: PointProcessNetwork) -> float:
    """An eighth of the narrowest filter, of model and posterior alike."""
    return net.basis.scale / 8


def check_problem(
    net: PointProcessNetwork, observed: SpikeTrain, posterior: Any, estimator: AbstractEstimator, num_samples: int
) -> None:
    """**Raises** ValueError if something does not go together."""
    check_neurons(net.num_observed, observed, "the network has num_observed")
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    estimator.check(num_samples)
    estimator.check_data(net, observed)
    for name, one in (("net", net), ("posterior", posterior)):
        if one is not None and net.num_hidden:
            check_bounded(one.link, f"give {name} such a link: hidden spikes are drawn by thinning")
    if posterior is not None and (posterior.num_observed, posterior.num_hidden) != (net.num_observed, net.num_hidden):
        raise ValueError(
            f"posterior has {posterior.num_observed} + {posterior.num_hidden} neurons (observed, hidden) and the model "
            f"{net.num_observed} + {net.num_hidden}: they must have the same"
        )
