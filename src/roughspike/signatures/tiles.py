"""One rectangle of the Goursat problem u_st = rho u, rho constant: from the two lower edges to the two upper ones.

With J the integral from 0, f(s) = u(s, 0), g(t) = u(0, t) and v = u(0, 0) the solution on the unit square is

    u = sum_n rho^n J_s^n J_t^n (f + g - v),    u(s, 1) = sum_n rho^n / n! [ J^n f (s) + s^n (J^n (g - v)) (1) ].  (1)

Edges of time moves are Taylor polynomials in the local coordinate, since time moves are short and rho differs from
one to the next. Edges of jumps are Chebyshev polynomials, 4^P times more accurate at P terms, since a jump meets many
others; there rho is one number, the square of the jump size, and (1) is one matrix that is computed once.
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
from numpy.polynomial import chebyshev

_TERMS = 32  # powers of rho in (1); they fall as 1 / (n!)^2
_UNROLLED = 8  # coefficients up to which small products are written out


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


class JumpMap(eqx.Module):
    """Equation (1) for Chebyshev edges v + sum_k f_k phi_k, phi_k(s) = T_k(2 s - 1) - T_k(-1) for k = 1 .. P - 1.

    With one matrix for the edge itself and one for the other,  top - f = A f + B g + c v,  right - g = A g + B f + c v;
    half the work with the sum and the difference of the edges:

        (top - f) +- (right - g) = (A +- B) (f +- g) + (1 +- 1) c v .                                             (2)

    Small matrices are written out number by number, which runs faster; large ones would take long to compile.
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
            rest = total([weight(1, r, c) * edge for c, edge in enumerate(apart)])
            along.append(half + rest)
            across.append(half - rest)
        return along, across, rise(along)


def rise(modes: Sequence[jax.Array]) -> jax.Array:
    """What a Chebyshev edge gains from its start to its end: phi_k(1) is 2 for odd k and 0 for even k."""
    return 2 * total(modes[::2])


@lru_cache(maxsize=32)
def jump_series(order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients of rho, rho^2, .. in A, B and c of `JumpMap`: float64 arrays of shape (terms, ...)."""
    modes = order - 1
    nodes = np.cos(np.pi * np.arange(modes) / modes)  # s = 1 among them, and not s = 0, where all phi_k are 0
    basis = np.stack([_phi(k, nodes) for k in range(1, order)], axis=1)
    own, other, corner = [], [], []
    for n in range(1, _TERMS):
        power = ((1 + nodes) / 2) ** n / math.factorial(n)
        ahead, across = np.empty((modes, modes)), np.empty((modes, modes))
        for k in range(1, order):
            integral = chebyshev.chebint(_coefficients(k), m=n, lbnd=-1, scl=0.5)
            ahead[:, k - 1] = chebyshev.chebval(nodes, integral) / math.factorial(n)
            across[:, k - 1] = power * chebyshev.chebval(1.0, integral)
        own.append(np.linalg.solve(basis, ahead))
        other.append(np.linalg.solve(basis, across))
        corner.append(np.linalg.solve(basis, power / math.factorial(n)))
    return np.stack(own), np.stack(other), np.stack(corner)


def _coefficients(k: int) -> np.ndarray:
    found = np.zeros(k + 1)
    found[k], found[0] = 1.0, -((-1.0) ** k)
    return found


def _phi(k: int, x: np.ndarray) -> np.ndarray:
    return chebyshev.chebval(x, _coefficients(k))


@lru_cache(maxsize=32)
def taylor_products(order: int) -> np.ndarray:
    """int_0^1 s^a / a! (1 - s)^b / b! ds = 1 / (a + b + 1)!: an edge times an edge of the reversed problem."""
    return np.array([[1 / math.factorial(a + b + 1) for b in range(order)] for a in range(order)])


@lru_cache(maxsize=32)
def jump_products(order: int) -> np.ndarray:
    """int_0^1 phi_k(s) phi_l(1 - s) ds, with phi_0 = 1."""
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
