"""The score-function estimator, and its control variates."""

from __future__ import annotations

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from roughspike._types import as_float
from roughspike.pointprocess.estimators import AbstractEstimator, Problem
from roughspike.pointprocess.events import Events, merged
from roughspike.pointprocess.likelihood import grid_times, terms_at_events
from roughspike.pointprocess.network import PointProcessNetwork
from roughspike.pointprocess.sample import sample_marks
from roughspike.pointprocess.thinning import HARD


class AbstractBaseline(eqx.Module):
    """A control variate: what is subtracted from the value of a sample before its score is weighed with it.

    A member defines `of`; what it subtracts from a sample must not depend on that sample.
    """

    @abc.abstractmethod
    def of(self, values: Float[Array, "samples bins"]) -> Float[Array, "samples bins"]:
        """The baseline of each sample and time bin."""


class LeaveOneOut(AbstractBaseline):
    """The mean of the other samples of the same trial: needs two samples or more, and no tuning.

    **Reference**: Mnih & Rezende (2016), *Variational Inference for Monte Carlo Objectives*.
    """

    def of(self, values: Float[Array, "samples bins"]) -> Float[Array, "samples bins"]:
        """Means of the others."""
        count = values.shape[0]
        return (jnp.sum(values, axis=0, keepdims=True) - values) / (count - 1)


class RunningMean(AbstractBaseline):
    """The mean of earlier values, exponentially forgotten: works with one sample, and is carried by the caller.

    It is a value like any other: `estimator.updated(bound)` returns the estimator with the baseline moved towards a
    bound that was found (per trial), for the next call. `fit` carries no such state and refuses it.

    **Arguments**

    - `mean`: the running mean of -bound. `decay`: how much of it stays at an update. `weight`: of `mean` so far, so
      that a fresh baseline (weight 0) is not biased to 0.
    """

    mean: Float[Array, ""] = eqx.field(converter=as_float, default=0.0)
    decay: float = eqx.field(static=True, default=0.9)
    weight: Float[Array, ""] = eqx.field(converter=as_float, default=0.0)

    def __check_init__(self):
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {self.decay}: how much of the mean stays at an update")

    def of(self, values: Float[Array, "samples bins"]) -> Float[Array, "samples bins"]:
        """The mean so far, for every sample."""
        return jnp.broadcast_to(self.mean.astype(values.dtype), values.shape)

    def updated(self, value: Float[Array, ""]) -> RunningMean:
        """Moved towards a new value."""
        weight = self.decay * self.weight + (1 - self.decay)
        share = (1 - self.decay) / weight
        return RunningMean(self.mean + share * (value - self.mean), self.decay, weight)


class Score(AbstractEstimator):
    """grad E f = E[grad f + (f - baseline) grad log q]: hard spikes, no bias, and a large variance.

    **Arguments**

    - `baseline`: None, `LeaveOneOut()` or `RunningMean()`. Without one the variance is hundreds of times larger.
    - `bins`: reward-to-go: what happens in one of so many bins of time is weighed only with f from that bin on, which
      removes noise and no signal, whatever the filters. 1 is none of it.

    **Reference**: Jimenez Rezende & Gerstner (2014), *Stochastic variational learning in recurrent spiking networks*.
    """

    baseline: AbstractBaseline | None = None
    bins: int = eqx.field(static=True, default=1)

    def check(self, num_samples: int) -> None:
        """**Raises** ValueError for too few samples, or bins that make no sense."""
        if isinstance(self.baseline, LeaveOneOut) and num_samples < 2:
            raise ValueError("LeaveOneOut compares samples of one trial: pass num_samples=2 or more")
        if self.bins < 1 or (self.bins > 1 and isinstance(self.baseline, RunningMean)):
            raise ValueError(
                f"bins must be at least 1, and 1 with RunningMean, which keeps one number, got {self.bins}: use "
                "LeaveOneOut() with bins"
            )

    def updated(self, bound: Float[Array, ""]) -> Score:
        """The estimator for the next call, its running mean moved towards the bound (of one trial) just found."""
        if not isinstance(self.baseline, RunningMean):
            return self
        return Score(self.baseline.updated(-jax.lax.stop_gradient(bound)), self.bins)

    def bound(self, problem: Problem, key: jax.Array, num_samples: int) -> Float[Array, ""]:
        """Bound of the hard process; its gradient is that of a surrogate whose value is 0."""
        scores, values = jax.vmap(lambda key: self._sample(problem, key))(jr.split(key, num_samples))
        to_go = jax.lax.stop_gradient(jnp.cumsum(values[:, ::-1], axis=1)[:, ::-1])  # from each bin on
        weight = to_go if self.baseline is None else to_go - self.baseline.of(to_go)
        surrogate = jnp.sum(weight * (scores - jax.lax.stop_gradient(scores)), axis=1)
        return -jnp.mean(jnp.sum(values, axis=1) + surrogate)

    def _sample(self, problem: Problem, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """log q(hidden) and f = log q(hidden) - log p(observed, hidden) of one sample, each (bins,)."""
        net, posterior, given, span, dt = problem
        candidates, marks = jax.lax.stop_gradient(sample_marks(problem.sampler, key, span, given, 1.0, HARD))
        events = merged(given, Events(candidates.times, marks), grid_times(span, 0.5 * dt, marks.dtype))
        in_bin = self._bins(events.times, problem)
        observed = net.num_observed

        def binned(net: PointProcessNetwork) -> jax.Array:
            """Sums over each bin: log p of the observed, and of the hidden neurons, (bins, 2)."""
            terms = terms_at_events(net, events, span)
            return in_bin @ jnp.stack([jnp.sum(terms[:, :observed], 1), jnp.sum(terms[:, observed:], 1)], 1)

        p = binned(net)
        if posterior is None:
            return p[:, 1], -p[:, 0]
        q = binned(posterior)
        return q[:, 1], q[:, 1] - jnp.sum(p, 1)

    def _bins(self, times: jax.Array, problem: Problem) -> jax.Array:
        """One row per bin: which times lie in it."""
        span = problem.span
        index = jnp.floor((times - span.start) * (self.bins / (span.stop - span.start))).astype(int)
        return jax.nn.one_hot(jnp.clip(index, 0, self.bins - 1), self.bins, dtype=times.dtype, axis=0)
