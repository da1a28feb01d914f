"""Linear recurrences in parallel over blocks of time: what a known spike train leaves of a linear neuron.

Between recorded spikes the membrane potential, the synaptic current and every low-pass filter obey
y[k+1] = a[k] y[k] + b[k]. The time axis is cut into blocks of about sqrt(S) entries, all blocks run at once from
zero, and a short scan joins them through the products of a. The result is exact, without a burn-in, and takes
2 sqrt(S) sequential steps in place of S.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def linear_recurrence(
    a: Float[Array, "*lanes steps"], b: Float[Array, "*lanes steps"], y0: Float[Array, "*lanes"]
) -> Float[Array, "*lanes steps+1"]:
    """All values y[0], ..., y[S] of y[k+1] = a[k] y[k] + b[k], y[0] = y0, along the last axis.

    The tangent obeys the same recurrence, dy[k+1] = a[k] dy[k] + (db[k] + da[k] y[k]), and is computed by it, so
    forward and reverse mode cost one more recurrence each and store only a and y.
    """
    return _solve(_in_blocks(a), b, y0)


@linear_recurrence.defjvp
def _linear_recurrence_jvp(primals, tangents):
    a, b, y0 = primals
    da, db, dy0 = tangents
    blocks = _in_blocks(a)
    y = _solve(blocks, b, y0)
    return y, _solve(blocks, db + da * y[..., :-1], dy0)


class _Blocks(NamedTuple):
    """The factors in blocks, time within a block first: a, and the product of a from the start of each block."""

    a: jax.Array
    product: jax.Array
    gain: jax.Array  # product over the whole block


def _in_blocks(a: jax.Array) -> _Blocks:
    def grow(product, ak):
        return ak * product, product

    blocks = _split(a, fill=1.0)
    gain, product = jax.lax.scan(grow, jnp.ones_like(blocks[0]), blocks)
    return _Blocks(blocks, product, gain)


def _solve(blocks: _Blocks, b: jax.Array, y0: jax.Array) -> jax.Array:
    """The solution for these factors: linear in (b, y0), so that reverse mode transposes two plain scans."""

    def inside(particular, ab):
        ak, bk = ab
        return ak * particular + bk, particular

    def across(y, gain_end):
        gain, end = gain_end
        return gain * y + end, y

    end, particular = jax.lax.scan(inside, jnp.zeros_like(blocks.gain), (blocks.a, _split(b, fill=0.0)))
    last, starts = jax.lax.scan(across, y0, (jnp.moveaxis(blocks.gain, -1, 0), jnp.moveaxis(end, -1, 0)))
    values = particular + blocks.product * jnp.moveaxis(starts, 0, -1)[None]
    values = jnp.moveaxis(values, 0, -1).reshape(*b.shape[:-1], -1)[..., : b.shape[-1]]
    return jnp.concatenate([values, last[..., None]], axis=-1)


def _split(x: jax.Array, fill: float) -> jax.Array:
    """Shape (lanes, steps) as (length of a block, lanes, blocks), padded with `fill`."""
    *lanes, steps = x.shape
    length = math.isqrt(max(steps - 1, 1)) + 1
    blocks = -(-steps // length)
    pad = [(0, 0)] * len(lanes) + [(0, blocks * length - steps)]
    return jnp.moveaxis(jnp.pad(x, pad, constant_values=fill).reshape(*lanes, blocks, length), -1, 0)
