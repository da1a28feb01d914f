"""How a spike train becomes a path for the signature kernel, apart from the Marcus lift of all neurons together."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import as_float, is_concrete
from roughspike.paths.spikes import SpikeTrain, unchecked
from roughspike.signatures.truncated import marcus_lift


class PerNeuron(eqx.Module):
    """The sum over neurons of the kernels of one neuron each: continuous where neurons swap their order.

    It does not see which neuron spiked before which: trains with the same single neurons are the same to it.
    """

    def split(self, spikes: SpikeTrain) -> SpikeTrain:
        """Trains of one neuron, (samples neurons, 1, capacity)."""
        return unchecked(spikes.times.reshape(-1, 1, spikes.capacity), spikes.t0, spikes.t1)


class FilteredLift(eqx.Module):
    """The path (t, X^1_t, .., X^K_t) of trains filtered by an alpha function, piecewise linear on a grid.

        X^k(t) = sum_n a((t - tau_n) / tau),    a(r) = r e^{1 - r} for r > 0

    It is continuous in all spike times, also where neurons swap their order and where a spike enters at t1, so the
    pathwise gradient of an expectation is exact, and it still sees which neuron came first.

    **Arguments**

    - `tau`: time constant; None for a twentieth of the window.
    - `points`: grid steps; None for 3 per tau.

    >>> import numpy as np, roughspike as rs
    >>> train = rs.SpikeTrain(np.array([[[0.2], [0.7]]]))
    >>> rs.FilteredLift(tau=0.1)(train).shape
    (1, 31, 3)
    """

    tau: float | None = eqx.field(static=True, default=None)
    points: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.tau is not None and not self.tau > 0:
            raise ValueError(f"tau must be above 0, got {self.tau}: pass None for a twentieth of the window")
        if self.points is not None and self.points < 1:
            raise ValueError(f"points must be at least 1 grid step, got {self.points}: pass None for 3 per tau")

    def __call__(self, spikes: SpikeTrain) -> Float[Array, "samples vertices channels"]:
        """Paths of trains with one batch axis, from (0, 0)."""
        times = as_float(spikes.times)
        tau = spikes.duration / 20 if self.tau is None else self.tau
        points = max(1, math.ceil(3 * spikes.duration / tau - 1e-9)) if self.points is None else self.points
        grid = jnp.asarray(np.linspace(spikes.t0, spikes.t1, points + 1), times.dtype)
        safe = jnp.where(jnp.isfinite(times), times, spikes.t1)
        since = jnp.maximum(grid[None, None, :, None] - safe[:, :, None, :], 0.0) / tau
        filtered = jnp.sum(since * jnp.exp(1 - since), axis=-1)
        clock = jnp.broadcast_to((grid - spikes.t0)[None, :, None], (times.shape[0], points + 1, 1))
        return jnp.concatenate([clock, jnp.swapaxes(filtered, 1, 2)], axis=-1)


def scaled_path(path: jax.Array, time_weight: jax.Array | float, jump_size: jax.Array | float) -> jax.Array:
    """A path (time, counts ..) with its two kinds of coordinates weighted, starting at 0."""
    size = jnp.asarray(jump_size, path.dtype)
    counts = jnp.broadcast_to(size, (path.shape[-1] - 1,))
    scale = jnp.concatenate([jnp.asarray(time_weight, path.dtype)[None], counts])
    return (path - path[:, :1]) * scale[None, None]


def without_repeats(spikes: SpikeTrain) -> Float[Array, "samples vertices channels"]:
    """The Marcus lift without most of the vertices that padding repeats at its end, where the times are known."""
    path = marcus_lift(spikes)
    if not is_concrete(spikes.times):
        return path
    most = int(np.isfinite(np.asarray(spikes.times)).sum(axis=(-2, -1)).max())
    return path[..., : -(-(2 * most + 2) // 16) * 16, :]  # in steps of 16: programs are compiled for few lengths
