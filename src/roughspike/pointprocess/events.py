"""Events: all spikes of a trial in the order of time, with marks that say whose they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import concrete
from roughspike.paths.spikes import SpikeTrain, unchecked
from roughspike.pointprocess.basis import Span


class Events(NamedTuple):
    """Times that ascend, and one mark per neuron and time; soft marks sum to at most 1.

    Padding has the end of the window as its time and marks that are 0.
    """

    times: Float[Array, "*trials events"]
    marks: Float[Array, "*trials events neurons"]

    @property
    def real(self) -> jax.Array:
        """Boolean per event: is it a spike, for sure or in part?"""
        return jnp.any(self.marks > 0, axis=-1)


def events_of(spikes: SpikeTrain, dtype: Any) -> Events:
    """The events of trains of any batch shape; as few slots as concrete spikes need, else as many as the train has."""
    known = concrete(spikes.times)
    neurons, slots = spikes.num_neurons, spikes.num_neurons * spikes.capacity
    if known is not None:
        most = int(np.isfinite(known).sum((-1, -2)).max(initial=0))
        slots = min(slots, _roomy(most))
    flat = jnp.asarray(spikes.times).reshape(*spikes.batch_shape, -1)
    order = jnp.argsort(flat, axis=-1)[..., :slots]
    times = jnp.take_along_axis(flat, order, -1)
    real = jnp.isfinite(times)
    marks = jax.nn.one_hot(order // spikes.capacity, neurons, dtype=dtype) * real[..., None].astype(dtype)
    return Events(jnp.where(real, times, spikes.t1).astype(dtype), marks)


def _roomy(count: int) -> int:
    """A little more than `count`, of few different values, so that data of about one size share a compiled program."""
    step = max(8, 1 << max(0, count.bit_length() - 3))
    return max(8, -(-count // step) * step)


def by_trial(events: Events) -> Events:
    """The same events with exactly one leading axis."""
    return Events(events.times.reshape(-1, events.times.shape[-1]), events.marks.reshape(-1, *events.marks.shape[-2:]))


def train_of(events: Events, span: Span, capacity: int | None = None) -> SpikeTrain:
    """Hard events as a SpikeTrain; `capacity` slots per neuron, by default one for every event."""
    times = jnp.where(jnp.swapaxes(events.marks, -1, -2) > 0.5, events.times[..., None, :], jnp.inf)
    return unchecked(jnp.sort(times, axis=-1)[..., :capacity], span.start, span.stop)


def merged(first: Events, second: Events, silent: Float[Array, " times"]) -> Events:
    """Events of two groups of neurons, those of the first group first among the marks, and times without a spike."""
    times = jnp.concatenate([first.times, second.times, silent])
    order = jnp.argsort(times)
    marks = jax.scipy.linalg.block_diag(first.marks, second.marks)
    return Events(times[order], jnp.pad(marks, ((0, len(silent)), (0, 0)))[order])
