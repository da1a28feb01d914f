"""An adaptive leaky integrate-and-fire neuron: a third variable that answers to spikes and to the potential."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._constraints import KeepsSign, Positive, Real, parameter
from roughspike._types import as_float, concrete
from roughspike.neurons.base import AbstractNeuron, Variables
from roughspike.neurons.escape import AbstractEscape, ExponentialEscape


class AdaptiveSLIF(AbstractNeuron):
    """Stochastic leaky integrate-and-fire neuron with adaptation w, driven by its spikes and by its potential.

        between spikes   dv = mu1 (i + c(t) - v - w) dt + sigma dB,   di = -mu2 i dt,   dw = mu3 (a v - w) dt
        spike            at the rate lambda(v), as `rs.SLIF`
        transition       v <- v - v_reset,   w <- w + b

    b > 0 slows a train down (spike-frequency adaptation). a > 0 pulls the potential back: with mu3 < mu1 it overshoots
    and, where 4 a mu1 mu3 > (mu1 - mu3)^2, rings (resonance). The flow over a part of a step is a Runge-Kutta step of
    order 4: at a rate of 0.2 per step, below 1e-7.

    **Arguments**

    - `mu`: rates (membrane, synaptic current, adaptation) in 1/time.
    - `a`, `b`: adaptation by the potential and by a spike.
    - `v_reset`, `alpha`, `escape`: as in `rs.SLIF`.
    - `sigma`: noise in the potential, in potential / sqrt(time); 0 here: none is ever drawn.

    **Raises** ValueError for rates that are not positive.

    **Reference**: Brette & Gerstner (2005), without the exponential term, which the escape rate replaces.

    >>> import jax.random as jr, roughspike as rs
    >>> cell = rs.Population(rs.AdaptiveSLIF(mu=(15.0, 50.0, 2.0), b=0.3), current=1.5)
    >>> sol = rs.simulate(cell, t1=2.0, dt=0.01, key=jr.key(0), num_samples=4)
    >>> sol.spikes.times.shape, bool(sol.result.ok)
    ((4, 1, 64), True)
    """

    mu: Float[Array, "3"] = parameter(KeepsSign(), unit="1/time")
    a: Float[Array, ""] = parameter(Real())
    b: Float[Array, ""] = parameter(Real())
    v_reset: Float[Array, ""] = parameter(Real())
    alpha: Float[Array, ""] = parameter(Positive())
    escape: AbstractEscape
    sigma: Float[Array, ""] = parameter(KeepsSign(), unit="1/sqrt(time)")
    noise: bool = eqx.field(static=True)

    def __init__(
        self,
        mu: Any = (15.0, 50.0, 2.0),
        a: Any = 0.0,
        b: Any = 0.2,
        v_reset: Any = 1.0,
        alpha: Any = 0.0,
        escape: AbstractEscape | None = None,
        sigma: Any = 0.0,
    ):
        self.mu = as_float(jnp.stack([as_float(x) for x in mu]) if isinstance(mu, tuple | list) else mu)
        host = concrete(self.mu)
        if self.mu.shape != (3,) or (host is not None and not np.all(host > 0)):
            raise ValueError(f"mu must be three positive rates (membrane, current, adaptation), got {mu}")
        self.a, self.b, self.v_reset, self.alpha = (as_float(x) for x in (a, b, v_reset, alpha))
        self.escape = ExponentialEscape() if escape is None else escape
        self.sigma = as_float(sigma)
        size = concrete(sigma)
        self.noise = size is None or bool(np.any(size != 0))

    def start(self, v0: jax.Array, i0: jax.Array) -> Variables:
        """Without adaptation."""
        return Variables(v0, i0, (jnp.zeros_like(v0),))

    def drift(self, y: Variables) -> Variables:
        """The linear equations above."""
        v, i, (w,) = y
        return Variables(self.mu[0] * (i - v - w), -self.mu[1] * i, (self.mu[2] * (self.a * v - w),))

    def transition(self, y: Variables) -> Variables:
        """v - v_reset, w + b."""
        v, i, (w,) = y
        return Variables(v - self.v_reset, i, (w + self.b,))
