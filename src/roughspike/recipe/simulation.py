"""`roughspike fit-sim`: fit one recording with losses that simulate, from a poor start, and say what each reaches."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax

from roughspike._types import SPIKE_BUFFER_FULL
from roughspike.baselines.poisson import bits_per_spike, count_spikes, train_rate
from roughspike.evaluation.compare import compare_intervals, compare_trains
from roughspike.evaluation.types import Metrics
from roughspike.fit.loop import fit
from roughspike.fit.result import FitResult
from roughspike.fit.simulated import SimulatedObjective
from roughspike.io.atomic import write_atomic
from roughspike.likelihood.objective import NegativeLogLikelihood
from roughspike.likelihood.score import log_likelihood
from roughspike.networks.population import Population
from roughspike.networks.simulate import simulate
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows
from roughspike.recipe.console import job_of, printer
from roughspike.recipe.job import Job
from roughspike.recipe.run import trained_leaves, with_diffusion
from roughspike.recipe.simulation_page import Reached, page, table_text
from roughspike.recipe.simulation_plan import Entry, SimulationPlan, load_simulation_plan
from roughspike.recipe.start import start_cell, training_intervals

if TYPE_CHECKING:
    from roughspike import cli

_CHUNK = 25


def fit_sim_command(options: cli.FitSim) -> int:
    """`roughspike fit-sim`. Returns 0, or 130 if a fit was interrupted (what there is was written)."""
    say = printer(options.quiet)
    if options.steps is not None and options.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {options.steps}")
    job = job_of(options)
    plan = load_simulation_plan(options.recipe)
    if job.recorded_as is None and options.recipe is None:
        plan = plan.scaled(float(np.median(training_intervals(job.data, job.windows))))
    plan = plan.chosen(options.only, options.steps, options.seed)
    folder = options.out or Path("runs") / f"fit-sim-{Path(options.data).stem}-{options.split}"
    say(f"{job.title}: {job.subject}. Start: poor.")
    begin = time.perf_counter()
    found, interrupted = run_simulation(job, plan, folder, progress=not options.quiet, say=say)
    say("\n" + table_text(found) + "\n")
    for line in checks(found, plan, job):
        say(line)
    say(f"{time.perf_counter() - begin:.0f} s in all. Open {folder / 'report.html'} in a browser.")
    return 130 if interrupted else 0


def run_simulation(
    job: Job, plan: SimulationPlan, folder: Path, *, progress: bool = True, say: Any = print
) -> tuple[list[Reached], bool]:
    """Fit with every loss of the plan in turn, and write what was reached after each.

    **Returns** one row per finished loss, and whether Ctrl-C ended it early.
    """
    poor = start_cell(job.data, job.windows, job.signal, poor=True)
    noisy = with_diffusion(poor, plan.start)
    found, interrupted, begin = [], False, time.perf_counter()
    for number, (name, entry) in enumerate(plan.losses.items(), 1):
        say(f"{number} of {len(plan.losses)}: {entry.label}")
        result, models = _fit(job, plan, poor if entry.window is None else noisy, entry, progress)
        result.save(folder / name)
        found.append(_reached(job, plan, name, entry, result, models))
        _write(job, plan, found, folder, time.perf_counter() - begin)
        if interrupted := result.status.startswith("interrupted"):
            break
    return found, interrupted


def checks(found: list[Reached], plan: SimulationPlan, job: Job) -> list[str]:
    """The figures that the recipe expects of the energy score on this recording, found and expected, in words."""
    recording, split = job.recorded_as or ("", "")
    expected = plan.expected.get(recording, {}).get(split, {})
    energy = next((row for row in found if row.name == "energy"), None)
    if energy is None or not expected:
        return []
    met = energy.bits >= expected["bits"], energy.metrics.rate_error <= expected["rate_error"]
    word = {True: "met", False: "NOT MET"}
    return [
        f"energy score: {energy.bits:.3f} held-out bits per spike, at least {expected['bits']:g} expected: "
        f"{word[met[0]]}",
        f"energy score: rate {energy.metrics.rate_error:.1%} off, at most {expected['rate_error']:.0%} expected: "
        f"{word[met[1]]}",
    ]


def _fit(
    job: Job, plan: SimulationPlan, cell: Population, entry: Entry, progress: bool
) -> tuple[FitResult, list[tuple[int, Population]]]:
    """The fit, and the model after every chunk of steps."""
    windows = job.windows
    if entry.window is not None:
        windows = (Windows([job.data.t0], [job.data.t1]) if windows is None else windows).split(entry.window)
    schedule = optax.cosine_decay_schedule(entry.learning_rate, entry.steps, 0.05)
    models: list[tuple[int, Population]] = [(0, cell)]
    result = fit(
        cell,
        job.data,
        loss=_objective(entry),
        trainable=trained_leaves,
        optimiser=optax.chain(optax.clip_by_global_norm(entry.clip), optax.adam(schedule)),
        steps=entry.steps,
        dt=plan.dt,
        key=jr.key(plan.seed),
        windows=windows,
        chunk=_CHUNK,
        progress=progress,
        callback=lambda snapshot: models.append((snapshot.step, snapshot.model)),
    )
    return result, models


def _objective(entry: Entry) -> Any:
    """What `fit` makes of the loss, but for its score: what counts is the likelihood of held-out spikes."""
    if entry.window is None or entry.num_samples is None:
        return entry.loss()
    return SimulatedObjective(entry.loss(), entry.num_samples, entry.windows_per_step, scored=False)


def _reached(
    job: Job, plan: SimulationPlan, name: str, entry: Entry, result: FitResult, models: list[tuple[int, Population]]
) -> Reached:
    seconds = np.concatenate([[0.0], result.history["seconds"]])
    return Reached(
        name=name,
        label=entry.label,
        simulates=entry.window is not None,
        bits=_bits(job, plan, result.model),
        metrics=_metrics(job, plan, result.model),
        seconds=result.history["seconds"],
        loss=result.history["loss"],
        scored_at=np.array([seconds[min(step, len(seconds) - 1)] for step, _ in models]),
        scores=_scores(job, plan, [model for _, model in models]),
        compile_seconds=float(result.config["compile_seconds"]),
        status=result.status,
    )


def _bits(job: Job, plan: SimulationPlan, model: Population) -> float:
    """Held-out bits per spike: exact without diffusion, by the particle filter with it."""
    data, inside, span, trains = _judge(job)
    dt = _step(plan.simulation_dt, [model])
    total = float(
        log_likelihood(model, data, windows=inside, dt=dt, key=jr.key(plan.seed), num_particles=plan.particles)
    )
    return bits_per_spike(total, count_spikes(data, span), _rate(job), span.duration * trains)


def _scores(job: Job, plan: SimulationPlan, models: list[Population]) -> np.ndarray:
    """A quick estimate of held-out bits per spike of each model: exact, or by importance sampling with diffusion."""
    data, inside, _, _ = _judge(job)
    objective, dt = NegativeLogLikelihood(), _step(plan.simulation_dt, models)
    prepared = objective.prepare(models[0], data, windows=inside, dt=dt, rate=_rate(job))
    prepared = jax.tree.map(jax.numpy.asarray, prepared)
    return np.array([float(_score(objective, model, prepared, jr.key(plan.seed))) for model in models])


@eqx.filter_jit
def _score(objective: NegativeLogLikelihood, model: Population, prepared: Any, key: jax.Array) -> jax.Array:
    return objective.score(model, prepared, key)


def _metrics(job: Job, plan: SimulationPlan, model: Population) -> Metrics:
    """Rates, intervals and coincidences of free simulations on the held-out part."""
    data, _, span, _ = _judge(job)
    key = jr.key(plan.seed + 1)
    dt = _step(plan.simulation_dt, [model])
    room = 64 + 2 * int(np.max(np.asarray(data.counts)))
    sol = simulate(model, t0=data.t0, t1=data.t1, dt=dt, key=key, num_samples=plan.samples, max_spikes=room)
    if bool(np.any(np.asarray(sol.result.has(SPIKE_BUFFER_FULL)))):
        room = 1 + int(np.max(np.asarray(sol.result.needed)))
        sol = simulate(model, t0=data.t0, t1=data.t1, dt=dt, key=key, num_samples=plan.samples, max_spikes=room)
    simulated = tuple((tuple(sample),) for sample in sol.spikes.to_lists())
    recorded = tuple(tuple(trial) for trial in data.to_lists())
    spans = tuple(zip(span.starts, span.stops, strict=True))
    return compare_trains(recorded, simulated, spans, compare_intervals(recorded, simulated, spans))


def _judge(job: Job) -> tuple[SpikeTrain, Windows | None, Windows, int]:
    """Spikes that judge, which windows of them (None: all), the time that is, and how many trains there are."""
    if isinstance(job.held_out, SpikeTrain):
        data, inside = job.held_out, None
    else:
        data, inside = job.data, job.held_out
    span = Windows([data.t0], [np.nextafter(data.t1, np.inf)]) if inside is None else inside
    return data, inside, span, math.prod(data.batch_shape) * data.num_neurons


def _step(wanted: float, models: Sequence[Population]) -> float:
    """The step, halved until it resolves the membranes of these models."""
    fastest = max(float(np.max(np.asarray(model.neuron.mu))) for model in models)
    return wanted / 2 ** max(0, math.ceil(math.log2(wanted * fastest)))


def _rate(job: Job) -> float:
    whole = Windows([job.data.t0], [np.nextafter(job.data.t1, np.inf)])
    return train_rate(job.data, whole if job.windows is None else job.windows)


def _write(job: Job, plan: SimulationPlan, found: list[Reached], folder: Path, seconds: float) -> None:
    """report.html, table.txt, results.json."""
    settings = {name: dataclasses.asdict(entry) for name, entry in plan.losses.items()}
    results = {
        "title": job.title,
        "split": job.split,
        "seconds": round(seconds, 1),
        "seed": plan.seed,
        "dt": plan.dt,
        "rows": [row.values() for row in found],
        "losses": settings,
    }
    files = {
        "results.json": json.dumps(results, indent=1) + "\n",
        "table.txt": table_text(found) + "\n",
        "report.html": page(job.title, job.subject, job.split, plan, found, seconds),
    }
    for name, content in files.items():
        write_atomic(folder / name, content.encode())
