"""A network of stochastic neurons written as an event SDE: the ground truth of the engines."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.neurons.lif import SLIF
from roughspike.paths.brownian import BrownianPath
from roughspike.sde.hazard import HazardSDE, HazardState, hazard
from roughspike.sde.problem import EventSDE


class Cells(NamedTuple):
    """State of all neurons, each of shape (neurons,).

    `free` is 1 where the hazard is on; a refractory neuron has 0 and becomes free at the time `until`.
    """

    v: jax.Array
    i: jax.Array
    free: jax.Array
    until: jax.Array


class EventForm(eqx.Module):
    """What `as_event_sde()` returns: the arguments of `rs.solve`.

    - `sde`: the system. Kinds of events: with a refractory time first its end for each neuron; then a spike of each.
    - `driver`: the Brownian motions, or None. Channel c * neurons + k is the c-th motion of neuron k.
    - `start(key)`: the state at the start, with thresholds of its own.
    """

    sde: HazardSDE
    driver: BrownianPath | None
    y0: Cells

    def start(self, key: Any) -> HazardState:
        """Initial state with fresh thresholds."""
        return self.sde.start(self.y0, key)

    @property
    def first_spike_kind(self) -> int:
        """Which kind is a spike of neuron 0."""
        return self.y0.until.shape[0]


class _Network(eqx.Module):
    """The functions of the system, and the parameters they need."""

    neuron: SLIF
    weights: jax.Array
    current: jax.Array

    def drift(self, t: Any, y: Cells, args: Any) -> Cells:
        """dv = mu1 (i + c - v) dt, di = -mu2 i dt."""
        del t, args
        mu1, mu2 = self.neuron.mu[0], self.neuron.mu[1]
        return Cells(mu1 * (y.i + self.current - y.v), -mu2 * y.i, 0.0 * y.free, 0.0 * y.until)

    def diffusion(self, t: Any, y: Cells, args: Any) -> Cells:
        """sigma, for each neuron on channels of its own."""
        del t, args
        count = y.v.shape[0]
        own = jnp.eye(count, dtype=y.v.dtype)
        rows = [jnp.concatenate([self.neuron.sigma[a, c] * own for c in self.neuron.noise_channels], 1) for a in (0, 1)]
        none = jnp.zeros((y.until.shape[0], rows[0].shape[1]), y.v.dtype)
        return Cells(rows[0], rows[1], none, none)

    def rate(self, t: Any, y: Cells, args: Any) -> jax.Array:
        """lambda(v), and 0 while refractory."""
        del t, args
        rate = self.neuron.escape.rate(y.v)
        return rate * y.free if y.free.size else rate

    def spike(self, t: Any, y: Cells, kind: jax.Array, u: jax.Array, args: Any) -> Cells:
        """v_k <- keep v_k + shift, i <- i + w[k]."""
        del u, args
        neuron, count = self.neuron, y.v.shape[0]
        own = jnp.arange(count, dtype=kind.dtype) == kind
        v = jnp.where(own, neuron.reset.keep * y.v + neuron.reset.shift(neuron.v_reset), y.v)
        i = y.i + self.weights[kind]
        if neuron.self_weight is not None:
            i = i + jnp.where(own, neuron.self_weight, 0.0)
        if neuron.refractory is None:
            return y._replace(v=v, i=i)
        return Cells(v, i, jnp.where(own, 0.0, y.free), jnp.where(own, t + neuron.refractory, y.until))

    def end_of_refractory(self, t: Any, y: Cells, args: Any) -> jax.Array:
        """t - until."""
        del args
        return t - y.until

    def set_free(self, t: Any, y: Cells, kind: jax.Array, u: jax.Array, args: Any) -> Cells:
        """The hazard is on again."""
        del t, u, args
        return y._replace(free=jnp.where(jnp.arange(y.free.shape[0], dtype=kind.dtype) == kind, 1.0, y.free))


def event_form(neuron: SLIF, weights: jax.Array, current: jax.Array, v0: jax.Array, i0: jax.Array) -> EventForm:
    """Neurons of one kind, coupled by a matrix without delay, at constant current.

    The hazard is that of the path itself: without the average over the Brownian bridge that the engines add for what
    a grid leaves out (`AbstractDriver.bridge_variance`).
    """
    count = weights.shape[0]
    full = lambda x: jnp.broadcast_to(x, (count,))  # noqa: E731
    network = _Network(neuron, weights, full(current))
    refractory = neuron.refractory is not None
    room = count if refractory else 0
    dtype = weights.dtype
    y0 = Cells(full(v0), full(i0), jnp.ones(room, dtype), jnp.zeros(room, dtype))
    base = EventSDE(
        network.drift,
        network.diffusion if neuron.has_diffusion else None,
        network.end_of_refractory if refractory else None,
        network.set_free if refractory else None,
    )
    sde = hazard(base, network.rate, jnp.broadcast_to(neuron.alpha, (count,)), network.spike)
    channels = count * len(neuron.noise_channels)
    return EventForm(sde, BrownianPath(channels) if channels else None, y0)
