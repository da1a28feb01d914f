"""FirstSpikesLoss: the difference of the mean first spike times."""

from __future__ import annotations

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roughspike._types import as_float
from roughspike.losses.base import AbstractLoss, squared_distance_of_means
from roughspike.paths.spikes import SpikeTrain


class FirstSpikesLoss(AbstractLoss):
    """Squared or absolute difference of the mean first n spike times, averaged over spikes and neurons.

    **Missing spikes.** The k-th spike that is missing at t1 counts as the time at which it would come if from t1 on the
    neuron had a constant hazard `rate`:

        simulated   t1 + (-s(t1) + k - 1) / rate      -s(t1) > 0 is the threshold left, k - 1 the mean of the next ones
        recorded    t1 + k / rate                     the mean of -s(t1) is 1, since what is left is Exp(1)

    so a model that is right has equal means on both sides, and raising the input of a silent neuron raises s(t1) and
    lowers the value: the gradient helps. This is a surrogate for what happens after t1, not an observation. `rate`
    defaults to one spike per window; with rate = inf every missing spike counts as t1, and silent neurons have no
    gradient.

    **Which gradient it needs.** The pathwise one. The first missing spike enters the window at t1 with s(t1) = 0,
    where both formulas agree, and the later ones change by a random amount of mean 0 (of mean alpha / rate with a
    soft refractory threshold alpha), so the horizon term vanishes: `with_horizon` changes nothing. Each neuron by
    itself is continuous where two neurons swap their order.

    **Arguments**

    - `n`: how many spikes.
    - `kind`: "squared" (as in the published experiment) or "absolute".
    - `rate`: hazard after t1 for missing spikes, in spikes per unit of time; None for 1 / (t1 - t0).
    - `unbiased`: for "squared", products of different samples only.

    **Reference**: Holberg & Salvi (2024), arXiv 2405.13587, Fig. 1.

    >>> import numpy as np, roughspike as rs
    >>> early, late = rs.SpikeTrain(np.array([[0.1, 0.4]])), rs.SpikeTrain(np.array([[0.3, 0.6]]))
    >>> round(float(rs.FirstSpikesLoss(n=2)(early, late)), 6)
    0.04
    """

    n: int = eqx.field(static=True, default=3)
    kind: Literal["squared", "absolute"] = eqx.field(static=True, default="squared")
    rate: float | None = eqx.field(static=True, default=None)
    unbiased: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n must be at least 1 spike, got {self.n}: pass n=3")
        if self.kind not in ("squared", "absolute"):
            raise ValueError(f'kind must be "squared" or "absolute", got {self.kind!r}')
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate must be above 0, got {self.rate}: pass None for one spike per window")
        if self.unbiased and self.kind == "absolute":
            raise ValueError('unbiased is for kind="squared": the absolute value of a mean has no unbiased estimate')

    def features(self, spikes: SpikeTrain) -> Float[Array, "samples features"]:
        """The first n spike times of each neuron, with virtual times for the missing ones."""
        times = as_float(spikes.times)
        samples, neurons, capacity = times.shape
        if capacity < self.n:
            times = jnp.pad(times, ((0, 0), (0, 0), (0, self.n - capacity)), constant_values=jnp.inf)
        times = times[..., : self.n]
        rate = 1 / spikes.duration if self.rate is None else self.rate
        if spikes.horizon is None:
            left = jnp.ones((samples, neurons), times.dtype)
        else:
            left = -spikes.horizon.threshold
        missing = jnp.arange(self.n)[None, None] - spikes.counts[..., None]  # 0 for the first missing spike
        virtual = spikes.t1 + (left[..., None] + missing.astype(times.dtype)) / rate
        return jnp.where(jnp.isfinite(times), times, virtual).reshape(samples, -1)

    def compare(
        self, simulated: Float[Array, "samples features"], recorded: Float[Array, "trials features"]
    ) -> Float[Array, ""]:
        """Squared or absolute difference of the means."""
        recorded = jax.lax.stop_gradient(jnp.asarray(recorded))
        if self.kind == "squared":
            return squared_distance_of_means(simulated, recorded, self.unbiased)
        return jnp.mean(jnp.abs(jnp.mean(simulated, axis=0) - jnp.mean(recorded, axis=0)))
