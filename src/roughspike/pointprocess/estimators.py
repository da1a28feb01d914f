"""Estimators of the gradient of an expectation over hidden spikes: pathwise, straight-through, score function."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from roughspike._types import as_float
from roughspike.paths.grid import num_steps
from roughspike.paths.spikes import SpikeTrain
from roughspike.pointprocess.basis import Span
from roughspike.pointprocess.events import Events
from roughspike.pointprocess.likelihood import intensity_terms, sum_terms
from roughspike.pointprocess.network import PointProcessNetwork
from roughspike.pointprocess.sample import base_potentials, check_temperature, sample_marks
from roughspike.pointprocess.thinning import (
    RELAXED,
    STRAIGHT_THROUGH,
    Candidates,
    concrete_log_density,
    log_choices,
    soft_log_marks,
)


class Problem(NamedTuple):
    """One trial of a variational problem: a model, a posterior (None: the model itself), the observed spikes.

    `dt` is the longest panel of integrals of hard intensities, and the spacing of nodes for soft ones.
    """

    net: PointProcessNetwork
    posterior: PointProcessNetwork | None
    given: Events
    span: Span
    dt: float

    @property
    def sampler(self) -> PointProcessNetwork:
        """The network that hidden spikes are drawn from."""
        return self.net if self.posterior is None else self.posterior


class AbstractEstimator(eqx.Module):
    """How to differentiate E f(hidden spikes) in the parameters of their law, and of f.

    A member defines `bound`: an estimate of the evidence lower bound of one trial, whose value is the bound and whose
    gradient, by `jax.grad`, is the member's estimate of the gradient of the bound.
    """

    @abc.abstractmethod
    def bound(self, problem: Problem, key: jax.Array, num_samples: int) -> Float[Array, ""]:
        """The bound, averaged over samples."""

    def check(self, num_samples: int) -> None:
        """**Raises** ValueError for settings that make no sense."""
        del num_samples

    def check_data(self, net: PointProcessNetwork, observed: SpikeTrain) -> None:
        """**Raises** ValueError for data that the estimator has no room for."""
        del net, observed

    def updated(self, bound: Float[Array, ""]) -> AbstractEstimator:
        """The estimator for the next call, given the bound just found: itself, unless it keeps a running mean."""
        del bound
        return self


class Pathwise(AbstractEstimator):
    """Relax the hidden spikes, and differentiate through them (Kajino's differentiable point process).

    Low variance and a bias that grows with the temperature: the value is the bound of the relaxed process, too.

    **Arguments**

    - `temperature`: of the concrete distribution. Variance explodes below about 0.2; bias is a third at 1.

    **Reference**: Kajino (2021), section 4.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_float, default=0.3)

    def __check_init__(self):
        check_temperature(self.temperature)

    def bound(self, problem: Problem, key: jax.Array, num_samples: int) -> Float[Array, ""]:
        """Bound of the relaxed process: densities of the soft marks under model and posterior."""
        return _soft_bound(problem, key, num_samples, self.temperature, RELAXED, _relaxed_ratio)


class StraightThrough(AbstractEstimator):
    """Hard hidden spikes in the value, the gradient of relaxed ones: the value is the bound itself.

    **Arguments**

    - `temperature`: of the marks whose gradient is used.

    **Reference**: Bengio, Leonard & Courville (2013), *Estimating or propagating gradients through stochastic neurons*.
    """

    temperature: Float[Array, ""] = eqx.field(converter=as_float, default=0.3)

    def __check_init__(self):
        check_temperature(self.temperature)

    def bound(self, problem: Problem, key: jax.Array, num_samples: int) -> Float[Array, ""]:
        """Bound of the hard process: intensities at spikes, and their integrals."""
        return _soft_bound(problem, key, num_samples, self.temperature, STRAIGHT_THROUGH, _hard_ratio)


def _soft_bound(
    problem: Problem, key: jax.Array, num_samples: int, temperature: jax.Array, kind: str, ratio: Any
) -> jax.Array:
    """log p(observed | hidden) + log p(hidden) - log q(hidden), averaged over samples with differentiable marks.

    Nodes of the integral are one uniform point in each cell of a grid: soft spikes make the intensity jump at every
    candidate, so that any fixed rule would err; this one is right in mean. Samples share the nodes.
    """
    net, posterior, given, span, dt = problem
    node_key, key = jr.split(key)
    nodes = stratified(node_key, span, dt, net.bias.dtype)
    observed = slice(0, net.num_observed)

    def one(key: jax.Array) -> jax.Array:
        candidates, marks = sample_marks(problem.sampler, key, span, given, temperature, kind)
        hidden = Events(candidates.times, marks)
        terms = intensity_terms(net, (given, hidden), given, nodes, span, observed)
        value = jnp.sum(sum_terms(terms))
        return value if posterior is None else value + ratio(problem, candidates, hidden, nodes, temperature)

    return jnp.mean(jax.vmap(one)(jr.split(key, num_samples)))


def _relaxed_ratio(
    problem: Problem, candidates: Candidates, hidden: Events, nodes: Any, temperature: jax.Array
) -> jax.Array:
    """log density of candidates and soft marks under the model less that under the posterior."""
    del nodes
    net, posterior, given, span, _ = problem
    assert posterior is not None and net.link.bound is not None and posterior.link.bound is not None
    u_p, u_q = (hidden_potentials(n, candidates.times, given, hidden, span) for n in (net, posterior))
    log_marks = soft_log_marks(posterior.link, u_q, candidates.noise, temperature)
    densities = [
        concrete_log_density(log_marks, log_choices(n.link, u), temperature)
        + jnp.log(jnp.asarray(n.link.bound, u.dtype))
        for n, u in ((net, u_p), (posterior, u_q))
    ]
    volume = net.num_hidden * (net.link.bound - posterior.link.bound) * (span.stop - span.start)
    return jnp.sum(jnp.where(candidates.real, densities[0] - densities[1], 0.0)) - volume


def _hard_ratio(
    problem: Problem, candidates: Candidates, hidden: Events, nodes: Any, temperature: jax.Array
) -> jax.Array:
    """log p(hidden) - log q(hidden) of the hidden neurons as point processes."""
    del candidates, temperature
    net, posterior, given, span, _ = problem
    assert posterior is not None
    post = slice(net.num_observed, None)
    p, q = (
        jnp.sum(sum_terms(intensity_terms(n, (given, hidden), hidden, nodes, span, post))) for n in (net, posterior)
    )
    return p - q


def hidden_potentials(
    net: PointProcessNetwork, times: Float[Array, " times"], given: Events, hidden: Events, span: Span
) -> Float[Array, "times neurons"]:
    """Potentials of the hidden neurons."""
    post = slice(net.num_observed, None)
    recurrent = net.basis.features(times, hidden.times, hidden.marks, span)
    return base_potentials(net, times, given, span) + jnp.einsum("kij,qkj->qi", net.weights[:, post, post], recurrent)


def stratified(
    key: jax.Array, span: Span, dt: float, dtype: Any
) -> tuple[Float[Array, " nodes"], Float[Array, " nodes"]]:
    """One uniform node in each cell of a grid, and their weights: an unbiased rule for any integrand."""
    cells = num_steps(span.start, span.stop, dt)
    width = (span.stop - span.start) / cells
    nodes = span.start + width * (jnp.arange(cells, dtype=dtype) + jr.uniform(key, (cells,), dtype))
    return nodes, jnp.full(cells, width, dtype)
