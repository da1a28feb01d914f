"""The hazard over a piece of a step as a quadratic, its integral as a cubic, and the root that is a spike."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Hazard(NamedTuple):
    """lambda(x) = a + x (b + x c) at the fraction x of a piece of length `width`."""

    a: jax.Array
    b: jax.Array
    c: jax.Array
    width: jax.Array | float

    @property
    def total(self) -> jax.Array:
        """Integral over the whole piece (Simpson's rule)."""
        return self.integral(1.0)

    def integral(self, x: jax.Array | float) -> jax.Array:
        """Integral over the first fraction x of the piece."""
        return self.width * x * (self.a + x * (self.b / 2 + x * (self.c / 3)))

    def rate(self, x: jax.Array | float) -> jax.Array:
        """lambda at x."""
        return self.a + x * (self.b + x * self.c)

    @property
    def dips_below_zero(self) -> jax.Array:
        """Is the quadratic negative somewhere inside? Its node values are positive, so only at an inner minimum."""
        inside = (self.b < 0) & (-self.b < 2 * self.c)
        return inside & (self.b * self.b > 4 * self.a * self.c)


def through(start: jax.Array, middle: jax.Array, end: jax.Array, width: jax.Array | float) -> Hazard:
    """The quadratic through the hazards at the start, middle and end of a piece."""
    return Hazard(start, -3 * start + 4 * middle - end, 2 * start - 4 * middle + 2 * end, width)


def first_root(hazard: Hazard, s: jax.Array, wanted: jax.Array, iterations: int) -> jax.Array:
    """x in [0, 1] near the root of s + integral(x), s in [-total, 0], where `wanted`; junk elsewhere.

    The start is the Moebius map through both ends of the piece with the right slope at x = 0; then Halley's iteration.
    While the hazard changes by less than a factor e^2 in the piece, one iteration is good to 1e-3 and two to 1e-9;
    `polish` squares that. A root that is not found to within that is searched again by bisection, which is rare.
    """
    rise, total = hazard.width * hazard.a, hazard.total
    x = _quotient(-s * total, rise * total - (total - rise) * s)
    for _ in range(iterations):
        value, rate = s + hazard.integral(x), hazard.rate(x)
        square = hazard.width * rate * rate
        below = jnp.maximum(2 * square - value * (hazard.b + 2 * x * hazard.c), square)
        x = _quotient(x * below - 2 * rate * value, below)
    near = 1e-3 if x.dtype == jnp.float32 else 1e-7
    bad = wanted & ~(jnp.abs(s + hazard.integral(x)) <= near * total)
    halvings = 30

    def bisect(found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        k, x = found
        direction = jnp.where(s + hazard.integral(x) < 0, 1, -1)
        return k + 1, jnp.where(bad, x + direction * 0.5 ** (k + 2.0).astype(x.dtype), x)

    start = jnp.where(jnp.any(bad), 0, halvings), jnp.where(bad, 0.5, x)
    return jax.lax.while_loop(lambda found: found[0] < halvings, bisect, start)[1]


def _quotient(above: jax.Array, below: jax.Array) -> jax.Array:
    """above / below, cut to [0, 1]. XLA computes a quotient with many users once; what follows it, for each of them."""
    return jnp.clip(above, 0.0, below) / below


def polish(hazard: Hazard, s: jax.Array, x: jax.Array) -> jax.Array:
    """A last Newton iteration from x, as one quotient; x itself where a quadratic that dips below 0 does not rise."""
    slope = hazard.width * hazard.rate(x)
    rises = slope > 0
    value = jnp.where(rises, s + hazard.integral(x), 0.0)
    slope = jnp.where(rises, slope, 1.0)
    return _quotient(x * slope - value, slope)


def differentiate_root(hazard: Hazard, s: jax.Array, x: jax.Array, valid: jax.Array) -> jax.Array:
    """x, unchanged in value, with the derivative of the root, equation (6): dx = -d(s + integral) / (width lambda).

    A root where the quadratic does not rise (it dips below 0, which is flagged) has no derivative: dx = 0, never NaN.
    """
    stop = jax.lax.stop_gradient
    x = stop(x)
    value = s + hazard.integral(x)
    slope = stop(hazard.width * hazard.rate(x))
    valid = valid & (slope > jnp.finfo(slope.dtype).eps * stop(hazard.total))
    slope = jnp.where(valid, slope, 1.0)
    return (x * slope - jnp.where(valid, value - stop(value), 0.0)) / slope
