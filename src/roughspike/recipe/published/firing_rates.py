"""A network trained on firing rates: the gradient of an expectation is not the mean gradient along paths.

The data are trains of a network of the same shape. Two objectives: the squared difference of mean firing rates, and
that of the expected signatures of single neurons (depth 3); each with the pathwise gradient and with `with_horizon`.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from roughspike.losses.base import AbstractLoss
from roughspike.losses.horizon import with_horizon
from roughspike.losses.signature import ExpectedSignatureLoss
from roughspike.networks.feedforward import FeedForward
from roughspike.networks.inputs import poisson_spikes
from roughspike.networks.simulate import simulate
from roughspike.paths.spikes import SpikeTrain
from roughspike.recipe.published.common import Compiled, compiled, noisy_neuron
from roughspike.recipe.published.firing_rates_show import CASES, figure, lines, verdicts
from roughspike.recipe.reproduce_context import Context, Row
from roughspike.recipe.reproduce_outcome import Outcome

Weights = tuple[jax.Array, ...]
_ROOM = 48  # spikes of a neuron or an input channel


class RateLoss(AbstractLoss):
    """Mean over neurons of the squared difference of mean firing rates."""

    def features(self, spikes: SpikeTrain) -> jax.Array:
        """Spikes per unit of time, (samples, neurons)."""
        return jnp.isfinite(spikes.times).sum(-1) / spikes.duration

    def compare(self, simulated: jax.Array, recorded: jax.Array) -> jax.Array:
        """The loss."""
        return jnp.mean((simulated.mean(0) - jax.lax.stop_gradient(recorded).mean(0)) ** 2)


class Task(NamedTuple):
    """Input spikes, weights of the teacher and of the start, and the teacher's trains."""

    inputs: SpikeTrain
    teacher: Weights
    start: Weights
    data: SpikeTrain


def run(settings: dict[str, Any], context: Context) -> None:
    """Slopes of the rate, and the trainings of each seed."""
    train = _trainer(settings, context.length(settings["steps"]))
    context.row("slope", lambda: _slopes(settings))
    bar = context.progress(len(context.seeds) * len(CASES), "training", "run")
    for seed in context.seeds:
        task = _task(settings, seed)
        for case in CASES:
            context.row(f"{case}-seed{seed}", lambda case=case, task=task: train(case, task))
            bar.update()
    bar.close()


def show(settings: dict[str, Any], rows: dict[str, Row]) -> Outcome:
    """The table and the figure."""
    note = (
        "Rate error: root mean square over the output neurons of the mean rate (1/s) less that of the data, at the end "
        "of training. All trainings of a seed begin at the same weights and differ in the gradient alone: 'path' is "
        "the mean gradient along simulated paths, 'path + horizon' adds the spikes that enter or leave the window at "
        "its end (rs.with_horizon). The gradient of the rates along paths is exactly 0. That of the signatures is not, "
        "and is wrong: it moves spikes, and takes their number as given. Through hidden neurons the full gradient has "
        "a long tail (a spike at a low potential moves far), hence many samples for the slopes, and a "
        "clipped norm in training. CPU seconds without compiling; MB: temporary memory of a "
        "training."
    )
    return Outcome(lines(settings, rows), {"rates": figure(settings, rows)}, verdicts(settings, rows), note)


def _spikes(settings: dict[str, Any], weights: Weights, inputs: SpikeTrain, key: Any, count: int) -> Any:
    """Spikes of the output neurons, and flags of the run."""
    net = FeedForward(settings["sizes"], noisy_neuron(settings), weights=list(weights))
    sol = simulate(net, inputs=inputs, **settings["grid"], key=key, num_samples=count, max_spikes=_ROOM)
    return sol.spikes, sol.result.flags


def _task(settings: dict[str, Any], seed: int) -> Task:
    sizes, t1 = settings["sizes"], settings["grid"]["t1"]
    inputs = poisson_spikes(jr.key(1000 + seed), np.full(sizes[0], settings["input_rate"]), t1, max_spikes=_ROOM)
    rates, tau = (settings["input_rate"], settings["hidden_rate"]), 1 / settings["neuron"]["mu"][1]

    def weights(key: jax.Array, drive: float) -> Weights:
        keys = jr.split(key, len(sizes) - 1)
        shapes = list(zip(sizes, sizes[1:], strict=False))
        return tuple(
            drive / (shape[0] * rate * tau) * (1 + settings["spread"] * jr.normal(key, shape))
            for key, shape, rate in zip(keys, shapes, rates, strict=True)
        )

    teacher = weights(jr.key(2 * seed), settings["teacher"])
    start = weights(jr.key(2 * seed + 1), settings["start"])
    draw = jax.jit(lambda w, x, key: _spikes(settings, w, x, key, settings["trials"]))
    data, flags = draw(teacher, inputs, jr.key(2000 + seed))
    if np.any(flags):
        raise RuntimeError("the simulation of the data failed: make dt smaller or _ROOM larger")
    return Task(inputs, teacher, start, SpikeTrain(data.times, 0.0, t1))


def _trainer(settings: dict[str, Any], steps: int) -> Any:
    """(case, task) -> row, by one program for all losses, which is compiled when the first is asked for."""
    plain = (RateLoss(), ExpectedSignatureLoss(depth=3))
    losses = [loss for one in plain for loss in (one, with_horizon(one))]
    optimiser = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(settings["learning_rate"], steps))
    )

    def advance(choice: jax.Array, task: Task, keys: jax.Array) -> Any:
        target = RateLoss().features(task.data).mean(0)

        def value(weights: Weights, key: jax.Array) -> tuple[jax.Array, Any]:
            spikes, flags = _spikes(settings, weights, task.inputs, key, settings["samples"])
            rates = RateLoss().features(spikes).mean(0)
            return choice @ jnp.stack([loss(spikes, task.data) for loss in losses]), (rates, jnp.mean(flags != 0))

        def one(carry: Any, key: jax.Array) -> Any:
            weights, state = carry
            slope, (rates, flagged) = jax.grad(value, has_aux=True)(weights, key)
            update, state = optimiser.update(slope, state)
            error = jnp.sqrt(jnp.mean((rates - target) ** 2))
            told = error, rates, optax.global_norm(slope), flagged
            return (optax.apply_updates(weights, update), state), told

        return jax.lax.scan(one, (task.start, optimiser.init(task.start)), keys)[1]

    keys, programs = jr.split(jr.key(5), steps), list[Compiled]()

    def train(case: str, task: Task) -> Row:
        given = jnp.eye(len(CASES))[list(CASES).index(case)], task, keys
        if not programs:
            programs.append(compiled(advance, *given))
        return _train(case, task, programs[0], given)

    return train


def _train(case: str, task: Task, program: Compiled, given: Any) -> Row:
    begin = time.process_time()
    error, rates, size, flagged = (np.asarray(x, np.float64) for x in program.run(*given))
    return {
        "case": case,
        "error": error,
        "rates": rates[[0, -1]],
        "target": RateLoss().features(task.data).mean(0),
        "gradient": size[0],
        "flagged": flagged.mean(),
        "seconds": time.process_time() - begin,
        "megabytes": program.megabytes,
    }


def _slopes(settings: dict[str, Any]) -> Row:
    """The mean output rate for weights scaled in common, its two gradients, and differences of means."""
    own, task = settings["slope"], _task(settings, 0)

    def rate(scale: jax.Array, key: jax.Array, horizon: jax.Array) -> jax.Array:
        weights = tuple(scale * w for w in task.teacher)
        spikes, _ = _spikes(settings, weights, task.inputs, key, own["samples"])
        both = jnp.stack([loss.features(spikes).mean() for loss in (RateLoss(), with_horizon(RateLoss()))])
        return jnp.where(horizon, both[1], both[0])

    run = jax.jit(jax.value_and_grad(rate))
    scales, reach = np.asarray(own["scales"], np.float32), own["reach"]

    def over(batches: jax.Array, of: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean over batches and its standard error, for each scale."""
        found = np.array([[of(c, key) for c in scales] for key in batches], float)
        return found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(len(found))

    keys = jr.split(jr.key(0), own["batches"])
    ends = lambda c, key: (run(c + reach, key, False)[0] - run(c - reach, key, False)[0]) / (2 * reach)  # noqa: E731
    difference, difference_error = over(keys, ends)
    slope, slope_error = over(keys, lambda c, key: run(c, key, True)[1])
    return {
        "case": "slope",
        "scales": scales,
        "rate": over(keys[:2], lambda c, key: run(c, key, False)[0])[0],
        "without": over(keys[:2], lambda c, key: run(c, key, False)[1])[0],
        "with": slope,
        "with_error": slope_error,
        "difference": difference,
        "difference_error": difference_error,
    }
