"""The flow of a leaky membrane over any part of a step, as power series in the part of the step.

With y in [0, 1] the part of a step of length h that has passed, and a force that is straight in time,

    dv/dy = h (mu1 (i - v) + f0 + f1 y)        di/dy = h (-mu2 i + g0 + g1 y)

is linear in (v, i, f0, f1, g0, g1), and each response is a series in y that needs no special case at mu1 = mu2 or
mu2 = 0. For mu h <= 2, which `simulate` demands, the degrees below are exact to rounding. An engine that cuts steps at
spikes evaluates them by one small product, where exponentials of every part would cost more.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

_DEGREE = {"float32": 15, "float64": 24}


class Series(NamedTuple):
    """Coefficients (degree + 1, 6) of the responses of v and of i to (v, i, f0, f1, g0, g1)."""

    on_v: jax.Array
    on_i: jax.Array


class Force(NamedTuple):
    """What drives a step: on v and on i, at its start and how much more at its end. None: nothing."""

    v0: jax.Array
    v1: jax.Array | None
    i0: jax.Array | None
    i1: jax.Array | None


def flow_series(mu: jax.Array, h: float) -> Series:
    """The coefficients, by the recursion that the differential equation gives."""
    unit = jnp.eye(6, dtype=mu.dtype)
    v, i = unit[0], unit[1]
    on_v, on_i = [v], [i]
    for n in range(_DEGREE[str(mu.dtype)]):
        push_v, push_i = mu[0] * (i - v), -mu[1] * i
        if n < 2:  # the constant, then the slope of the force
            push_v, push_i = push_v + unit[2 + n], push_i + unit[4 + n]
        v, i = h / (n + 1) * push_v, h / (n + 1) * push_i
        on_v.append(v)
        on_i.append(i)
    return Series(jnp.stack(on_v), jnp.stack(on_i))


def flow(
    series: Series, state: tuple[jax.Array, jax.Array], force: Force, a: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(v, i) after the part y of a step, from (v, i) at the part a of it."""
    v, i = state
    v0 = _at(force.v0, force.v1, a)
    i0 = None if force.i0 is None else _at(force.i0, force.i1, a)
    powers = powers_of(y, series.on_v.shape[0])
    to_v, to_i = powers @ series.on_v, powers @ series.on_i
    new_v, new_i = to_v[0] * v + to_v[1] * i, to_i[1] * i
    for k, push in ((2, v0), (3, force.v1), (4, i0), (5, force.i1)):
        if push is not None:
            new_v = new_v + to_v[k] * push
            new_i = new_i + to_i[k] * push if k > 3 else new_i
    return new_v, new_i


def velocity(
    mu: jax.Array, h: float, state: tuple[jax.Array, jax.Array], force: Force, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """d(v, i)/dy at the part y of the step."""
    v, i = state
    on_v = h * (mu[0] * (i - v) + _at(force.v0, force.v1, y))
    on_i = -h * mu[1] * i
    return on_v, on_i if force.i0 is None else on_i + h * _at(force.i0, force.i1, y)


def _at(start: jax.Array, rise: jax.Array | None, part: jax.Array) -> jax.Array:
    return start if rise is None else start + part * rise


def powers_of(y: jax.Array, count: int) -> jax.Array:
    """(1, y, y^2, ...), from the binary digits of the exponent: one fused operation, not one for each power."""
    exponent = jnp.arange(count, dtype=jnp.int32)
    powers, square = jnp.ones(count, y.dtype), y
    for digit in range((count - 1).bit_length()):
        powers = powers * jnp.where((exponent >> digit) & 1 == 1, square, 1.0)
        square = square * square
    return powers
