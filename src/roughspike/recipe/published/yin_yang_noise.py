"""Yin-Yang under noise: accuracy against the noise, for networks trained by four gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.random as jr
import numpy as np

from roughspike.recipe.published.yin_yang_figures import noise_curves
from roughspike.recipe.published.yin_yang_nets import Classifier, Settings, Weights
from roughspike.recipe.published.yin_yang_train import Trainer, exact
from roughspike.recipe.reproduce_context import Context, Row
from roughspike.recipe.reproduce_outcome import Outcome, Verdict, at_least, mean_and_error

_NOTE = (
    "Test accuracy under fresh noise (mean of several draws), with its standard error over seeds. All networks run in "
    "the same exact engine, on the same fine grid, whatever trained them; those trained without noise are trained once "
    "for all levels. Equal CPU: as many epochs as cost about the CPU time of the exact stochastic training, see the "
    "column of CPU seconds. Flagged: training samples in which a step was too coarse for its hazard; judged: the same "
    "of test samples, on the grid that accuracies are found on."
)


class _Job(NamedTuple):
    """One training; `level` is None for a method without noise."""

    method: str
    level: str | None
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        """Of its row."""
        return f"{self.method}-{self.level or 'without'}-epochs{self.epochs}-seed{self.seed}"


def jobs_of(settings: dict[str, Any], context: Context) -> list[_Job]:
    """All trainings, seed by seed."""
    found = []
    for seed in context.seeds:
        for name, method in settings["methods"].items():
            levels = [level for level, x in settings["levels"].items() if "beta" in x] if method["noisy"] else [None]
            for epochs in dict.fromkeys(map(context.length, method["epochs"])):
                found += [_Job(name, level, epochs, seed) for level in levels]
    return found


def run(settings: dict[str, Any], context: Context) -> None:
    """Train by every method, at every level that it trains at; evaluate under noise."""
    wanted = [job for job in jobs_of(settings, context) if job.name not in context.rows]
    bar = context.progress(sum(job.epochs for job in wanted), "training", "epoch")
    trainers: dict[tuple, Trainer] = {}
    fine = {"dt": settings["judge_dt"]}
    scores = {level: Classifier(exact(noise_of(settings, level)) | fine) for level in settings["levels"]}
    for job in wanted:
        bar.set_postfix_str(job.name)
        method = settings["methods"][job.method]
        key = job._replace(seed=0)
        if key not in trainers:
            variant = noise_of(settings, job.level) | {"method": method["method"]}
            trainers[key] = Trainer(variant, job.epochs)
        trainer = trainers[key]
        weights, row = trainer.train(job.seed, bar.update)
        levels = settings["levels"] if job.level is None else [job.level]
        found = {level: _under(scores[level], weights, trainer, settings["draws"], job.seed) for level in levels}
        under, judged = ({level: both[k] for level, both in found.items()} for k in (0, 1))
        row |= {"method": job.method, "level": job.level, "under": under, "judged": judged}
        context.keep(job.name, row)
    bar.close()


def noise_of(settings: dict[str, Any], level: str | None) -> Settings:
    """The network with the noise of a level."""
    noise = {} if level is None else {k: x for k, x in settings["levels"][level].items() if k != "label"}
    return settings["common"] | noise


def _under(score: Classifier, weights: Weights, trainer: Trainer, draws: int, seed: int) -> tuple[float, float]:
    """Test accuracy under fresh noise, and flagged samples, in per cent."""
    keys = jr.split(jr.fold_in(jr.key(77), seed), draws)
    found = [score.judge(weights, trainer.data["test"], key) for key in keys]
    return float(np.mean([x for x, _ in found])), float(np.mean([x for _, x in found]))


def show(settings: dict[str, Any], rows: dict[str, Row]) -> Outcome:
    """One line per noise, method and length; accuracy against noise at equal epochs and at equal CPU."""
    table = []
    for level in settings["levels"]:
        for name, method in settings["methods"].items():
            for epochs in sorted({row["epochs"] for row in rows.values() if row["method"] == name}):
                found = _rows(rows, name, level, epochs)
                if found:
                    table.append(_line(settings["levels"][level]["label"], method["label"], level, found))
    figure = noise_curves(settings, {which: _curves(settings, rows, which) for which in ("epochs", "CPU")})
    return Outcome(table, {"noise": figure}, _verdicts(settings, rows), _NOTE)


def _rows(rows: dict[str, Row], method: str, level: str, epochs: int) -> list[Row]:
    return [r for r in rows.values() if (r["method"], r["epochs"]) == (method, epochs) and level in r["under"]]


def _line(noise: str, label: str, level: str, rows: list[Row]) -> dict[str, Any]:
    return {
        "noise": noise,
        "trained": label,
        "epochs": rows[0]["epochs"],
        "seeds": len(rows),
        "test, %": mean_and_error([row["under"][level] for row in rows]),
        "CPU s": f"{np.mean([row['cpu_seconds'] for row in rows]):.0f}",
        "MB": f"{np.mean([row['megabytes'] for row in rows]):.0f}",
        "spikes/neuron": f"{np.mean([row['spikes'] for row in rows]):.2f}",
        "flagged, %": f"{100 * np.mean([row['flagged'] for row in rows]):.1f}",
        "judged, %": f"{np.mean([row['judged'][level] for row in rows]):.1f}",
    }


def _curves(settings: dict[str, Any], rows: dict[str, Row], which: str) -> dict[str, dict[str, list[float]]]:
    """Accuracies by method and level, at equal epochs (the fewest) or at equal CPU (the most)."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in settings["methods"]:
        lengths = [row["epochs"] for row in rows.values() if row["method"] == name]
        if lengths:
            epochs = min(lengths) if which == "epochs" else max(lengths)
            levels = {level: _rows(rows, name, level, epochs) for level in settings["levels"]}
            found[name] = {level: [r["under"][level] for r in mine] for level, mine in levels.items() if mine}
    return found


def _verdicts(settings: dict[str, Any], rows: dict[str, Row]) -> list[Verdict]:
    """By how much the exact stochastic training is ahead of another at equal CPU, seed by seed."""
    found = []
    for wanted in settings.get("expected", []):
        level, other = wanted["level"], settings["methods"][wanted["over"]]
        ours, theirs = (_by_seed(settings, rows, name, level) for name in ("stochastic", wanted["over"]))
        ahead = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
        what = f"{settings['levels'][level]['label']}: points ahead of {other['label']}"
        found.append(at_least(what, ahead, wanted["points"]))
    return found


def _by_seed(settings: dict[str, Any], rows: dict[str, Row], method: str, level: str) -> dict[int, float]:
    """Accuracies at equal CPU."""
    mine = _rows(rows, method, level, settings["methods"][method]["epochs"][-1])
    return {row["seed"]: row["under"][level] for row in mine}
