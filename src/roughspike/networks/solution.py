"""What a simulation returns."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import UNDECLARED_NOISE, Result
from roughspike.paths.spikes import SpikeTrain


class Solution(eqx.Module):
    """What a simulation returns; with `num_samples=None` every array lacks its leading axis.

    **Attributes**

    - `spikes`: SpikeTrain, times of shape (samples, neurons, capacity); its `horizon` says how near each neuron is
      to one more spike at t1. Of a layered network: those of the last layer that spikes; a batch of inputs is one more
      axis, (samples, batch, neurons, capacity).
    - `result`: how each sample ended.
    - `times`: the grid, shape (steps + 1,).
    - `membrane`: membrane potential on the grid, shape (samples, neurons, steps + 1), if a trace was asked for or the
      last layer is a readout; with a trace of a layered network, a tuple with one of each layer.
    - `layers`: of a layered network, the SpikeTrain of each layer that spikes; else empty.
    - `engine`: which engine ran: "lanes" (uncoupled neurons) or "layered", "ordered", "delayed".
    """

    spikes: SpikeTrain
    result: Result
    times: Float[Array | np.ndarray, "grid"]
    membrane: Float[Array, "*samples neurons grid"] | tuple[Float[Array, "..."], ...] | None
    layers: tuple[SpikeTrain, ...] = ()
    engine: str = eqx.field(static=True, default="lanes")


def undeclared_noise(neuron: Any) -> jax.Array:
    """The flag of `Result` if an entry of sigma is nonzero that was 0 when the neuron was made."""
    changed = jnp.any((neuron.sigma != 0) & ~np.array(neuron.noise))
    return jnp.where(changed, UNDECLARED_NOISE, 0).astype(jnp.int32)
