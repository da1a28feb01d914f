"""What the commands do and print."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jax.random as jr
import numpy as np

from roughspike.evaluation.types import Evaluation
from roughspike.fit.result import load
from roughspike.io.spikes import write_spikes
from roughspike.likelihood.score import default_step
from roughspike.networks.simulate import simulate
from roughspike.paths.spikes import SpikeTrain
from roughspike.recipe.job import RECORDINGS, Job, file_job, shipped_job
from roughspike.recipe.plan import Plan, Stage, load_plan
from roughspike.recipe.run import Outcome, evaluate_run, run_job
from roughspike.report.page import write_report

if TYPE_CHECKING:
    from roughspike import cli


def fit_command(options: cli.Fit) -> int:
    """`roughspike fit`. Returns 0, or 130 if the fit was interrupted (what there is was written)."""
    begin = time.perf_counter()
    say = printer(options.quiet)
    job = job_of(options)
    plan = _plan(options, job)
    folder = options.out or Path("runs") / f"{Path(options.data).stem}-{options.split}"
    say(f"{job.title}: {job.subject}")
    outcome = run_job(
        job,
        plan,
        folder,
        poor=options.start == "poor",
        progress=not options.quiet,
        resume=options.resume,
        say=say,
    )
    say(summary(outcome))
    say(f"{time.perf_counter() - begin:.0f} s in all. Open {folder / 'report.html'} in a browser.")
    return 130 if outcome.interrupted else 0


def simulate_command(options: cli.Simulate) -> int:
    """`roughspike simulate`."""
    if options.num_samples < 1:
        raise ValueError(f"--num-samples must be at least 1, got {options.num_samples}")
    result = load(options.run_folder)
    t1 = result.data.t1 if options.t1 is None else options.t1
    dt = result.config["dt"] if options.dt is None else options.dt
    solution = simulate(
        result.model, t0=result.data.t0, t1=t1, dt=dt, key=jr.key(options.seed), num_samples=options.num_samples
    )
    spikes = solution.spikes
    write_spikes(options.out, SpikeTrain(np.asarray(spikes.times, np.float64), spikes.t0, spikes.t1))
    rate = float(np.mean(np.asarray(spikes.counts))) / spikes.duration
    printer(options.quiet)(
        f"{options.num_samples} samples of {spikes.duration:g} s, {rate:.3g} spikes/s: {options.out}"
    )
    for line in solution.result.messages():
        print(f"roughspike: warning: {line}", file=sys.stderr)
    return 0


def report_command(options: cli.Report) -> int:
    """`roughspike report`."""
    path = options.out or options.run_folder / "report.html"
    write_report(evaluate_run(options.run_folder), path)
    printer(options.quiet)(str(path))
    return 0


def summary(outcome: Outcome) -> str:
    """Parameters, scores and figures of merit, as text."""
    found = outcome.evaluation
    blocks = [_parameters(found), _scores(found), _metrics(found)]
    if outcome.checks:
        rows = [
            (
                label,
                f"{value:.3f}",
                f"{'at most' if 'error' in label else 'at least'} {limit:g}",
                "met" if met else "NOT MET",
            )
            for label, value, limit, met in outcome.checks
        ]
        blocks.append(_table(("figure", "found", "expected", ""), rows))
    return "\n\n".join(["", *blocks, *found.warnings])


def _parameters(found: Evaluation) -> str:
    rows = [
        (
            row.name,
            f"{row.value:.4g}",
            row.unit,
            "" if row.start is None else f"{row.start:.4g}",
            "fitted" if row.fitted else "fixed",
        )
        for row in found.parameters
    ]
    return _table(("parameter", "value", "unit", "start", ""), rows)


def _scores(found: Evaluation) -> str:
    rows = [
        (row.model, f"{row.bits:.3f}", "" if row.train_bits is None else f"{row.train_bits:.3f}", row.source)
        for row in found.scores
    ]
    return _table(("model", "held-out bits/spike", "training", "source"), rows)


def _metrics(found: Evaluation) -> str:
    m = found.metrics
    lines = [
        f"held-out rate {m.recorded_rate:.1f} /s recorded, {m.simulated_rate:.1f} /s simulated ({m.rate_error:.1%} off)"
    ]
    lines += [f"coincidence factor at {c.precision * 1e3:g} ms: {c.value:.3f}" for c in m.coincidence]
    lines += [f"intervals: KS distance {m.isi_ks:.3f}, Wasserstein distance {m.isi_w1 * 1e3:.2f} ms"]
    return "\n".join(lines)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def job_of(options: cli.Fit | cli.FitSim) -> Job:
    """The recording that a command is about. **Raises** ValueError for options that do not go together."""
    if options.data in RECORDINGS:
        given = [
            name
            for name in ("stimulus", "stimulus_dt", "window", "num_trials", "neuron")
            if getattr(options, name) is not None
        ]
        if given:
            raise ValueError(
                f"--{given[0].replace('_', '-')} is for a file of spikes; {options.data} comes with its own"
            )
        return shipped_job(options.data, options.split)
    path = Path(options.data)
    if not path.is_file():
        raise ValueError(
            f"there is no file {path}, and no shipped recording of that name: those are {', '.join(RECORDINGS)}"
        )
    return file_job(
        path,
        window=options.window,
        num_trials=options.num_trials,
        neuron=options.neuron,
        unit=options.unit,
        stimulus=options.stimulus,
        stimulus_dt=options.stimulus_dt,
        decibel=options.decibel,
        split=options.split,
    )


def _plan(options: cli.Fit, job: Job) -> Plan:
    plan = load_plan(options.recipe)
    if options.steps is not None and options.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {options.steps}")
    if job.recorded_as is None and options.recipe is None:
        step = default_step(job.data)
        plan = plan.replace(dt=step, simulation_dt=step / 2)
    if options.dt is not None:
        if not options.dt > 0:
            raise ValueError(f"--dt must be a positive number of seconds, got {options.dt}")
        plan = plan.replace(dt=options.dt, simulation_dt=options.dt / 2)
    plan = shortened(plan, options.steps)
    if not options.diffusion:
        plan = plan.replace(diffusion=_with_steps(plan.diffusion, 0))
    return plan.replace(seed=options.seed, glm_bins=None if options.glm else ())


def shortened(plan: Plan, steps: int | None) -> Plan:
    """The plan with so many steps in the first stage, and the second one in proportion; None: as it is."""
    if steps is None:
        return plan
    diffusion = max(1, round(plan.diffusion.steps * steps / plan.exact.steps)) if plan.diffusion.steps else 0
    return plan.replace(exact=_with_steps(plan.exact, steps), diffusion=_with_steps(plan.diffusion, diffusion))


def _with_steps(stage: Stage, steps: int) -> Stage:
    return Stage(steps, stage.learning_rate, stage.chunk, stage.particles, stage.start)


def printer(quiet: bool) -> Callable[[str], None]:
    """What a command says, or nothing."""
    return (lambda text: None) if quiet else (lambda text: print(text, flush=True))
