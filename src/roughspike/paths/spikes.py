"""SpikeTrain: a path that only jumps, the one currency between rooms. Recorded and simulated data have this type."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from roughspike._types import is_concrete


class Horizon(eqx.Module):
    """What simulated neurons carry at the end of their window: how near each is to one more spike.

    A pathwise gradient is blind to spikes that enter or leave the window. Past its refractory part a neuron has an
    exponential threshold left, so its next spike crosses t1 at the rate ds(t1): the missing term of the gradient of
    an expectation (docs, "The mathematics"; `with_horizon`).

    **Attributes**

    - `threshold`: the threshold variable s at t1, differentiable, shape (..., neurons); a spike is s = 0.
    - `open`: can the neuron spike at t1, that is, is it past its soft and absolute refractory periods?
    """

    threshold: Float[Array, "*batch neurons"]
    open: Bool[Array, "*batch neurons"]


class SpikeTrain(eqx.Module):
    """Spike times of several neurons on the window [t0, t1], padded with +inf; a batch has leading axes.

    **Arguments**

    - `times`: shape (..., neurons, capacity), ascending along the last axis, +inf where there is no spike. A NumPy
      array stays one (recorded times keep float64 on the host), anything else becomes a JAX array.
    - `t0`, `t1`: the window, t0 < t1. A silent neuron or trial is a row of +inf: it counts as data.
    - `onset`: where time 0 of `times` lies on the recording's own clock. `read_spikes` subtracts the onset of its
      window in float64, so an hour-long recording keeps sub-microsecond precision.
    - `horizon`: filled by `simulate`; None for recorded spikes.

    **Raises** ValueError for a window that is empty, or for concrete times that are NaN, unsorted, repeated or
    outside the window.

    >>> import roughspike as rs
    >>> import jax.numpy as jnp
    >>> train = rs.SpikeTrain(jnp.array([[0.1, 0.4, jnp.inf]]), t0=0.0, t1=1.0)
    >>> int(train.counts[0])
    2
    """

    times: Float[Array | np.ndarray, "*batch neurons capacity"]
    t0: float = eqx.field(static=True)
    t1: float = eqx.field(static=True)
    horizon: Horizon | None
    onset: float = eqx.field(static=True)

    def __init__(
        self, times: Any, t0: float = 0.0, t1: float = 1.0, *, onset: float = 0.0, horizon: Horizon | None = None
    ):
        self.times, self.horizon = _as_times(times), horizon
        self.t0, self.t1, self.onset = float(t0), float(t1), float(onset)
        if not self.t1 > self.t0:
            raise ValueError(f"t1 must lie after t0, got the window [{t0}, {t1}]")
        if self.times.ndim < 2:
            raise ValueError(f"times must have shape (..., neurons, capacity), got {self.times.shape}")
        if is_concrete(self.times):
            _check_times(np.asarray(self.times), self.t0, self.t1)

    @property
    def counts(self) -> Int[Array, "*batch neurons"]:
        """Number of spikes of each neuron."""
        return jnp.sum(jnp.isfinite(self.times), axis=-1)

    @property
    def num_neurons(self) -> int:
        """Number of neurons."""
        return self.times.shape[-2]

    @property
    def capacity(self) -> int:
        """Slots per neuron."""
        return self.times.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading axes (samples or trials); () for a single train."""
        return self.times.shape[:-2]

    @property
    def duration(self) -> float:
        """Length of the window, t1 - t0."""
        return self.t1 - self.t0

    def __getitem__(self, index: Any) -> SpikeTrain:
        """Index the batch axes: `spikes[3]` is one trial, `spikes[:10]` the first ten."""
        if not self.batch_shape:
            raise IndexError("this SpikeTrain has no batch axis to index; its times have shape (neurons, capacity)")
        horizon = jax.tree.map(lambda x: x[index], self.horizon)
        return unchecked(self.times[index], self.t0, self.t1, self.onset, horizon)

    def to_lists(self) -> list[list[np.ndarray]]:
        """Host copy without padding: one list per trial, one float64 array per neuron. Needs concrete times."""
        times = np.asarray(self.times, dtype=np.float64)
        times = times.reshape((-1, *times.shape[-2:]))
        return [[row[np.isfinite(row)] for row in trial] for trial in times]


def from_lists(trials: list[list[np.ndarray]], t0: float = 0.0, t1: float = 1.0, *, onset: float = 0.0) -> SpikeTrain:
    """SpikeTrain of shape (trials, neurons, capacity) from ragged lists of float64 times; inverse of `to_lists`."""
    capacity = max([1, *(len(row) for trial in trials for row in trial)])
    times = np.full((len(trials), len(trials[0]), capacity), np.inf)
    for k, trial in enumerate(trials):
        for j, row in enumerate(trial):
            times[k, j, : len(row)] = row
    return SpikeTrain(times, t0, t1, onset=onset)


def unchecked(times: Any, t0: float, t1: float, onset: float = 0.0, horizon: Horizon | None = None) -> SpikeTrain:
    """A SpikeTrain from times that an engine made: no check, so no copy to the host."""
    train = object.__new__(SpikeTrain)
    for name, value in zip(("times", "t0", "t1", "onset", "horizon"), (times, t0, t1, onset, horizon), strict=True):
        object.__setattr__(train, name, value)
    return train


def _as_times(times: Any) -> Any:
    if isinstance(times, np.ndarray | jax.Array):
        return times if jnp.issubdtype(times.dtype, jnp.floating) else times.astype(float)
    return jnp.asarray(times, dtype=float)


def _check_times(times: np.ndarray, t0: float, t1: float) -> None:
    if np.isnan(times).any():
        raise ValueError("times contains NaN: drop those spikes, and pad with +inf")
    finite = np.isfinite(times)
    if np.isneginf(times).any() or (~finite[..., :-1] & finite[..., 1:]).any():
        raise ValueError("times must be padded at the end with +inf: a spike stands after a pad or a time is -inf")
    slack = 1e-6 * (t1 - t0) if times.dtype == np.float32 else 1e-12 * (t1 - t0)
    outside = finite & ((times < t0 - slack) | (times > t1 + slack))
    if outside.any():
        raise ValueError(
            f"times has {int(outside.sum())} spikes outside the window [{t0}, {t1}], the first at "
            f"{times[outside].flat[0]:g}: widen t0, t1, or cut the spikes"
        )
    with np.errstate(invalid="ignore"):
        step = np.diff(times, axis=-1)
    bad = finite[..., 1:] & ~(step > 0)
    if bad.any():
        where = tuple(int(k) for k in np.argwhere(bad)[0])
        kind = "repeated" if step[where] == 0 else "unsorted"
        raise ValueError(
            f"times must ascend: {int(bad.sum())} {kind} spike times, the first at index {where} "
            f"(time {times[where]:g}): sort each neuron's times and drop duplicates"
        )
