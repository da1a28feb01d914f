"""Start states of windows: where the recorded spikes before a window leave the neuron, and its input inside.

A loss that simulates a window of one recording needs the state at the window's start. Teacher forcing gives it: with
the recorded spikes before the window, v and i are linear in the past, so they are smooth functions of the parameters;
the refractory time left is (refractory - time since the last spike)^+. What escape noise leaves is memoryless: a new
Exp(1) threshold, plus what is missing of alpha. What diffusion leaves is Gaussian with mean 0 and a covariance that
obeys a linear recurrence of its own, so that it is drawn exactly, from the law of the same discretised membrane.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from roughspike.currents.base import as_current
from roughspike.likelihood.exact import hazard_since_spike, noise_free_hazard
from roughspike.likelihood.forced import Forced, forced_by
from roughspike.likelihood.importance import increments
from roughspike.likelihood.segments import Segments, lay_out
from roughspike.networks.lanes import LaneStart
from roughspike.networks.noise import Key, normal
from roughspike.networks.population import Population
from roughspike.neurons.flow import kappa
from roughspike.neurons.lif import SLIF
from roughspike.paths.grid import num_steps
from roughspike.paths.recurrence import linear_recurrence
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows


class Cut(eqx.Module):
    """A recording cut into equally long windows, each trial of each window a condition of its own: host work.

    **Attributes**

    - `segments`: pieces of every trial and neuron from its start, cut at steps and spikes.
    - `current`: what the current prepared for the half steps of the same grid; `step` says in which step each segment
      lies, `halves` (windows, 2 steps) which half steps make up a window.
    - `begins`: the segment with which each window begins, (trials, neurons, windows).
    - `recorded`: spikes inside, from the start of the window, (conditions, neurons, capacity).
    - `duration`, `steps`: of each window.
    """

    segments: Segments
    current: Any
    step: Any
    halves: Any
    begins: Any
    recorded: Any
    duration: float = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    @property
    def num_conditions(self) -> int:
        """Trials times windows; condition k is window k mod windows."""
        return self.begins.shape[0] * self.begins.shape[2]


class Starts(NamedTuple):
    """State at the start of every condition, shape (conditions, neurons), and covariance of its noise there."""

    v: jax.Array
    i: jax.Array
    rest: jax.Array | None
    owed: jax.Array
    vv: jax.Array
    vi: jax.Array
    ii: jax.Array


def cut_windows(cell: Population, data: SpikeTrain, windows: Windows, dt: float) -> Cut:
    """Cut a recording of shape (trials, neurons, capacity) for simulation with steps of at most dt.

    **Raises** ValueError for windows of different lengths.
    """
    lengths = np.subtract(windows.stops, windows.starts)
    duration = float(lengths[0])
    if np.ptp(lengths) > 1e-6 * duration:
        raise ValueError(
            f"windows that are simulated must be equally long, got lengths from {lengths.min():g} to "
            f"{lengths.max():g}: cut them with Windows.tile(...) or windows.split(length)"
        )
    steps = num_steps(0.0, duration, dt)
    edges, first = _grid(data, windows, dt, steps)
    segments = lay_out(data, dt, windows, edges)
    count = len(windows)
    middle = segments.starts + 0.5 * segments.lengths
    step = np.clip(np.searchsorted(edges, middle, side="right") - 1, 0, len(edges) - 2)
    begins = np.stack([np.argmax(segments.window == w, axis=-1) for w in range(count)], axis=-1)
    return Cut(
        segments=segments,
        current=as_current(cell.current).prepare(*_halved(edges)),
        step=step.astype(np.int32),
        halves=(2 * first[:, None] + np.arange(2 * steps)).astype(np.int32),
        begins=begins.astype(np.int32),
        recorded=_recorded(segments, windows, duration),
        duration=duration,
        steps=steps,
    )


def window_starts(cell: Population, cut: Cut) -> tuple[Starts, jax.Array]:
    """Start states, and means of the current over the half steps of each window, (windows, neurons, 2 steps).

    Differentiable in every parameter of the cell.
    """
    neuron = cell.neuron
    means = as_current(cell.current).means(cut.current)
    means = jnp.broadcast_to(means, (cell.num_neurons, means.shape[-1]))
    by_step = 0.5 * (means[:, ::2] + means[:, 1::2])
    f = forced_by(cell, cut.segments, by_step[jnp.arange(cell.num_neurons)[None, :, None], cut.step])
    owed = jax.lax.cond(
        neuron.alpha > 0,
        lambda: jnp.maximum(neuron.alpha - hazard_since_spike(noise_free_hazard(neuron, f), f.spike), 0.0),
        lambda: jnp.zeros_like(f.h),
    )
    rest = None
    if neuron.refractory is not None:
        rest = jnp.maximum(neuron.refractory - jnp.asarray(cut.segments.since, f.h.dtype), 0.0)
    at = functools.partial(_at, begins=cut.begins)
    covariance = (at(x) for x in _covariance(neuron, f))
    starts = Starts(at(f.v), at(f.i), None if rest is None else at(rest), at(owed), *covariance)
    return starts, jnp.moveaxis(means[:, cut.halves], 0, 1)


def draw_start(neuron: SLIF, starts: Starts, num_samples: int, key: Key) -> LaneStart:
    """Start states of (conditions x neurons) lanes, with the noise that the past has left in each sample."""
    rest = None if starts.rest is None else starts.rest.reshape(-1, 1)
    v, i, owed, vv, vi, ii = (x.reshape(-1, 1) for x in starts._replace(rest=None) if x is not None)
    z = normal(key, (2, v.shape[0], num_samples), v.dtype)
    if any(neuron.noise[1]):
        slope = vi / jnp.where(ii > 0, ii, 1.0)
        di = _root(ii) * z[1]
        v, i = v + slope * di + _root(vv - slope * vi) * z[0], i + di
    elif neuron.has_diffusion:
        v = v + _root(vv) * z[0]
    return LaneStart(v, i, rest, owed)


def _covariance(neuron: SLIF, f: Forced) -> tuple[jax.Array, jax.Array, jax.Array]:
    """<vv>, <vi>, <ii> of the noise at the start of every piece, 0 where the trial begins.

    The deviation of (v, i) is linear and Gaussian, and at a spike v keeps the share that the reset leaves:

        ii' = e^{-2 mu2 h} ii + q_ii
        vi' = keep (e^{-(mu1 + mu2) h} vi + kappa e^{-mu2 h} ii + q_vi)
        vv' = keep^2 (e^{-2 mu1 h} vv + 2 e^{-mu1 h} kappa vi + kappa^2 ii + q_vv)
    """
    none = jnp.zeros_like(f.h)
    if not neuron.has_diffusion:
        return none, none, none
    to_v, to_i = increments(neuron, f.h)
    q_vv = sum((to_v[c] ** 2 for c in to_v), start=none)
    rest, keep_v = jnp.zeros_like(f.h[..., 0]), f.kept * jnp.exp(-neuron.mu[0] * f.h)
    run = lambda a, b: linear_recurrence(a, b, rest)[..., :-1]  # noqa: E731
    if not any(neuron.noise[1]):
        return run(keep_v**2, f.kept**2 * q_vv), none, none
    q_vi, q_ii = (sum((x[c] * to_i[c] for c in to_i), start=none) for x in (to_v, to_i))
    keep_i, push = jnp.exp(-neuron.mu[1] * f.h), f.kept * kappa(neuron.mu[0], neuron.mu[1], f.h)
    ii = run(keep_i**2, q_ii)
    vi = run(keep_v * keep_i, push * keep_i * ii + f.kept * q_vi)
    vv = run(keep_v**2, 2 * keep_v * push * vi + push**2 * ii + f.kept**2 * q_vv)
    return vv, vi, ii


def _at(x: jax.Array, begins: jax.Array) -> jax.Array:
    """(trials, neurons, segments) at the start of each window, as (conditions, neurons)."""
    found = jnp.take_along_axis(x, jnp.asarray(begins), axis=-1)
    return jnp.moveaxis(found, 1, 2).reshape(-1, x.shape[1])


def _root(x: jax.Array) -> jax.Array:
    """Square root with derivative 0 at 0."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)


def _grid(data: SpikeTrain, windows: Windows, dt: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Cuts from t0 to t1, whole steps in each window and between; and the index at which each window begins."""
    parts, first, count, at = [], [], 0, data.t0
    for start, stop in (*zip(windows.starts, windows.stops, strict=True), (data.t1, None)):
        if start - at > 1e-6 * dt:
            parts.append(np.linspace(at, start, num_steps(at, start, dt) + 1)[:-1])
            count += len(parts[-1])
        if stop is not None:
            first.append(count)
            parts.append(np.linspace(start, stop, steps + 1)[:-1])
            count, at = count + steps, stop
    edges = np.concatenate([*parts, [data.t1]])
    edges[0] = data.t0
    return edges, np.array(first)


def _halved(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of the half steps, (1, pieces)."""
    half = 0.5 * np.diff(edges)
    starts = np.stack([edges[:-1], edges[:-1] + half], axis=-1)
    return starts.reshape(1, -1), np.repeat(half, 2)[None]


def _recorded(segments: Segments, windows: Windows, duration: float) -> np.ndarray:
    """Spikes of each (trial, window), neurons, from the window's start."""
    trials, neurons = segments.spike.shape[:2]
    rows = []
    for t in range(trials):
        for w, start in enumerate(windows.starts):
            for k in range(neurons):
                here = (segments.spike[t, k] > 0) & (segments.window[t, k] == w)
                ends = segments.starts[t, k, here] + segments.lengths[t, k, here] - start
                rows.append(np.clip(ends, 0.0, duration))
    times = np.full((len(rows), max(1, *(len(row) for row in rows))), np.inf)
    for row, found in zip(times, rows, strict=True):
        row[: len(found)] = found
    return times.reshape(trials * len(windows), neurons, -1)
