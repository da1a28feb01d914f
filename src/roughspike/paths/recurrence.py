"""Linear recurrences in parallel over blocks of time: what a known spike train leaves of a linear neuron.

Between recorded spikes the membrane potential, the synaptic current and every low-pass filter obey
y[k+1] = a[k] y[k] + b[k]. The time axis is cut into blocks of about sqrt(S) entries, all blocks run at once from
zero, and a short scan joins them through the products of a. The result is exact, without a burn-in, and takes
2 sqrt(S) sequential steps in place of S.
"""

from __future__ import annotations

import math

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
    *lanes, steps = a.shape
    length = max(1, math.isqrt(max(steps - 1, 1)) + 1)
    blocks = -(-steps // length)
    pad = [(0, 0)] * len(lanes) + [(0, blocks * length - steps)]
    in_blocks = (*lanes, blocks, length)
    a_blocks = jnp.moveaxis(jnp.pad(a, pad, constant_values=1.0).reshape(in_blocks), -1, 0)
    b_blocks = jnp.moveaxis(jnp.pad(b, pad).reshape(in_blocks), -1, 0)

    def inside(carry, ab):
        particular, product = carry
        ak, bk = ab
        return (ak * particular + bk, ak * product), carry

    zero = jnp.zeros(in_blocks[:-1], a.dtype)
    (end, gain), (particular, product) = jax.lax.scan(inside, (zero, zero + 1), (a_blocks, b_blocks))

    def across(y, gain_end):
        g, e = gain_end
        return g * y + e, y

    last, starts = jax.lax.scan(across, y0, (jnp.moveaxis(gain, -1, 0), jnp.moveaxis(end, -1, 0)))
    values = particular + product * jnp.moveaxis(starts, 0, -1)[None]
    values = jnp.moveaxis(values, 0, -1).reshape(*lanes, blocks * length)[..., :steps]
    return jnp.concatenate([values, last[..., None]], axis=-1)


@linear_recurrence.defjvp
def _linear_recurrence_jvp(primals, tangents):
    a, b, y0 = primals
    da, db, dy0 = tangents
    y = linear_recurrence(a, b, y0)
    return y, linear_recurrence(a, db + da * y[..., :-1], dy0)
