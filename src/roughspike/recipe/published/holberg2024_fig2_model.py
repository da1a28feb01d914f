"""The network of Fig. 2, and the expected signature of all its trains as one path."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from roughspike.networks.feedforward import FeedForward
from roughspike.networks.simulate import simulate
from roughspike.neurons.lif import SLIF
from roughspike.recipe.published.common import noisy_neuron

Weights = tuple[jax.Array, jax.Array]
_ROOM = 24  # spikes of a neuron


class Problem(NamedTuple):
    """True and initial weights, and the spike times (trials, neurons, capacity) that are seen and held out."""

    truth: Weights
    start: Weights
    seen: jax.Array
    held_out: jax.Array


def problem(settings: dict[str, Any], seed: int) -> Problem:
    """Weights and data of one seed."""
    keys = jr.split(jr.key(seed), 6)
    truth = tuple(
        jr.uniform(key, (pre, post), minval=0.5, maxval=1.5) * settings["w_sum"] / pre
        for key, pre, post in zip(keys[:2], settings["sizes"], settings["sizes"][1:], strict=False)
    )
    start = tuple(jr.uniform(key, w.shape) for key, w in zip(keys[2:4], truth, strict=True))
    seen, held_out = max(settings["samples"]), settings["held_out"]
    times, flags = jax.jit(lambda w, key: draw(settings, w, key, seen + held_out))(truth, keys[4])
    if np.any(flags):
        raise RuntimeError("the simulation of the data failed: make _ROOM larger")
    return Problem(truth, start, times[:seen], times[seen:])  # pyright: ignore[reportArgumentType]


def plain_neuron(settings: dict[str, Any]) -> SLIF:
    """The neuron without diffusion and soft refractory threshold: its likelihood is exact, and concave in weights."""
    return noisy_neuron(settings, sigma=((0.0, 0.0), (0.0, 0.0)), alpha=0.0)


def draw(settings: dict[str, Any], weights: Weights, key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Spike times of all neurons, (count, neurons, capacity), and flags of the run."""
    sizes = settings["sizes"]
    alone = jnp.zeros((1, sizes[0]), weights[0].dtype)  # the first layer has no input but its current
    net = FeedForward(
        [1, *sizes],
        noisy_neuron(settings),
        weights=[alone, *weights],
        current=[settings["current"], *(0.0,) * (len(sizes) - 1)],
        v0=settings["v0"],
        i0=settings["i0"],
    )
    sol = simulate(net, **settings["grid"], key=key, num_samples=count, max_spikes=_ROOM)
    return jnp.concatenate([layer.times for layer in sol.layers], axis=-2), sol.result.flags


def mean_error(weights: Any, truth: Weights) -> float:
    """Mean |w - w_true| over all synapses."""
    off = [np.abs(np.asarray(a) - np.asarray(b)).ravel() for a, b in zip(weights, truth, strict=True)]
    return float(np.mean(np.concatenate(off)))


def signature_loss(simulated: jax.Array, recorded: jax.Array, t1: float, events: int) -> jax.Array:
    """Mean over coordinates of the squared difference of two expected signatures of depth 3, as published.

    Both are of the path of time and all counts, one pair of samples at a time capped at the smaller number of spikes.
    """
    fewer = jnp.minimum(*(jnp.isfinite(times).sum((-1, -2)) for times in (simulated, recorded)))
    lift = jax.vmap(lambda times, cap: _steps(times, cap, t1, events))
    off = _expected_signature(lift(simulated, fewer)) - _expected_signature(lift(recorded, fewer))
    return jnp.mean(off**2)


def _steps(times: jax.Array, cap: jax.Array, t1: float, events: int) -> jax.Array:
    """The first `cap` spikes as steps along one axis each: (2 events + 1, 1 + neurons), time and jumps in turn."""
    flat = times.reshape(-1)
    order = jnp.argsort(jax.lax.stop_gradient(flat))[:events]
    real = (jnp.arange(events) < cap) & jnp.isfinite(flat[order])
    at = jnp.where(real, flat[order], t1)
    passed = jnp.diff(at, prepend=jnp.zeros((), at.dtype), append=jnp.full((), t1, at.dtype))
    jumps = jnp.where(real[:, None], jax.nn.one_hot(order // times.shape[1] + 1, times.shape[0] + 1), 0.0)
    waits = jnp.zeros((events + 1, times.shape[0] + 1), at.dtype).at[:, 0].set(passed)
    return jnp.concatenate([jnp.stack([waits[:-1], jumps], axis=1).reshape(-1, waits.shape[1]), waits[-1:]])


def _expected_signature(steps: jax.Array) -> jax.Array:
    """Levels 1 to 3 for steps (samples, steps, channels) that each lie along one axis.

    With X_m a step, P_m and Q_m the path until and from its middle, level 3 is sum_m P_m (x) X_m (x) Q_m less a twelfth
    of the third power of each step: two products of matrices in place of an update of all coordinates by each step.
    """
    samples, _, channels = steps.shape
    after = jnp.cumsum(steps, axis=1)
    total = after[:, -1:]
    x, p, q = (y.reshape(-1, channels) for y in (steps, after - steps / 2, total - after + steps / 2))
    pairs = (p[:, :, None] * x[:, None, :]).reshape(x.shape[0], -1)
    one = jnp.arange(channels)
    third = (pairs.T @ q).reshape(channels, channels, channels).at[one, one, one].add(-jnp.sum(x**3, axis=0) / 12)
    return jnp.concatenate([total.sum((0, 1)), (p.T @ x).ravel(), third.ravel()]) / samples
