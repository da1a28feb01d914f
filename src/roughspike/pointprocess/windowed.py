"""Filters of finite support: Epanechnikov and raised cosine bumps, summed by differences of running sums.

On its support such a filter separates, kappa(t - s) = sum_r read_r(t) write_r(s) with three terms, so the sum over a
window of events is the difference of two rows of the running sums of x_j(s) write_r(s). Where rows begin and end
depends on times alone. The running sums start anew, with an origin of their own, in every block of time, so that
rounding does not grow with the length of the recording; a window touches at most two blocks, which makes three rows.
"""

from __future__ import annotations

import abc
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from roughspike.pointprocess.basis import AbstractBasis, Span, per_function

_RANK = 3
_WINDOWS_PER_BLOCK = 4
_CHUNK = 64


class Look(NamedTuple):
    """How to read a window: a sum of rows of the running sums with coefficients, for each function and query."""

    rows: Int[Array, "*queries basis parts"]
    coefficients: Float[Array, "*queries basis parts rank"]


class Row(NamedTuple):
    """One event of a scan: its place, how to read at it, what it writes, and whether its block goes on."""

    place: Int[Array, "*events"]
    look: Look
    term: Float[Array, "*events rank"]
    keep: Float[Array, "*events"]


class History(NamedTuple):
    """Events as they come: their times (inf where there is none yet), running sums, how many there are."""

    times: Float[Array, " capacity"]
    sums: Float[Array, "capacity+1 1 rank neurons"]
    size: Int[Array, ""]


class WindowedBasis(AbstractBasis):
    """Bumps of one shape around lags p_k: kappa_k(lag) = shape((lag - p_k) / width), |lag - p_k| < width, lag > 0.

    A member defines `shape`, and `read_terms`, `write_terms` with shape(y - s) = sum_r read_r(y) write_r(s).
    """

    centres: tuple[float, ...] = eqx.field(static=True)
    width: float = eqx.field(static=True)

    def __init__(self, centres: Any, width: float = 1.0):
        self.centres, self.width = tuple(float(p) for p in centres), float(width)
        if not (math.isfinite(self.width) and self.width > 0):
            raise ValueError(f"width must be greater than 0 and finite, got {width}: half the support of a filter")
        if not self.centres or not all(math.isfinite(p) and p > -self.width for p in self.centres):
            raise ValueError(
                f"centres must be finite lags greater than -width, at least one of them, got {tuple(centres)}: a "
                "filter that ends before lag 0 sees no spike"
            )

    @staticmethod
    @abc.abstractmethod
    def shape(z: jax.Array) -> jax.Array:
        """The bump on [-1, 1], elementwise."""

    @staticmethod
    @abc.abstractmethod
    def read_terms(y: jax.Array) -> Float[Array, "*shape rank"]:
        """read_1, read_2, read_3 at y."""

    @staticmethod
    @abc.abstractmethod
    def write_terms(s: jax.Array) -> Float[Array, "*shape rank"]:
        """write_1, write_2, write_3 at s."""

    @property
    def num_functions(self) -> int:
        """K."""
        return len(self.centres)

    @property
    def scale(self) -> float:
        """The width."""
        return self.width

    def values(self, lag: Float[Array, "*shape"]) -> Float[Array, "*shape basis"]:
        """kappa_k(lag)."""
        z = _minus(lag, jnp.asarray(self.centres, lag.dtype)) / self.width
        inside = (jnp.abs(z) < 1) & (lag[..., None] > 0)
        return jnp.where(inside, self.shape(jnp.where(inside, z, 0.0)), 0.0)

    def features(
        self,
        queries: Float[Array, " queries"],
        times: Float[Array, " events"],
        marks: Float[Array, "events neurons"],
        span: Span,
    ) -> Float[Array, "queries basis neurons"]:
        """Running sums, then a gather."""
        terms = self._terms(times, span)[0]
        added = (terms[:, :, None] * marks[:, None, :]).reshape(len(times), -1)
        sums = _restarting_sums(added, self._block(times, span))
        look = self._look(queries, times, span)
        read = sums.reshape(-1, _RANK, marks.shape[1])[look.rows]
        return jnp.einsum("qkgr,qkgrj->qkj", look.coefficients, read)

    def rows(self, times: Float[Array, " events"], span: Span) -> Row:
        """Windows, terms and blocks of all events."""
        return Row(jnp.arange(len(times)), self._look(times, times, span), *self._terms(times, span))

    def begin(self, events: int, inputs: int, neurons: int, dtype: Any) -> jax.Array:
        """Running sums, one row before the first event and one after each."""
        return jnp.zeros((events + 1, inputs, _RANK, neurons), dtype)

    def read(self, carry: jax.Array, row: Row) -> Float[Array, "basis neurons"]:
        """The windows' rows, weighted."""
        which = per_function(self.num_functions, carry.shape[1])
        found = carry[row.look.rows, which[:, None]]
        return jnp.sum(row.look.coefficients[..., None] * found, axis=(1, 2))

    def write(self, carry: jax.Array, row: Row, marks: Float[Array, "inputs neurons"]) -> jax.Array:
        """The next running sum."""
        after = row.keep * carry[row.place] + row.term[None, :, None] * marks[:, None, :]
        return jax.lax.dynamic_update_index_in_dim(carry, after, row.place + 1, 0)

    def empty(self, capacity: int, neurons: int, span: Span, dtype: Any) -> History:
        """No event yet."""
        del span
        return History(jnp.full(capacity, jnp.inf, dtype), self.begin(capacity, 1, neurons, dtype), jnp.asarray(0))

    def now(self, history: History, time: Float[Array, ""], span: Span) -> Float[Array, "basis neurons"]:
        """Windows found by bisection among the events so far."""
        look = self._look(time, history.times, span, side="right")
        found = history.sums[look.rows, 0]
        return jnp.sum(look.coefficients[..., None] * found, axis=(1, 2))

    def add(
        self,
        history: History,
        time: Float[Array, ""],
        marks: Float[Array, " neurons"],
        happened: Bool[Array, ""],
        span: Span,
    ) -> History:
        """One more time and running sum. What did not happen is overwritten by the next event that does."""
        block, count = self._block(time, span), history.size
        goes_on = (count > 0) & (block == self._block(history.times[jnp.maximum(count - 1, 0)], span))
        term = self.write_terms(time / self.width - self._origin(block, span, time.dtype))
        before = jnp.where(goes_on, history.sums[count], 0.0)
        after = before + (term[:, None] * marks[None])[None]
        sums = jax.lax.dynamic_update_index_in_dim(history.sums, after, count + 1, 0)
        return History(
            history.times.at[count].set(jnp.where(happened, time, jnp.inf)), sums, jnp.where(happened, count + 1, count)
        )

    def _num_blocks(self, span: Span) -> int:
        return max(1, math.ceil((span.stop - span.start) / self._block_length))

    @property
    def _block_length(self) -> float:
        return 2 * _WINDOWS_PER_BLOCK * self.width

    def _block(self, times: jax.Array, span: Span) -> jax.Array:
        """The block of each time; the infinite times of empty slots count to the last one."""
        return jnp.clip((times - span.start) / self._block_length, 0, self._num_blocks(span) - 1).astype(jnp.int32)

    def _origin(self, block: jax.Array, span: Span, dtype: Any) -> jax.Array:
        """The middle of a block, in widths."""
        return (span.start + self._block_length * (block.astype(dtype) + 0.5)) / self.width

    def _terms(self, times: jax.Array, span: Span) -> tuple[jax.Array, jax.Array]:
        """What each event writes, and 1 where its block is that of the event before it, else 0."""
        block = self._block(times, span)
        keep = (block == jnp.concatenate([block[:1], block[:-1]])).astype(times.dtype)
        return self.write_terms(times / self.width - self._origin(block, span, times.dtype)), keep

    def _look(self, queries: jax.Array, times: jax.Array, span: Span, side: str = "left") -> Look:
        """Rows first (events from there on are in the window) to last (and from there on no more), for each function.

            sum over [first, last) = + S[last]                                 if both are in one block:  - S[first]
            if they are in two:      + S[last] + S[end of the block of first]                             - S[first]

        S[first] belongs to the block only if the event before it does; otherwise there is nothing to subtract.
        """
        centres = jnp.asarray(self.centres, times.dtype)
        ends = jnp.stack([centres + self.width, jnp.maximum(centres - self.width, 0.0)])
        found = jnp.searchsorted(times, _minus(queries, ends.reshape(-1)), side=side)
        found = found.reshape(*queries.shape, 2, self.num_functions)
        last = found[..., 1, :]
        first = jnp.minimum(found[..., 0, :], last)
        some = last > first
        block = self._block(times, span)
        at = lambda index: block[jnp.clip(index, 0, len(times) - 1)]  # noqa: E731
        newest, oldest, before = at(last - 1), at(first), at(first - 1)
        y = _minus(queries, centres) / self.width

        def terms(block: jax.Array) -> jax.Array:
            return jnp.where(some[..., None], self.read_terms(y - self._origin(block, span, times.dtype)), 0.0)

        early, late = terms(oldest), terms(newest)
        minus = jnp.where(((first > 0) & (before == oldest))[..., None], -early, 0.0)
        if self._num_blocks(span) == 1:
            return Look(jnp.stack([last, first], -1), jnp.stack([late, minus], -2))
        two = jnp.where((oldest < newest)[..., None], early, 0.0)
        ends = jnp.searchsorted(block, jnp.arange(self._num_blocks(span), dtype=block.dtype), side="right")
        end = ends[oldest].astype(last.dtype)
        return Look(jnp.stack([last, first, end], -1), jnp.stack([late, minus, two], -2))


class EpanechnikovBasis(WindowedBasis):
    """Parabolas kappa_k(lag) = 3/4 (1 - z^2), z = (lag - p_k) / width, on |z| < 1 and lag > 0.

    **Arguments**

    - `centres`: the lags p_k, in the unit of time of the spikes.
    - `width`: half the length of the support.

    A filter with p_k < width jumps at lag 0: the intensity jumps at spikes. With p_k >= width it is continuous.

    **Reference**: Kajino (2021), section 5, equation of f_ij.

    >>> import jax.numpy as jnp, roughspike as rs
    >>> rs.EpanechnikovBasis(centres=(0.0, 10.0)).values(jnp.array([0.5, 10.0])).tolist()
    [[0.5625, 0.0], [0.0, 0.75]]
    """

    @staticmethod
    def shape(z: jax.Array) -> jax.Array:
        """3/4 (1 - z^2)."""
        return 0.75 * (1 - z * z)

    @staticmethod
    def read_terms(y: jax.Array) -> Float[Array, "*shape rank"]:
        """3/4 (1 - y^2, 2 y, -1)."""
        return 0.75 * jnp.stack([1 - y * y, 2 * y, -jnp.ones_like(y)], -1)

    @staticmethod
    def write_terms(s: jax.Array) -> Float[Array, "*shape rank"]:
        """(1, s, s^2)."""
        return jnp.stack([jnp.ones_like(s), s, s * s], -1)


class RaisedCosineBasis(WindowedBasis):
    """Bumps kappa_k(lag) = (1 + cos(pi z)) / 2, z = (lag - p_k) / width, on |z| < 1 and lag > 0.

    Centres a distance of `width` apart sum to 1 between the first and the last of them. A filter with p_k < width
    jumps at lag 0.

    **Arguments**: `centres`, `width` as for `EpanechnikovBasis`.

    >>> import jax.numpy as jnp, roughspike as rs
    >>> rs.RaisedCosineBasis(centres=(1.0, 2.0), width=1.0).values(jnp.array([1.3])).sum().round(6).item()
    1.0
    """

    @staticmethod
    def shape(z: jax.Array) -> jax.Array:
        """(1 + cos(pi z)) / 2."""
        return 0.5 * (1 + jnp.cos(jnp.pi * z))

    @staticmethod
    def read_terms(y: jax.Array) -> Float[Array, "*shape rank"]:
        """(1, cos(pi y), sin(pi y)) / 2."""
        return 0.5 * jnp.stack([jnp.ones_like(y), jnp.cos(jnp.pi * y), jnp.sin(jnp.pi * y)], -1)

    @staticmethod
    def write_terms(s: jax.Array) -> Float[Array, "*shape rank"]:
        """(1, cos(pi s), sin(pi s))."""
        return jnp.stack([jnp.ones_like(s), jnp.cos(jnp.pi * s), jnp.sin(jnp.pi * s)], -1)


def _minus(times: jax.Array, lags: jax.Array) -> jax.Array:
    """times - lags, the lags last."""
    return times[..., None] - lags.reshape((1,) * times.ndim + (-1,))


def _restarting_sums(added: Float[Array, "events lanes"], block: Int[Array, " events"]) -> Float[Array, "rows lanes"]:
    """Before the first event and after each: the sum of what the events of its block added so far.

    Within chunks of events by one product with a mask, from chunk to chunk by a scan.
    """
    events, lanes = added.shape
    length = min(_CHUNK, math.isqrt(max(events - 1, 1)) + 1)
    pad = -events % length
    values = jnp.pad(added, ((0, pad), (0, 0))).reshape(-1, length, lanes)
    of = jnp.pad(block, (0, pad), mode="edge").reshape(-1, length)
    earlier = jnp.tri(length, dtype=bool)[None] & (of[:, :, None] == of[:, None])
    inside = jnp.einsum("cim,cml->cil", earlier.astype(added.dtype), values)
    came_before = jnp.concatenate([of[:1, :1], of[:-1, -1:]])
    goes_on = (of == came_before).astype(added.dtype)[..., None]

    def across(start: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        end, on = now
        return end + on * start, start

    starts = jax.lax.scan(across, jnp.zeros_like(added[0]), (inside[:, -1], goes_on[:, -1]))[1]
    sums = (inside + goes_on * starts[:, None]).reshape(-1, lanes)[:events]
    return jnp.concatenate([jnp.zeros_like(sums[:1]), sums])
