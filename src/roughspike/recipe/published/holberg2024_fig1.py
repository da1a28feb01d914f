"""Holberg & Salvi (2024), Fig. 1: the input current of one noisy neuron from its spikes."""

from __future__ import annotations

import os
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from roughspike.recipe.published.holberg2024_fig1_plan import Experiment, experiment_of
from roughspike.recipe.published.holberg2024_fig1_show import figure, line
from roughspike.recipe.published.holberg2024_fig1_train import History, train
from roughspike.recipe.reproduce_context import Context, Row
from roughspike.recipe.reproduce_outcome import Outcome, Verdict

_POINTS = 150  # of a curve of the held-out error
SEEDS_TOGETHER = True  # one compiled scan holds all seeds, so a sweep runs them in one process


class _Job(NamedTuple):
    """One compiled scan: all sample sizes, noises and seeds of a method and a loss."""

    method: str
    loss: str
    steps: int


def run(settings: dict[str, Any], context: Context) -> None:
    """Train every setting, two methods or losses at a time."""
    experiment = experiment_of(settings)
    jobs = [
        _Job(name, loss, context.length(method.steps))
        for name, method in experiment.methods.items()
        for loss in experiment.losses
    ]
    jobs = [job for job in jobs if not all(_name(job, *at, context) in context.rows for at in _settings(experiment))]
    bar, stop = context.progress(sum(job.steps for job in jobs), "reproduce"), []
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        pending: set[Future] = {pool.submit(_train, experiment, job, context, bar, stop) for job in jobs}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        finally:
            stop.append(True)
            for future in pending:
                future.cancel()
    bar.close()


def show(settings: dict[str, Any], rows: dict[str, Row]) -> Outcome:
    """The table beside the published one, and a figure like the paper's."""
    experiment = experiment_of(settings)
    methods, losses = list(experiment.methods), experiment.losses
    order = lambda s: (methods.index(s["method"]), losses.index(s["loss"]), s["sigma"], s["samples"])  # noqa: E731
    found = sorted(rows.values(), key=order)
    note = (
        f"{len(found[0]['c'])} seeds (mean and standard deviation of c). c: final estimate, truth "
        f"{experiment.current:g}. Error: mean absolute error of the mean first {experiment.spikes} spike times against "
        "a held-out batch, over the last steps. First close: first step with c within "
        f"{experiment.close:g}. The published figures are of one seed each, their times of the authors' hardware."
    )
    verdicts = [verdict(experiment, row) for row in found]
    table = [line(experiment, row, v.met) for row, v in zip(found, verdicts, strict=True)]
    return Outcome(table, {"figure": figure(experiment, found)}, verdicts, note)


def verdict(experiment: Experiment, row: Row) -> Verdict:
    """Are the means over seeds as expected? The tolerances are for three seeds and go with 1 / sqrt(seeds)."""
    size, expected = experiment.sample_sizes.index(row["samples"]), experiment.expected
    c, error, wider = float(np.mean(row["c"])), float(np.mean(row["error"])), np.sqrt(3 / len(row["c"]))
    near = abs(c - expected.c[size]) <= expected.c_tolerance[size] * wider
    met = bool(near and abs(error - expected.error[size]) <= expected.error_tolerance[size] * wider)
    return Verdict(
        f"{row['method']}, {row['loss']}, s = {row['sigma']:g}, n = {row['samples']}: c and error",
        f"{c:.3f} and {error:.3f}",
        f"{expected.c[size]:g} \N{PLUS-MINUS SIGN} {expected.c_tolerance[size] * wider:.3f} and "
        f"{expected.error[size]:g} \N{PLUS-MINUS SIGN} {expected.error_tolerance[size] * wider:.3f}",
        met if len(row["curve"]) >= experiment.methods[row["method"]].steps else None,
    )


def _train(experiment: Experiment, job: _Job, context: Context, bar: tqdm, stop: list[bool]) -> None:
    method, seeds = experiment.methods[job.method], len(context.seeds)
    history, done, after_first, begin = None, 0, (0, 0.0), time.perf_counter()
    for now, found in train(experiment, method, job.loss, seeds, job.steps):
        if stop:
            return
        bar.update(now - done)
        history, done = found, now
        if not after_first[0]:
            after_first = now, time.perf_counter()  # what follows is not compiling
    assert history is not None
    ran = done - after_first[0]
    seconds = (time.perf_counter() - after_first[1]) / ran if ran else (time.perf_counter() - begin) / done
    per_sample = seconds / (seeds * len(experiment.sigmas) * sum(experiment.sample_sizes))
    for size, noise in _settings(experiment):
        context.keep(_name(job, size, noise, context), _row(experiment, job, history, (size, noise), per_sample))


def _settings(experiment: Experiment) -> list[tuple[int, int]]:
    return [(size, noise) for size in range(len(experiment.sample_sizes)) for noise in range(len(experiment.sigmas))]


def _name(job: _Job, size: int, noise: int, context: Context) -> str:
    return f"{job.method}-{job.loss}-size{size}-noise{noise}-seeds{len(context.seeds)}"


def _row(experiment: Experiment, job: _Job, history: History, at: tuple[int, int], seconds: float) -> Row:
    """Figures of one sample size and noise; `seconds`: per step and sample."""
    size, noise = at
    method, samples = experiment.methods[job.method], experiment.sample_sizes[size]
    curve = history.c[:, size, noise]
    within = np.abs(curve - experiment.current) < experiment.close
    return {
        "method": job.method,
        "loss": job.loss,
        "sigma": experiment.sigmas[noise],
        "samples": samples,
        "c": np.round(curve[-1], 5),
        "error": np.round(history.error[-method.last :, size, noise].mean(axis=0), 5),
        "first_close": [int(np.argmax(column)) + 1 if column.any() else None for column in within.T],
        "milliseconds": 1e3 * seconds * samples,
        "curve": np.round(curve, 4),
        "error_curve": np.round(_thinned(history.error[:, size, noise]), 4),
    }


def _thinned(curves: np.ndarray) -> np.ndarray:
    """Means over blocks of steps, some 150 of them."""
    block = -(-len(curves) // _POINTS)
    starts = np.arange(0, len(curves), block)
    return np.add.reduceat(curves, starts) / np.diff(np.append(starts, len(curves)))[:, None]
