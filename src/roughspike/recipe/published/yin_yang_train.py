"""Training on Yin-Yang: Adam with a cosine schedule; the weights that are best on validation data are kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from roughspike.recipe.published.common import compiled
from roughspike.recipe.published.yin_yang_nets import (
    Classifier,
    Data,
    Settings,
    Weights,
    encode,
    first_weights,
    load,
    loss,
    simulate,
)
from roughspike.recipe.reproduce_context import Row

_MAP = 81


class Trainer:
    """One variant of the network and its method, compiled once for all seeds.

    **Arguments**

    - `settings`: of the variant. `epochs`: how many.
    - `data`: in place of the published split.
    """

    def __init__(self, settings: Settings, epochs: int, data: dict[str, Data] | None = None):
        self.settings, self.epochs = settings, epochs
        self.data = load(settings) if data is None else data
        self.batches = len(self.data["train"].labels) // settings["batch"]
        schedule = optax.cosine_decay_schedule(settings["learning_rate"], epochs * self.batches)
        clip = optax.clip_by_global_norm(settings.get("clip", np.inf))
        self._optimiser = optax.chain(clip, optax.adam(schedule, b2=settings.get("memory", 0.999)))
        self.classify = Classifier(settings)
        self._watch = jax.jit(lambda w, times, key: _watched(simulate(exact(settings), w, times, key)))
        self._epoch: Callable[..., Any] | None = None
        self.compile_seconds = self.megabytes = 0.0

    def train(self, seed: int, tick: Callable[[], Any] = lambda: None) -> tuple[Weights, Row]:
        """Train with one seed; `tick` is called after each epoch. Returns the weights that were kept, and the row.

        The CPU time is that of training and of the looks at the validation data, without compiling.

        **Raises** FloatingPointError if the loss is not finite.
        """
        if self._epoch is None:
            self._compile(self._first(seed))
        state, begun, cpu = self._chosen(seed)
        for _ in range(begun):
            tick()
        best, kept, curve, flagged = -1.0, state[0], [], []
        for n in range(begun, self.epochs):
            begin = time.process_time()
            state, value, flags = self._next(state, seed, n)
            flagged.append(flags)
            if self._looks(n):
                found = self._share(state[0], "validation", n)
                cpu += time.process_time() - begin
                if found > best and n + 1 > 0.75 * self.epochs:
                    best, kept = found, state[0]
                curve.append([n + 1, cpu, value, found, self._share(state[0], "test", n)])
            else:
                cpu += time.process_time() - begin
            tick()
        row = {
            "seed": seed,
            "epochs": self.epochs,
            "validation": best,
            "test": self._share(kept, "test", 0),
            "cpu_seconds": cpu,
            "compile_seconds": self.compile_seconds,
            "megabytes": self.megabytes,
            "flagged": float(np.mean(flagged)),
            "curve": curve,
        }
        counts = np.isfinite(self._watch(kept, self.data["test"].times, jr.key(0))[0]).sum(axis=2)
        return kept, row | {"spikes": float(counts.mean()), "silent": float(np.mean(counts.max(axis=0) == 0))}

    def _first(self, seed: int, start: int = 0) -> Any:
        weights = first_weights(self.settings, seed + 1000 * start)
        return weights, self._optimiser.init(weights)

    def _next(self, state: Any, seed: int, n: int) -> tuple[Any, float, float]:
        """State, mean loss and share of flagged samples after one more epoch."""
        assert self._epoch is not None
        state, values, flags = self._epoch(state, self.data["train"], jr.fold_in(jr.key(1000 + seed), n))
        value = float(values.mean())
        if not np.isfinite(value):
            raise FloatingPointError(f"the loss is {value} in epoch {n + 1}, seed {seed}: lower learning_rate")
        return state, value, float(flags.mean())

    def _chosen(self, seed: int) -> tuple[Any, int, float]:
        """Of `starts` first weights those that do best on validation data; epochs and CPU seconds that took.

        After each number of epochs in `halve` the better half goes on, as long as there are two.
        """
        begun, begin = 0, time.process_time()
        states = [self._first(seed, k) for k in range(self.settings.get("starts", 1))]
        for until in self.settings.get("halve", []):
            if until >= self.epochs or len(states) == 1:
                break
            for n in range(begun, until):
                states = [self._next(state, seed, n)[0] for state in states]
            states.sort(key=lambda state: -self._share(state[0], "validation", until))
            begun, states = until, states[: len(states) // 2]
        return states[0], begun, time.process_time() - begin

    def _looks(self, n: int) -> bool:
        """Look at validation data now? In every epoch of the last quarter, else ten times in all."""
        return n + 1 > 0.75 * self.epochs or n % max(1, self.epochs // 10) == 0

    def _share(self, weights: Weights, part: str, n: int) -> float:
        return self.classify.accuracy(weights, self.data[part], jr.key(n))

    def _compile(self, state: Any) -> None:
        epoch, seconds, self.megabytes = compiled(self._one_epoch, state, self.data["train"], jr.key(0))
        begin = time.process_time()
        for part in ("validation", "test"):
            self._share(state[0], part, 0)
        self._epoch, self.compile_seconds = epoch, seconds + time.process_time() - begin

    def _one_epoch(self, state: Any, data: Data, key: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
        size = self.settings["batch"]
        order, noise = jr.split(key)
        order = jr.permutation(order, len(data.labels))[: self.batches * size].reshape(self.batches, size)
        noises = jr.split(noise, self.batches)

        def step(state: Any, given: Any) -> tuple[Any, Any]:
            weights, moments = state
            rows, key = given
            batch = Data(data.times[rows], data.labels[rows])
            slope = jax.value_and_grad(lambda w: loss(self.settings, w, batch, key), has_aux=True)
            (value, told), on = slope(weights)
            update, moments = self._optimiser.update(on, moments, weights)
            return (optax.apply_updates(weights, update), moments), (value, jnp.mean(told.flagged))

        state, (values, flags) = jax.lax.scan(step, state, (order, noises))
        return state, values, flags

    def picture(self, weights: Weights) -> Row:
        """What the figure shows of one trained net: classes over the disc, and spikes of three test samples."""
        at = (np.arange(_MAP) + 0.5) / _MAP
        x, y = np.meshgrid(at, at)
        inside = np.hypot(x - 0.5, y - 0.5) <= 0.5
        features = np.stack([x, y, 1 - x, 1 - y], axis=-1)[inside]
        classes, test = np.full(inside.shape, -1), self.data["test"]
        size, found = len(test.labels), []
        for begin in range(0, len(features), size):  # in parts of the size for which the network is compiled
            times, _ = encode(self.settings, np.resize(features[begin : begin + size], (size, 4)), test.labels)
            found.append(self.classify(weights, times, jr.key(0)))
        classes[inside] = np.concatenate(found)[: len(features)]
        labels = np.asarray(test.labels)
        shown = [int(np.flatnonzero(labels == k)[0]) for k in range(3)]
        times, voltage = self._watch(weights, test.times, jr.key(0))
        spikes = [
            [[round(1e3 * t, 2) for t in n if np.isfinite(t)] for n in np.asarray(times, float)[k]] for k in shown
        ]
        return {
            "map": ["".join("." if k < 0 else str(k) for k in row) for row in classes],
            "t1": self.settings["t1"],
            "spikes_by_neuron": spikes,
            "inputs": np.round(1e3 * np.asarray(test.times)[shown, :, 0].astype(float), 2),
            "voltage": None if voltage is None else np.round(np.asarray(voltage, float)[shown], 4),
            "labels": labels[shown],
        }


def exact(settings: Settings) -> Settings:
    """The same network by the exact engine."""
    return settings | {"method": "exact"}


def _watched(sol: Any) -> tuple[jax.Array, jax.Array | None]:
    """Hidden spike times, and the voltage of the readout where there is one."""
    return jnp.asarray(sol.layers[0].times), sol.membrane
