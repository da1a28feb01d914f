"""`roughspike reproduce`: run a published experiment, compare with its figures and with ours, write what was found."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from roughspike.io.atomic import write_atomic
from roughspike.recipe.reproduce_page import Setting, figure, markdown, page, text
from roughspike.recipe.reproduce_plan import NAMES, Experiment, load_experiment
from roughspike.recipe.reproduce_train import History, train

if TYPE_CHECKING:
    from roughspike import cli

EXIT_NOT_MET = 1


class _Job(NamedTuple):
    """One compiled scan: all sample sizes, noises and seeds of a method and a loss."""

    method: str
    loss: str
    steps: int


def reproduce_command(options: cli.Reproduce) -> int:
    """`roughspike reproduce`. Returns 0 if every expected figure is met, 1 if not, 130 after Ctrl-C."""
    if options.list:
        for name in NAMES:
            print(f"{name}  {load_experiment(name).title}")
        return 0
    experiment = load_experiment(options.name)
    seeds = experiment.seeds if options.seeds is None else options.seeds
    if seeds < 1 or (options.steps is not None and options.steps < 1):
        raise ValueError(f"--seeds and --steps must be at least 1, got {seeds} and {options.steps}")
    folder = options.out or Path("runs") / options.name
    settings, seconds, interrupted = run(experiment, seeds, options.steps, folder, shown=not options.quiet)
    if not options.quiet:
        print(text(settings))
        print(f"\n{seconds:.0f} s. Figure and table: {folder / 'report.html'}")
    if interrupted:
        raise KeyboardInterrupt
    return EXIT_NOT_MET if any(s.met is False for s in settings) else 0


def run(
    experiment: Experiment, seeds: int, steps: int | None, folder: Path, shown: bool
) -> tuple[list[Setting], float, bool]:
    """Train every setting, two methods or losses at a time, and write the folder after each of them.

    **Arguments**: `steps` replaces the recipe's number of steps where it is smaller; such runs are not compared.

    **Returns** the finished settings, the seconds it took, and whether Ctrl-C ended it early.
    """
    begin = time.perf_counter()
    jobs = [
        _Job(name, loss, method.steps if steps is None else min(steps, method.steps))
        for name, method in experiment.methods.items()
        for loss in experiment.losses
    ]
    bar = tqdm(total=sum(job.steps for job in jobs), disable=not shown, unit="step", desc="reproduce")
    found: list[Setting] = []
    stop: list[bool] = []
    interrupted = False
    with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        pending: set[Future] = {pool.submit(_train, experiment, job, seeds, bar, stop) for job in jobs}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    found = _in_order(experiment, [*found, *future.result()])
                _write(experiment, found, seeds, time.perf_counter() - begin, folder)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            stop.append(True)
            for future in pending:
                future.cancel()
    bar.close()
    return found, time.perf_counter() - begin, interrupted


def _train(experiment: Experiment, job: _Job, seeds: int, bar: tqdm, stop: list[bool]) -> list[Setting]:
    method = experiment.methods[job.method]
    history, done, after_first, begin = None, 0, (0, 0.0), time.perf_counter()
    for now, found in train(experiment, method, job.loss, seeds, job.steps):
        if stop:
            return []
        bar.update(now - done)
        history, done = found, now
        if not after_first[0]:
            after_first = now, time.perf_counter()  # what follows is not compiling
    assert history is not None
    ran = done - after_first[0]
    seconds = (time.perf_counter() - after_first[1]) / ran if ran else (time.perf_counter() - begin) / done
    per_sample = seconds / (seeds * len(experiment.sigmas) * sum(experiment.sample_sizes))
    return [
        _setting(experiment, job, history, (size, noise), per_sample)
        for size in range(len(experiment.sample_sizes))
        for noise in range(len(experiment.sigmas))
    ]


def _setting(experiment: Experiment, job: _Job, history: History, at: tuple[int, int], seconds: float) -> Setting:
    """Figures of one sample size and noise; `seconds`: per step and sample."""
    size, noise = at
    method, samples, sigma = experiment.methods[job.method], experiment.sample_sizes[size], experiment.sigmas[noise]
    curve = history.c[:, size, noise]
    error = history.error[-method.last :, size, noise].mean(axis=0)
    within = np.abs(curve - experiment.current) < experiment.close
    first = [int(np.argmax(column)) + 1 if column.any() else None for column in within.T]
    paper = experiment.published_row(job.loss, sigma)
    return Setting(
        method=job.method,
        loss=job.loss,
        sigma=sigma,
        samples=samples,
        c=[round(float(x), 5) for x in curve[-1]],
        error=[round(float(x), 5) for x in error],
        first_close=first,
        milliseconds=1e3 * seconds * samples,
        published={key: getattr(paper, key)[size] for key in ("c", "error", "first_close", "seconds")},
        met=verdict(experiment, size, curve[-1], error) if job.steps == method.steps else None,
        curve=curve,
    )


def verdict(experiment: Experiment, size: int, c: np.ndarray, error: np.ndarray) -> bool:
    """Are the means over seeds as expected? The tolerances are for three seeds and go with 1 / sqrt(seeds)."""
    expected, wider = experiment.expected, np.sqrt(3 / len(c))
    near = abs(float(np.mean(c)) - expected.c[size]) <= expected.c_tolerance[size] * wider
    return bool(near and abs(float(np.mean(error)) - expected.error[size]) <= expected.error_tolerance[size] * wider)


def _in_order(experiment: Experiment, settings: list[Setting]) -> list[Setting]:
    methods, losses = list(experiment.methods), experiment.losses
    return sorted(settings, key=lambda s: (methods.index(s.method), losses.index(s.loss), s.sigma, s.samples))


def _write(experiment: Experiment, settings: list[Setting], seeds: int, seconds: float, folder: Path) -> None:
    """results.json, table.md, figure.svg, report.html."""
    if not settings:
        return
    note = (
        f"{seeds} seeds (mean and standard deviation of c), {seconds:.0f} s. c: final estimate, truth "
        f"{experiment.current:g}. Error: mean absolute error of the mean first {experiment.spikes} spike times against "
        "a held-out batch, over the last steps. First close: first step with c within "
        f"{experiment.close:g}. The published figures are of one seed each, their times of the authors' hardware."
    )
    result = {"title": experiment.title, "seeds": seeds, "seconds": round(seconds, 1)}
    rows = [s.row() | {"curve": np.round(s.curve[::10].T, 4).tolist()} for s in settings]
    xmlns = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" fill="#1c2430"'
    files = {
        "results.json": json.dumps(result | {"settings": rows}),
        "table.md": markdown(experiment, settings, note),
        "figure.svg": figure(experiment, settings).replace("<svg", xmlns, 1),
        "report.html": page(experiment, settings, note),
    }
    for name, content in files.items():
        write_atomic(folder / name, content.encode())
