"""What a loss on simulated spikes is: features of each sample, and a comparison of two sets of features."""

from __future__ import annotations

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roughspike.paths.spikes import Horizon, SpikeTrain, unchecked


class AbstractLoss(eqx.Module):
    """A loss on spikes: any function of features of each sample. `fit` minimises it by simulating.

    A member defines

    - `features(spikes)`: one row per sample, shape (samples, features), for a train of shape
      (samples, neurons, capacity); differentiable in the times.
    - `compare(simulated, recorded)`: a scalar from the features of both. If it depends on the simulated features
      through their mean, `with_horizon` gives it an exact gradient.

    A loss that counts spikes:

    >>> import jax.numpy as jnp, numpy as np, roughspike as rs
    >>> from roughspike.losses.base import AbstractLoss
    >>> class CountLoss(AbstractLoss):
    ...     def features(self, spikes):
    ...         return jnp.isfinite(spikes.times).sum(-1).astype(float)
    ...     def compare(self, simulated, recorded):
    ...         return jnp.mean((simulated.mean(0) - recorded.mean(0)) ** 2)
    >>> one, none = rs.SpikeTrain(np.array([[0.5]])), rs.SpikeTrain(np.array([[np.inf]]))
    >>> float(CountLoss()(one, none))
    1.0
    """

    @abc.abstractmethod
    def features(self, spikes: SpikeTrain) -> Float[Array, "samples features"]:
        """Features of each sample."""

    @abc.abstractmethod
    def compare(
        self, simulated: Float[Array, "samples features"], recorded: Float[Array, "trials features"]
    ) -> Float[Array, ""]:
        """The loss, from the features of simulated and of recorded trains."""

    def __call__(self, simulated: SpikeTrain, recorded: SpikeTrain) -> Float[Array, ""]:
        """The loss. **Raises** ValueError if the trains differ in their neurons or in their windows."""
        check_pair(simulated, recorded)
        return self.compare(self.features(batched(simulated)), self.features(batched(recorded)))


def batched(spikes: SpikeTrain) -> SpikeTrain:
    """The same trains with exactly one leading axis."""
    rows = spikes.times.reshape(-1, *spikes.times.shape[-2:])
    horizon = spikes.horizon
    if horizon is not None:
        flat = lambda x: x.reshape(-1, x.shape[-1])  # noqa: E731
        horizon = Horizon(flat(horizon.threshold), flat(horizon.open))
    return unchecked(rows, spikes.t0, spikes.t1, spikes.onset, horizon)


def check_pair(simulated: SpikeTrain, recorded: SpikeTrain) -> None:
    """**Raises** ValueError if a loss cannot compare these trains."""
    if simulated.num_neurons != recorded.num_neurons:
        raise ValueError(
            f"the simulated spikes are of {simulated.num_neurons} neurons, the recorded ones of "
            f"{recorded.num_neurons}: select neurons of the data, or give the current one value per neuron"
        )
    slack = 1e-6 * recorded.duration
    if abs(simulated.t0 - recorded.t0) > slack or abs(simulated.t1 - recorded.t1) > slack:
        raise ValueError(
            f"the simulated spikes lie on [{simulated.t0:g}, {simulated.t1:g}], the recorded ones on "
            f"[{recorded.t0:g}, {recorded.t1:g}]: simulate on the window of the data (t0=, t1=)"
        )


def squared_distance_of_means(simulated: jax.Array, recorded: jax.Array, unbiased: bool) -> jax.Array:
    """Mean over features of (E simulated - mean recorded)^2.

    The square of a sample mean is too large by the variance over the number of samples. `unbiased` takes products of
    different samples only, (|sum g|^2 - sum |g|^2) / (n (n - 1)): its mean is the square of the mean. It can be
    negative.
    """
    if not unbiased:
        return jnp.mean(jnp.square(jnp.mean(simulated, axis=0) - jnp.mean(recorded, axis=0)))
    difference = simulated - jnp.mean(recorded, axis=0, keepdims=True)
    count = difference.shape[0]
    if count < 2:
        raise ValueError("unbiased=True needs two samples or more: pass num_samples=2 or more, or unbiased=False")
    pairs = jnp.square(jnp.sum(difference, axis=0)) - jnp.sum(jnp.square(difference), axis=0)
    return jnp.mean(pairs) / (count * (count - 1))
