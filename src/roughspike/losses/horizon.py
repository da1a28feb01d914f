"""with_horizon: the term that makes the gradient of an expectation exact."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roughspike._types import as_float
from roughspike.losses.base import AbstractLoss, batched
from roughspike.losses.mmd import SignatureMMD
from roughspike.paths.spikes import Horizon, SpikeTrain, unchecked


def with_horizon(loss: Any) -> Any:
    """The same loss with a gradient that is exact for expectations: it sees spikes that enter or leave the window.

    The pathwise gradient of a spike count is 0. With stochastic firing the missing part is explicit: past its
    refractory part a neuron has an Exp(1) threshold left, so its next spike crosses t1 at the rate ds(t1), and for
    features f

        grad E f = E[ pathwise grad f ] + sum_k E[ (f(+k at t1) - f) 1{k can spike at t1} grad s_k(t1) ],

    where +k at t1 is one more spike of neuron k there.

    This wrapper adds (f(+k) - f) (s_k(t1) - s_k(t1)), of value 0, with the difference and the second s held constant.

    **Which gradient it gives.** Exact for the expectation of the features of neurons that do not act on each other,
    hence for any smooth function of that expectation: for losses that compare means, such as `ExpectedSignatureLoss`
    (for any number of samples with unbiased=True; for the plain square, whose mean contains a variance, up to a term
    of order one over the number of samples). It does not contain the swap term of features that depend on the order
    of two neurons' spikes. For `EnergyScore` and `FirstSpikesLoss` the term is 0.

    **Arguments**

    - `loss`: an `AbstractLoss`; its features are computed two more times per neuron, without a gradient. Or a
      `SignatureMMD`, for whose pairs the change of the loss itself takes the place of the change of features.

    **Returns** a loss. The simulated spikes must come from `simulate`, which fills `spikes.horizon`; recorded ones
    need none.
    **Raises** ValueError for something that is no `AbstractLoss`, or is wrapped already.

    **Reference**: docs, "Gradients of a noisy neuron".

    >>> import jax, jax.random as jr, roughspike as rs
    >>> loss = rs.with_horizon(rs.ExpectedSignatureLoss(depth=2))
    >>> cell = rs.Population(rs.SLIF(mu=(15.0, 0.0), v_reset=1.4), current=1.5)
    >>> spikes = rs.simulate(cell, t1=1.0, dt=0.01, key=jr.key(0), num_samples=4).spikes
    >>> bool(loss(spikes, spikes) == 0)
    True
    """
    if isinstance(loss, _WithHorizon | PairsWithHorizon):
        raise ValueError("this loss has its horizon term already: use it as it is")
    if isinstance(loss, SignatureMMD):
        return PairsWithHorizon(loss)
    if not isinstance(loss, AbstractLoss):
        raise ValueError(
            f"with_horizon needs a loss with features of each sample, got {type(loss).__name__}: derive it from "
            "roughspike.losses.base.AbstractLoss"
        )
    return _WithHorizon(loss)


class _WithHorizon(AbstractLoss):
    """What `with_horizon` returns."""

    loss: AbstractLoss

    def features(self, spikes: SpikeTrain) -> Float[Array, "samples features"]:
        """The features, with the horizon term in their gradient."""
        found = self.loss.features(spikes)
        if spikes.horizon is None:
            return found
        crossing = open_crossing(spikes)
        gains = jax.lax.stop_gradient(_gains(self.loss, spikes))  # (neurons, samples, features)
        return found + jnp.einsum("ksf,sk->sf", gains, crossing)

    def compare(
        self, simulated: Float[Array, "samples features"], recorded: Float[Array, "trials features"]
    ) -> Float[Array, ""]:
        """As without the term."""
        return self.loss.compare(simulated, recorded)


class PairsWithHorizon(eqx.Module):
    """What `with_horizon` returns for a loss on pairs of trains."""

    loss: SignatureMMD

    def __call__(self, simulated: SpikeTrain, recorded: SpikeTrain) -> Float[Array, ""]:
        """The loss, with the horizon term in its gradient."""
        value = self.loss(simulated, recorded)
        if simulated.horizon is None:
            return value
        spikes = batched(simulated)
        fixed = jax.lax.stop_gradient(spikes)
        crossing = open_crossing(spikes)
        longer, full = with_room(fixed)

        def gains(k: jax.Array) -> jax.Array:
            changed = unchecked(jnp.where(full(k), spikes.t1, longer.times), spikes.t0, spikes.t1)
            return jax.lax.stop_gradient(self.loss.gains(changed, longer, recorded))

        return value + jnp.vdot(jax.lax.map(gains, jnp.arange(spikes.num_neurons)), crossing.T)


def open_crossing(spikes: SpikeTrain) -> jax.Array:
    """0 with the derivative of the threshold variable where a neuron can spike at t1, (samples, neurons)."""
    assert spikes.horizon is not None
    s = spikes.horizon.threshold
    return jnp.where(spikes.horizon.open, s - jax.lax.stop_gradient(s), 0.0)


def with_room(spikes: SpikeTrain) -> tuple[SpikeTrain, Any]:
    """The trains with one more slot per neuron, and a function of k: the mask of neuron k's next free slot."""
    times = jnp.pad(as_float(spikes.times), ((0, 0), (0, 0), (0, 1)), constant_values=jnp.inf)
    next_slot = jnp.arange(times.shape[-1])[None, None] == spikes.counts[..., None]
    mine = lambda k: (jnp.arange(spikes.num_neurons) == k)[None, :, None]  # noqa: E731
    return unchecked(times, spikes.t0, spikes.t1), lambda k: next_slot & mine(k)


def _gains(loss: AbstractLoss, spikes: SpikeTrain) -> jax.Array:
    """What one more spike of each neuron at t1 would change in the features, (neurons, samples, features)."""
    assert spikes.horizon is not None
    times, horizon = jax.lax.stop_gradient((as_float(spikes.times), spikes.horizon))
    times = jnp.pad(times, ((0, 0), (0, 0), (0, 1)), constant_values=jnp.inf)  # room for it in a full buffer
    next_slot = jnp.arange(times.shape[-1])[None, None] == spikes.counts[..., None]

    def gain(k: Any) -> jax.Array:
        mine = (jnp.arange(spikes.num_neurons) == k)[None]
        more = jnp.where(next_slot & mine[..., None], spikes.t1, times)
        # just before the crossing the threshold is 0; after it a new one is drawn, of mean -1
        before = _train(spikes, times, horizon, mine, 0.0)
        after = _train(spikes, more, horizon, mine, -1.0)
        return loss.features(after) - loss.features(before)

    return jax.lax.map(gain, jnp.arange(spikes.num_neurons))


def _train(spikes: SpikeTrain, times: jax.Array, horizon: Horizon, mine: jax.Array, threshold: float) -> SpikeTrain:
    changed = Horizon(jnp.where(mine, threshold, horizon.threshold), horizon.open)
    return unchecked(times, spikes.t0, spikes.t1, spikes.onset, changed)
