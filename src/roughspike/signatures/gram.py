"""Kernels of listed pairs of trains or of paths, with the orders that the data need."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from roughspike._types import as_float, is_concrete
from roughspike.paths.spikes import SpikeTrain
from roughspike.signatures.cores import over_cores
from roughspike.signatures.goursat import goursat
from roughspike.signatures.orders import (
    Extent,
    choose,
    estimated_error,
    extent_of,
    general_error,
    general_order,
    ladder,
    largest,
    rounding_error,
)
from roughspike.signatures.pairs import Trains, pair_kernels, slots_of
from roughspike.signatures.scales import Scaled, scale_unit
from roughspike.signatures.static import AbstractStaticKernel, path_products
from roughspike.signatures.sweep import Orders

_MOST_PRODUCTS = 4 * 10**6  # rectangles of one block of paths


def early(*trees: Any) -> contextlib.AbstractContextManager:
    """Computes at once, while a program is traced, what is known by then: once, and not at every call."""
    return jax.ensure_compile_time_eval() if is_concrete(*trees) else contextlib.nullcontext()


def pair_list(n: int, m: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all pairs, or of those with i <= j if there is only one set."""
    if m is None:
        return np.triu_indices(n)
    first, second = np.divmod(np.arange(n * m), m)
    return first, second


def as_matrix(values: jax.Array, n: int, m: int | None) -> jax.Array:
    """The Gram matrix from its listed pairs."""
    if m is not None:
        return values.reshape(n, m)
    i, j = np.triu_indices(n)
    where = np.zeros((n, n), np.int32)
    where[i, j] = where[j, i] = np.arange(len(i))
    return values[where]


def spike_pairs(
    x: SpikeTrain,
    y: SpikeTrain | None,
    first: np.ndarray,
    second: np.ndarray,
    *,
    weights: tuple[Any, Any],
    tol: float,
    orders: Orders | None,
    scaled: bool,
) -> tuple[Scaled, Any]:
    """k(x[first], y[second]) of trains, and the estimated error; y is x if it is None.

    `weights` are those of time and of a jump.
    """
    sets = (x,) if y is None else (x, y)
    times = [as_float(train.times) for train in sets]
    dtype = jnp.result_type(*times)
    weight, size = jnp.asarray(weights[0], dtype), jnp.square(jnp.asarray(weights[1], dtype))
    windows = tuple((train.t0, train.t1) for train in sets)
    more = bucket(len(first), 16) - len(first) if is_concrete(times) else 0
    pairs = (np.pad(np.int32(index), (0, more)) for index in (first, second))
    arguments = (tuple(t.astype(dtype) for t in times), weight, size, *pairs)
    tied = ties(*times)
    extent = _extent(jax.lax.stop_gradient(arguments[:3]), windows, tied)

    def values(orders: Orders) -> Callable[[tuple], Scaled]:
        rows = [_rows(train, dtype, orders.pieces, tied is not False) for train in sets]

        def found(arguments: tuple) -> Scaled:
            _, weight, size, i, j = arguments
            run = lambda i, j: _spike_values((rows, weight, size, i, j), orders, scaled)  # noqa: E731
            return _first(over_cores(run, i, j, arguments), len(first))

        return found

    rounding = rounding_error(largest(extent), dtype, extent.most.sum())
    if orders is not None:
        return values(orders)(arguments), _worse(sum(estimated_error(extent, orders)), rounding)
    if is_concrete(extent, arguments):
        orders, error = choose(extent, tol)
        return values(orders)(arguments), _worse(error, rounding)
    rungs = ladder(tol)
    errors = jnp.stack([jnp.asarray(sum(estimated_error(extent, rung))) for rung in rungs])
    rung = jnp.minimum(jnp.sum(errors > tol / 2), len(rungs) - 1)
    return jax.lax.switch(rung, [values(orders) for orders in rungs], arguments), _worse(errors[rung], rounding)


def _worse(scheme: Any, rounding: Any) -> Any:
    """The larger error."""
    return max(float(scheme), float(rounding)) if is_concrete(scheme, rounding) else jnp.maximum(scheme, rounding)


def ties(*times: Any) -> Any:
    """Largest number of neurons that spike at one time, traced where times are; False if it is known to be one."""
    if times[0].shape[1] == 1:
        return False
    xp = np if is_concrete(*times) else jnp
    most = 1
    for found in times:
        flat = xp.sort(xp.asarray(jax.lax.stop_gradient(found)).reshape(found.shape[0], -1), axis=-1)
        index = xp.arange(flat.shape[1])[None]
        opens = xp.concatenate([xp.ones_like(flat[:, :1], bool), flat[:, 1:] != flat[:, :-1]], axis=-1)
        start: Any = xp.where(opens, index, 0)
        first = np.maximum.accumulate(start, axis=1) if xp is np else jax.lax.cummax(start, axis=1)
        most = xp.maximum(most, xp.max(xp.where(xp.isfinite(flat), index - first + 1, 1)))
    return False if xp is np and most == 1 else most


def _extent(arguments: tuple, windows: tuple[tuple[float, float], ...], tied: Any) -> Extent:
    times, weight, size = arguments
    xp = np if is_concrete(arguments) else jnp
    moves, counts = [], []
    for found, (t0, t1) in zip(times, windows, strict=True):
        found = xp.asarray(found)
        flat = xp.sort(found.reshape(found.shape[0], -1), axis=-1)
        flat = xp.where(xp.isfinite(flat), flat, t1)
        edge = xp.full_like(flat[:, :1], t0), xp.full_like(flat[:, :1], t1)
        moves.append(xp.diff(xp.concatenate([edge[0], flat, edge[1]], axis=-1), axis=-1) * xp.asarray(weight))
        counts.append(xp.sum(xp.isfinite(found), axis=-1))
    length = max(t1 - t0 for t0, t1 in windows) * xp.asarray(weight)
    return extent_of(
        (moves[0], moves[-1]), (counts[0], counts[-1]), length, xp.asarray(size), 1 if tied is False else tied
    )


def _rows(train: SpikeTrain, dtype: Any, pieces: int, tied: bool) -> Trains:
    with early(train.times):
        times, room = as_float(train.times).astype(dtype), None
        if is_concrete(times):
            most = int(np.isfinite(np.asarray(times)).sum(axis=(1, 2)).max(initial=0))
            room, more = bucket(most + 1, 16) - 1, bucket(len(times), 8) - len(times)
            times = jnp.asarray(np.pad(times, ((0, more), (0, 0), (0, 0)), constant_values=np.inf))
        return _slots(times, train.t0, train.t1, pieces, tied, room)


def bucket(count: int, least: int) -> int:
    """The next size that programs are compiled for: a multiple of `least`, or of a 16th of the power of 2 below."""
    step = max(least, 2 ** (max(count, 1).bit_length() - 1) // 16)
    return -(-max(count, 1) // step) * step


def _first(found: Scaled, pairs: int) -> Scaled:
    return Scaled(*(part[:pairs] for part in found))


_slots = jax.jit(slots_of, static_argnums=(1, 2, 3, 4, 5))


@jax.jit(static_argnums=(1, 2))
def _spike_values(arguments: tuple, orders: Orders, scaled: bool) -> Scaled:
    rows, weight, size, first, second = arguments
    # only the product of both time weights counts, so x takes it all
    x, y = rows[0]._replace(moves=rows[0].moves * jnp.square(weight)), rows[-1]
    found: Any = pair_kernels(x, y, size, first, second, orders, scaled)
    return Scaled(*found)


def path_pairs(
    x: jax.Array,
    y: jax.Array | None,
    first: np.ndarray,
    second: np.ndarray,
    *,
    static: AbstractStaticKernel,
    tol: float,
    orders: tuple[int, ...] | None,
    scaled: bool,
) -> tuple[Scaled, Any]:
    """k(x[first], y[second]) of piecewise linear paths (n, vertices, channels), and the estimated error."""
    for name, path in (("x", x), ("y", y)):
        if path is not None and (path.ndim != 3 or path.shape[1] < 2 or path.shape[2] != x.shape[2]):
            raise ValueError(
                f"{name} must be a SpikeTrain with one batch axis or paths of shape (n, vertices, channels), with 2 "
                f"vertices or more and as many channels as the other, got {path.shape}"
            )
    other = x if y is None else y
    z, whole, most = _reach(*jax.lax.stop_gradient((x, other)), jax.lax.stop_gradient(static))
    strips = max(x.shape[1], other.shape[1]) - 1
    if orders is not None:
        order, pieces = orders[0], orders[-1] if len(orders) > 1 else 1
    elif is_concrete(z, whole):
        order, pieces = general_order(float(z), float(whole), strips, tol)
    else:
        order, pieces = (8 if tol < 1e-6 else 6) if tol > 1e-9 else 12, 1
    error = _worse(general_error(z, whole, strips, order, pieces), rounding_error(most, x.dtype))
    run = lambda i, j: _path_values((x, other, i, j), static, order, pieces, scaled)  # noqa: E731
    return over_cores(run, np.int32(first), np.int32(second), (x, other, static)), error


@jax.jit
def _reach(x: jax.Array, y: jax.Array, static: AbstractStaticKernel) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Largest product of a strip with the other path, least and largest one of whole paths, among a few pairs."""
    most = max(1, min(6, math.isqrt(_MOST_PRODUCTS // (x.shape[1] * y.shape[1]))))
    a, b = (path[np.linspace(0, path.shape[0] - 1, min(most, path.shape[0])).astype(int)] for path in (x, y))
    i, j = pair_list(a.shape[0], b.shape[0])
    rho = path_products(static, a[i], b[j])
    z = jnp.maximum(*(jnp.max(jnp.abs(jnp.cumsum(rho, axis=axis))) for axis in (0, 1)))
    whole = jnp.abs(jnp.sum(rho, axis=(0, 1)))
    return z, jnp.maximum(jnp.min(whole), z), jnp.max(whole)


@jax.jit(static_argnums=(2, 3, 4))
def _path_values(arguments: tuple, static: AbstractStaticKernel, order: int, pieces: int, scaled: bool) -> Scaled:
    x, y, first, second = arguments
    pairs, cells, unit = first.shape[0], pieces**2 * x.shape[1] * y.shape[1], scale_unit(x.dtype, scaled)
    lanes = min(128, max(8, _MOST_PRODUCTS // cells // 8 * 8), -(-pairs // 8) * 8)
    blocks, strip = -(-pairs // lanes), _strip(x, y, pieces, lanes)
    rows = lambda index: jnp.pad(index, (0, blocks * lanes - pairs)).reshape(blocks, lanes)  # noqa: E731

    @jax.checkpoint
    def block(index: tuple[jax.Array, jax.Array]) -> Scaled:
        rho = path_products(static, x[index[0]], y[index[1]])
        if pieces > 1:
            rho = jnp.repeat(jnp.repeat(rho / pieces**2, pieces, axis=0), pieces, axis=1)
        found: Any = goursat(rho, order, unit, strip)
        return Scaled(*found)

    found = jax.lax.map(block, (rows(first), rows(second)))
    return Scaled(*(part.reshape(-1)[:pairs] for part in found))


def _strip(x: jax.Array, y: jax.Array, pieces: int, lanes: int) -> int:
    """Rows at once, few enough for the caches. A step costs 300 lanes beside its own; r rows take r steps more."""
    rows, columns = pieces * (x.shape[1] - 1), pieces * (y.shape[1] - 1)
    best = min(math.sqrt(300 * columns / lanes), 16384 / np.dtype(x.dtype).itemsize / lanes, rows)
    return -(-rows // max(1, round(rows / max(best, 1))))
