"""Numbers with a scale: value 2^(unit exponent), so that kernels of long trains do not overflow.

An edge of the Goursat problem belongs to a column, and a column has one scale per lane: a count of units, which grows
by one or two as soon as the column's lower corner exceeds 2^unit or 4^unit. All factors are powers of 2, so nothing is
rounded. A unit of 0 stands for no scales at all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Scaled(NamedTuple):
    """Numbers value 2^(unit exponent); the exponents are constants to every derivative."""

    value: jax.Array
    exponent: jax.Array


def scale_unit(dtype: Any, scaled: bool) -> int:
    """Far from the largest number, and above what one slot of a path multiplies the kernel by."""
    return scaled * (40 if np.dtype(dtype).itemsize == 4 else 300)


def steps_between(scale: jax.Array, column: jax.Array, unit: int) -> jax.Array:
    """The factor from one scale to another."""
    behind = column - scale
    small = jnp.where(behind < 1.5, 2.0**-unit, jnp.where(behind < 2.5, 4.0**-unit, 0))
    return jnp.where(behind < -0.5, 2.0**unit, jnp.where(behind < 0.5, 1, small)).astype(scale.dtype)


def steps_of(corner: jax.Array, unit: int) -> tuple[jax.Array, jax.Array]:
    """How many units to go up where a corner has this value, and the factor that this means."""
    large = jnp.abs(corner)
    steps = (large > 2.0**unit).astype(corner.dtype) + (large > 4.0**unit).astype(corner.dtype)
    return steps, steps_between(jnp.zeros_like(steps), steps, unit)


def quotient(above: Scaled, first: Scaled, second: Scaled, unit: int) -> jax.Array:
    """above / sqrt(first second)."""
    values = above.value / jnp.sqrt(first.value) / jnp.sqrt(second.value)
    if not unit:
        return values
    half = jnp.exp2(0.5 * unit * (above.exponent - 0.5 * (first.exponent + second.exponent)))
    return values * half * half  # in two steps: the whole factor may be too small a number where the quotient is not


def summed(numbers: Scaled, unit: int) -> Scaled:
    """Sum over the last axis."""
    top = jnp.max(numbers.exponent, axis=-1)
    if not unit:
        return Scaled(jnp.sum(numbers.value, axis=-1), top)
    return Scaled(jnp.sum(numbers.value * jnp.exp2(unit * (numbers.exponent - top[..., None])), axis=-1), top)
