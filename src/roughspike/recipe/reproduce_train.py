"""Training c of one neuron against its recorded first spikes: all noises and seeds of a sample size in one scan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from roughspike._types import SPIKE_BUFFER_FULL
from roughspike.losses.first_spikes import FirstSpikesLoss
from roughspike.losses.signature import ExpectedSignatureLoss
from roughspike.networks.population import Population
from roughspike.networks.simulate import simulate
from roughspike.neurons.escape import ExponentialEscape
from roughspike.neurons.lif import SLIF
from roughspike.paths.spikes import SpikeTrain, unchecked
from roughspike.recipe.reproduce_plan import Experiment, Method

CHUNK = 50


class History(NamedTuple):
    """One row per step, shape (steps, sigmas, seeds): c after the step, loss and held-out error before it."""

    c: np.ndarray
    loss: np.ndarray
    error: np.ndarray


class _Data(NamedTuple):
    sigma: jax.Array
    key: jax.Array
    recorded: SpikeTrain
    held_out: jax.Array


def train(
    experiment: Experiment, method: Method, loss: str, samples: int, seeds: int, steps: int
) -> Iterator[tuple[int, History]]:
    """Train c for every sigma and seed; yields (steps done, history so far) after each chunk.

    Full batch, fresh noise each step. The held-out error of a step is the mean absolute difference of the mean first
    spike times of that step's simulation and of a held-out batch of the same size.
    """
    data = _make_data(experiment, samples, seeds)
    optimiser = _optimiser(method, steps)
    c = jnp.full((len(experiment.sigmas), seeds), experiment.start, jnp.float32)
    state = c, jax.vmap(jax.vmap(optimiser.init))(c), data.key
    advance = _advance(experiment, optimiser, loss, samples)
    parts: list[History] = []
    done = 0
    while done < steps:
        length = min(CHUNK, steps - done)
        state, flags, part = advance(state, data, length)
        _raise_if_failed(np.asarray(flags))
        parts.append(jax.tree.map(np.asarray, part))
        done += length
        yield done, History(*(np.concatenate(p) for p in zip(*parts, strict=True)))


def _advance(experiment: Experiment, optimiser: optax.GradientTransformation, loss: str, samples: int) -> Callable:
    """Compiled (state, data, length) -> (state, flags, history): `length` steps of every sigma and seed."""
    objective = _objective(experiment, loss)

    def value(c: jax.Array, data: _Data, key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        spikes, flags = _first_spikes(experiment, c, data.sigma, key, samples)
        error = jnp.mean(jnp.abs(_mean_times(spikes) - data.held_out))
        return objective(spikes, data.recorded), (error, flags)

    def one(state: tuple, data: _Data) -> tuple[tuple, tuple[jax.Array, ...]]:
        c, moments, key = state
        key, now = jr.split(key)
        (loss, (error, flags)), slope = jax.value_and_grad(value, has_aux=True)(c, data, now)
        update, moments = optimiser.update(slope, moments, c)
        c = c + update
        return (c, moments, key), (c, loss, error, flags)

    def chunk(state: tuple, data: _Data, length: int) -> tuple[tuple, jax.Array, History]:
        each = jax.vmap(jax.vmap(one))
        state, (c, loss, error, flags) = jax.lax.scan(lambda s, _: each(s, data), state, None, length)
        return state, flags, History(c, loss, error)

    return jax.jit(chunk, static_argnums=2)


def _objective(experiment: Experiment, name: str) -> Callable[[SpikeTrain, SpikeTrain], jax.Array]:
    """The paper's losses. The signature sees each pair of trains capped at its smaller count."""
    if name == "signature":
        signature = ExpectedSignatureLoss(depth=experiment.depth)
        return lambda simulated, recorded: signature(_capped(simulated, recorded), _capped(recorded, simulated))
    return FirstSpikesLoss(n=experiment.spikes, kind="squared")


def _capped(spikes: SpikeTrain, other: SpikeTrain) -> SpikeTrain:
    """`spikes` without those beyond the count of the train of the same sample in `other`."""
    times = jnp.where(jnp.isfinite(other.times), spikes.times, jnp.inf)
    return unchecked(times, spikes.t0, spikes.t1)


def _make_data(experiment: Experiment, samples: int, seeds: int) -> _Data:
    """Recorded and held-out spikes, different for every sigma and seed."""

    @jax.jit
    @jax.vmap
    @jax.vmap
    def draw(sigma: jax.Array, key: jax.Array) -> tuple[jax.Array, _Data]:
        one, two, three = jr.split(key, 3)
        c = jnp.float32(experiment.current)
        recorded, flags = _first_spikes(experiment, c, sigma, one, samples)
        held_out, more = _first_spikes(experiment, c, sigma, two, samples)
        return flags | more, _Data(sigma, three, recorded, _mean_times(held_out))

    keys = jax.vmap(lambda s: jax.vmap(lambda k: jr.fold_in(jr.key(s), k))(jnp.arange(seeds)))
    sigmas = jnp.broadcast_to(jnp.array(experiment.sigmas, jnp.float32)[:, None], (len(experiment.sigmas), seeds))
    flags, data = draw(sigmas, keys(jnp.arange(len(experiment.sigmas)) + 1000 * samples))
    _raise_if_failed(np.asarray(flags))
    return data


def _first_spikes(
    experiment: Experiment, c: jax.Array, sigma: jax.Array, key: jax.Array, samples: int
) -> tuple[SpikeTrain, jax.Array]:
    """The first spikes of each sample, and flags other than that there were more of them."""
    settings: dict[str, Any] = dict(experiment.neuron)
    escape = ExponentialEscape(*(settings.pop(name) for name in ("beta", "v_th", "tau_s")))
    neuron = SLIF(sigma=((sigma, 0.0), (0.0, 0.0)), escape=escape, **settings)
    solution = simulate(
        Population(neuron, current=c),
        t1=experiment.grid["t1"],
        dt=experiment.grid["dt"],
        key=key,
        num_samples=samples,
        max_spikes=experiment.spikes,
        max_spikes_per_step=1,
    )
    flags = jax.lax.reduce(solution.result.flags, jnp.int32(0), jax.lax.bitwise_or, (0,))
    return solution.spikes, flags & ~SPIKE_BUFFER_FULL


def _mean_times(spikes: SpikeTrain) -> jax.Array:
    """Mean first spike times over samples; a missing spike counts as one at t1."""
    times = spikes.times[..., 0, :]
    return jnp.mean(jnp.where(jnp.isfinite(times), times, spikes.t1), axis=-2)


def _optimiser(method: Method, steps: int) -> optax.GradientTransformation:
    if method.optimiser == "rmsprop":
        return optax.rmsprop(method.learning_rate, decay=method.decay, momentum=method.momentum)
    return optax.adam(optax.cosine_decay_schedule(method.learning_rate, steps), b1=method.momentum, b2=method.decay)


def _raise_if_failed(flags: np.ndarray) -> None:
    if flags.any():
        raise ValueError(f"a simulation ended badly (flags {int(np.bitwise_or.reduce(flags, axis=None))}): see rs.Result")
