"""Networks for Yin-Yang: data in spike times, first weights, and the logits by exact or surrogate gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import roughspike as rs
from roughspike.recipe.published import surrogate

Settings = dict[str, Any]
Weights = dict[str, jax.Array]
_DELAY_UNIT = 10.0  # delays are softplus(10 x) ms: Adam moves all numbers at one rate


class Data(NamedTuple):
    """Spike times (count, channels, 1) in seconds, and classes."""

    times: jax.Array
    labels: jax.Array


class Told(NamedTuple):
    """What a run of the network says beside its logits.

    - `times`: hidden spike times (batch, hidden, capacity). `flagged`: which samples ended other than well.
    - `first`: first spike of each output, or what a missing one counts as; of a network read as a voltage None.
    - `quiet`: how far its quiet neurons are from a spike, where the settings ask to keep them alive.
    """

    times: jax.Array | None
    flagged: jax.Array
    first: jax.Array | None = None
    quiet: jax.Array | None = None


def load(settings: Settings) -> dict[str, Data]:
    """The published split: 5000 training, 1000 validation and 1000 test samples."""
    split = {"train": (5000, 42), "validation": (1000, 41), "test": (1000, 40)}
    return {name: Data(*encode(settings, *rs.yin_yang(*entry))) for name, entry in split.items()}


def encode(settings: Settings, features: np.ndarray, labels: Any) -> tuple[jax.Array, jax.Array]:
    """One spike per feature; with five inputs the last one is a bias that spikes at 0."""
    bias = settings["sizes"][0] == 5
    train = rs.latency_code(features, t1=settings["t1"], latest=settings["latest"], bias=bias)
    return jnp.asarray(train.times), jnp.asarray(labels)


def first_weights(settings: Settings, seed: int) -> Weights:
    """Normal weights; delays, where there are any, of normal size, too."""
    inputs, hidden, outputs = settings["sizes"]
    keys = jr.split(jr.key(seed), 3)

    def normal(key: jax.Array, shape: tuple[int, ...], law: list[float]) -> jax.Array:
        return law[0] + law[1] * jr.normal(key, shape)

    found = {
        "hidden": normal(keys[0], (inputs, hidden), settings["hidden"]),
        "output": normal(keys[1], (hidden, outputs), settings["output"]),
    }
    shapes = {
        "none": {},
        "axonal": {"delays": (inputs,), "later": (hidden,)},
        "synaptic": {"delays": (inputs, hidden)},
        "synaptic, both layers": {"delays": (inputs, hidden), "later": (hidden, outputs)},
    }
    for name, shape in shapes[settings["delays"]].items():
        found[name] = normal(jr.fold_in(keys[2], len(found)), shape, settings["delay"]) / _DELAY_UNIT
    return found


def delays_of(weights: Weights) -> list[jax.Array | None]:
    """Delays of the two layers in seconds, above 0: of axons or synapses of inputs, and of hidden neurons."""
    seconds = lambda x: 1e-3 * jax.nn.softplus(_DELAY_UNIT * x)  # noqa: E731
    return [seconds(weights[name]) if name in weights else None for name in ("delays", "later")]


def neuron(settings: Settings) -> rs.SLIF:
    """The hidden neuron: a hard threshold, or with `beta` an escape rate, with `sigma` diffusion of the potential."""
    if "beta" not in settings:
        return rs.LIF(settings["tau_mem"], settings["tau_syn"])
    return rs.SLIF(
        mu=(1 / settings["tau_mem"], 1 / settings["tau_syn"]),
        sigma=((settings.get("sigma", 0.0), 0.0), (0.0, 0.0)),
        v_reset=1.0,
        escape=rs.ExponentialEscape(beta=settings["beta"], v_th=1.0, tau_s=settings["tau_s"]),
    )


def logits(settings: Settings, weights: Weights, times: jax.Array, key: Any = None) -> tuple[jax.Array, Told]:
    """Logits (batch, 3) of the network that the settings describe, with the gradient of its `method`.

    `method`: "exact"; "surrogate", a network of its own on the grid, without noise; "surrogate backward", the spikes of
    the exact network and the derivative of the other.
    """
    if settings["method"] == "surrogate":
        return _on_the_grid(settings, weights, times)
    if settings["method"] == "surrogate backward":
        return _surrogate_backward(settings, weights, times, key)
    alive = "alive" in settings
    sol = simulate(settings, weights, times, key, trace=alive or settings["readout"] == "first spike")
    out, told = _read(settings, sol)
    return out, told._replace(quiet=rs.activity_penalty(sol, low=settings["alive"])) if alive else told


def simulate(
    settings: Settings, weights: Weights, times: jax.Array, key: Any = None, trace: bool = False
) -> rs.Solution:
    """Run the network on input spikes (batch, channels, 1)."""
    cell, taus = neuron(settings), settings.get("readout_taus", (settings["tau_mem"], settings["tau_syn"]))
    readout = None if settings["readout"] == "first spike" else rs.Readout(*taus)
    net = rs.FeedForward(
        settings["sizes"],
        neuron=cell,
        weights=[weights["hidden"], weights["output"]],
        delays=delays_of(weights),
        readout=readout,
    )
    spikes = rs.SpikeTrain(times, 0.0, settings["t1"])
    slots = settings["slots"]
    return rs.simulate(
        net, inputs=spikes, t1=settings["t1"], dt=settings["dt"], key=key, max_spikes=settings["max_spikes"],
        max_spikes_per_step=slots, trace=trace,
    )  # fmt: skip


def loss(settings: Settings, weights: Weights, data: Data, key: Any = None) -> tuple[jax.Array, Told]:
    """Cross-entropy; what keeps neurons alive; with first spikes what brings the right one forward, or into being."""
    out, told = logits(settings, weights, data.times, key)
    value = jnp.mean(_cross_entropy(out, data.labels))
    if told.first is not None:
        right = jnp.take_along_axis(told.first, data.labels[:, None], axis=1)[:, 0]
        value = value + settings["early"] * jnp.mean(jnp.expm1(right / settings["early_time"]))
    if told.quiet is not None:
        value = value + settings["alive_weight"] * told.quiet
    return value, told


def _cross_entropy(out: jax.Array, labels: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(out), labels[:, None], axis=1)[:, 0]


def _read(settings: Settings, sol: rs.Solution) -> tuple[jax.Array, Told]:
    flagged, times = sol.result.flags != 0, jnp.asarray(sol.layers[0].times)
    if settings["readout"] == "first spike":
        assert isinstance(sol.membrane, tuple)
        first = jnp.asarray(sol.layers[-1].times)[..., 0]
        # a missing spike has no derivative: it counts as the later the lower the peak of the membrane
        missing = settings["t1"] + settings["missing_time"] * (1.0 - jnp.max(sol.membrane[-1], axis=-1))
        first = jnp.where(jnp.isfinite(first), first, missing)
        return -first / settings["softmax_time"], Told(times, flagged, first)
    voltage = sol.membrane[-1] if isinstance(sol.membrane, tuple) else sol.membrane
    return _of_voltage(settings, jnp.asarray(voltage)), Told(times, flagged)


def _of_voltage(settings: Settings, voltage: jax.Array) -> jax.Array:
    read = jnp.max if settings["readout"] == "max" else jnp.mean
    return settings["gain"] * read(voltage, axis=-1)


def _grid(settings: Settings) -> tuple[surrogate.Constants, int]:
    steps = round(settings["t1"] / settings["dt"])
    c = surrogate.constants(settings["tau_mem"], settings["tau_syn"], settings["t1"] / steps)
    return c._replace(slope=settings["slope"]), steps


def _on_the_grid(settings: Settings, weights: Weights, times: jax.Array) -> tuple[jax.Array, Told]:
    c, steps = _grid(settings)
    sent = surrogate.binned(times, settings["t1"] / steps, steps)
    spikes = surrogate.layer(c, weights["hidden"], sent, inside=False, by_hand=True)
    voltage = surrogate.readout(c, weights["output"], spikes)
    return _of_voltage(settings, voltage.transpose(2, 1, 0)), Told(None, jnp.zeros(len(times), bool))


def _surrogate_backward(settings: Settings, weights: Weights, times: jax.Array, key: Any) -> tuple[jax.Array, Told]:
    """The value is that of the exact network; the derivative goes through its spikes, counted in steps of the grid."""
    c, steps = _grid(settings)
    h = settings["t1"] / steps
    sol = simulate(settings, jax.tree.map(jax.lax.stop_gradient, weights), times, key, trace=True)
    value, told = _read(settings, sol)
    assert told.times is not None and isinstance(sol.membrane, tuple)
    spikes = surrogate.binned(told.times, h, steps)
    before_reset = sol.membrane[0][..., 1:].transpose(2, 1, 0) + spikes
    current = jnp.einsum("po,npb->nob", weights["hidden"], surrogate.binned(times, h, steps))
    voltage = surrogate.readout(c, weights["output"], surrogate.forced(c, current, spikes, before_reset))
    out = _of_voltage(settings, voltage.transpose(2, 1, 0))
    return out + jax.lax.stop_gradient(value - out), told


class Classifier:
    """A network that is compiled once per number of samples; calling it gives classes (samples,)."""

    def __init__(self, settings: Settings):
        def run(weights: Weights, times: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            out, told = logits(settings, weights, times, key)
            return jnp.argmax(out, axis=1), told.flagged

        self._run = jax.jit(run)

    def __call__(self, weights: Weights, times: jax.Array, key: jax.Array) -> np.ndarray:
        """Classes of input spikes (samples, channels, 1)."""
        return np.asarray(self._run(weights, times, key)[0])

    def judge(self, weights: Weights, data: Data, key: jax.Array) -> tuple[float, float]:
        """Samples in the right class, and flagged samples, in per cent."""
        classes, flagged = self._run(weights, data.times, key)
        right = np.asarray(classes) == np.asarray(data.labels)
        return 100 * float(np.mean(right)), 100 * float(np.mean(np.asarray(flagged)))

    def accuracy(self, weights: Weights, data: Data, key: jax.Array) -> float:
        """Samples in the right class, in per cent."""
        return self.judge(weights, data, key)[0]
