"""What drives a network from outside: spike trains, recorded, encoded or Poisson."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from roughspike._types import as_float, concrete, is_concrete
from roughspike.paths.spikes import SpikeTrain, unchecked
from roughspike.paths.uniform import open_uniform


def poisson_spikes(
    key: jax.Array, rates: Any, t1: float, *, t0: float = 0.0, batch: int | None = None, max_spikes: int | None = None
) -> SpikeTrain:
    """Independent Poisson spike trains, for the inputs of a network.

    Intervals are -log(u) / rate, so the times are differentiable in the rates (as long as no spike enters or leaves the
    window).

    **Arguments**

    - `rates`: in 1/time, 0 or more: a scalar, (channels,), or (batch, channels).
    - `t0`, `t1`: the window.
    - `batch`: that many trains, as a leading axis; None for one without it (or the batch of `rates`).
    - `max_spikes`: slots per channel; later spikes are dropped. None: mean + 6 standard deviations + 4 of the highest
      rate, which then must be concrete.

    **Returns** a SpikeTrain with times of shape (batch, channels, max_spikes).

    **Raises** ValueError for a negative rate, or where `max_spikes` is needed.

    >>> import jax.random as jr, jax.numpy as jnp, roughspike as rs
    >>> spikes = rs.poisson_spikes(jr.key(0), 20.0 * jnp.ones(50), t1=1.0, batch=8)
    >>> spikes.times.shape[:2], 18 < float(spikes.counts.mean()) < 22
    ((8, 50), True)
    """
    rates = jnp.atleast_1d(as_float(rates))
    host = concrete(rates)
    if host is not None and not np.all(host >= 0):
        raise ValueError(f"rates must not be negative, got {host.min()}")
    if max_spikes is None:
        if host is None:
            raise ValueError("max_spikes is missing: the rates are traced and do not say how much room is needed")
        mean = float(host.max()) * (t1 - t0)
        max_spikes = int(mean + 6 * np.sqrt(mean)) + 4
    if batch is not None and rates.ndim == 1:
        rates = jnp.broadcast_to(rates, (batch, rates.shape[0]))
    waits = -jnp.log(open_uniform(key, (*rates.shape, max_spikes), rates.dtype))
    fires = rates[..., None] > 0
    times = jnp.cumsum(waits, axis=-1) / jnp.where(fires, rates[..., None], 1.0)
    return unchecked(jnp.where(fires & (times < t1 - t0), t0 + times, jnp.inf), t0, t1)


def as_inputs(inputs: SpikeTrain, channels: int, t0: float, dtype: Any) -> jax.Array:
    """Times since t0 of shape (*batch, channels, capacity), after a look at whether they fit the network."""
    if not isinstance(inputs, SpikeTrain):
        raise ValueError(f"inputs must be an rs.SpikeTrain, got {type(inputs).__name__}")
    if inputs.num_neurons != channels:
        raise ValueError(
            f"inputs has {inputs.num_neurons} channels, the network {channels} inputs: pass one train each"
        )
    if is_concrete(inputs.times) and np.any(np.asarray(inputs.times) < t0):
        raise ValueError(f"inputs has spikes before t0={t0}, which would be lost: pass t0={inputs.t0}")
    return jnp.asarray(inputs.times - t0, dtype)


def as_lanes(times: jax.Array, samples: int) -> jax.Array:
    """(*batch, channels, capacity) -> (capacity, channels, samples x batch)."""
    lanes = times.reshape(-1, *times.shape[-2:]).transpose(2, 1, 0)
    return jnp.tile(lanes, (1, 1, samples))
