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


def first_root(hazard: Hazard, s: jax.Array, iterations: int) -> jax.Array:
    """x in [0, 1] with s + integral(x) = 0, by safeguarded Newton; junk in [0, 1] where there is no root.

    The bracket test has a tolerance: XLA may compute the value twice with different fused multiply-adds, and an exact
    test would throw a converged lane back to bisection.
    """
    x = jnp.clip(-s / hazard.total, 0.0, 1.0)
    low, high = jnp.zeros_like(x), jnp.ones_like(x)
    for _ in range(iterations):
        value = s + hazard.integral(x)
        low, high = jnp.where(value > 0, low, x), jnp.where(value > 0, x, high)
        newton = x - value / (hazard.width * hazard.rate(x))
        x = jnp.where((newton > low - 1e-4) & (newton < high + 1e-4), newton, 0.5 * (low + high))
    return jnp.clip(x, 0.0, 1.0)


def differentiate_root(hazard: Hazard, s: jax.Array, x: jax.Array, valid: jax.Array) -> jax.Array:
    """x, unchanged in value, with the derivative of the root, equation (6): dx = -d(s + integral) / (width lambda)."""
    stop = jax.lax.stop_gradient
    x = stop(x)
    value = s + hazard.integral(x)
    slope = jnp.where(valid, hazard.width * hazard.rate(x), 1.0)
    return x - (value - stop(value)) / stop(slope)
