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

Values of a column of slots have a scale (`scales`). With unit = 0 there is none, and kernels may overflow.

Reference: Salvi, Cass, Foster, Lyons & Yang (2021), arXiv 2006.14794, Theorem 2.5 (the Goursat problem);
Lemercier et al. (2021), arXiv 2105.04211 (derivatives by two solves).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from roughspike.signatures.scales import Scaled, steps_between, steps_of
from roughspike.signatures.tiles import (
    JumpMap,
    edge_integral,
    jump_products,
    rise,
    taylor_end,
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
    scale: tuple[jax.Array, ...]  # of the column, if there is one


class _Row(NamedTuple):
    """State inside a row: the edges along x, the value at the lower right corner, and all edges along y."""

    f_time: tuple[jax.Array, ...]
    f_jump: tuple[jax.Array, ...]
    v: jax.Array
    scale: tuple[jax.Array, ...]  # empty if there is none
    columns: _Columns


class _Columns(NamedTuple):
    """Edges along y and the scale of each column, (slots of y, lanes); `scales` is empty if there is none."""

    time: tuple[jax.Array, ...]
    jump: tuple[jax.Array, ...]
    scales: tuple[jax.Array, ...]

    def at(self, j: jax.Array) -> _Columns:
        """One column."""
        return jax.tree.map(lambda edge: jax.lax.dynamic_index_in_dim(edge, j, 0, False), self)

    def put(self, j: jax.Array, column: tuple) -> _Columns:
        """With another column."""
        set_row = lambda edge, value: jax.lax.dynamic_update_index_in_dim(edge, value, j, 0)  # noqa: E731
        return jax.tree.map(set_row, self, _Columns(*column))


def forward(
    x: Slots, y: Slots, size: jax.Array, orders: Orders, unit: int = 0, stored: Stored | None = None
) -> tuple[Scaled, Stored | None]:
    """Kernels of all lanes; with arrays to store in, also what the adjoint sweep needs. `size` is the squared jump."""
    jump_map = JumpMap(size, orders.jump)
    lanes = y.moves.shape[1:]

    def row(i: jax.Array, carry: tuple) -> tuple:
        below, kernel, stored = carry
        h, neuron = x.moves[i], x.owner[i]

        def cell(j: jax.Array, carry: tuple[_Row, Stored | None]) -> tuple[_Row, Stored | None]:
            s, stored = carry
            g = below.at(j)
            s, shrink, scales = _rescaled(s, g.scales, unit)
            top, right = taylor_tile([s.v, *s.f_time], [s.v, *g.time], h * _row(y.moves, j))
            middle = taylor_end(top)
            f_jump, g_jump = jump_map(middle, s.f_jump, g.jump, neuron == _row(y.owner, j))
            if stored is not None:
                stored = _store(stored, i, j, (right, top, (middle, *g.jump), g.scales))
            columns = s.columns.put(j, (shrink(right[1:]), shrink(g_jump), scales))
            return _Row(tuple(top[1:]), f_jump, top[0] + rise(g.jump), s.scale, columns), stored

        s, stored = jax.lax.fori_loop(0, y.used, cell, (_start(orders, below), stored))
        return s.columns, Scaled(_end(s), total(s.scale) if unit else kernel.exponent), stored

    one = jnp.ones(lanes, size.dtype)
    begin = _flat(orders, y.moves.shape, size.dtype, unit), Scaled(one, jnp.zeros_like(one)), stored
    _, kernel, stored = jax.lax.fori_loop(0, x.used, row, begin)
    return kernel, stored


def backward(
    x: Slots, y: Slots, size: jax.Array, orders: Orders, unit: int, wanted: Wanted, stored: Stored, kernel: Scaled
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Derivatives of the lanes' values, at fixed exponents, in the time moves of x and y and the squared jump size."""
    jump_map = JumpMap(size, orders.jump)
    time_weights, jump_weights = taylor_products(orders.time), jump_products(orders.jump)

    def row(back: jax.Array, carry: tuple) -> tuple:
        below, dx, dy, dsize = carry
        i = x.used - 1 - back
        h, neuron = x.moves[i], x.owner[i]

        def cell(back: jax.Array, carry: tuple) -> tuple:
            s, d_move, dy_new, dsize = carry
            j = y.used - 1 - back
            g = below.at(j)
            s, shrink, scales = _rescaled(s, g.scales, unit)
            k, active = _row(y.moves, j), neuron == _row(y.owner, j)
            f_jump, g_jump = jump_map(s.v, s.f_jump, g.jump, active)
            beyond, above = s.v + rise(s.f_jump), s.v + rise(g.jump)
            middle = above + rise(f_jump)
            integral = _integral(stored, i, j, s.scale, kernel.exponent, unit)
            if wanted.x:
                d_move += k * integral(stored.right, [middle, *g.time], time_weights)
            if wanted.y:
                part = h * integral(stored.top, [middle, *s.f_time], time_weights)
                dy_new = jax.lax.dynamic_update_index_in_dim(dy_new, _row(dy, j) + part, j, 0)
            if wanted.size:
                dsize += jnp.where(active, integral(stored.jump, [beyond, *g_jump], jump_weights), 0)
            top, right = taylor_tile([middle, *s.f_time], [middle, *g.time], h * k)
            columns = s.columns.put(j, (shrink(right[1:]), shrink(g_jump), scales))
            v = taylor_end([above, *g.time])
            return _Row(tuple(top[1:]), f_jump, v, s.scale, columns), d_move, dy_new, dsize

        start = (_start(orders, below), jnp.zeros_like(kernel.value), dy, dsize)
        s, d_move, dy, dsize = jax.lax.fori_loop(0, y.used, cell, start)
        return s.columns, jax.lax.dynamic_update_index_in_dim(dx, d_move, i, 0), dy, dsize

    begin = _flat(orders, y.moves.shape, size.dtype, unit)
    zeros = (jnp.zeros_like(x.moves), jnp.zeros_like(y.moves), jnp.zeros_like(kernel.value))
    _, dx, dy, dsize = jax.lax.fori_loop(0, x.used, row, (begin, *zeros))
    return dx, dy, dsize


def storage(slots: tuple[int, int], lanes: int, dtype: Any, orders: Orders, unit: int, wanted: Wanted) -> Stored | None:
    """Arrays for what the adjoint needs; None if nothing is wanted."""
    if not any(wanted):
        return None
    counts = orders.time * wanted.x, orders.time * wanted.y, orders.jump * wanted.size, unit > 0
    return Stored(*(tuple(jnp.zeros((*slots, lanes), dtype) for _ in range(count)) for count in counts))


def _rescaled(s: _Row, scales: tuple[jax.Array, ...], unit: int) -> tuple[_Row, Callable, tuple[jax.Array, ...]]:
    """The row's state in the scale of the next column, what shrinks that column's edges for the next row, its scale."""
    if not unit:
        return s, tuple, ()
    (scale,) = scales
    ratio = steps_between(total(s.scale), scale, unit)
    shift = lambda values: tuple(ratio * value for value in values)  # noqa: E731
    s = _Row(shift(s.f_time), shift(s.f_jump), ratio * s.v, scales, s.columns)
    steps, factor = steps_of(_end(s), unit)  # the next row's value at this column
    return s, lambda values: tuple(factor * value for value in values), (scale + steps,)


def _integral(
    stored: Stored, i: jax.Array, j: jax.Array, scale: tuple[jax.Array, ...], exponent: jax.Array, unit: int
) -> Callable:
    """Integrals of a stored edge times an edge of the reversed problem, in the scale of the kernel."""
    cell = lambda edge: jax.lax.dynamic_slice(edge, (i, j, jnp.zeros_like(i)), (1, 1, edge.shape[2]))[0, 0]  # noqa: E731
    if not unit:
        return lambda edges, others, products: edge_integral([cell(edge) for edge in edges], others, products)
    half = jnp.exp2(0.5 * unit * (cell(*stored.scale) + total(scale) - exponent))

    def integral(edges: tuple[jax.Array, ...], others: Sequence[jax.Array], products: np.ndarray) -> jax.Array:
        return edge_integral([half * cell(edge) for edge in edges], [half * other for other in others], products)

    return integral


def _flat(orders: Orders, shape: tuple[int, ...], dtype: Any, unit: int) -> _Columns:
    """Edges of the constant 1 along y."""
    zeros = lambda count: tuple(jnp.zeros(shape, dtype) for _ in range(count))  # noqa: E731
    return _Columns(zeros(orders.time - 1), zeros(orders.jump - 1), zeros(unit > 0))


def _start(orders: Orders, columns: _Columns) -> _Row:
    """The left end of a row, where u is 1."""
    zero = jnp.zeros_like(columns.jump[0][0])
    edges = lambda count: tuple(zero for _ in range(count))  # noqa: E731
    return _Row(
        edges(orders.time - 1), edges(orders.jump - 1), jnp.ones_like(zero), edges(len(columns.scales)), columns
    )


def _end(s: _Row) -> jax.Array:
    """The value at the end of a row, after its time move and its jump."""
    return taylor_end([s.v, *s.f_time]) + rise(s.f_jump)


def _row(array: jax.Array, j: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(array, j, 0, False)


def _store(stored: Stored, i: jax.Array, j: jax.Array, values: tuple) -> Stored:
    """Each kind of edge that has room, at one cell."""
    put = lambda into, value: jax.lax.dynamic_update_slice(into, value[None, None], (i, j, jnp.zeros_like(i)))  # noqa: E731
    return Stored(*(tuple(map(put, into, found)) for into, found in zip(stored, values, strict=True)))
