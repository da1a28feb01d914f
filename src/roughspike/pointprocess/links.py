"""Links: the intensity of a neuron given its potential."""

from __future__ import annotations

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp


class AbstractLink(eqx.Module):
    """Intensity lambda(u) > 0 at potential u, elementwise.

    A member gives its logarithm, and an upper bound if there is one, which thinning needs. A bounded member:

        class Logistic(AbstractLink):
            bound = 2.0
            def log_rate(self, u): return jnp.log(2.0) + jax.nn.log_sigmoid(u)
    """

    @property
    @abc.abstractmethod
    def bound(self) -> float | None:
        """The least upper bound of the intensity, a plain number; None if there is none."""

    @abc.abstractmethod
    def log_rate(self, u: jax.Array) -> jax.Array:
        """log lambda(u)."""

    def rate(self, u: jax.Array) -> jax.Array:
        """lambda(u)."""
        return jnp.exp(self.log_rate(u))

    def log_rest(self, u: jax.Array) -> jax.Array:
        """log(1 - lambda(u) / bound): of a candidate to be rejected."""
        assert self.bound is not None
        return jnp.log1p(-self.rate(u) / self.bound)

    def chances(self, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        """lambda(u) / bound and the rest to 1, without a logarithm."""
        assert self.bound is not None
        taken = self.rate(u) / self.bound
        return taken, 1 - taken


class SigmoidIntensity(AbstractLink):
    """lambda(u) = f + (a - f) / (1 + e^-u), between the floor f and the amplitude a.

    **Arguments**

    - `amplitude`: the largest intensity of a neuron, in 1 / time.
    - `floor`: the least one. Above 0 it bounds what one spike in an unlikely place can cost, and with it the variance
      of estimators that divide by an intensity.

    **Reference**: Kajino (2021), section 5.
    """

    amplitude: float = eqx.field(static=True, default=1.0)
    floor: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        if not (math.isfinite(self.amplitude) and self.amplitude > self.floor >= 0):
            raise ValueError(
                f"amplitude must be finite and greater than floor, floor not negative, got amplitude={self.amplitude} "
                f"and floor={self.floor}: they are the largest and least intensity of a neuron"
            )

    @property
    def bound(self) -> float:
        """The amplitude."""
        return float(self.amplitude)

    def log_rate(self, u: jax.Array) -> jax.Array:
        """log lambda(u), without underflow."""
        above = math.log(self.amplitude - self.floor) + jax.nn.log_sigmoid(u)
        return jnp.logaddexp(above, math.log(self.floor)) if self.floor else above

    def rate(self, u: jax.Array) -> jax.Array:
        """lambda(u)."""
        return self.floor + (self.amplitude - self.floor) * jax.nn.sigmoid(u)

    def log_rest(self, u: jax.Array) -> jax.Array:
        """log of (1 - f / a) / (1 + e^u)."""
        return math.log1p(-self.floor / self.amplitude) + jax.nn.log_sigmoid(-u)

    def chances(self, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        """lambda(u) / bound and the rest to 1, either of them to full accuracy however small."""
        small = jnp.exp(-jnp.abs(u))  # one exponential for both
        large = 1 / (1 + small)
        small = small * large
        up, down = jnp.where(u > 0, large, small), jnp.where(u > 0, small, large)
        floor = self.floor / self.amplitude
        return floor + (1 - floor) * up, (1 - floor) * down


class SoftplusIntensity(AbstractLink):
    """lambda(u) = a log(1 + e^u): exponential below 0, linear above; no bound.

    **Arguments**

    - `amplitude`: the slope a for large u, in 1 / time.
    """

    amplitude: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        _check_amplitude(self.amplitude)

    @property
    def bound(self) -> None:
        """None."""
        return None

    def log_rate(self, u: jax.Array) -> jax.Array:
        """log a + log softplus(u), with its asymptote u below -15."""
        far = u < -15.0
        return math.log(self.amplitude) + jnp.where(far, u, jnp.log(jax.nn.softplus(jnp.where(far, 0.0, u))))

    def rate(self, u: jax.Array) -> jax.Array:
        """a softplus(u)."""
        return self.amplitude * jax.nn.softplus(u)


class ExponentialIntensity(AbstractLink):
    """lambda(u) = a e^u, as in a generalised linear model; no bound, and a network that excites itself can explode.

    **Arguments**

    - `amplitude`: the intensity at potential 0, in 1 / time.
    """

    amplitude: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        _check_amplitude(self.amplitude)

    @property
    def bound(self) -> None:
        """None."""
        return None

    def log_rate(self, u: jax.Array) -> jax.Array:
        """log a + u."""
        return math.log(self.amplitude) + u


def _check_amplitude(amplitude: float) -> None:
    if not (math.isfinite(amplitude) and amplitude > 0):
        raise ValueError(f"amplitude must be greater than 0 and finite, got {amplitude}: it scales the intensity")
