"""Training c of one neuron against its recorded first spikes: all sample sizes, noises and seeds in one scan."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from roughspike._types import SPIKE_BUFFER_FULL, Result
from roughspike.losses.base import AbstractLoss
from roughspike.losses.first_spikes import FirstSpikesLoss
from roughspike.losses.signature import ExpectedSignatureLoss
from roughspike.networks.population import Population
from roughspike.networks.simulate import simulate
from roughspike.neurons.escape import ExponentialEscape
from roughspike.neurons.lif import SLIF
from roughspike.paths.spikes import unchecked
from roughspike.recipe.published.holberg2024_fig1_plan import Experiment, Method

CHUNK = 50


class History(NamedTuple):
    """One row per step, shape (steps, sizes, sigmas, seeds): c after the step, held-out error before it."""

    c: np.ndarray
    error: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Runs:
    """Independent runs: one per sample size, noise and seed, in this order; a run has one row per sample."""

    experiment: Experiment
    seeds: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sizes, noises, seeds."""
        return len(self.experiment.sample_sizes), len(self.experiment.sigmas), self.seeds

    @property
    def of_row(self) -> np.ndarray:
        """The run of each row."""
        samples = np.repeat(self.experiment.sample_sizes, len(self.experiment.sigmas) * self.seeds)
        return np.repeat(np.arange(math.prod(self.shape)), samples)

    @property
    def sigma_of_row(self) -> np.ndarray:
        """The noise of each row."""
        sigmas = np.tile(np.repeat(self.experiment.sigmas, self.seeds), len(self.experiment.sample_sizes))
        return sigmas[self.of_row].astype(np.float32)

    def each(self, function: Callable[..., jax.Array], *rows: jax.Array) -> jax.Array:
        """`function` of the rows of every run, one value per run."""
        per_size, start, found = len(self.experiment.sigmas) * self.seeds, 0, []
        for n in self.experiment.sample_sizes:
            stop = start + per_size * n
            found.append(jax.vmap(function)(*(x[start:stop].reshape(per_size, n, -1) for x in rows)))
            start = stop
        return jnp.concatenate(found)


def train(experiment: Experiment, method: Method, loss: str, seeds: int, steps: int) -> Iterator[tuple[int, History]]:
    """Train c in every run; yields (steps done, history so far) after each chunk.

    Full batch, fresh noise each step. The held-out error of a step is the mean absolute difference of the mean first
    spike times of that step's simulation and of a held-out batch of the same size.
    """
    runs = _Runs(experiment, seeds)
    truth = jnp.full(math.prod(runs.shape), experiment.current, jnp.float32)
    recorded, held_out = (_draw(runs)(truth, jr.key(k)) for k in (1, 2))
    optimiser = _optimiser(method, steps)
    c = jnp.full(math.prod(runs.shape), experiment.start, jnp.float32)
    state = c, optimiser.init(c), jr.key(3)
    advance = _advance(runs, optimiser, loss, recorded, held_out)
    parts: list[History] = []
    done = 0
    while done < steps:
        length = min(CHUNK, steps - done)
        state, flags, *part = advance(state, length)
        _raise_if_failed(flags)
        parts.append(History(*(np.asarray(x).reshape(length, *runs.shape) for x in part)))
        done += length
        yield done, History(*(np.concatenate(x) for x in zip(*parts, strict=True)))


def _advance(
    runs: _Runs, optimiser: optax.GradientTransformation, name: str, recorded: jax.Array, held_out: jax.Array
) -> Callable:
    """Compiled (state, length) -> (state, flags, c, error): `length` steps of every run."""
    loss = _loss(runs.experiment, name)
    target = runs.each(_mean_times(runs.experiment), held_out)

    def value(c: jax.Array, key: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        times, flags = _first_spikes(runs, c, key)
        seen = [times, recorded]
        if name == "signature":  # the paper caps each pair of trains at its smaller count
            both = jnp.isfinite(times) & jnp.isfinite(recorded)
            seen = [jnp.where(both, x, jnp.inf) for x in seen]
        features = [loss.features(unchecked(x[:, None], 0.0, runs.experiment.grid["t1"])) for x in seen]
        error = jnp.mean(jnp.abs(runs.each(_mean_times(runs.experiment), times) - target), axis=-1)
        return jnp.sum(runs.each(loss.compare, *features)), (error, flags)

    def one(state: tuple, _: None) -> tuple[tuple, tuple[jax.Array, ...]]:
        c, moments, key = state
        key, now = jr.split(key)
        slope, (error, flags) = jax.grad(value, has_aux=True)(c, now)
        update, moments = optimiser.update(slope, moments, c)
        return (c + update, moments, key), (flags, c + update, error)

    def chunk(state: tuple, length: int) -> tuple:
        state, found = jax.lax.scan(one, state, None, length)
        return state, *found

    return jax.jit(chunk, static_argnums=1)


def _loss(experiment: Experiment, name: str) -> AbstractLoss:
    """The paper's losses."""
    if name == "signature":
        return ExpectedSignatureLoss(depth=experiment.depth)
    return FirstSpikesLoss(n=experiment.spikes, kind="squared", rate=math.inf)  # a missing spike counts as one at t1


def _draw(runs: _Runs) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Compiled (c, key) -> times: what would be recorded."""

    def draw(c: jax.Array, key: jax.Array) -> jax.Array:
        times, flags = jax.jit(lambda c, key: _first_spikes(runs, c, key))(c, key)
        _raise_if_failed(flags)
        return times

    return draw


def _first_spikes(runs: _Runs, c: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first spikes of each row, and its flags other than that there were more of them."""
    experiment = runs.experiment
    settings: dict[str, Any] = dict(experiment.neuron)
    escape = ExponentialEscape(*(settings.pop(name) for name in ("beta", "v_th", "tau_s")))

    def row(c: jax.Array, sigma: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        neuron = SLIF(sigma=((sigma, 0.0), (0.0, 0.0)), escape=escape, **settings)
        sol = simulate(
            Population(neuron, current=c),
            t1=experiment.grid["t1"],
            dt=experiment.grid["dt"],
            key=key,
            max_spikes=experiment.spikes,
            max_spikes_per_step=1,
        )
        return jnp.asarray(sol.spikes.times)[0], sol.result.flags & ~SPIKE_BUFFER_FULL

    rows = runs.of_row
    return jax.vmap(row)(c[rows], jnp.asarray(runs.sigma_of_row), jr.split(key, len(rows)))


def _mean_times(experiment: Experiment) -> Callable[[jax.Array], jax.Array]:
    """Mean first spike times over samples; a missing spike counts as one at t1."""
    return lambda times: jnp.mean(jnp.where(jnp.isfinite(times), times, experiment.grid["t1"]), axis=0)


def _optimiser(method: Method, steps: int) -> optax.GradientTransformation:
    if method.optimiser == "rmsprop":
        return optax.rmsprop(method.learning_rate, decay=method.decay, momentum=method.momentum)
    return optax.adam(optax.cosine_decay_schedule(method.learning_rate, steps), b1=method.momentum, b2=method.decay)


def _raise_if_failed(flags: jax.Array) -> None:
    """A simulation that ended badly must not pass for a result."""
    Result(jnp.ravel(flags), jnp.zeros(flags.size, jnp.int32)).raise_if_failed()
