"""The signature kernel of pairs of spike trains: the sweep over all pairs of spikes, and its adjoint.

A train is jump 0, move 0, jump 1, .., move n, jump n + 1: spikes of one neuron with time moves between; the first and
the last jump are of none. A jump and a move of x and a move and a jump of y make four rectangles of the Goursat problem
u_st = <dx_s, dy_t> u, and only two of them do anything:

    jump x jump     rho = w^2 if the neurons agree, else 0      `JumpMap`
    time x jump     rho = 0: edges pass unchanged, only the value at the corner moves
    time x time     rho = h_i k_j                               `move_tile`

Neurons that spike at one time make one jump, along the diagonal: rho = n w^2, n the number of neurons in common.

Legend: f are edges along x (carried from column to column), g edges along y (one per column, carried from row to row);
a trailing T or J says time move or jump; the last axis of every array are lanes, pairs of trains side by side.

Derivatives. With u~ the solution for the reversed paths, a change of the path x changes the kernel by
int int <d delta x, dy> u u~. Along one time move of x the inner integral is constant, hence

    dk/dh_i = sum_j k_j int u u~ dt  over the time moves of y, at the end of move i;   the same for w^2 along jumps.

Reversed trains are lists of the same kind.

In a row of the sweep, jump i and move i of x meet column by column the moves and jumps of y. Column j is move j - 1 (of
length 0 for j = 0) and then jump j. Its two rectangles do not need each other: all they read is stored, and the
compiler computes nothing twice.
Values of a column of slots have a scale (`scales`). With unit = 0 there is none, and kernels may overflow.

Rows come in twos: one reads one set of columns and writes the other, the next one the other way round. With one set
the compiler would copy all columns twice in every row, a fifth of the time. If their number is odd there is one more,
beyond the longest train, without jump and move, which changes nothing.

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
    edge_products,
    move_tile,
    rise,
    total,
)


class Slots(NamedTuple):
    """Trains as lists of moves with jumps before, between and after them. The longest train has `used` moves."""

    moves: jax.Array  # (moves + 2, lanes): move i at i + 1, and 0 at both ends
    owner: jax.Array  # (moves + 1, lanes), int32: the neuron that jumps, negative for none
    members: jax.Array | None  # (moves + 1, neurons, lanes), int8: spikes in each jump; None if all jumps are of one
    used: jax.Array


class Orders(NamedTuple):
    """Coefficients of an edge along time moves and along jumps (`tiles`); pieces into which a move is cut."""

    time: int
    jump: int
    pieces: int = 1


class Wanted(NamedTuple):
    """Which derivatives an adjoint sweep computes."""

    x: bool
    y: bool
    size: bool


class Stored(NamedTuple):
    """What the forward sweep leaves for the adjoint: edges of every cell, each of shape (rows, columns, lanes)."""

    right: tuple[jax.Array, ...]  # along y's time move, at the end of x's
    top: tuple[jax.Array, ...]  # along x's time move, at the end of y's
    jump: tuple[jax.Array, ...]  # along y's jump, at the start of x's
    scale: tuple[jax.Array, ...]  # of the column, if there is one


class _Row(NamedTuple):
    """State inside a row: edges along x after the last column, and values at its end, before and after x's jump."""

    f_time: tuple[jax.Array, ...]
    f_jump: tuple[jax.Array, ...]
    before: jax.Array
    after: jax.Array
    scale: tuple[jax.Array, ...]  # empty if there is none
    columns: _Columns


class _Columns(NamedTuple):
    """Edges along y and the scale of each column, (columns, lanes); `scales` is empty if there is none."""

    time: tuple[jax.Array, ...]
    jump: tuple[jax.Array, ...]
    scales: tuple[jax.Array, ...]

    def at(self, j: jax.Array) -> _Columns:
        """One column."""
        return jax.tree.map(lambda edge: _row(edge, j), self)

    def put(self, j: jax.Array, column: tuple) -> _Columns:
        """With another column."""
        set_row = lambda edge, value: jax.lax.dynamic_update_index_in_dim(edge, value, j, 0)  # noqa: E731
        return jax.tree.map(set_row, self, _Columns(*column))


class _Cell(NamedTuple):
    """What belongs to neither the row nor the column: edges of both rectangles, in the column's scale."""

    top: list[jax.Array]  # along x's move
    right: list[jax.Array]  # along y's move, at the end of x's
    lower: tuple[jax.Array, ...]  # along y's jump, at the start of x's
    upper: tuple[jax.Array, ...]  # the same at the end of x's
    common: jax.Array  # rho of the jumps by w^2


def forward(
    x: Slots, y: Slots, size: jax.Array, orders: Orders, unit: int = 0, stored: Stored | None = None
) -> tuple[Scaled, Stored | None]:
    """Kernels of all lanes; with arrays to store in, also what the adjoint sweep needs. `size` is the squared jump."""
    cell_of = _cells(x, y, size, orders, unit, 0)

    def row(i: jax.Array, below: _Columns, into: _Columns, stored: Stored | None) -> tuple[_Row, Stored | None]:
        def cell(j: jax.Array, carry: tuple[_Row, Stored | None]) -> tuple[_Row, Stored | None]:
            s, stored = carry
            g = below.at(j)
            _, s, found = cell_of(i, j, s, g)
            if stored is not None:
                stored = _store(stored, i, j, (found.right, found.top, found.lower, g.scales))
            return s, stored

        return jax.lax.fori_loop(0, y.used + 1, cell, (_start(orders, into), stored))

    def rows(half: jax.Array, carry: tuple) -> tuple:
        (below, spare), kernel, stored = carry
        s, stored = row(2 * half, below, spare, stored)
        above, stored = row(2 * half + 1, s.columns, below, stored)
        return (above.columns, s.columns), Scaled(_end(above), total(above.scale) if unit else kernel.exponent), stored

    one = jnp.ones(y.moves.shape[1:], size.dtype)
    flat = _flat(orders, y.owner.shape, size.dtype, unit)
    _, kernel, stored = jax.lax.fori_loop(
        0, (x.used + 1) // 2, rows, ((flat, flat), Scaled(one, jnp.zeros_like(one)), stored)
    )
    return kernel, stored


def backward(
    x: Slots, y: Slots, size: jax.Array, orders: Orders, unit: int, wanted: Wanted, stored: Stored, kernel: Scaled
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Derivatives of the lanes' values, at fixed exponents, in the time moves of x and y and the squared jump size."""
    cell_of = _cells(x, y, size, orders, unit, 1)
    time_weights, jump_weights = edge_products(orders.time), edge_products(orders.jump)

    def row(i: jax.Array, below: tuple, into: tuple, dx: jax.Array, dsize: jax.Array) -> tuple:
        columns, dy = below

        def cell(back: jax.Array, carry: tuple) -> tuple:
            s, d_move, dy_new, dsize = carry
            j = y.used - back  # jump j, and before it, as time is reversed, move j
            g = columns.at(j)
            s, following, found = cell_of(i, j, s, g)
            integral = _integral(stored, s.scale, kernel.exponent, unit)
            if wanted.x:
                k = _row(y.moves, j + 1)
                part = integral(stored.right, (i, j + 1), [s.after, *g.time], time_weights)
                d_move += jnp.where(k > 0, k * part, 0)  # there is no move `used`
            if wanted.y:
                part = x.moves[i + 1] * integral(stored.top, (i, j + 1), [s.after, *s.f_time], time_weights)
                dy_new = jax.lax.dynamic_update_index_in_dim(dy_new, _row(dy, j) + part, j, 0)
            if wanted.size:
                part = integral(stored.jump, (i + 1, j), found.upper, jump_weights)
                dsize += jnp.where(found.common > 0, found.common.astype(part.dtype) * part, 0)
            return following, d_move, dy_new, dsize

        start = (_start(orders, into[0]), jnp.zeros_like(kernel.value), into[1], dsize)
        s, d_move, dy_new, dsize = jax.lax.fori_loop(0, y.used + 1, cell, start)
        return (s.columns, dy_new), jax.lax.dynamic_update_index_in_dim(dx, d_move, i, 0), dsize

    def rows(half: jax.Array, carry: tuple) -> tuple:
        below, spare, *slopes = carry
        last = 2 * ((x.used + 1) // 2 - half) - 1
        above, *slopes = row(last, below, spare, *slopes)
        above_that, *slopes = row(last - 1, above, below, *slopes)
        return above_that, above, *slopes

    begin = _flat(orders, y.owner.shape, size.dtype, unit), jnp.zeros_like(y.moves[1:])
    slopes = jnp.zeros_like(x.moves[1:]), jnp.zeros_like(kernel.value)
    (_, dy), _, dx, dsize = jax.lax.fori_loop(0, (x.used + 1) // 2, rows, (begin, begin, *slopes))
    return dx[:-1], dy[:-1], dsize


def storage(moves: tuple[int, int], lanes: int, dtype: Any, orders: Orders, unit: int, wanted: Wanted) -> Stored | None:
    """Arrays for what the adjoint needs; None if nothing is wanted."""
    if not any(wanted):
        return None
    shape = moves[0] + 1, moves[1] + 1, lanes
    counts = orders.time * wanted.x, orders.time * wanted.y, orders.jump * wanted.size, unit > 0
    return Stored(*(tuple(jnp.zeros(shape, dtype) for _ in range(count)) for count in counts))


def _cells(x: Slots, y: Slots, size: jax.Array, orders: Orders, unit: int, reverse: int) -> Callable:
    """One column of a row: the row's state in the column's scale, its next state, the cell's edges."""
    jump_map = JumpMap(size, orders.jump)

    def cell(i: jax.Array, j: jax.Array, s: _Row, g: _Columns) -> tuple[_Row, _Row, _Cell]:
        s, shrink, scales = _rescaled(s, g.scales, unit)
        top, right = move_tile(s.after, s.f_time, g.time, x.moves[i + 1] * _row(y.moves, j + reverse))
        top, right = [s.after + rise(g.time), *top], [s.after + rise(s.f_time), *right]
        v = s.before + rise(g.time)
        f_jump, g_jump, after, common = _jump(jump_map, size, x, y, (i + reverse, j), (v, s.f_jump, g.jump))
        columns = s.columns.put(j, (shrink(right[1:]), shrink(g_jump), scales))
        following = _Row(tuple(top[1:]), f_jump, v + rise(g.jump), after, s.scale, columns)
        return s, following, _Cell(top, right, (v, *g.jump), (v + rise(s.f_jump), *g_jump), common)

    return cell


def _jump(jump_map: JumpMap, size: jax.Array, x: Slots, y: Slots, at: tuple, lower: tuple) -> tuple:
    """The upper edges of jump i of x against jump j of y, the value at the far corner, and rho / size."""
    (i, j), (v, f, g) = at, lower
    corner = v + rise(f) + rise(g)
    if x.members is None or y.members is None:
        common = (x.owner[i] == _row(y.owner, j)).astype(jnp.int8)
    else:
        common = jnp.sum(x.members[i] * _row(y.members, j), axis=0, dtype=jnp.int8)

    def alone() -> tuple:
        active = common > 0
        along, across, rises = jump_map(v, f, g, j)
        return *_sums(f, along, active), *_sums(g, across, active), corner + jnp.where(active, rises, 0), common

    if x.members is None or y.members is None:
        found = alone()
    else:
        together = lambda: _together(size, (v, f, g, corner), common)  # noqa: E731
        found = jax.lax.cond(jnp.max(common) > 1, together, alone)
    modes = len(f)
    return found[:modes], found[modes : 2 * modes], found[-2], found[-1]


def _together(size: jax.Array, lower: tuple, common: jax.Array) -> tuple:
    """As the map of one neuron, for jumps that have `common` of them in common: the map of n w^2 for each n."""
    v, f, g, corner = lower
    modes = len(f)

    def add(n: jax.Array, gains: jax.Array) -> jax.Array:
        along, across, rises = JumpMap(size * n.astype(size.dtype), modes + 1, False)(v, f, g, n)
        return jnp.where(common == n.astype(jnp.int8), jnp.stack([*along, *across, rises]), gains)

    most = jnp.max(common).astype(jnp.int32)
    gains = jax.lax.fori_loop(1, most + 1, add, jnp.zeros((2 * modes + 1, *v.shape), v.dtype))
    up = [edge + gain for edge, gain in zip((*f, *g), gains[:-1], strict=True)]
    return (*up, corner + gains[-1], common)


def _sums(edges: Sequence[jax.Array], gains: Sequence[jax.Array], active: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(value + jnp.where(active, gain, 0) for value, gain in zip(edges, gains, strict=True))


def _rescaled(s: _Row, scales: tuple[jax.Array, ...], unit: int) -> tuple[_Row, Callable, tuple[jax.Array, ...]]:
    """The row's state in the scale of the next column, what shrinks that column's edges for the next row, its scale."""
    if not unit:
        return s, tuple, ()
    (scale,) = scales
    ratio = steps_between(total(s.scale), scale, unit)
    shift = lambda values: tuple(ratio * value for value in values)  # noqa: E731
    s = _Row(shift(s.f_time), shift(s.f_jump), ratio * s.before, ratio * s.after, scales, s.columns)
    steps, factor = steps_of(_end(s), unit)  # the next row's value at this column
    return s, lambda values: tuple(factor * value for value in values), (scale + steps,)


def _integral(stored: Stored, scale: tuple[jax.Array, ...], exponent: jax.Array, unit: int) -> Callable:
    """Integrals of a stored edge times an edge of the reversed problem, in the scale of the kernel."""

    def integral(edges: tuple, at: tuple, others: Sequence[jax.Array], products: np.ndarray) -> jax.Array:
        cell = lambda edge: jax.lax.dynamic_slice(edge, (*at, jnp.zeros_like(at[0])), (1, 1, edge.shape[2]))[0, 0]  # noqa: E731
        found = [cell(edge) for edge in edges]
        if unit:
            half = jnp.exp2(0.5 * unit * (cell(*stored.scale) + total(scale) - exponent))
            found, others = [half * value for value in found], [half * other for other in others]
        return edge_integral(found, others, products)

    return integral


def _flat(orders: Orders, shape: tuple[int, ...], dtype: Any, unit: int) -> _Columns:
    """Edges of the constant 1 along y."""
    zeros = lambda count: tuple(jnp.zeros(shape, dtype) for _ in range(count))  # noqa: E731
    return _Columns(zeros(orders.time - 1), zeros(orders.jump - 1), zeros(unit > 0))


def _start(orders: Orders, columns: _Columns) -> _Row:
    """The left end of a row, where u is 1."""
    zero = jnp.zeros_like(columns.jump[0][0])
    one = jnp.ones_like(zero)
    edges = lambda count: tuple(zero for _ in range(count))  # noqa: E731
    return _Row(edges(orders.time - 1), edges(orders.jump - 1), one, one, edges(len(columns.scales)), columns)


def _end(s: _Row) -> jax.Array:
    """The value at the end of a row, after its jump and its time move."""
    return s.after + rise(s.f_time)


def _row(array: jax.Array, j: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(array, j, 0, False)


def _store(stored: Stored, i: jax.Array, j: jax.Array, values: tuple) -> Stored:
    """Each kind of edge that has room, at one cell."""
    put = lambda into, value: jax.lax.dynamic_update_slice(into, value[None, None], (i, j, jnp.zeros_like(i)))  # noqa: E731
    return Stored(*(tuple(map(put, into, found)) for into, found in zip(stored, values, strict=True)))
