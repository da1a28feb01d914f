"""The Goursat problem u_st = rho u on a grid of rectangles: the kernel of piecewise linear paths of any kind.

In a rectangle rho is constant, <dx_i, dy_j> or a second difference of a static kernel; edges are Taylor polynomials
(`tiles.taylor_tile`). The adjoint is the discrete one, exact for the value that is computed: cells in reverse, each the
transpose of `taylor_tile`, from stored edges. Scales are those of `sweep`.

What runs side by side are lanes (pairs of paths, the last axis) times the rows of a strip: at step t, row r of the
strip is at column t - r, so that few long paths take as few steps as many short ones. Edges along y go to the next row
with the next step, from the strip below to the first row, and from the last row to the strip above; column j of a strip
is kept at j + rows - 1. Columns outside the grid have rho = 0, which changes nothing.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp

from roughspike.signatures.scales import Scaled, steps_between, steps_of
from roughspike.signatures.tiles import taylor_end, taylor_tile


def goursat(rho: jax.Array, order: int, unit: int = 0, strip: int = 1) -> Scaled:
    """u at the far corner, (lanes,), for rho of shape (columns of x, columns of y, lanes), `strip` rows at once."""
    rows, columns, lanes = rho.shape
    strips = -(-rows // strip)
    rho = jnp.pad(rho, ((0, strips * strip - rows), (0, strip), (0, 0)))
    flat = rho.reshape(strips, strip * (columns + strip), lanes)[:, : strip * (columns + strip - 1)]
    return _goursat(flat.reshape(strips, strip, columns + strip - 1, lanes), order, unit)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _goursat(rho: jax.Array, order: int, unit: int) -> Scaled:
    """As `goursat`, for rho of shape (strips, rows of a strip, steps, lanes)."""
    return _forward(rho, order, unit, False)[0]


def _forward(rho: jax.Array, order: int, unit: int, store: bool) -> tuple[Scaled, tuple[jax.Array, ...]]:
    """The value, and per step what `_cell` was given apart from rho."""
    strips, rows, steps, lanes = rho.shape
    columns = steps - rows + 1
    one, zero = jnp.ones((rows, lanes), rho.dtype), jnp.zeros((rows, lanes), rho.dtype)
    none = tuple(zero for _ in range(order - 1))
    room = lambda shape, count: tuple(jnp.zeros(shape, rho.dtype) for _ in range(count))  # noqa: E731
    stored = room((strips, steps, rows, lanes), store * (2 * order - 1 + 2 * (unit > 0)))

    def row(b: jax.Array, carry: tuple) -> tuple:
        below, _, stored = carry

        def cell(t: jax.Array, carry: tuple) -> tuple:
            v, f, scale, last, above, stored = carry
            g = [jnp.concatenate([_row(edge, t + rows - 1), own[:-1]]) for edge, own in zip(below, last, strict=True)]
            column = scale
            if unit:
                inside = t - jnp.arange(rows, dtype=t.dtype)[:, None] < columns
                column = jnp.where(inside, g.pop(), scale)
            up, factors = _factors(v, f, scale, column, unit)
            put = lambda into, value: jax.lax.dynamic_update_slice(into, value[None, None], (b, t, 0, 0))  # noqa: E731
            stored = tuple(map(put, stored, (v, *f, *g, *factors))) if store else ()
            v, f, g = _cell(v, f, tuple(g), _rho(rho, b, t), factors)
            edges = (*g, column + up) if unit else g
            above = tuple(_put(edge, t, value[-1:]) for edge, value in zip(above, edges, strict=True))
            return v, f, column, tuple(edges), above, stored

        begin = one, none, zero, tuple(zero for _ in below), below, stored
        v, f, scale, _, above, stored = jax.lax.fori_loop(0, steps, cell, begin)
        return above, Scaled(taylor_end([v, *f])[-1], scale[-1]), stored

    begin = room((steps + rows - 1, lanes), order - 1 + (unit > 0)), Scaled(one[0], zero[0]), stored
    _, value, stored = jax.lax.fori_loop(0, strips, row, begin)
    return value, stored


def _factors(
    v: jax.Array, f: tuple, scale: jax.Array, column: jax.Array, unit: int
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Units that this column goes up; the factors from the last column's scale to this one's and on to its next."""
    if not unit:
        return scale, ()
    ratio = steps_between(scale, column, unit)
    steps, factor = steps_of(ratio * taylor_end([v, *f]), unit)
    return steps, (ratio, factor)


def _cell(
    v: jax.Array, f: tuple, g: tuple, rho: jax.Array, factors: tuple[jax.Array, ...] = ()
) -> tuple[jax.Array, tuple, tuple]:
    """One rectangle: the value at its upper left corner, and its upper edges without their constants."""
    if factors:
        v, f = factors[0] * v, tuple(factors[0] * value for value in f)
    top, right = taylor_tile([v, *f], [v, *g], rho)
    return top[0], tuple(top[1:]), tuple(factors[1] * value for value in right[1:]) if factors else tuple(right[1:])


def _forward_rule(rho: jax.Array, order: int, unit: int) -> tuple[Scaled, tuple]:
    value, stored = _forward(rho, order, unit, True)
    return value, (rho, stored)


def _backward_rule(order: int, unit: int, residuals: tuple, cotangent: Scaled) -> tuple[jax.Array]:
    del unit
    rho, stored = residuals
    strips, rows, steps, lanes = rho.shape
    edges = tuple(jnp.zeros((steps + rows - 1, lanes), rho.dtype) for _ in range(order - 1))

    def row(back: jax.Array, carry: tuple) -> tuple:
        below, slope = carry
        b = strips - 1 - back
        last = jnp.zeros((rows, lanes), rho.dtype).at[-1].set(cotangent.value)
        ending = jnp.where(b == strips - 1, last, 0)  # only the last row's end is the value

        def cell(back: jax.Array, carry: tuple) -> tuple:
            v, d_f, last, above, slope = carry
            t = steps - 1 - back
            lower = [jax.lax.dynamic_slice(s, (b, t, 0, 0), (1, 1, rows, lanes))[0, 0] for s in stored]
            factors = tuple(lower[2 * order - 1 :])
            one = lambda v, f, g, rho: _cell(v, f, g, rho, factors)  # noqa: E731
            f, g = tuple(lower[1:order]), tuple(lower[order : 2 * order - 1])
            _, transpose = jax.vjp(one, lower[0], f, g, _rho(rho, b, t))
            d_g = (jnp.concatenate([own[1:], _row(edge, t)]) for edge, own in zip(below, last, strict=True))
            v, f, g, d_rho = transpose((v, d_f, tuple(d_g)))
            above = tuple(_put(edge, t + rows - 1, value[:1]) for edge, value in zip(above, g, strict=True))
            return v, f, g, above, jax.lax.dynamic_update_slice(slope, d_rho[None, :, None], (b, 0, t, 0))

        none = tuple(jnp.zeros_like(last) for _ in below)
        start = ending, tuple(ending * (1 / math.factorial(a)) for a in range(1, order)), none, below, slope
        *_, above, slope = jax.lax.fori_loop(0, steps, cell, start)
        return above, slope

    _, slope = jax.lax.fori_loop(0, strips, row, (edges, jnp.zeros_like(rho)))
    return (slope,)


def _rho(rho: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
    """Of one step, (rows, lanes)."""
    return jax.lax.dynamic_slice(rho, (b, 0, t, 0), (1, rho.shape[1], 1, rho.shape[3]))[0, :, 0]


def _row(array: jax.Array, start: jax.Array) -> jax.Array:
    return jax.lax.dynamic_slice_in_dim(array, start, 1)


def _put(array: jax.Array, start: jax.Array, value: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(array, value, start, 0)


_goursat.defvjp(_forward_rule, _backward_rule)
