"""How a Brownian motion that is drawn on a grid runs inside a step."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable

import equinox as eqx
import jax


class AbstractDriver(eqx.Module):
    """A smooth path inside each step of length h, made of independent standard normals drawn once per step.

    The path does not depend on where the events fall, so the solution is an ODE with events and its derivative is the
    recursion (6)-(7) of the theory, noise included (theory, section 7).
    """

    @property
    @abc.abstractmethod
    def num_normals(self) -> int:
        """Normals per step and Brownian motion."""

    @abc.abstractmethod
    def slopes(self, h: float) -> tuple[Callable[[jax.Array], jax.Array], ...]:
        """dB/ds at s in [0, h] per unit of each normal."""

    @abc.abstractmethod
    def bridge_variance(self, r: jax.Array | float, h: float) -> jax.Array | float:
        """Variance at s = r h of the Brownian motion given this path: what the driver leaves out."""


class LinearDriver(AbstractDriver):
    """B(r h) = B(0) + r dB: strong order 1 for spike times, weak order 2 with the bridge correction. The default."""

    @property
    def num_normals(self) -> int:
        """1: the increment."""
        return 1

    def slopes(self, h: float) -> tuple[Callable[[jax.Array], jax.Array], ...]:
        """1 / sqrt(h)."""
        return (lambda s: 0.0 * s + 1 / math.sqrt(h),)

    def bridge_variance(self, r: jax.Array | float, h: float) -> jax.Array | float:
        """h r (1 - r)."""
        return h * r * (1 - r)


class ParabolaDriver(AbstractDriver):
    """B(r h) = B(0) + r dB + 6 r (1 - r) H, H ~ N(0, h / 12): strong order 1.5 for one more normal per step."""

    @property
    def num_normals(self) -> int:
        """2: the increment and H."""
        return 2

    def slopes(self, h: float) -> tuple[Callable[[jax.Array], jax.Array], ...]:
        """1 / sqrt(h), and 6 (1 - 2 s / h) sqrt(h / 12) / h."""
        return (
            lambda s: 0.0 * s + 1 / math.sqrt(h),
            lambda s: 6 * (1 - 2 * s / h) * math.sqrt(h / 12) / h,
        )

    def bridge_variance(self, r: jax.Array | float, h: float) -> jax.Array | float:
        """h r (1 - r) (1 - 3 r (1 - r))."""
        return h * r * (1 - r) * (1 - 3 * r * (1 - r))


class ExplicitEuler(LinearDriver):
    """The scheme of the published code, for reproduction: explicit Euler on the grid and the hazard of the left end.

        v <- v + h mu1 (i + c - v) + sigma dB        s <- s + h lambda(v) with v at the start of the step

    A spike lies where s, then linear in the step, reaches 0. Mean spike times are biased at order h: on the neuron of
    Fig. 1 at dt 1e-2 by -5e-3, -7e-3 and -1.5e-2 (+- 1e-3) for the first three, where `LinearDriver` has some 1e-5.
    """

    def bridge_variance(self, r: jax.Array | float, h: float) -> jax.Array | float:
        """0: the scheme ignores what the grid leaves out."""
        return 0.0 * r * h
