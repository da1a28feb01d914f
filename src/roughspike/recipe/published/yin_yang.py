"""Yin-Yang by deterministic networks: several sizes, readouts and delays, exact beside surrogate gradients."""

from __future__ import annotations

from typing import Any

from roughspike.recipe.published.yin_yang_figures import classes, learning, raster
from roughspike.recipe.published.yin_yang_train import Trainer
from roughspike.recipe.reproduce_context import Context, Row
from roughspike.recipe.reproduce_outcome import Outcome, at_least, at_most, mean_and_error

_NOTE = (
    "Test accuracy of the weights that were best on validation data in the last quarter of the epochs, with its "
    "standard error over seeds; a share of 98 % of 1000 test samples has a sampling error of 0.4 by itself. "
    "CPU seconds of one training, validation included, compiling not; memory: temporary, of the compiled epoch. "
    "Flagged: samples of a batch in which a spike did not find room in its step and was moved to the next. Aim: what "
    "we set out to reach; the recipe fails if it falls below what it reached when it was written."
)


def run(settings: dict[str, Any], context: Context) -> None:
    """Train every variant with every seed."""
    variants = {name: settings["common"] | variant for name, variant in settings["variants"].items()}
    wanted = [
        (name, seed) for seed in context.seeds for name in variants if f"{name}-seed{seed}" not in context.rows
    ]  # seed by seed, so that an interrupted run has something to show of every variant
    bar = context.progress(sum(context.length(variants[name]["epochs"]) for name, _ in wanted), "training", "epoch")
    trainers: dict[str, Trainer] = {}
    for name, seed in wanted:
        bar.set_postfix_str(f"{name}, seed {seed}")
        if name not in trainers:
            trainers[name] = Trainer(variants[name], context.length(variants[name]["epochs"]))
        weights, row = trainers[name].train(seed, bar.update)
        if seed == 0:
            row |= trainers[name].picture(weights)
        context.keep(f"{name}-seed{seed}", row | {"variant": name})
    bar.close()


def show(settings: dict[str, Any], rows: dict[str, Row]) -> Outcome:
    """One line per variant; accuracy against CPU time, classes over the disc, spikes of trained nets."""
    of = {name: [row for row in rows.values() if row["variant"] == name] for name in settings["variants"]}
    of = {name: sorted(found, key=lambda row: row["seed"]) for name, found in of.items() if found}
    labels = {name: settings["variants"][name]["label"] for name in of}
    table = [_line(labels[name], settings["variants"][name], found) for name, found in of.items()]
    figures = {"learning": learning(of, labels), "classes": classes(of, labels), "raster": raster(of, labels)}
    return Outcome(table, figures, _verdicts(settings, of), _NOTE)


def _line(label: str, variant: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    mean = lambda key: sum(row[key] for row in rows) / len(rows)  # noqa: E731
    return {
        "network": label,
        "seeds": len(rows),
        "test, %": mean_and_error([row["test"] for row in rows]),
        "published, %": variant.get("published", ""),
        "aim, %": f"{variant['aim']:g}" if "aim" in variant else "",
        "validation, %": f"{mean('validation'):.2f}",
        "epochs": rows[0]["epochs"],
        "CPU s": f"{mean('cpu_seconds'):.0f}",
        "MB": f"{mean('megabytes'):.0f}",
        "spikes/neuron": f"{mean('spikes'):.2f}",
        "silent, %": f"{100 * mean('silent'):.0f}",
        "flagged, %": f"{100 * mean('flagged'):.2f}",
    }


def _verdicts(settings: dict[str, Any], of: dict[str, list[Row]]) -> list:
    found = []
    for name, variant in settings["variants"].items():
        rows = of.get(name, [])
        if "expected" in variant:
            accuracy = [row["test"] for row in rows]
            found.append(at_least(f"{variant['label']}: test accuracy, %", accuracy, variant["expected"]))
        if "expected_cpu" in variant:
            seconds = [row["cpu_seconds"] for row in rows]
            found.append(at_most(f"{variant['label']}: CPU seconds", seconds, variant["expected_cpu"]))
    return found
