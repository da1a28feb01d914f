"""ExpectedSignatureLoss: the mean squared difference of two truncated expected signatures."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike.losses.base import AbstractLoss, squared_distance_of_means
from roughspike.paths.spikes import SpikeTrain, unchecked
from roughspike.signatures.truncated import check_depth, marcus_lift, signature


class ExpectedSignatureLoss(AbstractLoss):
    """Mean over coordinates of (E S(simulated) - E S(recorded))^2, S the signature of the Marcus lift to some depth.

    The lift runs from t0 to t1 and keeps the last jump. The signature's second coordinate is the spike count.

    **Which gradient it needs.** The signature jumps when a spike enters or leaves the window at t1, so its pathwise
    gradient is wrong for the expectation: use `with_horizon(ExpectedSignatureLoss(...))`, which is exact. The public
    implementation's gradient, and this class without the wrapper, leave that term out. With `joint=True` and several
    neurons the signature also jumps when two of them swap the order of their spikes, and that term is in neither:
    prefer the default `joint=False`, whose features are those of each neuron by itself and continuous at a swap.

    **Arguments**

    - `depth`: of the signature.
    - `first`: keep only the first so many spikes of each neuron in both trains, as the published experiment does (it
      takes the smaller of both counts). The path then runs on without jumps to t1. Where every sample has that many
      spikes no horizon term is needed.
    - `joint`: one path (t, N^1, .., N^K) of all neurons in place of one path (t, N^k) per neuron.
    - `unbiased`: products of different samples only, so that the loss has the mean |E S - mean recorded|^2 for any
      number of samples (and can be negative); otherwise the plain square of the mean, as published.
    - `time_weight`, `jump`: scales of time and of a jump in the lift. Depth weighs coordinates by powers of these: with
      time in seconds and a window of 50 ms, time_weight=20 makes the window one unit.

    **Reference**: Holberg & Salvi (2024), arXiv 2405.13587, section 4.

    >>> import numpy as np, roughspike as rs
    >>> one = rs.SpikeTrain(np.array([[0.5]]))
    >>> float(rs.ExpectedSignatureLoss(depth=3)(one, one))
    0.0
    """

    depth: int = eqx.field(static=True, default=3)
    first: int | None = eqx.field(static=True, default=None)
    joint: bool = eqx.field(static=True, default=False)
    unbiased: bool = eqx.field(static=True, default=False)
    time_weight: float = eqx.field(static=True, default=1.0)
    jump: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        check_depth(self.depth, 2)
        if self.first is not None and self.first < 1:
            raise ValueError(f"first must be at least 1 spike, got {self.first}: pass None to keep all spikes")
        for name in ("time_weight", "jump"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a finite number above 0, got {value}: pass 1.0 for no scaling")

    def features(self, spikes: SpikeTrain) -> Float[Array, "samples features"]:
        """Signature coordinates of each sample; of each neuron in turn unless `joint`."""
        times = spikes.times if self.first is None else spikes.times[..., : self.first]
        samples, neurons, capacity = times.shape
        if not self.joint:
            times = times.reshape(samples * neurons, 1, capacity)
        train = unchecked(times, spikes.t0, spikes.t1)
        found = signature(marcus_lift(train, time_weight=self.time_weight, jump=self.jump), self.depth)
        return found.reshape(samples, -1)

    def compare(
        self, simulated: Float[Array, "samples features"], recorded: Float[Array, "trials features"]
    ) -> Float[Array, ""]:
        """Mean squared difference of the means."""
        return squared_distance_of_means(simulated, jax.lax.stop_gradient(jnp.asarray(recorded)), self.unbiased)
