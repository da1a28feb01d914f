"""The kernel of listed pairs of spike trains: blocks of pairs through the sweep, and the derivative of all of it."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from roughspike.signatures.scales import Scaled, scale_unit
from roughspike.signatures.sweep import Orders, Slots, Stored, Wanted, backward, forward, storage

_STORED = 128 * 10**6, 256 * 10**6  # bytes that a block keeps for its adjoint sweep: rather, and at most


class Trains(NamedTuple):
    """Trains as rows of slots: see `sweep.Slots`; one row per train."""

    moves: jax.Array  # (trains, slots)
    owner: jax.Array  # (trains, slots + 1), of the jump before each move and after the last; -1 none
    members: jax.Array | None  # (trains, slots + 1, neurons), used in place of the owner where there may be ties
    used: jax.Array  # (trains,)


def slots_of(
    times: jax.Array, t0: float, t1: float, pieces: int = 1, tied: bool = False, room: int | None = None
) -> Trains:
    """Rows of slots from spike times (trains, neurons, capacity): the last slot in use moves to t1.

    `pieces` cuts each time move into equal ones, which changes no kernel and lets fewer coefficients do. With `tied`,
    spikes of several neurons at one time are one jump, that of the first of their slots. `room` is for how many spikes
    of a train there is room, if not for as many as in `times`.
    """
    trains, neurons, capacity = times.shape
    flat = times.reshape(trains, -1)
    owner = jnp.broadcast_to(jnp.arange(neurons * capacity, dtype=jnp.int32) // capacity, flat.shape)
    if neurons > 1:
        order = jnp.argsort(jax.lax.stop_gradient(flat), axis=-1)
        flat, owner = jnp.take_along_axis(flat, order, axis=-1), jnp.take_along_axis(owner, order, axis=-1)
    if room is not None:
        flat, owner = (_resized(part, room, fill) for part, fill in ((flat, np.inf), (owner, 0)))
    real = jnp.isfinite(flat)
    at = jnp.where(real, flat, t1)
    end = jnp.full_like(at[:, :1], t1)
    moves = jnp.diff(jnp.concatenate([jnp.full_like(end, t0), at, end], axis=-1), axis=-1)
    owner, members = jnp.where(real, owner, -1), None
    if tied and neurons > 1:
        members = _members(flat, owner, neurons)
        members = _spaced(members, pieces, 0)
    used = jnp.sum(real, axis=-1, dtype=jnp.int32) + 1
    moves = jnp.repeat(moves / pieces, pieces, axis=-1) if pieces > 1 else moves
    return Trains(moves, _spaced(owner, pieces, -1), members, used * pieces)


def _resized(rows: jax.Array, room: int, fill: float) -> jax.Array:
    return jnp.pad(rows[:, :room], ((0, 0), (0, max(0, room - rows.shape[1]))), constant_values=fill)


def _spaced(jumps: jax.Array, pieces: int, fill: int) -> jax.Array:
    """One jump for every slot of a train of which each move is cut: before its first piece; none before all."""
    spread = [(0, 0, 0)] * jumps.ndim
    spread[1] = (pieces, 1 + (pieces - 1), pieces - 1)
    return jax.lax.pad(jumps, jnp.asarray(fill, jumps.dtype), spread)


def _members(flat: jax.Array, owner: jax.Array, neurons: int) -> jax.Array:
    """Spikes of each neuron at the time of a slot, (trains, slots, neurons); none where the slot before has that time.

    `flat` are the sorted times, and `owner` the neurons, negative where there is no spike.
    """
    here = (owner[..., None] == jnp.arange(neurons, dtype=owner.dtype)[None, None]).astype(jnp.int32)
    new = jnp.pad(flat[:, 1:] != flat[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    last = jnp.pad(new[:, 1:], ((0, 0), (0, 1)), constant_values=True)
    size = flat.shape[-1]
    index = jnp.where(last, jnp.arange(size, dtype=jnp.int32)[None], size)
    closing = jax.lax.cummin(index, axis=1, reverse=True)
    until = jnp.cumsum(here, axis=1)
    group = jnp.take_along_axis(until, closing[..., None], axis=1) - until + here
    return jnp.where(new[..., None], group, 0).astype(jnp.int8)


def block_lanes(dtype: Any, pairs: int, slots: int, coefficients: int = 0) -> int:
    """Pairs in a block: few enough for the caches and, with `coefficients` stored per cell, for the memory.

    An odd multiple of 16: rows whose length is a large power of 2 would all fall on the same few lines of the cache.
    """
    most = 11008 // np.dtype(dtype).itemsize
    if coefficients:
        rather, largest = (room // (slots * coefficients * np.dtype(dtype).itemsize) for room in _STORED)
        short = 2048 // np.dtype(dtype).itemsize  # shorter blocks take longer
        most = min(most, max(16, rather, min(short, largest)))
    lanes = -(-pairs // max(1, round(pairs / most)))
    return -(-lanes // 16) * 16 + 16 * (lanes > 16 and -(-lanes // 16) % 2 == 0)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def pair_kernels(
    x: Trains, y: Trains, size: jax.Array, first: jax.Array, second: jax.Array, orders: Orders, scaled: bool
) -> Scaled:
    """k(x[first], y[second]), shape (pairs,); differentiable in the moves of x and y and in `size`, by hand.

    With `scaled` nothing overflows: the kernels are value 2^(`scale_unit` exponent), and the exponents are constants.
    """
    return _blocks(x, y, size, first, second, orders, scaled, Wanted(False, False, False))[0]


def _blocks(
    x: Trains,
    y: Trains,
    size: jax.Array,
    first: jax.Array,
    second: jax.Array,
    orders: Orders,
    scaled: bool,
    wanted: Wanted,
) -> tuple[Scaled, tuple[jax.Array, ...]]:
    """Kernels, and the derivatives asked for with one row per pair (empty arrays for the others)."""
    coefficients = orders.time * (wanted.x + wanted.y) + orders.jump * wanted.size
    pairs, slots = first.shape[0], (x.moves.shape[1], y.moves.shape[1])
    lanes = block_lanes(size.dtype, pairs, slots[0] * slots[1], coefficients)
    blocks, unit = -(-pairs // lanes), scale_unit(size.dtype, scaled)
    rows = lambda index: jnp.pad(index, (0, blocks * lanes - pairs)).reshape(blocks, lanes)  # noqa: E731

    @jax.custom_batching.sequential_vmap  # loops whose lengths differ would copy all they carry at every turn
    def run(x: Trains, y: Trains, size: jax.Array, first: jax.Array, second: jax.Array) -> Any:
        def block(stored: Stored | None, index: tuple[jax.Array, jax.Array]) -> tuple[Stored | None, tuple]:
            i, j = index
            left, right = _slots(x, i, 0), _slots(y, j, 1)
            kernel, stored = forward(left, right, size, orders, unit, stored)
            if stored is None:
                return stored, (kernel, ())
            dx, dy, dsize = backward(left, right, size, orders, unit, wanted, stored, kernel)
            return stored, (kernel, (dx.T if wanted.x else dx[:0].T, dy.T if wanted.y else dy[:0].T, dsize))

        begin = storage(slots, lanes, size.dtype, orders, unit, wanted)  # one for all blocks
        return jax.lax.scan(block, begin, (rows(first), rows(second)))[1]

    found = run(x, y, size, first, second)
    return jax.tree.map(lambda part: part.reshape(blocks * lanes, *part.shape[2:])[:pairs], found)


def _slots(trains: Trains, index: jax.Array, side: int) -> Slots:
    """Some trains as lanes; no negative owner of one side is that of the other."""
    owner = trains.owner[index].T
    members = None if trains.members is None else jnp.moveaxis(trains.members[index], 0, -1)
    moves = jnp.pad(trains.moves[index].T, ((1, 1), (0, 0)))
    return Slots(moves, jnp.where(owner < 0, owner - 8 * side, owner), members, jnp.max(trains.used[index]))


def _forward_rule(
    x: Any, y: Any, size: Any, first: Any, second: Any, orders: Orders, scaled: bool
) -> tuple[Scaled, tuple]:
    wanted = Wanted(x.moves.perturbed, y.moves.perturbed, size.perturbed)
    x, y, size, first, second = jax.tree.map(lambda leaf: leaf.value, (x, y, size, first, second))
    kernel, slopes = _blocks(x, y, size, first, second, orders, scaled, wanted)
    return kernel, (wanted, x.moves, y.moves, first, second, slopes)


def _backward_rule(orders: Orders, scaled: bool, residuals: Any, cotangent: Any) -> tuple:
    del orders, scaled
    wanted, x, y, first, second, slopes = residuals
    cotangent, dx, dy, dsize = cotangent.value, None, None, None
    if slopes and not isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        add = lambda like, index, rows: jnp.zeros_like(like).at[index].add(cotangent[:, None] * rows)  # noqa: E731
        dx = add(x, first, slopes[0]) if wanted.x else None
        dy = add(y, second, slopes[1]) if wanted.y else None
        dsize = jnp.vdot(cotangent, slopes[2]) if wanted.size else None
    return Trains(dx, None, None, None), Trains(dy, None, None, None), dsize, None, None  # pyright: ignore[reportArgumentType]


pair_kernels.defvjp(_forward_rule, _backward_rule, symbolic_zeros=True)
