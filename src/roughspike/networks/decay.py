"""The exponentials of a step as polynomials in the fraction of it, which cost a tenth of an exponential.

Inside a step of length h, at the fraction x in [0, 1]:

    membrane e^{-mu1 h x}        synapse e^{-mu2 h x}        response kappa(h x)

Taylor polynomials about x = 1/2, whose error is (mu h / 2)^{n + 1} / (n + 1)!, n = 6 in float32 and 10 in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.neurons.flow import kappa

Polynomial = tuple[jax.Array, ...]


class Decay(NamedTuple):
    """Coefficients in x - 1/2, lowest first, and the rates per step mu1 h and mu2 h."""

    membrane: Polynomial
    synapse: Polynomial
    response: Polynomial
    rate1: jax.Array
    rate2: jax.Array


def decay_polynomials(mu: jax.Array, h: float) -> Decay:
    """The three polynomials for the rates `mu` = (mu1, mu2)."""
    degree = 6 if mu.dtype == jnp.float32 else 10
    rate1, rate2 = mu[0] * h, mu[1] * h
    membrane, synapse = [jnp.exp(-0.5 * rate1)], [jnp.exp(-0.5 * rate2)]
    response = [kappa(mu[0], mu[1], 0.5 * h)]
    for n in range(1, degree + 1):
        response.append(rate1 / n * (synapse[-1] - response[-1]))  # kappa' = mu1 (e^{-mu2 t} - kappa)
        membrane.append(-rate1 / n * membrane[-1])
        synapse.append(-rate2 / n * synapse[-1])
    return Decay(tuple(membrane), tuple(synapse), tuple(response), rate1, rate2)


def horner(coefficients: Polynomial, x: Any) -> Any:
    """The polynomial at x - 1/2 = `x`."""
    value = coefficients[-1]
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


def slope(coefficients: Polynomial, x: Any) -> Any:
    """The derivative of `horner` in x."""
    n = len(coefficients) - 1
    value = n * coefficients[-1]
    for k in range(n - 1, 0, -1):
        value = value * x + k * coefficients[k]
    return value


def left_of_step(decay: Decay, x: Any) -> tuple[Any, Any]:
    """What a unit of current that arrives at the fraction x adds to i and to v at the end of the step."""
    left = 0.5 - x
    return horner(decay.synapse, left), horner(decay.response, left)
