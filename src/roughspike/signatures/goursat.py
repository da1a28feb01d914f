"""The Goursat problem u_st = rho u on a grid of rectangles: the kernel of piecewise linear paths of any kind.

In a rectangle rho is constant, <dx_i, dy_j> or a second difference of a static kernel; edges are Taylor polynomials
(`tiles.taylor_tile`). The adjoint is the discrete one, exact for the value that is computed: cells in reverse, each the
transpose of `taylor_tile`, from stored edges. Lanes (pairs of paths) are the last axis.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from roughspike.signatures.tiles import taylor_tile, total


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def goursat(rho: jax.Array, order: int) -> jax.Array:
    """u at the far corner, shape (lanes,), for rho of shape (columns of x, columns of y, lanes)."""
    return _forward(rho, order, False)[0]


def _forward(rho: jax.Array, order: int, store: bool) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The value, and per cell the coefficients v, f_1 .., g_1 .. of its lower edges."""
    rows, columns, lanes = rho.shape
    none = tuple(jnp.zeros(lanes, rho.dtype) for _ in range(order - 1))
    edges = tuple(jnp.zeros((columns, lanes), rho.dtype) for _ in range(order - 1))
    stored = tuple(jnp.zeros(rho.shape, rho.dtype) for _ in range(store * (2 * order - 1)))
    one = jnp.ones(lanes, rho.dtype)

    def row(i: jax.Array, carry: tuple) -> tuple:
        g, _, stored = carry

        def cell(j: jax.Array, carry: tuple) -> tuple:
            v, f, new_g, stored = carry
            g_j = [edge[j] for edge in g]
            stored = tuple(s.at[i, j].set(c) for s, c in zip(stored, (v, *f, *g_j), strict=False))
            v, f, right = _cell(v, f, g_j, rho[i, j])
            return v, f, tuple(edge.at[j].set(c) for edge, c in zip(new_g, right, strict=True)), stored

        v, f, g, stored = jax.lax.fori_loop(0, columns, cell, (one, none, g, stored))
        return g, total([v, *f]), stored

    _, value, stored = jax.lax.fori_loop(0, rows, row, (edges, one, stored))
    return value, stored


def _cell(v: jax.Array, f: tuple, g: list | tuple, rho: jax.Array) -> tuple[jax.Array, tuple, tuple]:
    """One rectangle: the value at its upper left corner, and its upper edges without their constants."""
    top, right = taylor_tile([v, *f], [v, *g], rho)
    return top[0], tuple(top[1:]), tuple(right[1:])


def _forward_rule(rho: jax.Array, order: int) -> tuple[jax.Array, tuple]:
    value, stored = _forward(rho, order, True)
    return value, (rho, stored)


def _backward_rule(order: int, residuals: tuple, cotangent: jax.Array) -> tuple[jax.Array]:
    rho, stored = residuals
    rows, columns, _ = rho.shape
    none = tuple(jnp.zeros_like(cotangent) for _ in range(order - 1))
    edges = tuple(jnp.zeros(rho.shape[1:], rho.dtype) for _ in range(order - 1))

    def row(back: jax.Array, carry: tuple) -> tuple:
        g, slope = carry
        i = rows - 1 - back
        last = i == rows - 1  # only the last row's end is the value
        ending = jnp.where(last, cotangent, 0)

        def cell(back: jax.Array, carry: tuple) -> tuple:
            v, f, new_g, slope = carry
            j = columns - 1 - back
            lower = [s[i, j] for s in stored]
            _, transpose = jax.vjp(_cell, lower[0], tuple(lower[1:order]), tuple(lower[order:]), rho[i, j])
            v, f, g_j, d_rho = transpose((v, f, tuple(edge[j] for edge in g)))
            new_g = tuple(edge.at[j].set(c) for edge, c in zip(new_g, g_j, strict=True))
            return v, f, new_g, slope.at[i, j].set(d_rho)

        start = (ending, tuple(ending for _ in none), g, slope)
        _, _, g, slope = jax.lax.fori_loop(0, columns, cell, start)
        return g, slope

    _, slope = jax.lax.fori_loop(0, rows, row, (edges, jnp.zeros_like(rho)))
    return (slope,)


goursat.defvjp(_forward_rule, _backward_rule)
