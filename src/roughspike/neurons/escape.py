"""Escape rates: the intensity of a spike given the membrane potential."""

from __future__ import annotations

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from roughspike._constraints import Positive, Real, declare
from roughspike._types import as_float, concrete


class AbstractEscape(eqx.Module):
    """Intensity lambda(v) > 0 of a spike at membrane potential v.

    A member gives the logarithm of the rate and the relative curvature lambda'' / lambda, which the engine needs for
    the part of the noise that a grid does not resolve. A minimal member:

        class Power(AbstractEscape):
            exponent: Array = parameter(Positive())
            def log_rate(self, v):  return self.exponent * jnp.log(v)
            def curvature(self, v): return self.exponent * (self.exponent - 1) / v**2
    """

    @abc.abstractmethod
    def log_rate(self, v: jax.Array) -> jax.Array:
        """log lambda(v), elementwise, in the logarithm of 1 / time."""

    @abc.abstractmethod
    def curvature(self, v: jax.Array) -> jax.Array:
        """lambda''(v) / lambda(v), elementwise."""

    def rate(self, v: jax.Array) -> jax.Array:
        """lambda(v), elementwise."""
        return jnp.exp(self.log_rate(v))

    def mean_log_rate(self, v: jax.Array, variance: jax.Array | float) -> jax.Array:
        """log E lambda(v + N(0, variance)) for a small variance: the bridge correction (theory: engines, section 1).

        A driver that is linear inside a step misses the Brownian bridge around it; to second order the mean hazard
        at variance s^2 is lambda (1 + s^2 lambda'' / (2 lambda)), and exactly lambda e^{beta^2 s^2 / 2} for the
        exponential rate.
        """
        return self.log_rate(v) + 0.5 * variance * self.curvature(v)


class ExponentialEscape(AbstractEscape):
    """lambda(v) = exp(beta min(v - v_th, 10, 50 / beta)) / tau_s, the rate of Holberg & Salvi (2024).

    Their cap of 10 is e^50 / tau_s at their beta = 5; the other one keeps steeper rates there, finite in float32.

    **Arguments**

    - `beta`: inverse width of the threshold, in 1 / potential. beta -> infinity is the hard threshold.
    - `v_th`: threshold potential, where the rate is 1 / tau_s.
    - `tau_s`: time constant of the rate.
    """

    beta: jax.Array = eqx.field(converter=as_float, metadata=declare(Positive()), default=5.0)
    v_th: jax.Array = eqx.field(converter=as_float, metadata=declare(Real()), default=1.0)
    tau_s: jax.Array = eqx.field(converter=as_float, metadata=declare(Positive(), "time"), default=1.0)

    def __check_init__(self):
        _check_width(self)

    def log_rate(self, v: jax.Array) -> jax.Array:
        """beta min(v - v_th, 10, 50 / beta) - log tau_s."""
        above = v - self.v_th
        most = jnp.minimum(10.0, 50.0 / jax.lax.stop_gradient(self.beta))
        above = jnp.where(above < most, above, most)  # jnp.minimum would divide in its derivative
        return self.beta * above - jnp.log(self.tau_s)

    def curvature(self, v: jax.Array) -> jax.Array:
        """beta^2."""
        del v
        return self.beta**2


class SigmoidEscape(AbstractEscape):
    """lambda(v) = 1 / (tau_s (1 + exp(-beta (v - v_th)))): a rate bounded by 1 / tau_s.

    **Arguments** as for `ExponentialEscape`; the rate at threshold is 1 / (2 tau_s).
    """

    beta: jax.Array = eqx.field(converter=as_float, metadata=declare(Positive()), default=5.0)
    v_th: jax.Array = eqx.field(converter=as_float, metadata=declare(Real()), default=1.0)
    tau_s: jax.Array = eqx.field(converter=as_float, metadata=declare(Positive(), "time"), default=1.0)

    def __check_init__(self):
        _check_width(self)

    def log_rate(self, v: jax.Array) -> jax.Array:
        """log sigmoid(beta (v - v_th)) - log tau_s."""
        return jax.nn.log_sigmoid(self.beta * (v - self.v_th)) - jnp.log(self.tau_s)

    def curvature(self, v: jax.Array) -> jax.Array:
        """beta^2 (1 - p)(1 - 2 p), p = sigmoid(beta (v - v_th))."""
        p = jax.nn.sigmoid(self.beta * (v - self.v_th))
        return self.beta**2 * (1 - p) * (1 - 2 * p)


class SoftplusEscape(AbstractEscape):
    """lambda(v) = log(1 + exp(beta (v - v_th))) / tau_s: exponential below threshold, linear above.

    **Arguments** as for `ExponentialEscape`; the rate at threshold is log(2) / tau_s.
    """

    beta: jax.Array = eqx.field(converter=as_float, metadata=declare(Positive()), default=5.0)
    v_th: jax.Array = eqx.field(converter=as_float, metadata=declare(Real()), default=1.0)
    tau_s: jax.Array = eqx.field(converter=as_float, metadata=declare(Positive(), "time"), default=1.0)

    def __check_init__(self):
        _check_width(self)

    def log_rate(self, v: jax.Array) -> jax.Array:
        """log softplus(beta (v - v_th)) - log tau_s, with its asymptote x = beta (v - v_th) below x = -15."""
        x = self.beta * (v - self.v_th)
        far = x < -15.0
        log_softplus = jnp.where(far, x, jnp.log(jax.nn.softplus(jnp.where(far, 0.0, x))))
        return log_softplus - jnp.log(self.tau_s)

    def curvature(self, v: jax.Array) -> jax.Array:
        """beta^2 p (1 - p) / softplus(beta (v - v_th)), p = sigmoid(beta (v - v_th)); beta^2 far below threshold."""
        x = self.beta * (v - self.v_th)
        far = x < -15.0
        safe = jnp.where(far, 0.0, x)
        p = jax.nn.sigmoid(safe)
        return self.beta**2 * jnp.where(far, 1.0, p * (1 - p) / jax.nn.softplus(safe))


def _check_width(escape: ExponentialEscape | SigmoidEscape | SoftplusEscape) -> None:
    """Complain about a concrete beta < 0 or tau_s <= 0."""
    beta, tau_s = concrete(escape.beta), concrete(escape.tau_s)
    if beta is not None and not np.all(beta >= 0):
        raise ValueError(f"beta must not be negative (the rate grows with the potential), got {beta}: pass beta > 0")
    if tau_s is not None and not np.all(tau_s > 0):
        raise ValueError(f"tau_s must be greater than 0, got {tau_s}: it is the time constant of the rate")
