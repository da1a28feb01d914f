"""The contract of a neuron with dynamics of its own: what a new model in one file must say."""

from __future__ import annotations

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike.neurons.escape import AbstractEscape


class Variables(NamedTuple):
    """State of neurons between spikes, each of their shape: potential, synaptic current, and what else a model has."""

    v: jax.Array
    i: jax.Array
    more: tuple[jax.Array, ...] = ()


class AbstractNeuron(eqx.Module):
    """A neuron that spikes at an escape rate lambda(v), with dynamics of its own.

        between spikes   d(v, i, more) = drift(y) dt + (force, 0, 0) dt,    force = mu1 c + sigma dB / dt
        spike            when the hazard since the last spike exceeds alpha - log u
        transition       y <- transition(y)

    A member gives the fields below, `start`, `drift` and `transition`, and, if it knows its flow better than one
    Runge-Kutta step does, `flow`. The engines put spikes off the grid as roots of a cubic hazard and differentiate them
    by equation (6), for any member; the force is constant in a step. Synapses add to i, which must decay by itself,
    di = -mu2 i dt.

    - `mu`: rates (membrane, synaptic current) in 1/time.
    - `sigma`: size of the noise in v. `noise`: is there any? (static)
    - `alpha`: soft refractory threshold. `escape`: the escape rate.
    """

    mu: eqx.AbstractVar[jax.Array]
    sigma: eqx.AbstractVar[jax.Array]
    alpha: eqx.AbstractVar[jax.Array]
    escape: eqx.AbstractVar[AbstractEscape]
    noise: eqx.AbstractVar[bool]

    @abc.abstractmethod
    def start(self, v0: jax.Array, i0: jax.Array) -> Variables:
        """The state at the start, given potential and current."""

    @abc.abstractmethod
    def drift(self, y: Variables) -> Variables:
        """dy/dt without input current and noise, elementwise in neurons."""

    @abc.abstractmethod
    def transition(self, y: Variables) -> Variables:
        """What a spike does to its own neuron."""

    def flow(self, y: Variables, force: jax.Array, t: jax.Array) -> Variables:
        """The state after a time t of at most a step: one Runge-Kutta step of order 4, smooth in t."""

        def slope(y: Variables) -> Variables:
            d = self.drift(jax.lax.optimization_barrier(y))  # or XLA would compute it once more for each of its users
            return d._replace(v=d.v + force)

        move = lambda k, by: jax.tree.map(lambda a, b: a + by * b, y, k)  # noqa: E731
        k1 = slope(y)
        k2 = slope(move(k1, 0.5 * t))
        k3 = slope(move(k2, 0.5 * t))
        k4 = slope(move(k3, t))
        return jax.tree.map(lambda a, b, c, d, e: a + t / 6 * (b + 2 * c + 2 * d + e), y, k1, k2, k3, k4)

    @property
    def noise_channels(self) -> tuple[int, ...]:
        """The Brownian motions that are drawn."""
        return (0,) if self.noise else ()

    @property
    def has_diffusion(self) -> bool:
        """Does any Brownian motion drive this neuron?"""
        return self.noise

    def rate(self, v: jax.Array, variance: jax.Array) -> jax.Array:
        """lambda(v), averaged over the noise that the grid leaves out."""
        return jnp.exp(self.escape.mean_log_rate(v, variance))
