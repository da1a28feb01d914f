"""Figures of the Yin-Yang recipes: accuracy against CPU time, classes over the disc, spikes of trained nets."""

from __future__ import annotations

from typing import Any

import numpy as np

from roughspike.recipe.reproduce_context import Row

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#5b6675", "#e69f00", "#56b4e9")
CLASSES = ("#f6e7c1", "#56b4e9", "#1c2430")


def learning(of: dict[str, list[Row]], labels: dict[str, str]) -> Any:
    """Test accuracy against CPU time, one thin line per seed, one colour per variant."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8.0, 4.6), label="learning")
    for k, (name, rows) in enumerate(of.items()):
        for row in rows:
            curve = np.array(row["curve"])
            style = {"color": COLOURS[k % len(COLOURS)], "lw": 1.1, "alpha": 0.8}
            axes.plot(curve[:, 1], curve[:, 4], **style, label=labels[name] if row is rows[0] else None)
    lowest = min(np.median([row["curve"][len(row["curve"]) // 3][4] for row in rows]) for rows in of.values())
    axes.set(xlabel="CPU time of the training (s)", ylabel="Test accuracy (%)", ylim=(min(lowest - 3, 94), 99.5))
    axes.axhline(98.1, color="#9aa4b1", ls="--", lw=1, zorder=0)
    axes.text(axes.get_xlim()[1], 98.15, "EventProp 98.1", ha="right", va="bottom", color="#5b6675", fontsize=8)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    _bare(axes)
    return figure


def classes(of: dict[str, list[Row]], labels: dict[str, str]) -> Any:
    """What each net makes of the disc, beside the true classes."""
    import matplotlib.pyplot as plt

    shown = {name: next((row for row in rows if "map" in row), None) for name, rows in of.items()}
    shown = {name: row for name, row in shown.items() if row is not None}
    figure, axes = plt.subplots(
        1, len(shown) + 1, figsize=(2.1 * (len(shown) + 1), 2.5), squeeze=False, label="classes"
    )
    _disc(axes[0, 0], _truth(81), "the task")
    for panel, (name, row) in zip(axes[0, 1:], shown.items(), strict=True):
        drawn = np.array([[-1 if c == "." else int(c) for c in line] for line in row["map"]])
        _disc(panel, drawn, labels[name].replace(", ", "\n", 1) + f"\n{row['test']:.1f} %")
    figure.tight_layout()
    return figure


def raster(of: dict[str, list[Row]], labels: dict[str, str]) -> Any:
    """Input and hidden spikes, and the readout, of one test sample of each class, for the first variant drawn."""
    import matplotlib.pyplot as plt

    name, row = next(((n, r) for n, rows in of.items() for r in rows if "map" in r), (None, None))
    if row is None or name is None:
        return plt.figure(figsize=(1, 1), label="raster")
    figure, axes = plt.subplots(
        2, 3, figsize=(9.5, 5.2), sharex=True, sharey="row", height_ratios=(2.4, 1), label="raster"
    )
    order = np.argsort([min([t for t in neuron] or [1e9]) for neuron in row["spikes_by_neuron"][0]])
    for k in range(3):
        top, bottom = axes[0, k], axes[1, k]
        sample = row["spikes_by_neuron"][k]
        for height, neuron in enumerate(order):
            top.plot(sample[neuron], np.full(len(sample[neuron]), height), "|", color="#0072b2", ms=2.5, mew=0.8)
        for channel, time in enumerate(row["inputs"][k]):
            top.plot([time], [-6 - 4 * channel], "|", color="#d55e00", ms=7, mew=1.6)
        top.set_title(f"class {row['labels'][k]}", fontsize=10)
        if row["voltage"] is not None:
            voltage = np.array(row["voltage"][k])
            for output in range(3):
                at = np.linspace(0, row["t1"] * 1e3, voltage.shape[1])
                bottom.plot(at, voltage[output], color=COLOURS[output], lw=1.4, label=f"output {output}")
        bottom.set_xlabel("Time (ms)")
        _bare(top)
        _bare(bottom)
    axes[0, 0].set_ylabel("Hidden neuron; below: inputs")
    axes[1, 0].set_ylabel("Readout")
    if row["voltage"] is not None:
        axes[1, 2].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(labels[name], fontsize=10)
    figure.tight_layout()
    return figure


def _truth(size: int) -> np.ndarray:
    from roughspike.networks.yin_yang import class_of

    at = (np.arange(size) + 0.5) / size
    return np.array([[class_of(x, y) if np.hypot(x - 0.5, y - 0.5) <= 0.5 else -1 for x in at] for y in at])


def _disc(axes: Any, drawn: np.ndarray, title: str) -> None:
    from matplotlib.colors import ListedColormap

    axes.imshow(
        np.ma.masked_less(drawn, 0),
        origin="lower",
        cmap=ListedColormap(CLASSES),
        vmin=0,
        vmax=2,
        interpolation="nearest",
    )
    axes.set_title(title, fontsize=8)
    axes.axis("off")


def _bare(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def noise_curves(settings: dict[str, Any], curves: dict[str, dict[str, dict[str, list[float]]]]) -> Any:
    """Accuracy by level of noise, with standard errors, levels of escape noise joined; equal epochs and equal CPU."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(5.2 * len(curves), 4.4), sharey=True, label="noise")
    levels = list(settings["levels"])
    for panel, (which, methods) in zip(axes, curves.items(), strict=True):
        for k, (name, found) in enumerate(methods.items()):
            at = np.array([levels.index(level) for level in found]) + 0.1 * (k - 1.5)
            mean = np.array([np.mean(x) for x in found.values()])
            error = [np.std(x, ddof=1) / np.sqrt(len(x)) if len(x) > 1 else 0.0 for x in found.values()]
            label = settings["methods"][name]["label"]
            panel.errorbar(at, mean, error, color=COLOURS[k], fmt="o", ms=4, elinewidth=1.2, label=label, capsize=2)
            escape = ["sigma" not in settings["levels"][level] for level in found]
            panel.plot(at[escape], mean[escape], color=COLOURS[k], lw=1.2)
        panel.set_xticks(range(len(levels)), [settings["levels"][x]["label"].replace(", ", "\n") for x in levels])
        panel.tick_params(axis="x", labelsize=8)
        panel.set_title(f"at equal {which}", fontsize=10)
        _bare(panel)
    axes[0].set_ylabel("Test accuracy under that noise (%)")
    axes[0].legend(frameon=False, fontsize=8, loc="upper right")
    figure.tight_layout()
    return figure
