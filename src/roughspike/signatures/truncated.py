"""Truncated signatures of spike trains: the Marcus lift, and the signature of a piecewise linear path."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import as_float
from roughspike.paths.spikes import SpikeTrain

_MOST_WORDS = 10**6


def marcus_lift(
    spikes: SpikeTrain, *, time_weight: float = 1.0, jump: float = 1.0, marks: Any = None
) -> Float[Array, "*batch vertices channels"]:
    """The counting path (t, N_t) of a spike train as a piecewise linear path, each jump filled by a straight line.

    The vertices are (t0, 0), then for each spike the left and the right limit at its time, then (t1, N): the path
    starts at t0 and ends at t1, and a jump at t1 is kept. Spikes of several neurons at exactly the same time are one
    jump, along the diagonal. Empty slots repeat the vertex (t1, N), which changes no integral along the path.

    **Arguments**

    - `spikes`: any batch of trains.
    - `time_weight`, `jump`: scales of the time coordinate and of the counting coordinates.
    - `marks`: heights of the single spikes in place of 1, of any sign, in an array that broadcasts to `spikes.times`:
      (neurons, 1) gives every neuron its own. Marks of empty slots are not read.

    **Returns** shape (..., 2 neurons capacity + 2, 1 + neurons), differentiable in the times, scales and marks.
    **Raises** ValueError for marks of another shape.

    **Reference**: Marcus (1981); for spike trains Holberg & Salvi (2024), arXiv 2405.13587.

    >>> import numpy as np, roughspike as rs
    >>> train = rs.SpikeTrain(np.array([[0.5, np.inf]]), t0=0.0, t1=2.0)
    >>> np.asarray(rs.marcus_lift(train)).tolist()
    [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [2.0, 1.0], [2.0, 1.0], [2.0, 1.0]]
    """
    times = as_float(spikes.times)
    neurons, capacity = spikes.num_neurons, spikes.capacity
    flat = times.reshape(*spikes.batch_shape, neurons * capacity)
    owner = np.broadcast_to(np.repeat(np.arange(neurons), capacity), flat.shape)
    heights = _heights(marks, spikes).reshape(flat.shape)
    if neurons > 1:
        order = jnp.argsort(jax.lax.stop_gradient(flat), axis=-1)
        flat, heights = (jnp.take_along_axis(of, order, axis=-1) for of in (flat, heights))
        owner = order // capacity
    at = jnp.where(jnp.isfinite(flat), flat, spikes.t1)
    jumps = jnp.asarray(np.eye(neurons), times.dtype)[owner] * heights[..., None]
    before, after = _merged(at, jumps)
    at, total = at[..., None], jnp.sum(jumps, axis=-2, keepdims=True)
    limits = [jnp.concatenate([time_weight * at, jump * count], axis=-1) for count in (before, after)]
    inner = jnp.stack(limits, axis=-2).reshape(*at.shape[:-2], 2 * neurons * capacity, 1 + neurons)
    begin, end = jnp.full_like(total[..., :1], spikes.t0), jnp.full_like(total[..., :1], spikes.t1)
    first = jnp.concatenate([time_weight * begin, jnp.zeros_like(total)], axis=-1)
    last = jnp.concatenate([time_weight * end, jump * total], axis=-1)
    return jnp.concatenate([first, inner, last], axis=-2)


def _heights(marks: Any, spikes: SpikeTrain) -> jax.Array:
    """Of every slot, 0 where there is no spike."""
    times = as_float(spikes.times)
    shape = np.shape(marks)
    if len(shape) > times.ndim or any(a not in (1, b) for a, b in zip(shape[::-1], times.shape[::-1], strict=False)):
        raise ValueError(
            f"marks must broadcast to the shape of spikes.times, {times.shape}, got {shape}: one height per spike, or "
            "shape (neurons, 1) for one per neuron"
        )
    heights = jnp.ones((), times.dtype) if marks is None else jnp.asarray(marks, times.dtype)
    return jnp.where(jnp.isfinite(times), jnp.broadcast_to(heights, times.shape), 0)


def _merged(at: jax.Array, marks: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Counts before and after each spike; a group of equal times makes one jump, at its first member."""
    counts = jnp.cumsum(marks, axis=-2)
    new = at[..., 1:] != at[..., :-1]
    edge = jnp.ones_like(at[..., :1], bool)
    opens, closes = jnp.concatenate([edge, new], axis=-1), jnp.concatenate([new, edge], axis=-1)
    size = at.shape[-1]
    index = jnp.where(closes, jnp.broadcast_to(jnp.arange(size), at.shape), size)
    closing = jax.lax.cummin(index, axis=index.ndim - 1, reverse=True)
    after = jnp.take_along_axis(counts, closing[..., None], axis=-2)
    return jnp.where(opens[..., None], counts - marks, after), after


def signature(path: Float[Array, "*batch vertices channels"], depth: int) -> Float[Array, "*batch words"]:
    """Levels 1 to `depth` of the signature of a piecewise linear path: its iterated integrals.

        S^{(i1 .. ik)} = int_{t1 < .. < tk} dx^{i1}_{t1} .. dx^{ik}_{tk}

    By Chen's relation a segment dx turns S into S (x) exp(dx):

        S_k += sum_{j=1..k} S_{k-j} (x) dx^j / j!                               (evaluated by Horner's rule)

    One scan over the segments, all paths of a batch side by side.

    **Arguments**

    - `path`: vertices along the axis before the last, channels along the last.
    - `depth`: at least 1; the result has channels + ... + channels^depth coordinates.

    **Returns** the levels one after the other, each in lexicographic order of its words. Level 0, always 1, is left
    out.
    **Raises** ValueError for a depth that is not a whole number of at least 1, or makes more than a million
    coordinates.

    >>> import jax.numpy as jnp, roughspike as rs
    >>> rs.signature(jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]), 2).tolist()
    [1.0, 2.0, 0.5, 2.0, 0.0, 2.0]
    """
    path = as_float(path)
    if path.ndim < 2 or path.shape[-2] < 2:
        raise ValueError(f"path must have shape (..., vertices, channels) with 2 vertices or more, got {path.shape}")
    check_depth(depth, path.shape[-1])
    steps = path[..., 1:, :] - path[..., :-1, :]
    batch, (segments, channels) = steps.shape[:-2], steps.shape[-2:]
    x = steps.reshape(-1, segments, channels).transpose(1, 2, 0)  # lanes last: they are contiguous in memory
    start = tuple(jnp.zeros((channels**k, x.shape[-1]), x.dtype) for k in range(1, depth + 1))
    levels, _ = jax.lax.scan(_step, start, x)
    found = jnp.concatenate(levels, axis=0)
    return found.T.reshape(*batch, found.shape[0])


@jax.checkpoint
def _step(levels: tuple[jax.Array, ...], dx: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
    """Chen's relation for one segment: levels (channels^k, lanes), dx (channels, lanes)."""
    out = []
    for k, level in enumerate(levels, 1):
        term = dx / k
        for j in range(1, k):
            term = _outer(levels[j - 1] + term, dx / (k - j))
        out.append(level + term)
    return tuple(out), None


def _outer(a: jax.Array, b: jax.Array) -> jax.Array:
    return (a[:, None] * b[None]).reshape(-1, b.shape[-1])


def expected_signature(
    spikes: SpikeTrain, depth: int, *, time_weight: float = 1.0, jump: float = 1.0
) -> Float[Array, "words"]:
    """Mean over all samples of the signature of the Marcus lift; the order of the samples does not matter.

    >>> import numpy as np, roughspike as rs
    >>> trains = rs.SpikeTrain(np.array([[[0.5]], [[np.inf]]]), t0=0.0, t1=1.0)
    >>> rs.expected_signature(trains, 1).tolist()          # the window's length, and the mean count
    [1.0, 0.5]
    """
    found = signature(marcus_lift(spikes, time_weight=time_weight, jump=jump), depth)
    return jnp.mean(found.reshape(-1, found.shape[-1]), axis=0)


def check_depth(depth: int, channels: int) -> None:
    """**Raises** ValueError if a signature of this depth makes no sense or is too large to be meant."""
    if isinstance(depth, bool) or not isinstance(depth, int | np.integer) or depth < 1:
        raise ValueError(f"depth must be a whole number of at least 1, got {depth!r}: pass depth=3")
    if depth * math.log(max(channels, 2)) > math.log(_MOST_WORDS):
        raise ValueError(
            f"a signature of depth {depth} of a path with {channels} channels has over {_MOST_WORDS:,} coordinates: "
            "pass a smaller depth, or take the signature of each neuron by itself"
        )
