"""evaluate: hold a fitted cell against its recording, by likelihood and by free simulation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.random as jr
import numpy as np

import roughspike
from roughspike._types import SPIKE_BUFFER_FULL
from roughspike.currents.base import AbstractCurrent
from roughspike.evaluation.compare import compare_intervals, compare_rates, compare_trains
from roughspike.evaluation.judge import Judge, bits_above_poisson, shown_window, subject_of
from roughspike.evaluation.kernels import find_stimulus, kernels
from roughspike.evaluation.metrics import Rescaling, restrict, time_rescaling
from roughspike.evaluation.parameters import parameter_rows
from roughspike.evaluation.types import Evaluation, Membrane, Score, Signal, Stage
from roughspike.likelihood import score as likelihood
from roughspike.networks.population import Population
from roughspike.networks.simulate import simulate
from roughspike.networks.solution import Solution
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows

BURN_IN = 0.2
NUM_TRACES = 3
MOST_TRACE_POINTS = 2e7


@runtime_checkable
class FitLike(Protocol):
    """What `evaluate_fit` reads of the result of a fit."""

    @property
    def model(self) -> Any:
        """The fitted cell."""
        ...

    @property
    def data(self) -> SpikeTrain:
        """The recorded spikes."""
        ...

    @property
    def windows(self) -> Windows | None:
        """What of them trained it."""
        ...

    @property
    def held_out(self) -> SpikeTrain | Windows | None:
        """What judges it."""
        ...

    @property
    def history(self) -> Mapping[str, np.ndarray]:
        """Columns of the training history."""
        ...

    @property
    def trainable(self) -> tuple[str, ...]:
        """Names of the trained leaves."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """Settings of the run."""
        ...


def evaluate(
    cell: Population,
    data: SpikeTrain,
    *,
    dt: float,
    key: jax.Array,
    windows: Windows | None = None,
    held_out: Windows | SpikeTrain | None = None,
    num_samples: int = 40,
    num_particles: int = 400,
    shown: tuple[float, float] | None = None,
    title: str = "Fitted spike train",
    subject: str = "",
    model: str = "",
    start: Population | None = None,
    trainable: Collection[str] = (),
    earlier: Mapping[str, Population] | None = None,
    name: str | None = None,
    scores: Sequence[Score] | None = None,
    stages: Sequence[Stage] = (),
    configuration: Sequence[tuple[str, str]] = (),
    stimulus: tuple[str, str] = ("Stimulus", ""),
    remarks: Sequence[str] = (),
) -> Evaluation:
    """Simulate the cell freely, score it on held-out data, and collect all that a report shows.

    **Arguments**

    - `cell`: the fitted cell. `data`: the recording, (trials, neurons, capacity) or (neurons, capacity), in seconds.
    - `dt`: step of simulations and likelihoods. `key`: a JAX random key.
    - `windows`: what trained the cell (None: all). `held_out`: windows, or other trials, that judge it. Without
      them it is judged on its training data, and the report says so.
    - `num_samples`: free simulations of the whole recording. `num_particles`: of the particle filter.
    - `shown`: the window of rasters; by default a held-out one.
    - `title`, `subject`, `model`: name of the recording, and a sentence each on what was recorded and what was
      fitted to it.
    - `start`, `trainable`: the cell before training and the names of its fitted leaves, for the parameter table.
    - `earlier`: cells of earlier stages by name, tested by time rescaling too. `name`: what to call the final cell.
    - `scores`: rows of the comparison of models, baselines included; None computes those of the cell.
    - `stages`, `configuration`: for the training figure, and the rows (name, value) of the last section.
    - `stimulus`: name and unit of the stimulus.
    - `remarks`: sentences that a reader needs to judge the figures fairly.

    **Raises** ValueError for data or windows that do not fit the cell.
    """
    name = name or ("SLIF with diffusion" if cell.neuron.has_diffusion else "SLIF, no diffusion")
    data = data if data.batch_shape else SpikeTrain(np.asarray(data.times)[None], data.t0, data.t1, onset=data.onset)
    judge = Judge(data, windows, held_out)
    key_free, key_trace, key_score, key_test = jr.split(key, 4)
    shown = shown_window(judge) if shown is None else shown
    solution = _free_runs(cell, data, dt, num_samples, key_free)
    simulated = tuple((tuple(sample),) for sample in solution.spikes.to_lists())
    found = compare_intervals(judge.judging, simulated, judge.spans)
    if scores is None:
        scores = [poisson_score(), _score(cell, judge, name, dt, key_score, num_particles)]
    cells = {**(earlier or {}), name: cell}
    return Evaluation(
        title=title,
        subject=subject or subject_of(judge),
        model=model or "A stochastic leaky integrate-and-fire neuron was fitted to it",
        t0=data.t0,
        t1=data.t1,
        recorded=judge.recorded,
        simulated=simulated,
        train=judge.train,
        held_out=judge.spans,
        held_out_trials=judge.trials,
        shown=shown,
        metrics=compare_trains(judge.judging, simulated, judge.spans, found),
        intervals=found,
        rates=compare_rates(judge.recorded, simulated, data.t0, data.t1),
        membrane=_membrane(cell, judge, shown, dt, solution, key_trace),
        input=_input(cell, shown, dt, stimulus),
        stages=tuple(stages),
        rescaling=tuple(_rescaling(c, judge, label, dt, key_test, num_particles) for label, c in cells.items()),
        parameters=parameter_rows(cell, start=start, trainable=trainable),
        scores=tuple(scores),
        kernels=kernels(cell, np.sort(np.concatenate([row for trial in judge.recorded for row in trial]))),
        configuration=(*configuration, *own_configuration(dt, num_samples, num_particles, key)),
        warnings=tuple(f"simulation: {line}" for line in solution.result.messages()),
        remarks=tuple(remarks),
    )


def evaluate_fit(result: FitLike, **options: Any) -> Evaluation:
    """`evaluate` what a fit returned, or `evaluate_network` a network; options override what the result says itself."""
    config = result.config
    given = {
        "dt": config["dt"],
        "key": jr.key(0),
        "windows": result.windows,
        "held_out": result.held_out,
        "trainable": result.trainable,
        "stages": (training_stage(result.history, str(config.get("loss", "loss")), simulated=_simulates(config)),),
        "configuration": configuration_rows(config),
    }
    if not isinstance(result.model, Population):
        from roughspike.evaluation.network import evaluate_network, network_of

        return evaluate_network(network_of(result.model), result.data, **(given | options))
    return evaluate(result.model, result.data, **(given | options))


def _simulates(config: Mapping[str, Any]) -> bool:
    return config.get("score", "bits per spike") != "bits per spike"


def training_stage(
    history: Mapping[str, np.ndarray], loss_name: str, name: str = "training", *, simulated: bool = False
) -> Stage:
    """The history of a fit as a stage of the training figure; `simulated`: the score is minus the loss."""
    seconds = history["seconds"]
    judged = bool(np.any(np.isfinite(history["held_out_score"])))
    return Stage(
        name=name,
        step=history["step"],
        loss=history["loss"],
        score_step=history["score_step"],
        train_score=history["train_score"],
        held_out_score=history["held_out_score"] if judged else np.empty(0),
        cpu_seconds=float(seconds[-1]) if len(seconds) else None,
        loss_name="loss on simulated spikes" if simulated else loss_name.partition("(")[0],
        loss_unit="its own unit" if simulated else "nats per spike",
        score_unit="minus the loss" if simulated else "bits per spike",
    )


def configuration_rows(config: Mapping[str, Any], prefix: str = "") -> tuple[tuple[str, str], ...]:
    """A nested configuration as flat rows (name, value)."""
    rows: list[tuple[str, str]] = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            rows += configuration_rows(value, "" if name == "versions" else f"{prefix}{name} ")
        else:
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            unit = " (s)" if name.endswith("dt") else ""
            rows.append((f"{prefix}{name}{unit}".replace("_", " "), shown))
    return tuple(rows)


def own_configuration(dt: float, num_samples: int, num_particles: int, key: jax.Array) -> tuple[tuple[str, str], ...]:
    """What the evaluation itself depends on."""
    numbers = ", ".join(str(int(k)) for k in np.ravel(jr.key_data(key)))
    return (
        ("evaluation step", f"{dt * 1e3:g} ms"),
        ("evaluation random key", numbers),
        ("free simulations", str(num_samples)),
        ("particles per filter", str(num_particles)),
        ("evaluation software", f"roughspike {roughspike.__version__}, jax {jax.__version__}, numpy {np.__version__}"),
    )


def _free_runs(cell: Population, data: SpikeTrain, dt: float, num_samples: int, key: jax.Array) -> Solution:
    """Free simulations of the whole recording, in one call; with traces unless they would fill the memory."""
    trace = num_samples * cell.num_neurons * data.duration / dt < MOST_TRACE_POINTS
    room = 64 + 2 * max(len(row) for trial in data.to_lists() for row in trial)

    def run(max_spikes: int) -> Solution:
        options = {"num_samples": num_samples, "max_spikes": max_spikes, "trace": trace}
        return simulate(cell, t0=data.t0, t1=data.t1, dt=dt, key=key, **options)

    solution = run(room)
    if bool(np.any(np.asarray(solution.result.has(SPIKE_BUFFER_FULL)))):
        solution = run(1 + int(np.max(np.asarray(solution.result.needed))))
    return solution


def _membrane(
    cell: Population, judge: Judge, shown: tuple[float, float], dt: float, free: Solution, key: jax.Array
) -> Membrane:
    """Traces of the first samples over about 25 spikes; a run of its own if the free runs kept none.

    That run begins early enough to forget how it started.
    """
    start, stop = shown
    count = len(restrict(judge.judging[0][0], (shown,))[0])
    stop = min(stop, start + 25 * (stop - start) / count) if count > 25 else stop
    if free.membrane is None:
        begin = max(judge.data.t0, start - BURN_IN)
        samples = {"num_samples": NUM_TRACES, "trace": True}
        free = simulate(cell, t0=begin, t1=stop, dt=dt, key=key, **samples)
    assert free.membrane is not None and not isinstance(free.membrane, tuple)  # one population
    time = np.asarray(free.times, np.float64)
    kept = (time >= start - 1e-9) & (time <= stop + 1e-9)
    threshold = getattr(cell.neuron.escape, "v_th", None)
    return Membrane(
        time=time[kept],
        values=np.asarray(free.membrane[:NUM_TRACES, 0], np.float64)[:, kept],
        spikes=tuple(restrict(sample[0], ((start, stop),))[0] for sample in free.spikes.to_lists()[:NUM_TRACES]),
        threshold=None if threshold is None else float(threshold),
    )


def _input(cell: Population, shown: tuple[float, float], dt: float, name: tuple[str, str]) -> Signal | None:
    """The stimulus as it was recorded, else the input current; None if that is constant."""
    stimulus = find_stimulus(cell.current)
    if stimulus is not None:
        signal = stimulus.signal
        first, last = (int(np.clip((t - signal.start) / signal.dt, 0, len(signal.values))) for t in shown)
        every = max(1, (last - first) // 2000)
        at = np.arange(first, last, every)
        return Signal(*name, signal.start + at * signal.dt, np.asarray(signal.values, np.float64)[at])
    if not isinstance(cell.current, AbstractCurrent):
        return None
    starts = np.arange(shown[0], shown[1], max(dt, (shown[1] - shown[0]) / 2000))
    lengths = np.full(len(starts), starts[1] - starts[0])
    means = np.asarray(cell.current.means(cell.current.prepare(starts[None], lengths[None])), np.float64)
    values = np.broadcast_to(means, (means.shape[0], len(starts)))[0]
    return None if np.ptp(values) == 0 else Signal("Input", "threshold", starts, values)


def _rescaling(cell: Population, judge: Judge, name: str, dt: float, key: jax.Array, num_particles: int) -> Rescaling:
    z = likelihood.time_rescaling(cell, judge.on, windows=judge.windows, dt=dt, key=key, num_particles=num_particles)
    return time_rescaling(np.clip(z, 0.0, 1.0), name)


def poisson_score() -> Score:
    """The model that every other must beat."""
    return Score("Poisson, constant rate", 0.0, 0.0, "by definition")


def _score(cell: Population, judge: Judge, name: str, dt: float, key: jax.Array, num_particles: int) -> Score:
    """Bits per spike of the cell, held out and on training data, above a Poisson process at the training rate."""

    def log_p(data: SpikeTrain, windows: Windows | None) -> float:
        options = {"windows": windows, "dt": dt, "key": key, "num_particles": num_particles}
        return float(likelihood.log_likelihood(cell, data, **options))

    both = bits_above_poisson(judge, log_p)
    source = "this run, particle filter" if cell.neuron.has_diffusion else "this run, exact likelihood"
    return Score(name, both[0], both[1], source, None, ours=True)
