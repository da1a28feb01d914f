"""One rectangle of the Goursat problem u_st = rho u, rho constant: from the two lower edges to the two upper ones.

With J the integral from 0, f(s) = u(s, 0), g(t) = u(0, t) and v = u(0, 0) the solution on the unit square is

    u = sum_n rho^n J_s^n J_t^n (f + g - v),    u(s, 1) = sum_n rho^n / n! [ J^n f (s) + s^n (J^n (g - v)) (1) ].  (1)

Edges of spike trains are v + sum_{k < P} f_k phi_k with

    phi_k(s) = int_0^s L_{k-1}(2 r - 1) dr,    L the Legendre polynomials.                                           (2)

What is cut off has a derivative that is orthogonal to all polynomials of degree P - 2, so it is 0 at both ends, and the
kernel changes by int (cut off)' u~ ds, u~ the solution for the reversed paths, of which only the part of degree P - 1
and above counts. Hence P coefficients err as degree 2 P - 1 does, as in other Galerkin methods. For jumps rho is one
number, the square of the jump size, and (1) is one matrix that is computed once (`JumpMap`). For time moves rho differs
from one to the next, and (1) is a polynomial in rho (`move_tile`).

Edges of general paths are Taylor polynomials (`taylor_tile`), where rho differs too and has any size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import legendre

_TERMS = 32  # powers of rho in (1); they fall as 1 / (n!)^2
_UNROLLED, _UNROLLED_MOVE = 8, 4  # coefficients up to which small products are written out


def taylor_tile(
    f: Sequence[jax.Array], g: Sequence[jax.Array], rho: jax.Array
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Equation (1) for edges sum_a f_a s^a / a! and sum_a g_a t^a / a!, f_0 = g_0 = v: the edges u(s, 1) and u(1, t).

        top_a = sum_{b <= a} rho^b / b! f_{a-b} + rho^a sum_{m >= 1} g_m / (a + m)!

    Terms whose total degree a + m reaches the number of coefficients are left out: they are of the size of the error.
    """
    scaled = [rho]  # rho^b / b!
    for b in range(2, len(f)):
        scaled.append(scaled[-1] * (rho * (1 / b)))
    return _taylor_edge(f, g, scaled), _taylor_edge(g, f, scaled)


def _taylor_edge(f: Sequence[jax.Array], g: Sequence[jax.Array], scaled: list[jax.Array]) -> list[jax.Array]:
    edge = []
    for a in range(len(f)):
        value = total([f[a], *(scaled[b - 1] * f[a - b] for b in range(1, a + 1))])
        if a < len(f) - 1:
            rest = total([g[m] * (math.factorial(a) / math.factorial(a + m)) for m in range(1, len(f) - a)])
            value = value + (scaled[a - 1] * rest if a else rest)
        edge.append(value)
    return edge


def taylor_end(f: Sequence[jax.Array]) -> jax.Array:
    """The value of an edge sum_a f_a s^a / a! at its end."""
    return total([f[0], *(value * (1 / math.factorial(a)) for a, value in enumerate(f[1:], 1))])


def total(terms: Sequence[jax.Array]) -> jax.Array:
    """Sum of a list of arrays, first to last."""
    value = terms[0]
    for term in terms[1:]:
        value = value + term
    return value


def move_tile(
    v: jax.Array, f: Sequence[jax.Array], g: Sequence[jax.Array], rho: jax.Array
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Equation (1) for edges (2) of time moves: the upper edges, as lists of P - 1 numbers."""
    return _move_edge(v, f, g, rho), _move_edge(v, g, f, rho)


def _move_edge(v: jax.Array, mine: Sequence[jax.Array], other: Sequence[jax.Array], rho: jax.Array) -> list[jax.Array]:
    series, inputs = _move_series(len(mine) + 1), [*mine, *other, v]
    if len(mine) > _UNROLLED_MOVE:
        matrix = jnp.asarray(series.reshape(-1, len(inputs)), rho.dtype)
        powers = jnp.matmul(matrix, jnp.stack(inputs), precision="highest").reshape(*series.shape[:2], *rho.shape)
        gains = powers[-1]
        for power in powers[-2::-1]:
            gains = power + rho[None] * gains
        return [value + rho * gain for value, gain in zip(mine, gains, strict=True)]
    edge = []
    for row, value in enumerate(mine):
        gain: list[jax.Array] = []
        for weights in series[::-1, row]:  # powers of rho, from the highest
            here = [z * float(w) for z, w in zip(inputs, weights, strict=True) if w != 0]
            gain = [total([*here, *(rho * more for more in gain)])] if here or gain else []
        edge.append(value + rho * gain[0])
    return edge


@lru_cache(maxsize=32)
def _move_series(order: int) -> np.ndarray:
    """Weights of (f, g, v) in each power of rho and each number of the edge f, (powers, P - 1, 2 P - 1).

    Those are 0 whose degree is 2 P or more: that of rho, plus k for f_k, plus k - 1 for a change in f_k.
    """
    own, other, corner = jump_series(order)
    degree = np.r_[1:order, 1:order, 0] + np.arange(order - 1)[:, None] + np.arange(1, _TERMS)[:, None, None]
    weights = np.concatenate([own, other, corner[..., None]], axis=-1)
    rounding = 1e-14 * np.max(np.abs(weights), axis=(1, 2), keepdims=True)
    weights = np.where((degree < 2 * order) & (np.abs(weights) > rounding), weights, 0)
    return weights[: 2 * order - 1]


class JumpMap(eqx.Module):
    """Equation (1) for edges (2) of jumps, P - 1 numbers f_k and g_k each.

    With one matrix for the edge itself and one for the other,  top - f = A f + B g + c v,  right - g = A g + B f + c v;
    half the work with the sum and the difference of the edges:

        (top - f) +- (right - g) = (A +- B) (f +- g) + (1 +- 1) c v .                                             (3)

    The first rows of A and B are equal, as both edges end at the same corner. Small matrices are written out number by
    number, which runs faster; large ones would take long to compile.
    """

    matrix: Float[Array, "sides modes inputs"]  # halves of A + B with c, and of A - B with 0
    written_out: bool = eqx.field(static=True)

    def __init__(self, rho: jax.Array, order: int, written_out: bool | None = None):
        powers = rho ** jnp.arange(1, _TERMS, dtype=rho.dtype)
        own, other, corner = (jnp.tensordot(powers, jnp.asarray(s, rho.dtype), 1) for s in jump_series(order))
        both = jnp.concatenate([(own + other) / 2, corner[:, None]], axis=1)
        self.matrix = jnp.stack([both, jnp.concatenate([(own - other) / 2, jnp.zeros_like(corner[:, None])], axis=1)])
        self.written_out = order <= _UNROLLED if written_out is None else written_out

    def __call__(
        self, v: jax.Array, f: Sequence[jax.Array], g: Sequence[jax.Array], column: jax.Array
    ) -> tuple[list[jax.Array], list[jax.Array], jax.Array]:
        """What the upper edges gain, and the far corner. `column`, any index of at least 0, is that of the loop around.

        Numbers of the matrix are read at an index that the compiler cannot know to be fixed: otherwise it would read
        each of them before the loop, by a small program of its own, which takes longer to compile than all the rest.
        """
        together, apart = ([a + s * b for a, b in zip(f, g, strict=True)] for s in (1, -1))
        if not self.written_out:
            half = jnp.matmul(self.matrix[0], jnp.stack([*together, v]), precision="highest")
            rest = jnp.matmul(self.matrix[1, :, :-1], jnp.stack(apart), precision="highest")
            along, across = list(half + rest), list(half - rest)
            return along, across, rise(along)
        start = jnp.minimum(column, 0).astype(jnp.uint32)
        _, modes, inputs = self.matrix.shape
        flat = jax.lax.dynamic_slice(self.matrix.reshape(-1), (start,), (self.matrix.size,))
        weight = lambda side, r, c: flat[(side * modes + r) * inputs + c]  # noqa: E731
        along, across = [], []
        for r in range(modes):
            half = total([weight(0, r, c) * edge for c, edge in enumerate([*together, v])])
            rest = total([weight(1, r, c) * edge for c, edge in enumerate(apart)]) if r else 0  # (2) at the far corner
            along.append(half + rest)
            across.append(half - rest)
        return along, across, rise(along)


def rise(modes: Sequence[jax.Array]) -> jax.Array:
    """What an edge (2) gains from its start to its end: phi_1(1) is 1, and phi_k(1) is 0 for k > 1."""
    return modes[0]


@lru_cache(maxsize=32)
def jump_series(order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients of rho, rho^2, .. in A, B and c of `JumpMap`: float64 arrays of shape (terms, ...)."""
    modes = order - 1
    own, other, corner = [], [], []
    for n in range(1, _TERMS):
        power = [_power(n - 1, k) / math.factorial(n - 1) for k in range(modes)]  # derivative of s^n / n!
        ahead, across = np.zeros((modes, modes)), np.zeros((modes, modes))
        for k in range(1, order):
            slope = legendre.legint(_basis(k), m=n - 1, lbnd=-1, scl=0.5)  # of J^n phi_k
            count = min(modes, len(slope))
            ahead[:count, k - 1] = slope[:count] / math.factorial(n)
            across[:, k - 1] = np.array(power) * legendre.legval(1.0, legendre.legint(slope, lbnd=-1, scl=0.5))
        own.append(ahead)
        other.append(across)
        corner.append(np.array(power) / math.factorial(n))
    return np.stack(own), np.stack(other), np.stack(corner)


def _power(n: int, k: int) -> float:
    """The coefficient of s^n on [0, 1] at the Legendre polynomial of degree k."""
    if k > n:
        return 0.0
    log = 2 * math.lgamma(n + 1) - math.lgamma(n - k + 1) - math.lgamma(n + k + 2)
    return (2 * k + 1) * math.exp(log)


def _basis(k: int) -> np.ndarray:
    """phi_k as a Legendre series."""
    return legendre.legint(np.eye(k)[k - 1], lbnd=-1, scl=0.5)


def _phi(k: int, x: np.ndarray) -> np.ndarray:
    return legendre.legval(x, _basis(k))


@lru_cache(maxsize=32)
def edge_products(order: int) -> np.ndarray:
    """int_0^1 phi_k(s) phi_l(1 - s) ds, with phi_0 = 1: an edge times an edge of the reversed problem."""
    x, weights = np.polynomial.legendre.leggauss(order + 1)
    values = np.stack([np.ones_like(x), *(_phi(k, x) for k in range(1, order))])
    mirrored = np.stack([np.ones_like(x), *(_phi(k, -x) for k in range(1, order))])
    return values @ np.diag(weights / 2) @ mirrored.T


def edge_integral(first: Sequence[jax.Array], second: Sequence[jax.Array], products: np.ndarray) -> jax.Array:
    """int_0^1 of the product of an edge with an edge of the reversed problem."""
    if len(products) > _UNROLLED:
        matrix = jnp.asarray(products, second[0].dtype)
        return jnp.sum(jnp.stack(first) * jnp.matmul(matrix, jnp.stack(second), precision="highest"), axis=0)
    rows = [total([b * float(w) for b, w in zip(second, row, strict=True)]) for row in products]
    return total([a * b for a, b in zip(first, rows, strict=True)])
