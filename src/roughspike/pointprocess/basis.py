"""What a basis of filters is: functions of the lag, and sums of them over past events at a cost free of history."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float


class Span(NamedTuple):
    """The window [start, stop] of a process, plain numbers."""

    start: float
    stop: float

    @property
    def mirrored(self) -> Span:
        """The window in reversed time."""
        return Span(-self.stop, -self.start)


class AbstractBasis(eqx.Module):
    """Functions kappa_1, ..., kappa_K of the lag since a spike, and the sums of them that drive a network,

        F_kj(t) = sum over events s < t of kappa_k(t - s) x_j(s).

    The marks x may be soft. A member says how to keep such sums so that an event costs the same however long its
    history is: by differences of running sums for filters of finite support (`WindowedBasis`), by a recursion for
    exponential ones (`DecayingBasis`). Derive from one of these two; both say what a member of theirs defines.

    Three ways to use the memory, with the same numbers:

    - `features`: everything known, all query times at once.
    - `rows`, `begin`, `read`, `write`: event times known, marks found one after the other in a scan.
    - `empty`, `now`, `add`: event times found one after the other too.

    Times ascend and lie in the span; padding has the last time of the span and the mark 0.
    """

    @property
    @abc.abstractmethod
    def num_functions(self) -> int:
        """K."""

    @property
    @abc.abstractmethod
    def scale(self) -> float:
        """The shortest time over which a filter changes: what a quadrature has to resolve."""

    @abc.abstractmethod
    def values(self, lag: Float[Array, "*shape"]) -> Float[Array, "*shape basis"]:
        """kappa_k(lag), 0 for lag <= 0."""

    @abc.abstractmethod
    def features(
        self,
        queries: Float[Array, " queries"],
        times: Float[Array, " events"],
        marks: Float[Array, "events neurons"],
        span: Span,
    ) -> Float[Array, "queries basis neurons"]:
        """F at the query times, which need not ascend; linear in the marks."""

    @abc.abstractmethod
    def rows(self, times: Float[Array, " events"], span: Span) -> Any:
        """What a scan over the events needs of their times: a pytree with one leading entry per event."""

    @abc.abstractmethod
    def begin(self, events: int, inputs: int, neurons: int, dtype: Any) -> Any:
        """The carry of that scan before the first event; `inputs`: 1, or K if each function has its own marks."""

    @abc.abstractmethod
    def read(self, carry: Any, row: Any) -> Float[Array, "basis neurons"]:
        """F at the event of this row."""

    @abc.abstractmethod
    def write(self, carry: Any, row: Any, marks: Float[Array, "inputs neurons"]) -> Any:
        """Remember the event of this row with these marks."""

    @abc.abstractmethod
    def empty(self, capacity: int, neurons: int, span: Span, dtype: Any) -> Any:
        """A history without events, with room for `capacity` of them."""

    @abc.abstractmethod
    def now(self, history: Any, time: Float[Array, ""], span: Span) -> Float[Array, "basis neurons"]:
        """F just after `time`, no earlier than the last event: an event at `time` itself counts."""

    @abc.abstractmethod
    def add(
        self,
        history: Any,
        time: Float[Array, ""],
        marks: Float[Array, " neurons"],
        happened: Bool[Array, ""],
        span: Span,
    ) -> Any:
        """The history with one more event, if it `happened`."""


def per_function(functions: int, inputs: int) -> jax.Array:
    """Which input each of the functions sums over: its own, or the one that all share."""
    return jax.numpy.arange(functions) if inputs > 1 else jax.numpy.zeros(functions, int)
