"""EnergyScore: a proper score of alpha-filtered spike trains, whose pathwise gradient is exact."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import as_float
from roughspike.losses.base import AbstractLoss
from roughspike.paths.recurrence import linear_recurrence
from roughspike.paths.spikes import SpikeTrain


class EnergyScore(AbstractLoss):
    """Sum over filters of E|X - y| - E|X - X'| / 2, where X, X', y are spike trains filtered by an alpha function.

        X(t) = sum_n a((t - tau_n) / tau),    a(r) = r e^{-r} for r > 0,    |X|^2 = int_{t0}^{t1} X(t)^2 dt / tau

    The norm adds all neurons. Averages run over simulated samples, different ones in the second term, and over
    recorded trials. The score is proper: over all models its mean is smallest at the law of the data.
    An unmatched spike far from the ends has |X|^2 = 1/4.

    **Which gradient it needs.** The pathwise one, nothing else. A spike that enters the window at t1 adds a((t - t1)
    / tau), which is 0 on all of [t0, t1], because the alpha function starts at 0: the loss is continuous there, and
    its horizon term is 0 (`with_horizon` changes nothing). It is continuous where neurons swap their order, too. A
    causal exponential would jump at its onset: each spike that passes a grid point would change the loss in a way
    that no pathwise gradient sees.

    Integrals are trapezoidal sums on a grid of step min(filters) / `resolution`, on which the filtered trains are
    exact for spike times off the grid. So the loss differs a little from the integral, and its gradient is exact for
    the loss.

    **Arguments**

    - `filters`: time constants tau, in the data's unit. Choose them near the precision that matters: 1 and 4 ms for a
      grasshopper's receptor.
    - `resolution`: grid points per shortest time constant.
    - `smoothing`: |x| is sqrt(|x|^2 + smoothing^2) - smoothing, which is proper as well, and differentiable where two
      trains are equal.

    **Reference**: Gneiting & Raftery (2007), section 4.2; van Rossum (2001) for distances of filtered trains.

    >>> import numpy as np, roughspike as rs
    >>> trains = rs.SpikeTrain(np.array([[[0.5, 1.0]], [[0.5, 1.1]]]), t1=2.0)
    >>> near, far = (rs.SpikeTrain(np.array([[0.5, t]]), t1=2.0) for t in (1.05, 1.5))
    >>> loss = rs.EnergyScore(filters=(0.1,))
    >>> bool(loss(trains, near) < loss(trains, far))
    True
    """

    filters: tuple[float, ...] = eqx.field(static=True)
    resolution: int = eqx.field(static=True)
    smoothing: float = eqx.field(static=True)

    def __init__(self, filters: tuple[float, ...], resolution: int = 8, smoothing: float = 1e-2):
        self.filters = tuple(float(tau) for tau in np.atleast_1d(np.asarray(filters, float)))
        self.resolution, self.smoothing = int(resolution), float(smoothing)
        if not self.filters or not all(math.isfinite(tau) and tau > 0 for tau in self.filters):
            raise ValueError(f"filters must be time constants above 0, got {filters}: pass filters=(0.001, 0.004)")
        if self.resolution < 2:
            raise ValueError(f"resolution must be at least 2 grid points per filter, got {resolution}: pass 8")
        if not self.smoothing > 0:
            raise ValueError(f"smoothing must be above 0, got {smoothing}: pass 1e-2")

    def features(self, spikes: SpikeTrain) -> Float[Array, "samples features"]:
        """Filtered trains on the grid, weighted so that a scalar product is the integral."""
        steps = max(1, math.ceil(spikes.duration * self.resolution / min(self.filters) - 1e-9))
        h = spikes.duration / steps
        times = as_float(spikes.times)
        found = [_filtered(times, spikes.t0, h, steps, tau) for tau in self.filters]
        weights = np.full(steps, h)
        weights[-1] *= 0.5
        scaled = [
            x * np.sqrt(weights / tau).astype(times.dtype)[None, None]
            for x, tau in zip(found, self.filters, strict=True)
        ]
        return jnp.stack(scaled, axis=1).reshape(times.shape[0], -1)

    def compare(
        self, simulated: Float[Array, "samples features"], recorded: Float[Array, "trials features"]
    ) -> Float[Array, ""]:
        """The energy score of the simulated samples for the recorded trials."""
        samples = simulated.shape[0]
        if samples < 2:
            raise ValueError("the energy score needs two simulated samples or more: pass num_samples=2 or more")
        split = lambda x: jnp.moveaxis(x.reshape(x.shape[0], len(self.filters), -1), 1, 0)  # noqa: E731
        x, y = split(simulated), split(jax.lax.stop_gradient(jnp.asarray(recorded)))
        to_data = jnp.mean(self._distances(x, y), axis=(1, 2))
        # a sample is at distance 0 from itself: the mean is over the others
        within = jnp.sum(self._distances(x, x), axis=(1, 2)) / (samples * (samples - 1))
        return jnp.sum(to_data - 0.5 * within)

    def _distances(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Smoothed distances of all rows of x from all rows of y, for each filter."""
        product = jnp.einsum("fip,fjp->fij", x, y)
        squares = jnp.sum(x * x, axis=2)[:, :, None] + jnp.sum(y * y, axis=2)[:, None, :] - 2 * product
        if x is y:
            squares = jnp.where(jnp.eye(x.shape[1], dtype=bool)[None], 0.0, squares)
        return jnp.sqrt(jnp.maximum(squares, 0.0) + self.smoothing**2) - self.smoothing


def _filtered(times: jax.Array, t0: float, h: float, steps: int, tau: float) -> jax.Array:
    """The alpha-filtered train at t0 + h, t0 + 2 h, .., exactly: shape (samples, neurons, steps).

    With b the exponentially filtered train and r = h / tau:  b' = e^{-r} b + new,  X' = e^{-r} (X + r b) + new.
    """
    real = jnp.isfinite(times)
    safe = jnp.where(real, times, t0)
    slot = jnp.clip(jnp.ceil(jax.lax.stop_gradient((safe - t0) / h)), 1, steps)
    lag = jnp.where(real, t0 + slot * h - safe, 0.0) / tau
    decay = jnp.where(real, jnp.exp(-lag), 0.0)
    rows = jnp.arange(times.shape[0] * times.shape[1]).reshape(*times.shape[:2], 1)
    empty = jnp.zeros((times.shape[0] * times.shape[1], steps), times.dtype)
    index = (rows, slot.astype(jnp.int32) - 1)
    new_b, new_x = empty.at[index].add(decay), empty.at[index].add(lag * decay)
    factor = jnp.full_like(empty, math.exp(-h / tau))
    none = jnp.zeros_like(empty[:, 0])
    b = linear_recurrence(factor, new_b, none)[:, :-1]
    x = linear_recurrence(factor, factor * (h / tau) * b + new_x, none)[:, 1:]
    return x.reshape(*times.shape[:2], steps)
