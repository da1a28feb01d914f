"""The surrogate-gradient baseline: same network, grid and readout, spikes rounded to the grid, one smooth lie.

    v <- a v + k i,   i <- b i + W z,   z = 1{v >= 1},   v <- v - z,   dz/dv := 1 / (1 + slope |v - 1|)^2

Exact flow between grid points, so that the only differences to `rs.simulate` are where a spike lies and
what its derivative is. Written as leanly as we can: one scan per layer, the product of a layer inside of it or for all
steps at once (`inside`), backward pass by JAX or by hand (`by_hand`); a benchmark takes the fastest of these.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Constants(NamedTuple):
    """Of a grid: e^{-h / tau_mem}, e^{-h / tau_syn}, response of v to i over a step; slope of the surrogate."""

    a: float
    b: float
    k: float
    slope: float = 10.0


def constants(tau_mem: float, tau_syn: float, h: float) -> Constants:
    """Exact for steps of length h; the time constants must differ."""
    mu1, mu2 = 1 / tau_mem, 1 / tau_syn
    a, b = math.exp(-mu1 * h), math.exp(-mu2 * h)
    return Constants(a, b, mu1 * (b - a) / (mu1 - mu2))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def spike(x: jax.Array, slope: float) -> jax.Array:
    """1{x >= 0}, with the derivative of the fast sigmoid."""
    del slope
    return (x >= 0).astype(x.dtype)


@spike.defjvp
def _(slope, primal, tangent):
    (x,), (dx,) = primal, tangent
    return spike(x, slope), dx / (1 + slope * jnp.abs(x)) ** 2


def binned(times: jax.Array, h: float, steps: int) -> jax.Array:
    """Input spikes (batch, channels, capacity) as counts (steps, channels, batch)."""
    times = times.transpose(2, 1, 0)
    n = jnp.where(jnp.isfinite(times), jnp.floor(times / h), steps).astype(jnp.int32)
    rows, columns = (jax.lax.broadcasted_iota(jnp.int32, n.shape, k) for k in (1, 2))
    return jnp.zeros((steps, *times.shape[1:])).at[n, rows, columns].add(1.0, mode="drop")


def layer(c: Constants, weights: jax.Array, sent: jax.Array, inside: bool, by_hand: bool) -> jax.Array:
    """Spikes (steps, post, batch) of a layer that gets `sent` (steps, pre, batch)."""
    if inside:
        return _product_by_hand(c, weights, sent) if by_hand else _product_scan(c, weights, sent)[0]
    current = jnp.einsum("po,npb->nob", weights, sent)
    return _by_hand(c, current) if by_hand else _scan(c, current)[0]


def readout(c: Constants, weights: jax.Array, sent: jax.Array) -> jax.Array:
    """Voltage (steps, post, batch) of a membrane that does not spike."""
    current = jnp.einsum("po,npb->nob", weights, sent)

    def body(state, x):
        v, i = state
        v, i = c.a * v + c.k * i, c.b * i + x
        return (v, i), v

    zero = jnp.zeros(current.shape[1:])
    return jax.lax.scan(body, (zero, zero), current)[1]


def _step(c: Constants, state, x):
    v, i = state
    v, i = c.a * v + c.k * i, c.b * i + x
    z = spike(v - 1.0, c.slope)
    return (v - z, i), z, v


def _scan(c: Constants, current: jax.Array):
    """Spikes, and the potential that they were decided on."""

    def body(state, x):
        state, z, v = _step(c, state, x)
        return state, (z, v)

    zero = jnp.zeros(current.shape[1:])
    return jax.lax.scan(body, (zero, zero), current)[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _by_hand(c: Constants, current: jax.Array) -> jax.Array:
    return _scan(c, current)[0]


def _pull(c, p, v, on_z):
    on_v, on_i = p
    on_before = on_v + (on_z - on_v) / (1 + c.slope * jnp.abs(v - 1.0)) ** 2
    return c.a * on_before, c.k * on_before + c.b * on_i


def _backward(c, v, on_z):
    def body(p, inputs):
        return _pull(c, p, *inputs), p[1]

    zero = jnp.zeros(v.shape[1:])
    return (jax.lax.scan(body, (zero, zero), (v, on_z), reverse=True)[1],)


_by_hand.defvjp(_scan, _backward)


def _product_scan(c: Constants, weights: jax.Array, sent: jax.Array):
    def body(state, sent):
        state, z, v = _step(c, state, weights.T @ sent)
        return state, (z, v)

    zero = jnp.zeros((weights.shape[1], sent.shape[2]))
    return jax.lax.scan(body, (zero, zero), sent)[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def forced(c: Constants, current: jax.Array, spikes: jax.Array, v: jax.Array) -> jax.Array:
    """Given spikes (steps, post, batch), with the surrogate derivative in `current` at the potentials `v`."""
    del c, current, v
    return spikes


def _forced_forward(c, current, spikes, v):
    del c, current
    return spikes, v


def _forced_backward(c, v, on_z):
    nothing = jnp.zeros_like(v)
    return *_backward(c, v, on_z), nothing, nothing


forced.defvjp(_forced_forward, _forced_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product_by_hand(c: Constants, weights: jax.Array, sent: jax.Array) -> jax.Array:
    return _product_scan(c, weights, sent)[0]


def _product_forward(c, weights, sent):
    z, v = _product_scan(c, weights, sent)
    return z, (weights, sent, v)


def _product_backward(c, kept, on_z):
    weights, sent, v = kept

    def body(carry, inputs):
        p, on_weights = carry
        sent, v, on_z = inputs
        on_current = p[1]
        return (_pull(c, p, v, on_z), on_weights + sent @ on_current.T), weights @ on_current

    zero = jnp.zeros(v.shape[1:])
    start = (zero, zero), jnp.zeros_like(weights)
    (_, on_weights), on_sent = jax.lax.scan(body, start, (sent, v, on_z), reverse=True)
    return on_weights, on_sent


_product_by_hand.defvjp(_product_forward, _product_backward)
