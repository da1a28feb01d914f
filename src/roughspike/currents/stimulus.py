"""A recorded stimulus as an input current: delay, gain, low-pass."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._constraints import Positive, Real, parameter
from roughspike._types import as_float, is_concrete
from roughspike.currents.base import AbstractCurrent
from roughspike.currents.signal import SampledSignal
from roughspike.neurons.flow import phi
from roughspike.paths.recurrence import linear_recurrence


class Stimulus(AbstractCurrent):
    """c(t) = gain x(t - delay) + low_pass_gain u(t),  tau_low_pass du/dt = x(t - delay) - u.

    x is the sampled signal, constant over each of its samples, and held at its ends. It enters through the exact mean
    over a piece, by the interpolated integral, so that the current is continuous and piecewise smooth in the delay
    however coarse the grid. A low-pass gain of opposite sign makes the stimulus filter biphasic.

    **Arguments**

    - `signal`: the stimulus; fixed data, not a parameter.
    - `gain`: potential per unit of x.
    - `delay`: latency, >= 0.
    - `low_pass_gain`, `tau_low_pass`: the second, slower arm; both or neither.
    """

    signal: SampledSignal
    gain: Float[Array, ""] = parameter(Real())
    delay: Float[Array, ""] = parameter(Positive(), unit="time")
    low_pass_gain: Float[Array, ""] | None = eqx.field(metadata={"constraint": Real(), "unit": ""})
    tau_low_pass: Float[Array, ""] | None = eqx.field(metadata={"constraint": Positive(), "unit": "time"})

    def __init__(
        self,
        signal: SampledSignal,
        gain: Any = 1.0,
        delay: Any = 0.0,
        low_pass_gain: Any = None,
        tau_low_pass: Any = None,
    ):
        self.signal = signal
        self.gain, self.delay = as_float(gain), as_float(delay)
        if (low_pass_gain is None) != (tau_low_pass is None):
            raise ValueError("low_pass_gain and tau_low_pass belong together: pass both or neither")
        self.low_pass_gain = None if low_pass_gain is None else as_float(low_pass_gain)
        self.tau_low_pass = None if tau_low_pass is None else as_float(tau_low_pass)
        if self.tau_low_pass is not None and is_concrete(self.tau_low_pass) and not np.asarray(self.tau_low_pass) > 0:
            raise ValueError(f"tau_low_pass must be greater than 0, got {self.tau_low_pass}: pass a time constant")
        if is_concrete(self.delay) and not np.asarray(self.delay) >= 0:
            raise ValueError(f"delay must not be negative (the stimulus comes first), got {self.delay}")

    def prepare(self, starts: np.ndarray, lengths: np.ndarray) -> Any:
        """Where pieces begin and end, in samples: whole part and fraction; and the signal's integral in two parts.

        An integral over one piece is a small difference of large numbers, and so is a time late in a recording: both
        are split on the host in float64, and the differences are exact in float32.
        """
        edges = np.concatenate([starts, starts[..., -1:] + lengths[..., -1:]], axis=-1)
        position = (edges - self.signal.start) / self.signal.dt
        whole = np.floor(position)
        coarse, fine = _integral(self.signal.values)
        return {
            "whole": whole.astype(np.int32),
            "fraction": position - whole,
            "samples": lengths / self.signal.dt,
            "coarse": coarse,
            "fine": fine,
            "lengths": lengths,
        }

    def means(self, prepared: Any) -> Float[Array, "*batch neurons pieces"]:
        """Delayed, scaled, filtered."""
        dtype = jnp.result_type(self.gain, self.delay)
        fast = self._delayed(jax.tree.map(lambda x: _as(x, dtype), prepared), dtype)
        if self.low_pass_gain is None or self.tau_low_pass is None:
            return self.gain * fast
        lengths = _as(prepared["lengths"], dtype)
        rate = 1 / self.tau_low_pass
        decay = jnp.exp(-rate * lengths)
        state = linear_recurrence(jnp.broadcast_to(decay, fast.shape), (1 - decay) * fast, fast[..., 0])[..., :-1]
        # mean of the filter over a piece of length h: x + (u - x) phi(1/tau, h) / h
        share = jnp.where(lengths > 0, phi(rate, lengths) / jnp.where(lengths > 0, lengths, 1.0), 1.0)
        return self.gain * fast + self.low_pass_gain * (fast + (state - fast) * share)

    def _delayed(self, prepared: Any, dtype: Any) -> jax.Array:
        """Mean of x(t - delay) over each piece."""
        count = prepared["coarse"].shape[0] - 1
        shifted = prepared["fraction"] - self.delay / self.signal.dt
        carry = jnp.floor(jax.lax.stop_gradient(shifted))
        index = prepared["whole"] + carry.astype(jnp.int32)
        inside = jnp.clip(index, 0, count - 1)
        beyond = index - inside  # < 0 before the signal, > 0 after it, where its end is held
        index, part = inside, shifted - carry + beyond.astype(dtype)
        coarse, fine = prepared["coarse"], prepared["fine"]
        sample = (coarse[index + 1] - coarse[index]) + (fine[index + 1] - fine[index])
        # integral up to an edge = whole samples + part of the sample that holds it (or of the end that is held)
        whole = (coarse[index[..., 1:]] - coarse[index[..., :-1]]) + (fine[index[..., 1:]] - fine[index[..., :-1]])
        within = part * sample
        integral = whole + (within[..., 1:] - within[..., :-1])
        length = prepared["samples"]
        held = (beyond[..., 1:] < 0) | (beyond[..., :-1] > 0) | (length < 1e-3)
        return jnp.where(held, sample[..., :-1], integral / jnp.where(held, 1.0, length))


def _integral(values: Any) -> tuple[Any, Any]:
    """Running sums of the samples from 0, as coarse + fine: each a float32 whose differences are exact."""
    if not is_concrete(values):
        return _traced_integral(values)
    integral = np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
    coarse = integral.astype(np.float32).astype(np.float64)
    return coarse, integral - coarse


def _traced_integral(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same for a signal that is itself an argument of `jit`: sums that keep their rounding error (Knuth)."""

    def add(left: tuple[jax.Array, jax.Array], right: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        total = left[0] + right[0]
        seen = total - left[0]
        error = (left[0] - (total - seen)) + (right[0] - seen)
        return total, error + (left[1] + right[1])

    padded = jnp.concatenate([jnp.zeros_like(values[:1]), values])
    return jax.lax.associative_scan(add, (padded, jnp.zeros_like(padded)))


def _as(x: Any, dtype: Any) -> jax.Array:
    array = jnp.asarray(x)
    return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array
