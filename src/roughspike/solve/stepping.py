"""One step of a diffrax solver inside a cell of the grid.

Inside a cell time is local: r in [0, 1] is the part of the cell that has passed, so that a step keeps its precision
far from t = 0. The driver is the straight line or the parabola of `paths.realised` on it, whose pieces are again
lines and parabolas: on [a, b], with q = b - a, dX = q dB + 6 (b (1 - b) - a (1 - a)) H and space-time Levy area q^2 H.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.sde.marcus import product


class Piece(eqx.Module):
    """The driver on one cell: its increment and its space-time Levy area (None: straight)."""

    increment: jax.Array
    area: jax.Array | None


class _Noise(diffrax.AbstractTerm):
    """sigma(t, y) dX with X on one cell; t is local time, in [0, h]."""

    vector_field: Callable[..., Any]
    piece: Piece
    h: jax.Array

    def vf(self, t: Any, y: Any, args: Any) -> Any:
        return self.vector_field(t, y, args)

    def contr(self, t0: Any, t1: Any, use_levy: bool = False, **kwargs: Any) -> Any:
        del kwargs
        a, b = t0 / self.h, t1 / self.h
        q, increment, area = b - a, self.piece.increment, self.piece.area
        change = q * increment
        if area is not None:
            change = change + 6 * (b * (1 - b) - a * (1 - a)) * area
        if not use_levy:
            return change
        inside = jnp.zeros_like(increment) if area is None else q**2 * area
        return diffrax.SpaceTimeLevyArea(dt=t1 - t0, W=change, H=inside)

    def prod(self, vf: Any, control: Any) -> Any:
        return product(vf, control)


def one_step(
    solver: diffrax.AbstractSolver,
    sde: Any,
    args: Any,
    start: jax.Array,
    h: jax.Array,
    piece: Piece | None,
    a: jax.Array,
    y: Any,
    b: jax.Array,
) -> tuple[Any, jax.Array]:
    """y at r = b from y at r = a of the cell that begins at `start`, and whether the solver succeeded."""
    ode = diffrax.ODETerm(lambda t, y, args: sde.drift(start + t, y, args))
    terms = ode
    if piece is not None:
        noise = _Noise(lambda t, y, args: sde.diffusion(start + t, y, args), piece, h)
        terms = diffrax.MultiTerm(ode, noise)
    ta, tb = a * h, b * h
    if isinstance(solver, diffrax.AbstractERK) and isinstance(solver.tableau, diffrax.ButcherTableau):
        return _explicit(solver.tableau, terms, args, ta, y, tb), jnp.array(True)
    state = solver.init(terms, ta, tb, y, args)
    after, _, _, _, result = solver.step(terms, ta, tb, y, args, state, True)
    return after, diffrax.is_okay(result)


def _explicit(tableau: diffrax.ButcherTableau, terms: Any, args: Any, ta: jax.Array, y: Any, tb: jax.Array) -> Any:
    """An explicit Runge-Kutta step, its stages written out: what `solver.step` does with a loop, in a fifth of the
    time for Heun.
    """
    control, length = terms.contr(ta, tb), tb - ta
    slopes = [terms.vf_prod(ta, y, args, control)]
    for row, c in zip(tableau.a_lower, tableau.c, strict=True):
        slopes.append(terms.vf_prod(ta + float(c) * length, _plus(y, row, slopes), args, control))
    return _plus(y, tableau.b_sol, slopes)


def _plus(y: Any, weights: Any, slopes: list[Any]) -> Any:
    """y + sum of weight times slope."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight != 0:
            y = jax.tree.map(lambda x, k, w=float(weight): x + w * k, y, slope)
    return y
