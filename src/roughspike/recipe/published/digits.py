"""Latency-coded digits: one hidden layer, read by its mean voltage, exact beside surrogate gradients on one split."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from roughspike.recipe.published.digits_data import load_digits, spike_times
from roughspike.recipe.published.yin_yang_nets import Data, logits, simulate
from roughspike.recipe.published.yin_yang_train import Trainer, exact
from roughspike.recipe.reproduce_context import Context, Row
from roughspike.recipe.reproduce_outcome import Outcome, at_least, mean_and_error

_NOTE = (
    "Test accuracy of the weights that were best on validation data in the last quarter of the epochs, with its "
    "standard error over seeds. The split is our own, fixed and the same for all, so published accuracies on other "
    "splits are not comparable. Both gradients have the same network, first weights, step and optimiser; the surrogate "
    "has its spikes on the grid. CPU seconds of one training, without compiling; memory: temporary, of an epoch."
)
_COLOURS = ("tab:blue", "tab:orange", "tab:green")


def run(settings: dict[str, Any], context: Context) -> None:
    """Train every variant with every seed."""
    variants = {name: settings["common"] | variant for name, variant in settings["variants"].items()}
    images = load_digits(settings["data"])
    latest = settings["common"]["latest"]
    data = {k: Data(jnp.asarray(spike_times(x.ink, latest)), jnp.asarray(x.labels)) for k, x in images.items()}
    epochs = context.length(settings["common"]["epochs"])
    wanted = [(name, seed) for seed in context.seeds for name in variants]
    bar, trainers = context.progress(len(wanted) * epochs, "training", "epoch"), {}

    def train(name: str, seed: int) -> Row:
        if name not in trainers:
            trainers[name] = Trainer(variants[name], epochs, data)
        weights, row = trainers[name].train(seed, bar.update)
        if seed == 0:
            row |= _picture(variants[name], weights, data["test"], images["test"].ink)
        return row | {"variant": name}

    for name, seed in wanted:
        context.row(f"{name}-seed{seed}", lambda name=name, seed=seed: train(name, seed))
    bar.close()


def show(settings: dict[str, Any], rows: dict[str, Row]) -> Outcome:
    """One line per variant; accuracy against CPU time, and one digit as spikes."""
    of = {name: [row for row in rows.values() if row["variant"] == name] for name in settings["variants"]}
    of = {name: found for name, found in of.items() if found}
    table = [_line(settings["variants"][name]["label"], found) for name, found in of.items()]
    verdicts = [
        at_least(
            f"{variant['label']}: test accuracy, %", [row["test"] for row in of.get(name, [])], variant["expected"]
        )
        for name, variant in settings["variants"].items()
        if "expected" in variant
    ]
    return Outcome(table, {"digits": _figure(settings, of)}, verdicts, _NOTE)


def _line(label: str, rows: list[Row]) -> dict[str, Any]:
    mean = lambda key: float(np.mean([row[key] for row in rows]))  # noqa: E731
    return {
        "gradient": label,
        "seeds": len(rows),
        "test, %": mean_and_error([row["test"] for row in rows]),
        "validation, %": f"{mean('validation'):.2f}",
        "epochs": rows[0]["epochs"],
        "CPU s": f"{mean('cpu_seconds'):.0f}",
        "MB": f"{mean('megabytes'):.0f}",
        "spikes/neuron": f"{mean('spikes'):.2f}",
        "silent neurons, %": f"{100 * mean('silent'):.1f}",
    }


def _picture(settings: dict[str, Any], weights: Any, data: Data, ink: np.ndarray) -> Row:
    """One test sample: its image, hidden spikes and the voltages of the readout."""
    some = Data(data.times[:1], data.labels[:1])
    sol = simulate(exact(settings), weights, some.times, jr.key(0))
    side = round(np.sqrt(ink.shape[1]))
    hidden = np.asarray(sol.layers[0].times, float)[0]
    return {
        "image": np.round(ink[0].reshape(side, side), 3),
        "label": some.labels[0],
        "said": jnp.argmax(logits(settings, weights, some.times, jr.key(0))[0][0]),
        "inputs": [None if not np.isfinite(t) else round(1e3 * t, 2) for t in np.asarray(some.times, float)[0, :, 0]],
        "hidden": [[round(1e3 * t, 2) for t in neuron if np.isfinite(t)] for neuron in hidden],
        "voltage": np.round(np.asarray(sol.membrane, float)[0], 4),
    }


def _figure(settings: dict[str, Any], of: dict[str, list[Row]]) -> Any:
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(1, 4, figsize=(12.5, 3.4), layout="constrained", num="digits", clear=True)
    lowest = 100.0
    for colour, (name, rows) in zip(_COLOURS, of.items(), strict=False):
        for k, row in enumerate(rows):
            _, cpu, _, _, test = np.asarray(row["curve"]).T
            label = settings["variants"][name]["label"] if k == 0 else None
            axes[0].plot(cpu, test, ".-", color=colour, lw=1, ms=4, label=label)
            lowest = min(lowest, float(np.median(test)))
    axes[0].set(xlabel="CPU seconds", ylabel="test accuracy (%)", ylim=(max(0.0, lowest - 10), 100), title="learning")
    axes[0].legend(frameon=False, fontsize=8)
    pictured = [row for rows in of.values() for row in rows if "image" in row]
    if pictured:
        _sample(axes[1:], pictured[0], 1e3 * settings["common"]["t1"])
    return drawing


def _sample(axes: Any, row: Row, t1: float) -> None:
    image, raster, voltage = axes
    image.imshow(row["image"], cmap="gray_r")
    image.set(xticks=[], yticks=[], title=f"a test digit: {row['label']}")
    times = [[] if t is None else [t] for t in row["inputs"]]
    for trains, low, colour in ((times, 0.0, "0.5"), (row["hidden"], 1.1, "tab:blue")):
        at = low + np.linspace(0.0, 1.0, len(trains))
        raster.eventplot(trains, colors=colour, lineoffsets=at, linelengths=0.03, lw=1.5)
    raster.set(xlabel="time (ms)", xlim=(0, t1), yticks=[], title="pixels (grey), hidden (blue)")
    grid = np.linspace(0, t1, len(row["voltage"][0]))
    for k, trace in enumerate(row["voltage"]):
        own = k == row["label"]
        voltage.plot(grid, trace, color="tab:blue" if own else "0.7", lw=2 if own else 1, zorder=3 if own else 1)
        voltage.annotate(str(k), (grid[-1], trace[-1]), fontsize=8, va="center")
    voltage.set(xlabel="time (ms)", title=f"readout: says {row['said']}")
