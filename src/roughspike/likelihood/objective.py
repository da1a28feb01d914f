"""What `fit` minimises: a loss that prepares its data once on the host and is then a function of the model alone."""

from __future__ import annotations

import abc
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from roughspike import parallel
from roughspike._types import concrete
from roughspike.currents.base import as_current
from roughspike.likelihood.exact import exact_terms, in_windows
from roughspike.likelihood.importance import Stretches, importance_terms, stretches
from roughspike.likelihood.segments import Segments, lay_out
from roughspike.networks.population import Population
from roughspike.neurons.lif import SLIF
from roughspike.paths.grid import num_steps
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows


class AbstractObjective(eqx.Module):
    """A loss for `fit`: prepared once for some data, then minimised over the model.

    A minimal member defines `prepare`, `__call__` (the loss, differentiable in the cell, under `jit`) and `score`
    (what is shown for training and held-out data: bits per spike). One that can share its work out over devices has a
    static field `mesh`, None by default, which `fit(mesh=...)` fills.
    """

    @abc.abstractmethod
    def prepare(
        self, cell: Any, data: SpikeTrain, *, windows: Windows | None = None, dt: float, rate: float | None = None
    ) -> Any:
        """Host work for these data: a pytree of arrays that enters compiled functions as an argument.

        `windows` restricts what is scored; `rate` is that of the Poisson process to compare with (default: of these
        data in these windows; pass the training rate for held-out data).
        """

    @abc.abstractmethod
    def __call__(self, cell: Any, prepared: Any, key: jax.Array) -> jax.Array:
        """The loss, a scalar."""

    @abc.abstractmethod
    def score(self, cell: Any, prepared: Any, key: jax.Array) -> jax.Array:
        """Bits per spike over the homogeneous Poisson process, a scalar."""


class Prepared(NamedTuple):
    """Data of a likelihood: pieces, the current's own preparation, stretches (None without diffusion), counts."""

    segments: Segments
    current: Any
    stretches: Stretches | None
    num_spikes: np.ndarray
    duration: np.ndarray
    rate: np.ndarray
    intervals: np.ndarray  # length = most intervals in a stretch: a shape that says a number


class NegativeLogLikelihood(AbstractObjective):
    """-log p(recorded spikes | model), in nats per spike.

    Without diffusion the likelihood is exact. With diffusion it is estimated by importance sampling for each interval
    between spikes (`likelihood.importance`), on stretches of time that are drawn anew in each step of the optimiser.
    With a soft refractory threshold alpha > 0 a spike can be impossible under the model; the loss then takes a finite
    penalty in place of infinity (`exact.penalty`), while `log_likelihood` says -infinity, and so does `score` without
    diffusion.

    **Arguments**

    - `num_particles`: samples of the noise per stretch (with diffusion).
    - `stretch`: length of a stretch; None for about ten intervals.
    - `stretches_per_step`: how many of them one step of the optimiser sees; None for half.
    - `mesh`: filled by `fit(mesh=...)`. With diffusion particles are shared out over its devices, without it trials.
    """

    num_particles: int = eqx.field(static=True, default=32)
    stretch: float | None = eqx.field(static=True, default=None)
    stretches_per_step: int | None = eqx.field(static=True, default=None)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def prepare(
        self,
        cell: Population,
        data: SpikeTrain,
        *,
        windows: Windows | None = None,
        dt: float,
        rate: float | None = None,
    ) -> Prepared:
        """Lay the spikes out on a grid of step dt, cut at spikes and window edges."""
        check_data(cell, data, dt)
        diffuses = cell.neuron.has_diffusion
        laid = lay_out(data, dt, windows)
        if laid.num_spikes == 0:
            raise ValueError("the windows hold no spike: there is nothing to score; choose other windows")
        own_rate = laid.num_spikes / laid.duration
        self._check_mesh(diffuses, laid.lengths.shape[0])
        parts = None
        if diffuses:
            _check_importance(cell)
            length = 10 / own_rate if self.stretch is None else self.stretch
            whole = Windows([data.t0], [data.t1]) if windows is None else windows
            laid = lay_out(data, dt, whole.split(min(length, data.duration)))
            parts = stretches(laid)
        return Prepared(
            segments=laid,
            current=as_current(cell.current).prepare(laid.starts, laid.lengths),
            stretches=parts,
            num_spikes=np.asarray(laid.num_spikes, np.float64),
            duration=np.asarray(laid.duration),
            rate=np.asarray(own_rate if rate is None else rate),
            intervals=np.zeros(1 if parts is None else int(parts.interval.max()) + 1),
        )

    def __call__(self, cell: Population, prepared: Prepared, key: jax.Array) -> jax.Array:
        """Nats per spike, on a random choice of stretches if the neuron diffuses."""
        if prepared.stretches is None:
            return -self._exact(cell, prepared, cell.neuron.alpha) / prepared.num_spikes
        total = prepared.stretches.valid.shape[0]
        count = math.ceil(total / 2) if self.stretches_per_step is None else min(self.stretches_per_step, total)
        choice_key, key = jax.random.split(key)
        chosen = jax.random.permutation(choice_key, total)[:count]
        some = jax.tree.map(lambda x: jnp.asarray(x)[chosen], prepared.stretches)
        log_p, _ = self._sampled(cell, prepared, some, key)
        return -jnp.sum(log_p) / (prepared.num_spikes * count / total)

    def score(self, cell: Population, prepared: Prepared, key: jax.Array) -> jax.Array:
        """Bits per spike over Poisson; with diffusion the importance-sampled estimate over all stretches."""
        if prepared.stretches is None:
            log_p = self._exact(cell, prepared)
        else:
            log_p = jnp.sum(self._sampled(cell, prepared, prepared.stretches, key)[0])
        return bits_per_spike(log_p, prepared.num_spikes, prepared.duration, prepared.rate)

    def _exact(self, cell: Population, prepared: Prepared, alpha: jax.Array | None = None) -> jax.Array:
        segments = parallel.along(prepared.segments, self.mesh, 0)
        return in_windows(exact_terms(cell, segments, prepared.current), segments, alpha)

    def _sampled(self, cell: Population, prepared: Prepared, chosen: Stretches, key: jax.Array) -> Any:
        intervals = prepared.intervals.shape[0]
        draws = self.num_particles, key, self.mesh
        return importance_terms(cell, prepared.segments, prepared.current, chosen, intervals, *draws)

    def _check_mesh(self, diffuses: bool, trials: int) -> None:
        if self.mesh is None:
            return
        if diffuses:
            parallel.check_shares(self.mesh, self.num_particles, "num_particles", "change it")
        else:
            remedy = "the exact likelihood shares out trials; pass as many, fewer devices, or leave mesh out"
            parallel.check_shares(self.mesh, trials, "the number of trials", remedy)


def bits_per_spike(log_likelihood: Any, num_spikes: Any, duration: Any, rate: Any) -> Any:
    """(log p - log p of a homogeneous Poisson process of this rate) / (number of spikes log 2)."""
    poisson = num_spikes * jnp.log(rate) - rate * duration
    return (log_likelihood - poisson) / (num_spikes * math.log(2))


def check_data(cell: Population, data: SpikeTrain, dt: float) -> None:
    """Complain about data that this cell cannot have made, and about a grid that is too coarse for it."""
    if not isinstance(cell.neuron, SLIF):
        raise ValueError(
            f"the neuron must be an rs.SLIF to be scored or fitted, got {type(cell.neuron).__name__}: train it by "
            "jax.grad of a loss on what rs.simulate returns"
        )
    if concrete(data.times) is None:
        raise ValueError("data must be concrete spike times: prepare the loss outside of jit, vmap and grad")
    if len(data.batch_shape) > 1:
        raise ValueError(f"data must have shape (trials, neurons, capacity), got batch axes {data.batch_shape}")
    if data.num_neurons != cell.num_neurons:
        raise ValueError(
            f"data has {data.num_neurons} neurons and the population {cell.num_neurons}: give the current one value "
            "per neuron, or select neurons of the data"
        )
    steps = num_steps(data.t0, data.t1, dt)
    mu = concrete(cell.neuron.mu)
    h = data.duration / steps
    if mu is not None and mu.max() * h > 2.0:
        raise ValueError(
            f"dt={dt:g} is too coarse for the fastest rate mu={mu.max():g} (time constant {1 / mu.max():g}): "
            f"pass dt={0.5 / mu.max():.2g} or less"
        )
    refractory = None if cell.neuron.refractory is None else concrete(cell.neuron.refractory)
    shortest = min([np.inf, *(np.diff(row).min() for trial in data.to_lists() for row in trial if len(row) > 1)])
    if refractory is not None and shortest <= refractory:
        raise ValueError(
            f"data has an interval of {shortest:g}, not longer than the refractory time {refractory:g}: the model "
            f"gives it probability 0; pass refractory={0.9 * shortest:.3g} or less"
        )


def _check_importance(cell: Population) -> None:
    """Complain about neurons that the importance-sampled likelihood cannot score."""
    mu = concrete(cell.neuron.mu)
    if any(cell.neuron.noise[1]) and mu is not None and not mu[1] > 0:
        raise ValueError(
            "the importance-sampled likelihood needs a current rate mu[1] > 0 where noise drives the current, since it "
            "starts from the stationary law: give mu[1] a positive value, or sigma a second row of zeros"
        )
