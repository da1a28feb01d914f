"""The signature kernel of pairs of spike trains: the sweep over all pairs of spikes, and its adjoint.

A train is a list of slots, each a time move and then a jump of one neuron. Slot i of x and slot j of y make four
rectangles of the Goursat problem u_st = <dx_s, dy_t> u, and only two of them do anything:

    time x time     rho = h_i k_j                          `taylor_tile`
    time x jump     rho = 0: edges pass unchanged, only the value at the corner moves
    jump x jump     rho = w^2 if the neurons agree, else 0      `JumpMap`

Legend: f are edges along x (carried from column to column), g edges along y (one per column, carried from row to row);
a trailing T or J says time move or jump; the last axis of every array are lanes, pairs of trains side by side.

Derivatives. With u~ the solution for the reversed paths, a change of the path x changes the kernel by
int int <d delta x, dy> u u~. Along one time move of x the inner integral is constant, hence

    dk/dh_i = sum_j k_j int u u~ dt  over the time moves of y, at the end of move i;   the same for w^2 along jumps.

Reference: Salvi, Cass, Foster, Lyons & Yang (2021), arXiv 2006.14794, Theorem 2.5 (the Goursat problem);
Lemercier et al. (2021), arXiv 2105.04211 (derivatives by two solves).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from roughspike.signatures.tiles import (
    JumpMap,
    edge_integral,
    jump_products,
    rise,
    taylor_products,
    taylor_tile,
    total,
)


class Slots(NamedTuple):
    """Trains as lists of slots: time moves, the neuron that jumps after each (negative: none), slots in use."""

    moves: jax.Array  # (slots, lanes)
    owner: jax.Array  # (slots, lanes), int32
    used: jax.Array  # scalar: slots of the longest train


class Orders(NamedTuple):
    """Coefficients of an edge: Taylor along time moves, Chebyshev along jumps; pieces into which a move is cut."""

    time: int
    jump: int
    pieces: int = 1


class Wanted(NamedTuple):
    """Which derivatives an adjoint sweep computes."""

    x: bool
    y: bool
    size: bool


class Stored(NamedTuple):
    """What the forward sweep leaves for the adjoint: edges of every cell, each of shape (slots, slots, lanes)."""

    right: tuple[jax.Array, ...]  # along y's time move, at the end of x's
    top: tuple[jax.Array, ...]  # along x's time move, at the end of y's
    jump: tuple[jax.Array, ...]  # along y's jump, at the start of x's


class _Row(NamedTuple):
    """State inside a row: the edges along x, the value at the lower right corner, and all edges along y."""

    f_time: tuple[jax.Array, ...]
    f_jump: tuple[jax.Array, ...]
    v: jax.Array
    g_time: tuple[jax.Array, ...]  # each (slots of y, lanes)
    g_jump: tuple[jax.Array, ...]


def forward(x: Slots, y: Slots, size: jax.Array, orders: Orders, wanted: Wanted) -> tuple[jax.Array, Stored]:
    """Kernels of all lanes, and what an adjoint sweep needs; `size` is the squared jump size."""
    jump_map = JumpMap(size, orders.jump)
    shape = (x.moves.shape[0], *y.moves.shape)
    empty = lambda count: tuple(jnp.zeros(shape, size.dtype) for _ in range(count))  # noqa: E731
    stored = Stored(empty(orders.time * wanted.x), empty(orders.time * wanted.y), empty(orders.jump * wanted.size))

    def row(i: jax.Array, carry: tuple) -> tuple:
        g_time, g_jump, _, stored = carry
        h, neuron = x.moves[i], x.owner[i]

        def cell(j: jax.Array, carry: tuple[_Row, Stored]) -> tuple[_Row, Stored]:
            s, stored = carry
            g_t, g_j = _column(g_time, j), _column(g_jump, j)
            top, right = taylor_tile([s.v, *s.f_time], [s.v, *g_t], h * y.moves[j])
            middle = total(top)
            f_j, new_g_j = jump_map(middle, s.f_jump, g_j, neuron == y.owner[j])
            stored = Stored(
                _put2(stored.right, i, j, right), _put2(stored.top, i, j, top), _put2(stored.jump, i, j, [middle, *g_j])
            )
            new = _put(s.g_time, j, right[1:]), _put(s.g_jump, j, new_g_j)
            return _Row(tuple(top[1:]), f_j, top[0] + rise(g_j), *new), stored

        s, stored = jax.lax.fori_loop(0, y.used, cell, (_start(orders, size, g_time, g_jump), stored))
        return s.g_time, s.g_jump, _end(s), stored

    begin = _edges(orders, size, y.moves.shape)
    *_, kernel, stored = jax.lax.fori_loop(0, x.used, row, (*begin, jnp.ones(shape[2:], size.dtype), stored))
    return kernel, stored


def backward(
    x: Slots, y: Slots, size: jax.Array, orders: Orders, wanted: Wanted, stored: Stored
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Derivatives of the lanes' kernels in the time moves of x, in those of y, and in the squared jump size."""
    jump_map = JumpMap(size, orders.jump)
    time_weights, jump_weights = taylor_products(orders.time), jump_products(orders.jump)

    def row(back: jax.Array, carry: tuple) -> tuple:
        g_time, g_jump, dx, dy, dsize = carry
        i = x.used - 1 - back
        h, neuron = x.moves[i], x.owner[i]

        def cell(back: jax.Array, carry: tuple) -> tuple:
            s, d_move, dy_new, dsize = carry
            j = y.used - 1 - back
            g_t, g_j = _column(g_time, j), _column(g_jump, j)
            active = neuron == y.owner[j]
            f_j, new_g_j = jump_map(s.v, s.f_jump, g_j, active)
            beyond, above = s.v + rise(s.f_jump), s.v + rise(g_j)
            middle = above + rise(f_j)
            if wanted.x:
                d_move += y.moves[j] * edge_integral(_get2(stored.right, i, j), [middle, *g_t], time_weights)
            if wanted.y:
                part = h * edge_integral(_get2(stored.top, i, j), [middle, *s.f_time], time_weights)
                dy_new = dy_new.at[j].set(dy[j] + part)
            if wanted.size:
                part = edge_integral(_get2(stored.jump, i, j), [beyond, *new_g_j], jump_weights)
                dsize += jnp.where(active, part, 0)
            top, right = taylor_tile([middle, *s.f_time], [middle, *g_t], h * y.moves[j])
            new = _put(s.g_time, j, right[1:]), _put(s.g_jump, j, new_g_j)
            return _Row(tuple(top[1:]), f_j, total([above, *g_t]), *new), d_move, dy_new, dsize

        none = jnp.zeros(x.moves.shape[1:], size.dtype)
        start = (_start(orders, size, g_time, g_jump), none, dy, dsize)
        s, d_move, dy, dsize = jax.lax.fori_loop(0, y.used, cell, start)
        return s.g_time, s.g_jump, dx.at[i].set(d_move), dy, dsize

    begin = _edges(orders, size, y.moves.shape)
    zeros = (jnp.zeros_like(x.moves), jnp.zeros_like(y.moves), jnp.zeros(x.moves.shape[1:], size.dtype))
    *_, dx, dy, dsize = jax.lax.fori_loop(0, x.used, row, (*begin, *zeros))
    return dx, dy, dsize


def _edges(orders: Orders, size: jax.Array, shape: tuple[int, ...]) -> tuple[tuple, tuple]:
    """Edges of the constant 1 along y."""
    zeros = lambda count: tuple(jnp.zeros(shape, size.dtype) for _ in range(count))  # noqa: E731
    return zeros(orders.time - 1), zeros(orders.jump - 1)


def _start(orders: Orders, size: jax.Array, g_time: tuple, g_jump: tuple) -> _Row:
    lanes = g_jump[0].shape[1:]
    f_time, f_jump = _edges(orders, size, lanes)
    return _Row(f_time, f_jump, jnp.ones(lanes, size.dtype), g_time, g_jump)


def _end(s: _Row) -> jax.Array:
    """The value at the end of a row, after its time move and its jump."""
    return total([s.v, *s.f_time, rise(s.f_jump)])


def _column(edges: tuple[jax.Array, ...], j: jax.Array) -> list[jax.Array]:
    return [edge[j] for edge in edges]


def _put(rows: tuple, j: jax.Array, values: tuple | list) -> tuple:
    return tuple(row.at[j].set(value) for row, value in zip(rows, values, strict=True))


def _put2(rows: tuple, i: jax.Array, j: jax.Array, values: tuple | list) -> tuple:
    return tuple(row.at[i, j].set(value) for row, value in zip(rows, values, strict=False))


def _get2(rows: tuple, i: jax.Array, j: jax.Array) -> list[jax.Array]:
    return [row[i, j] for row in rows]
