"""One step of a diffrax solver inside a cell of the grid.

Inside a cell time is local: r in [0, 1] is the part of the cell that has passed, so that a step keeps its precision
far from t = 0. The driver is the straight line or the parabola of `paths.realised` on it, whose pieces are again
lines and parabolas: on [a, b], with q = b - a, dX = q dB + 6 (b (1 - b) - a (1 - a)) H and space-time Levy area q^2 H.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.sde.marcus import product


class Piece(eqx.Module):
    """The driver on one cell: its increment and its space-time Levy area (None: straight)."""

    increment: jax.Array
    area: jax.Array | None

    def change(self, a: Any, b: Any) -> jax.Array:
        """Increment over the part [a, b] of the cell."""
        if _whole(a, b):
            return self.increment
        change = (b - a) * self.increment
        return change if self.area is None else change + 6 * (b * (1 - b) - a * (1 - a)) * self.area

    def slope(self, a: Any) -> jax.Array:
        """Change per part of the cell, at the place a."""
        return self.increment if self.area is None else self.increment + 6 * (1 - 2 * a) * self.area

    def levy_area(self, a: Any, b: Any) -> jax.Array:
        """Space-time Levy area over the part [a, b] of the cell."""
        return jnp.zeros_like(self.increment) if self.area is None else (b - a) ** 2 * self.area


def _whole(a: Any, b: Any) -> bool:
    """Is this known to be the whole cell?"""
    return isinstance(a, float) and isinstance(b, float) and (a, b) == (0.0, 1.0)


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
        change = self.piece.change(a, b)
        if not use_levy:
            return change
        return diffrax.SpaceTimeLevyArea(dt=t1 - t0, W=change, H=self.piece.levy_area(a, b))

    def prod(self, vf: Any, control: Any) -> Any:
        return product(vf, control)


class Cell(NamedTuple):
    """What a step on one cell reads: the system, when the cell begins, its length h, the driver on it (None: none)."""

    solver: diffrax.AbstractSolver
    sde: Any
    args: Any
    start: jax.Array
    h: jax.Array
    piece: Piece | None

    def step(self, a: Any, y: Any, b: Any) -> tuple[Any, jax.Array]:
        """y at r = b from y at r = a, and whether the solver succeeded."""
        tableau = _tableau(self.solver)
        if tableau is not None:
            lower, nodes, weights = tableau
            return _plus(y, weights, self._stages(lower, nodes, a, y, b)), jnp.array(True)
        terms = diffrax.ODETerm(lambda t, y, args: self.sde.drift(self.start + t, y, args))
        if self.piece is not None:
            noise = _Noise(lambda t, y, args: self.sde.diffusion(self.start + t, y, args), self.piece, self.h)
            terms = diffrax.MultiTerm(terms, noise)
        ta, tb = a * self.h, b * self.h
        state = self.solver.init(terms, ta, tb, y, self.args)
        after, _, _, _, result = self.solver.step(terms, ta, tb, y, self.args, state, True)
        return after, diffrax.is_okay(result)

    def step_with_error(self, a: Any, y: Any, b: Any) -> tuple[Any, Any]:
        """y at r = b, and the difference to the embedded method: for an explicit Runge-Kutta method."""
        tableau = cast(Any, self.solver).tableau
        slopes = self._stages(tableau.a_lower, tableau.c, a, y, b)
        return _plus(y, tableau.b_sol, slopes), _plus(jax.tree.map(jnp.zeros_like, y), tableau.b_error, slopes)

    def velocity(self, a: jax.Array, y: Any) -> Any:
        """dy/dr at the start of a step from r = a: what every explicit Runge-Kutta step begins with."""
        if _tableau(self.solver) is not None:
            return self._slope(self.start + a * self.h, y, self.h, None if self.piece is None else self.piece.slope(a))
        return jax.jvp(lambda b: self.step(a, y, b)[0], (a,), (jnp.ones_like(a),))[1]

    def _stages(self, lower: Any, nodes: Any, a: Any, y: Any, b: Any) -> list[Any]:
        """The stages of an explicit Runge-Kutta step (and Euler's), written out.

        `solver.step` loops over them; written out, Heun takes a fifth of the time, its derivative an eighth.
        """
        length = self.h if _whole(a, b) else (b - a) * self.h
        change = None if self.piece is None else self.piece.change(a, b)
        t = self.start + a * self.h
        slopes = [self._slope(t, y, length, change)]
        for row, c in zip(lower, nodes, strict=True):
            slopes.append(self._slope(t + float(c) * length, _plus(y, row, slopes), length, change))
        return slopes

    def _slope(self, t: Any, y: Any, length: Any, change: jax.Array | None) -> Any:
        """drift times a length of time, plus diffusion times a change of the driver."""
        drift = self.sde.drift(t, y, self.args)
        flow = jax.tree.map(lambda f, x: length * jnp.broadcast_to(f, x.shape), drift, y)
        if change is None:
            return flow
        return jax.tree.map(jnp.add, flow, product(self.sde.diffusion(t, y, self.args), change))


def _tableau(solver: diffrax.AbstractSolver) -> tuple[Any, Any, Any] | None:
    """Lower rows, nodes and weights of an explicit Runge-Kutta method; None for another solver."""
    if isinstance(solver, diffrax.Euler):
        return (), (), (1.0,)
    if isinstance(solver, diffrax.AbstractERK) and isinstance(solver.tableau, diffrax.ButcherTableau):
        return solver.tableau.a_lower, solver.tableau.c, solver.tableau.b_sol
    return None


def _plus(y: Any, weights: Any, slopes: list[Any]) -> Any:
    """y + sum of weight times slope."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight != 0:
            y = jax.tree.map(lambda x, k, w=float(weight): x + w * k, y, slope)
    return y
