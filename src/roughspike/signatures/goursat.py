"""The Goursat problem u_st = rho u on a grid of rectangles: the kernel of piecewise linear paths of any kind.

In a rectangle rho is constant, <dx_i, dy_j> or a second difference of a static kernel; edges are Taylor polynomials
(`tiles.taylor_tile`). The adjoint is the discrete one, exact for the value that is computed: cells in reverse, each the
transpose of `taylor_tile`, from stored edges. Lanes (pairs of paths) are the last axis. Scales are those of `sweep`.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp

from roughspike.signatures.scales import Scaled, steps_between, steps_of
from roughspike.signatures.tiles import taylor_end, taylor_tile


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def goursat(rho: jax.Array, order: int, unit: int = 0) -> Scaled:
    """u at the far corner, shape (lanes,), for rho of shape (columns of x, columns of y, lanes)."""
    return _forward(rho, order, unit, False)[0]


def _forward(rho: jax.Array, order: int, unit: int, store: bool) -> tuple[Scaled, tuple[jax.Array, ...]]:
    """The value, and per cell what `_cell` was given apart from rho."""
    rows, columns, lanes = rho.shape
    one, zero = jnp.ones(lanes, rho.dtype), jnp.zeros(lanes, rho.dtype)
    none = tuple(zero for _ in range(order - 1))
    room = lambda shape, count: tuple(jnp.zeros(shape, rho.dtype) for _ in range(count))  # noqa: E731
    stored = room(rho.shape, store * (2 * order - 1 + 2 * (unit > 0)))

    def row(i: jax.Array, carry: tuple) -> tuple:
        below, _, stored = carry
        rho_i = _at(rho, i)

        def cell(j: jax.Array, carry: tuple) -> tuple:
            v, f, scale, above, stored = carry
            g = [_at(edge, j) for edge in below]
            column = g.pop() if unit else scale
            steps, factors = _factors(v, f, scale, column, unit)
            put = lambda into, value: jax.lax.dynamic_update_slice(into, value[None, None], (i, j, jnp.zeros_like(i)))  # noqa: E731
            stored = tuple(map(put, stored, (v, *f, *g, *factors))) if store else ()
            v, f, g = _cell(v, f, tuple(g), _at(rho_i, j), factors)
            above = tuple(
                _put(edge, j, value) for edge, value in zip(above, (*g, column + steps) if unit else g, strict=True)
            )
            return v, f, column, above, stored

        v, f, scale, above, stored = jax.lax.fori_loop(0, columns, cell, (one, none, zero, below, stored))
        return above, Scaled(taylor_end([v, *f]), scale), stored

    begin = room((columns, lanes), order - 1 + (unit > 0)), Scaled(one, zero), stored
    _, value, stored = jax.lax.fori_loop(0, rows, row, begin)
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
    rows, columns, _ = rho.shape
    edges = tuple(jnp.zeros(rho.shape[1:], rho.dtype) for _ in range(order - 1))

    def row(back: jax.Array, carry: tuple) -> tuple:
        below, slope = carry
        i = rows - 1 - back
        rho_i = _at(rho, i)
        ending = jnp.where(i == rows - 1, cotangent.value, 0)  # only the last row's end is the value

        def cell(back: jax.Array, carry: tuple) -> tuple:
            v, d_f, above, slope = carry
            j = columns - 1 - back
            lower = [_at(_at(s, i), j) for s in stored]
            factors = tuple(lower[2 * order - 1 :])
            one = lambda v, f, g, rho: _cell(v, f, g, rho, factors)  # noqa: E731
            f, g = tuple(lower[1:order]), tuple(lower[order : 2 * order - 1])
            _, transpose = jax.vjp(one, lower[0], f, g, _at(rho_i, j))
            v, f, g, d_rho = transpose((v, d_f, tuple(_at(edge, j) for edge in below)))
            above = tuple(_put(edge, j, value) for edge, value in zip(above, g, strict=True))
            return v, f, above, jax.lax.dynamic_update_slice(slope, d_rho[None, None], (i, j, jnp.zeros_like(i)))

        start = ending, tuple(ending * (1 / math.factorial(a)) for a in range(1, order)), below, slope
        _, _, above, slope = jax.lax.fori_loop(0, columns, cell, start)
        return above, slope

    _, slope = jax.lax.fori_loop(0, rows, row, (edges, jnp.zeros_like(rho)))
    return (slope,)


def _at(array: jax.Array, j: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(array, j, 0, False)


def _put(array: jax.Array, j: jax.Array, value: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(array, value, j, 0)


goursat.defvjp(_forward_rule, _backward_rule)
