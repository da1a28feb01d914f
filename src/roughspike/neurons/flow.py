"""The exact flow of a leaky integrate-and-fire neuron between spikes, as functions of elapsed time.

    dv = mu1 (i + c - v) dt        di = -mu2 i dt

    v(t) = e^{-mu1 t} v(0) + kappa(t) i(0) + (1 - e^{-mu1 t}) c        i(t) = e^{-mu2 t} i(0)

Everything is smooth in mu1 and mu2, through mu1 = mu2 and mu2 = 0.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from roughspike._types import default_float

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


def phi(rate: jax.Array, t: jax.Array | float) -> jax.Array:
    """Integral of e^{-rate s} over [0, t]: (1 - e^{-rate t}) / rate, and t at rate = 0."""
    x = rate * t
    small = jnp.abs(x) < 1e-2
    safe = jnp.where(small, 1.0, x)
    series = 1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5)))
    return t * jnp.where(small, series, -jnp.expm1(-safe) / safe)


def kappa(mu1: jax.Array, mu2: jax.Array, t: jax.Array | float) -> jax.Array:
    """Response of v at time t to a unit of i at time 0: mu1 (e^{-mu2 t} - e^{-mu1 t}) / (mu1 - mu2)."""
    # one branch for both values, so that the derivatives are right at mu1 = mu2 too (those of min and abs are not)
    ordered = mu1 >= mu2
    slow = jnp.where(ordered, mu2, mu1)
    gap = jnp.where(ordered, mu1 - mu2, mu2 - mu1)
    return mu1 * jnp.exp(-slow * t) * phi(gap, t)


def convolve(kernel: Callable[[jax.Array], jax.Array], shape: Callable[[jax.Array], jax.Array], t: float) -> jax.Array:
    """Integral of kernel(t - s) shape(s) over s in [0, t], by Gauss-Legendre quadrature with 8 nodes.

    Called once per run with times inside one step, where both factors are smooth: exact to rounding.
    """
    nodes = jnp.asarray(0.5 * t * (_NODES + 1), default_float())
    weights = jnp.asarray(0.5 * t * _WEIGHTS, default_float())
    return jnp.sum(weights * kernel(t - nodes) * shape(nodes))
