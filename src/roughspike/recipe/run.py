"""Run a recipe: exact likelihood, then diffusion, baselines beside, figures and report after."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

from roughspike.baselines.glm import GLMScore
from roughspike.baselines.glm_process import start_glm_process
from roughspike.baselines.poisson import bits_per_spike, count_spikes, train_rate
from roughspike.evaluation.evaluate import configuration_rows, evaluate, evaluate_fit, training_stage
from roughspike.evaluation.types import Evaluation, Score
from roughspike.fit.loop import fit
from roughspike.fit.result import FitResult, load
from roughspike.fit.serialise import load_model, save_model
from roughspike.io.atomic import write_atomic
from roughspike.likelihood.objective import NegativeLogLikelihood
from roughspike.likelihood.score import log_likelihood
from roughspike.networks.population import Population
from roughspike.neurons.lif import SLIF
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows
from roughspike.recipe.job import Job
from roughspike.recipe.plan import Plan
from roughspike.recipe.start import start_cell
from roughspike.report.page import write_report

EXACT_FOLDER, START_FOLDER, NOTES = "exact", "start", "run.json"
EXACT_NAME, DIFFUSION_NAME = "SLIF, no diffusion", "SLIF with diffusion"
Say = Callable[[str], None]


def trained_leaves(cell: Population) -> tuple[Any, ...]:
    """What a recipe trains: rates, reset, self weight, input, and the diffusion where there is one."""
    neuron = cell.neuron
    leaves = (neuron.mu, neuron.v_reset, neuron.self_weight, cell.current)
    return (*leaves, neuron.sigma) if neuron.has_diffusion else leaves


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """A finished (or interrupted) run: where it is, its last stage, and how it compares with what was expected."""

    folder: Path
    result: FitResult
    evaluation: Evaluation
    checks: tuple[tuple[str, float, float, bool], ...]
    interrupted: bool


def run_job(
    job: Job, plan: Plan, folder: Path, *, poor: bool = False, progress: bool = True, resume: bool = False, say: Say
) -> Outcome:
    """Fit, score, simulate, write everything to `folder`. Ctrl-C ends training and goes on with what there is."""
    cell = start_cell(job.data, job.windows, job.signal, poor=poor)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(cell, folder / START_FOLDER)
    with _baselines(job, plan) as glm:
        say("Stage 1 of 2: exact likelihood, sigma = 0" if plan.diffusion.steps else "Exact likelihood, sigma = 0")
        exact = _train(job, plan, cell, NegativeLogLikelihood(), "exact", folder, progress, resume)
        exact.save(folder / EXACT_FOLDER)
        result = exact
        if plan.diffusion.steps and not _interrupted(exact):
            say("Stage 2 of 2: diffusion, importance-sampled likelihood")
            loss = NegativeLogLikelihood(num_particles=plan.diffusion.particles)
            noisy = with_diffusion(exact.model, plan.diffusion.start)
            result = _train(job, plan, noisy, loss, "diffusion", folder, progress, resume)
        result = dataclasses.replace(result, config={**result.config, "recipe": plan.rows(), "split": job.split})
        result.save(folder)
        say("Scores, free simulations, report")
        scores = [*score_rows(job.data, job.windows, job.held_out, exact, result, plan)]
        glm_scores = glm.result(timeout=120.0) if glm is not None else ()
    rows = [Score("Poisson, constant rate", 0.0, 0.0, "by definition"), *(_glm_row(s) for s in glm_scores), *scores]
    notes = {
        "title": job.title,
        "subject": job.subject,
        "stimulus": job.stimulus_label,
        "remarks": job.remarks,
        "scores": [dataclasses.asdict(row) for row in rows],
        "glm_problem": None if glm is None else glm.problem,
        "settings": plan.rows(),
    }
    write_atomic(folder / NOTES, (json.dumps(notes, indent=1) + "\n").encode())
    evaluation = evaluate_run(folder)
    write_report(evaluation, folder / "report.html")
    checks = compare(evaluation, plan, job.recorded_as)
    return Outcome(folder, result, evaluation, checks, _interrupted(result))


def evaluate_run(folder: Path) -> Evaluation:
    """Simulate and evaluate the run in a folder, from what was saved there.

    **Raises** FileNotFoundError or ValueError if the folder holds no run.
    """
    result = load(folder)
    if not (folder / NOTES).is_file():  # a run of `rs.fit`, not of a recipe
        return evaluate_fit(result, title=folder.name)
    notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    settings = notes["settings"]
    exact = load(folder / EXACT_FOLDER)
    diffuses = result.model.neuron.has_diffusion
    stages = [training_stage(exact.history, "negative log-likelihood", EXACT_NAME)]
    if diffuses:
        stages.append(training_stage(result.history, "negative log-likelihood", DIFFUSION_NAME))
    return evaluate(
        result.model,
        result.data,
        dt=settings["simulation_dt"],
        key=jr.key(settings["seed"] + 1),
        windows=result.windows,
        held_out=result.held_out,
        num_samples=settings["samples"],
        num_particles=settings["particles"],
        title=notes["title"],
        subject=notes["subject"],
        model=_sentence(result),
        start=load_model(folder / START_FOLDER),
        trainable=result.trainable,
        earlier={EXACT_NAME: exact.model} if diffuses else None,
        name=DIFFUSION_NAME if diffuses else EXACT_NAME,
        scores=[Score(**row) for row in notes["scores"]],
        stages=stages,
        configuration=configuration_rows(result.config),
        stimulus=tuple(notes["stimulus"]),
        remarks=notes["remarks"],
    )


def with_diffusion(cell: Population, deviation: float) -> Population:
    """The cell with noise on the potential whose stationary standard deviation is `deviation`."""
    n = cell.neuron
    sigma = deviation * math.sqrt(2 * float(n.mu[0]))
    neuron = SLIF(n.mu, ((sigma, 0.0), (0.0, 0.0)), n.v_reset, n.alpha, n.escape, n.reset, n.refractory, n.self_weight)
    return Population(neuron, cell.current, cell.v0, cell.i0)


def score_rows(
    data: SpikeTrain,
    windows: Windows | None,
    held_out: Windows | SpikeTrain,
    exact: FitResult,
    result: FitResult,
    plan: Plan,
) -> list[Score]:
    """Held-out and training bits per spike of both stages: exact, and by particle filter."""
    whole = Windows([data.t0], [np.nextafter(data.t1, np.inf)]) if windows is None else windows
    rate = train_rate(data, whole)
    judge = (held_out, None) if isinstance(held_out, SpikeTrain) else (data, held_out)

    def score(model: Population, spikes: SpikeTrain, inside: Windows | None) -> float:
        options = {"key": jr.key(plan.seed), "num_particles": plan.particles}
        total = float(log_likelihood(model, spikes, windows=inside, dt=plan.dt, **options))
        span = Windows([spikes.t0], [np.nextafter(spikes.t1, np.inf)]) if inside is None else inside
        trains = math.prod(spikes.batch_shape) * spikes.num_neurons
        return bits_per_spike(total, count_spikes(spikes, span), rate, span.duration * trains)

    rows = []
    for name, stage in {EXACT_NAME: exact, DIFFUSION_NAME: result}.items():
        if name == DIFFUSION_NAME and not stage.model.neuron.has_diffusion:  # there was no second stage
            continue
        source = "this run, particle filter" if stage.model.neuron.has_diffusion else "this run, exact likelihood"
        seconds = float(stage.history["seconds"][-1]) if len(stage.history["seconds"]) else None
        both = score(stage.model, *judge), score(stage.model, data, windows)
        rows.append(Score(name, *both, source, seconds, ours=True))
    return rows


def compare(
    evaluation: Evaluation, plan: Plan, recorded_as: tuple[str, str] | None
) -> tuple[tuple[str, float, float, bool], ...]:
    """(figure, found, expected, met) for the figures that the recipe expects of this recording and split."""
    expected = plan.expected.get(recorded_as[0], {}).get(recorded_as[1], {}) if recorded_as else {}
    bits = {row.model: row.bits for row in evaluation.scores}
    best = max((row.bits for row in evaluation.scores if row.ours), default=float("nan"))
    glm = bits.get(_glm_name(0.5e-3), float("nan"))
    found = {
        "bits": ("held-out bits per spike, no diffusion", bits.get(EXACT_NAME, float("nan")), 1),
        "over_glm": ("bits per spike above NeMoS at 0.5 ms", best - glm, 1),
        "coincidence": ("coincidence factor at 2 ms", evaluation.metrics.coincidence_at(2e-3), 1),
        "rate_error": ("relative error of the rate", evaluation.metrics.rate_error, -1),
    }
    return tuple(
        (label, value, expected[name], sign * value >= sign * expected[name])
        for name, (label, value, sign) in found.items()
        if name in expected and not (name == "over_glm" and math.isnan(glm))  # no baseline was asked for
    )


def _train(
    job: Job,
    plan: Plan,
    cell: Population,
    loss: NegativeLogLikelihood,
    name: str,
    folder: Path,
    progress: bool,
    resume: bool,
) -> FitResult:
    stage = getattr(plan, name)
    place = folder / "checkpoints" / name
    return fit(
        cell,
        job.data,
        loss=loss,
        trainable=trained_leaves,
        steps=stage.steps,
        learning_rate=stage.learning_rate,
        chunk=stage.chunk,
        dt=plan.dt,
        key=jax.random.fold_in(jr.key(plan.seed), ("exact", "diffusion").index(name)),
        windows=job.windows,
        held_out=job.held_out,
        progress=progress,
        checkpoint=place,
        resume=resume and place.is_dir(),
    )


def _baselines(job: Job, plan: Plan):
    """The GLMs in a process of their own; not for held-out trials, which it does not know."""
    if job.windows is None or isinstance(job.held_out, SpikeTrain) or not plan.glm_bins:
        return contextlib.nullcontext(None)
    return start_glm_process(
        job.data, job.signal, job.windows, job.held_out, plan.glm_bins, recorded_as=job.recorded_as
    )


def _glm_name(bin_size: float) -> str:
    return f"NeMoS GLM, {bin_size * 1e3:g} ms bins"


def _glm_row(score: GLMScore) -> Score:
    return Score(
        _glm_name(score.bin_size), score.bits_per_spike, score.train_bits_per_spike, score.source, score.seconds
    )


def _interrupted(result: FitResult) -> bool:
    return result.status.startswith("interrupted")


def _sentence(result: FitResult) -> str:
    noise = "with escape noise and diffusion" if result.model.neuron.has_diffusion else "with escape noise"
    neuron = f"A stochastic leaky integrate-and-fire neuron {noise}"
    return f"{neuron} was fitted to it by maximum likelihood, with exact gradients"
