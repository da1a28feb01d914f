"""The earliest root of several functions in a bracket, to machine precision, by few evaluations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

_MOST = 100


class _Bracket(NamedTuple):
    """Points a (newest), b (other sign) and c (before), with values, in Chandrupatla's notation; is a the root?"""

    a: jax.Array
    b: jax.Array
    c: jax.Array
    fa: jax.Array
    fb: jax.Array
    fc: jax.Array
    share: jax.Array
    exact: jax.Array
    done: jax.Array
    turns: jax.Array


def first_root(
    function: Callable[[jax.Array], jax.Array], at_zero: jax.Array, at_one: jax.Array, wanted: jax.Array
) -> jax.Array:
    """The smallest x found in [0, 1] with function(x) >= 0 up to rounding, a root; 1 where not `wanted`.

    `function` is scalar, negative at 0 and >= 0 at 1: the values there are given. Inverse quadratic interpolation
    with bisection as a fallback, until the bracket or the step of the secant is down to rounding; typically 1 to 5
    evaluations, at most 100. No derivative flows through it.

    **Reference**: T. R. Chandrupatla, Advances in Engineering Software 28 (1997) 145-149.
    """
    dtype = at_one.dtype
    resolution = float(jnp.finfo(dtype).eps)
    one, zero = jnp.ones((), dtype), jnp.zeros((), dtype)

    def turn(s: _Bracket) -> _Bracket:
        x = s.a + s.share * (s.b - s.a)
        fx = function(x)
        same = (fx >= 0) == (s.fa >= 0)
        c, fc = jnp.where(same, s.a, s.b), jnp.where(same, s.fa, s.fb)
        b, fb = jnp.where(same, s.b, s.a), jnp.where(same, s.fb, s.fa)
        exact = jnp.abs(fx * (x - s.a)) <= resolution * jnp.abs(fx - s.fa)
        return _next(x, b, c, fx, fb, fc, exact, s.turns + 1, resolution)

    share, at_end = _clip(at_one / (at_one - at_zero)), at_one == 0
    turns = jnp.zeros((), jnp.int32)
    start = _Bracket(one, zero, one, at_one, at_zero, at_one, share, at_end, ~wanted | at_end, turns)
    end = jax.lax.while_loop(lambda s: ~s.done & (s.turns < _MOST), turn, start)
    return jnp.where((end.fa >= 0) | end.exact, end.a, end.b)


def _next(x, b, c, fx, fb, fc, exact, turns, resolution) -> _Bracket:
    """Where to look next: the share of the way from x to b."""
    width = jnp.abs(b - x)
    least = resolution / jnp.maximum(width, resolution)
    xi = (x - b) / jnp.where(c == b, 1.0, c - b).astype(x.dtype)
    phi = (fx - fb) / _nonzero(fc - fb)
    smooth = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
    quadratic = fx / _nonzero(fb - fx) * fc / _nonzero(fb - fc) + (c - x) / _nonzero(b - x) * fx / _nonzero(
        fc - fx
    ) * fb / _nonzero(fc - fb)
    share = jnp.clip(jnp.where(smooth, quadratic, 0.5), least, 1 - least).astype(x.dtype)
    return _Bracket(x, b, c, fx, fb, fc, share, exact, (width <= 2 * resolution) | exact, turns)


def _nonzero(x: jax.Array) -> jax.Array:
    return jnp.where(x == 0, jnp.ones_like(x), x)


def _clip(share: jax.Array) -> jax.Array:
    """A first guess by the secant, kept away from the ends."""
    return jnp.clip(jnp.where(jnp.isfinite(share), share, 0.5), 0.01, 0.99).astype(share.dtype)
