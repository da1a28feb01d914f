"""Exact gradients beside surrogate gradients of the same stochastic neuron: the runs behind a section of noise.md.

One noisy neuron, eight spline coefficients of its input current. The loss is the squared distance of the mean
alpha-filtered train from that of another current, on 24 grid points. Exact: roughspike's spike times. Surrogate: the
same neuron in bins of 0.5 ms, a spike in a bin with probability p(v) = 1 - exp(-lambda(v) dt), and backward through
time with a chosen function in the place of the derivative of the spike in v.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import roughspike as rs
from roughspike.losses.base import AbstractLoss, squared_distance_of_means

T1, MU, SIGMA, WIDTH, BIN = 1.0, 15.0, 0.25, 0.05, 5e-4
GRID = np.linspace(0.04, 1.0, 24)
COEFFICIENTS = np.array([1.2, 1.2, 1.5, 1.1, 1.2, 1.5, 1.3, 1.2])
TARGET = np.array([1.3, 1.5, 1.3, 1.3, 1.5, 1.3, 1.1, 1.4])
SAMPLES, KEYS = 512, 16


def alpha(r: Any) -> Any:
    """r e^-r for r > 0, else 0; 0 for -inf."""
    late = jnp.where(r > 0, r, 0.0)
    return late * jnp.exp(-late)


class Filtered(AbstractLoss):
    """Mean alpha-filtered train on GRID: continuous where a spike enters, so its pathwise gradient is exact."""

    def features(self, spikes: rs.SpikeTrain) -> jax.Array:
        """The filtered train of each sample."""
        times = spikes.times[:, 0, :, None]
        return alpha((jnp.asarray(GRID, times.dtype) - times) / WIDTH).sum(axis=1)

    def compare(self, simulated: jax.Array, recorded: jax.Array) -> jax.Array:
        """Squared distance of means."""
        return squared_distance_of_means(simulated, recorded, unbiased=True)


def simulate(coefficients: jax.Array, key: jax.Array, beta: float, reset: float, samples: int) -> rs.SpikeTrain:
    """Spikes of the neuron, without soft refractoriness."""
    escape = rs.ExponentialEscape(beta=beta, v_th=1.0, tau_s=1.0)
    neuron = rs.SLIF(mu=(MU, 0.0), sigma=((SIGMA, 0.0), (0.0, 0.0)), v_reset=reset, escape=escape)
    cell = rs.Population(neuron, rs.BSplineCurrent(coefficients, 0.0, T1))
    return rs.simulate(cell, t1=T1, dt=min(0.01, 0.02 / beta * 2), key=key, num_samples=samples, max_spikes=96).spikes


def escape_slope(v: jax.Array, beta: float) -> jax.Array:
    """dp / dv of the spike probability of a bin: the derivative of the escape rate as a surrogate."""
    hazard = BIN * jnp.exp(beta * (v - 1.0))
    return beta * hazard * jnp.exp(-hazard)


def fast_sigmoid(v: jax.Array, beta: float) -> jax.Array:
    """A customary surrogate, with the slope of the escape rate at the threshold."""
    return BIN * beta / jnp.square(1 + beta * jnp.abs(v - 1.0))


def binned(
    coefficients: jax.Array, key: jax.Array, surrogate: Callable, through: bool, beta: float, reset: float
) -> Any:
    """Filtered trains of the binned neuron; `through`: does the derivative pass the reset, too?"""
    steps, stop = round(T1 / BIN), jax.lax.stop_gradient
    middle = (np.arange(steps) + 0.5) * BIN
    current = rs.BSplineCurrent(coefficients, 0.0, T1)
    current = current.means(current.prepare(middle[None] - BIN / 2, np.full((1, steps), BIN)))[0]
    keep = np.exp(-MU * BIN)

    def step(v: jax.Array, now: tuple) -> tuple:
        c, k = now
        normal_key, uniform_key = jr.split(jr.fold_in(key, k))
        v = keep * v + (1 - keep) * c + SIGMA * np.sqrt(BIN) * jr.normal(normal_key, v.shape)
        probability = -jnp.expm1(-BIN * jnp.exp(beta * (stop(v) - 1.0)))
        spike = (jr.uniform(uniform_key, v.shape) < probability).astype(v.dtype)
        spike = spike + stop(surrogate(v, beta)) * (v - stop(v))
        return v - reset * (spike if through else stop(spike)), spike

    _, spikes = jax.lax.scan(step, jnp.zeros(SAMPLES), (current, jnp.arange(steps)))
    return spikes.T @ alpha((GRID[None] - middle[:, None]) / WIDTH).astype(spikes.dtype)


def compare(beta: float, reset: float) -> dict[str, Any]:
    """Gradients of every kind, and how they agree with finite differences of means."""
    loss = Filtered()
    data = loss.features(simulate(jnp.asarray(TARGET), jr.key(9), beta, reset, 16384))
    many = jax.jit(lambda x: jnp.mean(loss.features(simulate(x, jr.key(8), beta, reset, 16384)), axis=0))
    here, residual = jnp.asarray(COEFFICIENTS), None
    residual = many(here) - data.mean(axis=0)
    shifts = 0.05 * jnp.eye(len(COEFFICIENTS))
    change = jnp.stack([many(here + d) - many(here - d) for d in shifts]) / 0.1
    reference = np.asarray(2 * change @ residual / len(GRID))

    def exact(x: jax.Array, key: jax.Array) -> jax.Array:
        return loss.compare(loss.features(simulate(x, key, beta, reset, SAMPLES)), data)

    def by(surrogate: Callable, through: bool) -> Callable:
        return lambda x, key: loss.compare(binned(x, key, surrogate, through, beta, reset), data)

    kinds = {
        "exact": exact,
        "escape": by(escape_slope, True),
        "escape, reset detached": by(escape_slope, False),
        "fast sigmoid, reset detached": by(fast_sigmoid, False),
    }
    rows = {name: _against(reference, f) for name, f in kinds.items()}
    spikes = float(simulate(here, jr.key(7), beta, reset, 2048).counts.mean())
    return {"beta": beta, "reset": reset, "spikes": spikes, "reference": reference.tolist(), "kinds": rows}


def _against(reference: np.ndarray, function: Callable) -> dict[str, Any]:
    """Mean gradient over keys; its cosine with the reference, its length along it; noise of one batch over its mean."""
    run = jax.jit(jax.grad(function))
    found = np.stack([run(jnp.asarray(COEFFICIENTS), k) for k in jr.split(jr.key(3), KEYS)])
    mean = found.mean(axis=0)
    norm = np.linalg.norm
    lengths = found @ reference / (reference @ reference)
    return {
        "mean": mean.tolist(),
        "cosine": float(mean @ reference / norm(mean) / norm(reference)),
        "length": float(lengths.mean()),
        "length_sem": float(lengths.std(ddof=1) / np.sqrt(KEYS)),
        "noise": float(np.sqrt(found.var(axis=0, ddof=1).sum()) / norm(mean)),
    }


def measure() -> list[dict[str, Any]]:
    """Several widths of the threshold, and one neuron without a reset."""
    return [compare(5.0, 0.0), *(compare(beta, 1.4) for beta in (2.0, 5.0, 10.0, 20.0))]
