"""RecordedInput: the recorded spikes of presynaptic neurons as an input current, through weights that can be fitted."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._constraints import Real, parameter
from roughspike._types import as_float, concrete
from roughspike.currents.base import AbstractCurrent
from roughspike.paths.spikes import SpikeTrain


class RecordedInput(AbstractCurrent):
    """c_k(t) = sum_j w[j, k] a_j(t), where a_j jumps by 1 at each spike of presynaptic neuron j and decays with tau.

        a_j(t) = sum over spikes tau_n of j before t  exp(-(t - tau_n) / tau)

    It is what a layer of `rs.FeedForward` adds to the synaptic current, with the presynaptic spikes held at what was
    recorded. So the likelihood of an `rs.Population` with this current is that of the postsynaptic trains given the
    presynaptic ones: every synapse onto recorded neurons is estimated from all trials at once, one postsynaptic neuron
    independent of the other. The log-likelihood of the weights is concave for an exponential escape rate without
    diffusion and with alpha = 0. The mean of a_j over a piece of time is exact, so steps need not meet the spikes.

    **Arguments**

    - `spikes`: concrete trains of the presynaptic neurons, shape (trials, pre, capacity), or (pre, capacity) if they
      are the same in every trial; on the window of the data they are used with. Fixed data, not a parameter.
    - `weights`: shape (pre, post).
    - `tau`: time constant of the synapses, 1 / mu[1] of the postsynaptic neuron; fixed.

    **Raises** ValueError for weights of another shape, traced spikes, or tau that is not above 0; from `prepare` if the
    data have another number of trials.

    >>> import jax.numpy as jnp, roughspike as rs
    >>> from roughspike.currents.recorded import RecordedInput
    >>> pre = rs.SpikeTrain(jnp.array([[[0.1, 0.5]], [[0.3, jnp.inf]]]))             # two trials of one neuron
    >>> cell = rs.Population(rs.SLIF(mu=(10.0, 5.0)), RecordedInput(pre, jnp.full((1, 3), 0.8), tau=0.2))
    >>> post = rs.SpikeTrain(jnp.full((2, 3, 1), 0.7))
    >>> bool(jnp.isfinite(rs.log_likelihood(cell, post, dt=0.02)))
    True
    """

    spikes: SpikeTrain
    weights: Float[Array, "pre post"] = parameter(Real())
    tau: float = eqx.field(static=True)

    def __init__(self, spikes: SpikeTrain, weights: Any, tau: float):
        times = concrete(spikes.times)
        if times is None:
            raise ValueError("spikes must be concrete: make the current outside of jit, vmap and grad")
        if times.ndim > 3:
            raise ValueError(f"spikes must have shape (trials, pre, capacity), got {times.shape}: join the batch axes")
        self.spikes = SpikeTrain(np.asarray(times, np.float64), spikes.t0, spikes.t1, onset=spikes.onset)
        self.weights, self.tau = as_float(weights), float(tau)
        if self.weights.ndim != 2 or self.weights.shape[0] != spikes.num_neurons:
            raise ValueError(
                f"weights must have shape (pre, post) with one row for each of the {spikes.num_neurons} neurons of "
                f"spikes, got {self.weights.shape}"
            )
        if not (np.isfinite(self.tau) and self.tau > 0):
            raise ValueError(f"tau must be a time constant above 0, got {tau}: pass 1 / mu[1] of the neuron")

    @property
    def num_neurons(self) -> int:
        """Postsynaptic neurons."""
        return self.weights.shape[1]

    def prepare(self, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Mean of every a_j over each piece, shape (*batch, neurons or 1, pre, pieces)."""
        times = np.asarray(self.spikes.times)
        trials = times.shape[:-2]
        if trials and starts.shape[:-2] != trials:
            raise ValueError(
                f"this input holds {trials[0]} trials, and is used with pieces of shape {starts.shape}: the data need "
                "the same trials in the same order, and held-out trials a current of their own"
            )
        edges = np.concatenate([starts, starts[..., -1:] + lengths[..., -1:]], axis=-1)[..., None, :]
        total = np.zeros(np.broadcast_shapes(edges.shape, (*trials, 1, times.shape[-2], 1)))
        for n in range(times.shape[-1]):  # one spike of all neurons at a time: little memory
            lag = np.maximum(edges - times[..., None, :, n, None], 0.0)
            total += -np.expm1(-lag / self.tau)
        safe = np.where(lengths > 0, lengths, 1.0)[..., None, :]
        return self.tau * np.diff(total, axis=-1) / safe

    def means(self, prepared: Any) -> Float[Array, "*batch neurons pieces"]:
        """Weighted sums of the presynaptic traces."""
        traces = jnp.asarray(prepared, self.weights.dtype)
        if traces.shape[-3] == 1:
            return jnp.einsum("pk,...ps->...ks", self.weights, traces[..., 0, :, :])
        return jnp.einsum("pk,...kps->...ks", self.weights, traces)
