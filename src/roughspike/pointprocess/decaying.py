"""Filters that decay exponentially, summed by a recursion: exponential and alpha functions."""

from __future__ import annotations

import abc
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from roughspike.paths.recurrence import linear_recurrence
from roughspike.pointprocess.basis import AbstractBasis, Span


class Row(NamedTuple):
    """One event of a scan: the time since the event before it."""

    gap: Float[Array, "*events"]


class Memory(NamedTuple):
    """The past just after some time, for each function and neuron: sum of e^(-lag / tau), and of lag e^(-lag / tau)."""

    level: Float[Array, "basis neurons"]
    slope: Float[Array, "basis neurons"]


class History(NamedTuple):
    """The memory, and the time that it is of."""

    memory: Memory
    time: Float[Array, ""]


class DecayingBasis(AbstractBasis):
    """Functions of lag / tau_k that are exponentials, or a lag times an exponential; infinite support.

    A member defines `weigh(level, slope)`: the filter as a combination of sum e^(-lag/tau) and sum lag e^(-lag/tau).
    """

    tau: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, tau: Any):
        self.tau = tuple(float(x) for x in tau)
        if not self.tau or not all(math.isfinite(x) and x > 0 for x in self.tau):
            raise ValueError(f"tau must hold time constants greater than 0, at least one, got {tuple(tau)}")

    @abc.abstractmethod
    def weigh(self, memory: Memory) -> jax.Array:
        """The filters, from the two sums; their second to last axis is that of the functions."""

    @property
    def num_functions(self) -> int:
        """K."""
        return len(self.tau)

    @property
    def scale(self) -> float:
        """The shortest time constant."""
        return min(self.tau)

    def values(self, lag: Float[Array, "*shape"]) -> Float[Array, "*shape basis"]:
        """kappa_k(lag)."""
        later = jnp.maximum(lag, 0.0)
        decay = self._decay(later)[..., None]
        found = self.weigh(Memory(decay, later[..., None, None] * decay))[..., 0]
        return jnp.where(lag[..., None] > 0, found, 0.0)

    def features(
        self,
        queries: Float[Array, " queries"],
        times: Float[Array, " events"],
        marks: Float[Array, "events neurons"],
        span: Span,
    ) -> Float[Array, "queries basis neurons"]:
        """The memory after each event by a parallel recurrence, then its decay from the last event to the query."""
        del span
        decay = self._decay(self.rows(times, Span(0.0, 1.0)).gap)  # (events, functions)

        def along(start: jax.Array) -> jax.Array:
            """Solve over the events for every function and neuron; `start` (events, functions, neurons) is added."""
            zero = jnp.zeros((), start.dtype)
            lane = jax.vmap(lambda a, b: linear_recurrence(a, b, zero), (None, 1), 1)
            return jax.vmap(lane, (1, 1), 1)(decay, start)

        gap = self.rows(times, Span(0.0, 1.0)).gap[:, None, None]
        level = along(jnp.broadcast_to(marks[:, None], (len(times), self.num_functions, marks.shape[1])))
        slope = along(gap * decay[..., None] * level[:-1])
        last = jnp.searchsorted(times, queries)
        since = queries - times[jnp.maximum(last - 1, 0)]
        found = _later(Memory(level[last], slope[last]), since[:, None, None], self._decay(since)[..., None])
        return self.weigh(found)

    def rows(self, times: Float[Array, " events"], span: Span) -> Row:
        """Gaps between events; nothing is remembered before the first."""
        del span
        return Row(jnp.concatenate([jnp.zeros_like(times[:1]), jnp.diff(times)]))

    def begin(self, events: int, inputs: int, neurons: int, dtype: Any) -> Memory:
        """Nothing remembered."""
        del events, inputs
        return Memory(*(jnp.zeros((self.num_functions, neurons), dtype),) * 2)

    def read(self, carry: Memory, row: Row) -> Float[Array, "basis neurons"]:
        """The memory decayed to this event."""
        return self.weigh(self._at(carry, row.gap))

    def write(self, carry: Memory, row: Row, marks: Float[Array, "inputs neurons"]) -> Memory:
        """The memory decayed to this event, with its marks."""
        found = self._at(carry, row.gap)
        return Memory(found.level + marks, found.slope)

    def empty(self, capacity: int, neurons: int, span: Span, dtype: Any) -> History:
        """No event yet."""
        del capacity
        return History(self.begin(0, 1, neurons, dtype), jnp.asarray(span.start, dtype))

    def now(self, history: History, time: Float[Array, ""], span: Span) -> Float[Array, "basis neurons"]:
        """The memory decayed to `time`."""
        del span
        return self.weigh(self._at(history.memory, time - history.time))

    def add(
        self,
        history: History,
        time: Float[Array, ""],
        marks: Float[Array, " neurons"],
        happened: Bool[Array, ""],
        span: Span,
    ) -> History:
        """The memory decayed to `time`, with the marks."""
        del span
        found = self._at(history.memory, time - history.time)
        return History(Memory(found.level + jnp.where(happened, marks, 0.0)[None], found.slope), time)

    def _decay(self, gap: jax.Array) -> jax.Array:
        """e^(-gap / tau), the functions last."""
        return jnp.exp(-gap[..., None] / jnp.asarray(self.tau, gap.dtype).reshape((1,) * gap.ndim + (-1,)))

    def _at(self, memory: Memory, gap: jax.Array) -> Memory:
        return _later(memory, gap, self._decay(gap)[:, None])


class ExponentialBasis(DecayingBasis):
    """kappa_k(lag) = e^(-lag / tau_k) for lag > 0: the intensity jumps at spikes.

    **Arguments**

    - `tau`: the time constants, in the unit of time of the spikes.

    >>> import jax.numpy as jnp, roughspike as rs
    >>> [f"{x:.4f}" for x in rs.ExponentialBasis(tau=(1.0, 2.0)).values(jnp.array(2.0))]
    ['0.1353', '0.3679']
    """

    def weigh(self, memory: Memory) -> jax.Array:
        """The level."""
        return memory.level


class AlphaBasis(DecayingBasis):
    """kappa_k(lag) = lag / tau_k e^(1 - lag / tau_k) for lag > 0: continuous at lag 0, with maximum 1 at lag tau_k.

    **Arguments**

    - `tau`: the time constants, in the unit of time of the spikes.

    >>> import jax.numpy as jnp, roughspike as rs
    >>> [f"{x:.4f}" for x in rs.AlphaBasis(tau=(1.0, 2.0)).values(jnp.array(2.0))]
    ['0.7358', '1.0000']
    """

    def weigh(self, memory: Memory) -> jax.Array:
        """e slope / tau."""
        slope = memory.slope
        return math.e * slope / jnp.asarray(self.tau, slope.dtype).reshape((1,) * (slope.ndim - 2) + (-1, 1))


def _later(memory: Memory, gap: jax.Array, decay: jax.Array) -> Memory:
    """The memory a gap later: sum (lag + gap) e^(-(lag + gap) / tau) = e^(-gap / tau) (slope + gap level)."""
    return Memory(decay * memory.level, decay * (memory.slope + gap * memory.level))
