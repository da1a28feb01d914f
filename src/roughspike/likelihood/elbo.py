"""NegativeELBO: what `fit` minimises for a point-process network with hidden neurons."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from roughspike import parallel
from roughspike.likelihood.objective import AbstractObjective, bits_per_spike
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows
from roughspike.pointprocess.basis import Span
from roughspike.pointprocess.elbo import check_problem, sum_over_trials, trial_keys
from roughspike.pointprocess.estimators import AbstractEstimator, StraightThrough
from roughspike.pointprocess.events import Events, by_trial, events_of
from roughspike.pointprocess.network import PointProcessNetwork
from roughspike.pointprocess.score import RunningMean, Score


class WithPosterior(eqx.Module):
    """A model and a posterior of its hidden neurons, to be trained together: pass it to `fit` in place of the model.

    **Arguments**

    - `net`: the model. `posterior`: the network that hidden spikes are drawn from, given the observed ones; as good a
      start as any is the model itself.
    """

    net: PointProcessNetwork
    posterior: PointProcessNetwork


class Prepared(eqx.Module):
    """The observed events of all trials, and what is needed for bits per spike."""

    events: Events
    num_spikes: np.ndarray | jax.Array
    duration: np.ndarray | jax.Array
    rate: np.ndarray | jax.Array
    span: Span = eqx.field(static=True)
    dt: float = eqx.field(static=True)


class NegativeELBO(AbstractObjective):
    """-elbo, in nats per observed spike, of a `PointProcessNetwork` or of a model `WithPosterior`.

    Trials are whole; `held_out` is a SpikeTrain of other trials, `dt` the spacing of the nodes of integrals (an eighth
    of the narrowest filter is fine). The score is the bound of the hard process in bits per spike: below the bits of
    the likelihood itself, by an amount that differs between models. Without hidden neurons it is the likelihood.

    **Arguments**

    - `estimator`: of the gradient; `StraightThrough(0.3)` by default (docs, "Hidden neurons").
    - `num_samples`: of the hidden neurons, for each trial and step. `score_samples`: the same for the score.
    - `mesh`: filled by `fit(mesh=...)`; trials are shared out over its devices.

    >>> import jax.random as jr, roughspike as rs
    >>> basis, link = rs.AlphaBasis(tau=(1.0,)), rs.SigmoidIntensity(4.0)
    >>> net = rs.PointProcessNetwork(1, 1, basis=basis, link=link, key=jr.key(0))
    >>> data = rs.sample(rs.PointProcessNetwork(1, basis=net.basis, link=net.link, key=jr.key(1)), t1=20.0,
    ...                  key=jr.key(2), num_samples=2)
    >>> fit = rs.fit(net, data, loss=rs.NegativeELBO(num_samples=2), steps=3, dt=0.2, key=jr.key(3), progress=False)
    >>> fit.status
    'finished 3 steps'
    """

    estimator: AbstractEstimator = eqx.field(default_factory=StraightThrough)
    num_samples: int = eqx.field(static=True, default=4)
    score_samples: int = eqx.field(static=True, default=16)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if isinstance(self.estimator, Score) and isinstance(self.estimator.baseline, RunningMean):
            raise ValueError("fit carries no running mean from step to step: use Score(LeaveOneOut())")
        if self.num_samples < 1 or self.score_samples < 1:
            raise ValueError("num_samples and score_samples must be at least 1")

    def prepare(
        self,
        cell: PointProcessNetwork | WithPosterior,
        data: SpikeTrain,
        *,
        windows: Windows | None = None,
        dt: float,
        rate: float | None = None,
    ) -> Prepared:
        """The trials as events."""
        net, posterior = _networks(cell)
        check_problem(net, data, posterior, self.estimator, self.num_samples)
        if windows is not None:
            raise ValueError("NegativeELBO takes whole trials: leave windows out, and pass held_out as a SpikeTrain")
        count = int(np.isfinite(np.asarray(data.times)).sum())
        if count == 0:
            raise ValueError("data holds no spike: there is nothing to fit")
        duration = data.duration * float(np.prod(data.times.shape[:-1]))  # trials and neurons
        if self.mesh is not None:
            remedy = "pass as many trials to fit and to hold out, fewer devices, or leave mesh out"
            parallel.check_shares(self.mesh, int(np.prod(data.batch_shape)), "the number of trials", remedy)
        return Prepared(
            events=by_trial(events_of(data, net.bias.dtype)),
            num_spikes=np.asarray(count, net.bias.dtype),
            duration=np.asarray(duration, net.bias.dtype),
            rate=np.asarray(count / duration if rate is None else rate, net.bias.dtype),
            span=Span(data.t0, data.t1),
            dt=float(dt),
        )

    def __call__(self, cell: PointProcessNetwork | WithPosterior, prepared: Prepared, key: jax.Array) -> jax.Array:
        """Nats per spike."""
        return -self._bound(cell, prepared, key, self.estimator, self.num_samples) / prepared.num_spikes

    def score(self, cell: PointProcessNetwork | WithPosterior, prepared: Prepared, key: jax.Array) -> jax.Array:
        """The bound in bits per spike over Poisson, by hard samples whatever the estimator."""
        bound = self._bound(cell, prepared, key, StraightThrough(), self.score_samples)
        return bits_per_spike(bound, prepared.num_spikes, prepared.duration, prepared.rate)

    def _bound(
        self,
        cell: PointProcessNetwork | WithPosterior,
        prepared: Prepared,
        key: jax.Array,
        estimator: AbstractEstimator,
        num_samples: int,
    ) -> jax.Array:
        def some(device: jax.Array, cell: Any, events: Events, keys: jax.Array, estimator: Any) -> jax.Array:
            del device
            found = sum_over_trials(*_networks(cell), events, prepared.span, prepared.dt, keys, estimator, num_samples)
            return found[None]

        keys = trial_keys(key, prepared.events)
        arguments = cell, prepared.events, keys, estimator
        if self.mesh is None:
            return some(jnp.asarray(0), *arguments)[0]
        return jnp.sum(parallel.spread(some, self.mesh, arguments, (None, 0, 0, None), 0))


def _networks(cell: PointProcessNetwork | WithPosterior) -> tuple[PointProcessNetwork, PointProcessNetwork | None]:
    return (cell.net, cell.posterior) if isinstance(cell, WithPosterior) else (cell, None)
