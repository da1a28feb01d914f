"""The exponentials of a step as polynomials in the fraction of it, which cost a tenth of an exponential.

Inside a step of length h, at the fraction x in [0, 1]:

    membrane e^{-mu1 h x}        synapse e^{-mu2 h x}        response kappa(h x)

and, for a neuron that spikes at a rate, what the middle of a step must get of a current that arrives x before its end
for Simpson's rule to give the integral of the potential over the step, which is what its hazard feels:

    middle (6 int_0^x kappa(h u) du - kappa(h x)) / 4

Taylor polynomials about x = 1/2, whose error is (mu h / 2)^{n + 1} / (n + 1)!, n = 6 in float32 and 10 in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.neurons.flow import kappa

Polynomial = tuple[jax.Array, ...]


class Decay(NamedTuple):
    """Coefficients in x - 1/2, lowest first, and the rates per step mu1 h and mu2 h; `middle` where it is needed."""

    membrane: Polynomial
    synapse: Polynomial
    response: Polynomial
    rate1: jax.Array
    rate2: jax.Array
    middle: Polynomial | None = None

    @property
    def parts(self) -> int:
        """How many numbers a spike that arrives in a step leaves there, per unit weight."""
        return 2 if self.middle is None else 3


def decay_polynomials(mu: jax.Array, h: float, middle: bool = False) -> Decay:
    """The polynomials for the rates `mu` = (mu1, mu2)."""
    degree = 6 if mu.dtype == jnp.float32 else 10
    rate1, rate2 = mu[0] * h, mu[1] * h
    membrane, synapse = [jnp.exp(-0.5 * rate1)], [jnp.exp(-0.5 * rate2)]
    response = [kappa(mu[0], mu[1], 0.5 * h)]
    for n in range(1, degree + 1):
        response.append(rate1 / n * (synapse[-1] - response[-1]))  # kappa' = mu1 (e^{-mu2 t} - kappa)
        membrane.append(-rate1 / n * membrane[-1])
        synapse.append(-rate2 / n * synapse[-1])
    found = Decay(tuple(membrane), tuple(synapse), tuple(response), rate1, rate2)
    return found._replace(middle=_middle(found.response)) if middle else found


def _middle(response: Polynomial) -> Polynomial:
    """(6 times the integral of `response` from 0 - `response`) / 4."""
    integral = [0.0, *(c / (k + 1) for k, c in enumerate(response))]
    integral[0] = -sum(c * (-0.5) ** k for k, c in enumerate(integral))
    return tuple((6 * a - b) / 4 for a, b in zip(integral, [*response, 0.0], strict=True))


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


def left_of_step(decay: Decay, x: Any) -> tuple[Any, ...]:
    """What a unit of current that arrives at the fraction x adds to i and to v at the end of the step, and, where it is
    needed, to v in the middle.
    """
    return tuple(horner(p, 0.5 - x) for p in _left(decay))


def slopes_of_step(decay: Decay, x: Any) -> tuple[Any, ...]:
    """Derivatives of `left_of_step` in x."""
    return tuple(-slope(p, 0.5 - x) for p in _left(decay))


def _left(decay: Decay) -> tuple[Polynomial, ...]:
    rest = () if decay.middle is None else (decay.middle,)
    return (decay.synapse, decay.response, *rest)
