"""The training loop: compiled chunks of steps, and between them scores, progress, checkpoints and the wish to stop."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from roughspike import parallel
from roughspike.fit.advance import Chunk, State, advance, scores, start_state
from roughspike.fit.checkpoint import Checkpoint, Record
from roughspike.fit.devices import ALIKE, lost, share
from roughspike.fit.history import extended
from roughspike.fit.identity import configuration, identify, numbered
from roughspike.fit.interrupt import Interrupt
from roughspike.fit.progress import Progress
from roughspike.fit.result import FitResult, score_name
from roughspike.fit.simulated import SimulatedObjective, as_objective
from roughspike.fit.trainable import Selector, Trainable
from roughspike.fit.validate import check_data, check_numbers
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """What a callback sees after a chunk of steps.

    Scores are in bits per spike for a likelihood, minus the loss for a loss that simulates; NaN if there are none.
    """

    step: int
    steps: int
    loss: float
    gradient_norm: float
    train_score: float
    held_out_score: float
    model: Any


def fit(
    cell: Any,
    data: SpikeTrain,
    *,
    loss: Any,
    trainable: Selector | None = None,
    optimiser: optax.GradientTransformation | None = None,
    steps: int = 500,
    dt: float,
    key: jax.Array,
    windows: Windows | None = None,
    held_out: SpikeTrain | Windows | None = None,
    patience: int | None = None,
    chunk: int = 20,
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    callback: Callable[[Snapshot], Any] | None = None,
    learning_rate: float = 0.05,
    num_samples: int | None = None,
    windows_per_step: int | None = None,
    mesh: Mesh | None = None,
) -> FitResult:
    """Fit a model to recorded spikes by stochastic gradient descent.

    Step k replaces the free coordinates x of the trained parameters by x + optimiser(gradient of loss at x, with the
    random key `fold_in(key, k)`). Ctrl-C stops after the running chunk and returns what there is; a second one
    raises. A loss, gradient or update that is not finite is not applied: the run stops there with the last good
    model, and `status` and a warning say at which step and in which parameter.

    **Arguments**

    - `cell`: the model, an equinox module.
    - `data`: the recorded spikes.
    - `loss`: what is minimised: `NegativeLogLikelihood()`, or a function of (simulated, recorded) spikes such as
      `ExpectedSignatureLoss()`, with `num_samples` fresh simulations on the data's window in each step.
    - `trainable`: function from the model to the leaves or submodules to train; None trains every parameter.
    - `optimiser`: an optax optimiser; None is Adam with the gradient norm clipped at 10 and the rate falling from
      `learning_rate` to a twentieth of it as a cosine.
    - `steps`, `dt`, `key`: number of steps, time grid of the loss, random key.
    - `windows`: the parts of `data` to train on; None is all of it.
    - `held_out`: other windows of `data`, or other data, for the held-out score.
    - `patience`: stop after this many chunks without a better held-out score, and return the model with the best
      one. Without it, the model of the last step is returned, whatever its held-out score. Windows used so are no
      test windows any more.
    - `chunk`: steps between two scores. `progress`: show a bar on the standard error.
    - `checkpoint`: folder for a checkpoint after every chunk. With `resume=True` the run goes on from there,
      bit by bit as if it had never stopped (also with another `chunk`, unless `patience` is given); with
      `resume=False` an older one is set aside.
    - `callback`: called with a `Snapshot` after every chunk; if it returns True the run stops.
    - `num_samples`: simulations per step, for losses that simulate. Their score is minus the loss at a fixed key.
      With `windows`, which must then be equally long, each is simulated so many times from the state in which the
      recorded spikes before it leave the neuron: give many short ones, `windows=train.split(0.05)`.
    - `windows_per_step`: how many of these windows, drawn anew, a step simulates; None for all.
    - `mesh`: devices to share the work out over, `rs.parallel.mesh()`: samples of a loss that simulates, particles or
      trials of a likelihood. The result is that of one device up to rounding; a checkpoint can be resumed on any
      number of devices. In a run of several processes all of them call `fit` alike, and the first one writes.

    **Returns** a `FitResult`. **Raises** ValueError for arguments that do not go together, naming the remedy.
    """
    check_numbers(steps=steps, dt=dt, chunk=chunk, patience=patience, learning_rate=learning_rate, key=key)
    loss = as_objective(loss, num_samples, windows_per_step)
    check_data(data, windows, held_out, patience, loss)
    if resume and checkpoint is None:
        raise ValueError("resume=True needs the folder of the checkpoint: pass checkpoint='runs/mine'")
    chosen = Trainable.select(cell, trainable)
    rule = _default_optimiser(learning_rate, steps) if optimiser is None else optimiser
    start = start_state(chosen, cell, rule)
    config = configuration(cell, loss, start, steps, dt, key, optimiser is None, learning_rate)
    devices = None if mesh is None else parallel.checked(mesh)
    shared = share(loss, devices)
    prepared = parallel.place(_prepare(shared, cell, data, windows, held_out, dt), devices)
    file = None
    if checkpoint is not None or parallel.several_processes(devices):
        identity = identify(cell, loss, chosen, start, config, data, windows, held_out)
        parallel.check_same(numbered(identity | {"resume": resume, "chunk": chunk}), devices, ALIKE)
        file = None if checkpoint is None else Checkpoint(checkpoint, identity, config["versions"])
    model = parallel.place(_on_device(cell), devices)
    job = _Job(cell, shared, chosen, rule, model, prepared, key, steps, chunk, patience, devices)
    run = _Run.begin(job, file, start, resume)
    first = int(run.state.step)
    parallel.check_same({"step of the checkpoint": first}, devices, "put it in a folder that all of them can read")
    run.state = parallel.place(run.state, devices)
    bar = Progress(steps, first, progress and parallel.first_process(devices), score_name(config))
    status = _train(job, run, file, bar, callback)
    return FitResult(
        model=chosen.to_model(parallel.take(job.kept(run), devices), cell),
        history=run.record.history,
        status=status,
        trainable=chosen.names,
        config={
            **config,
            "compile_seconds": run.compile_seconds,
            "patience": patience,
            "chunk": chunk,
        },
        data=data,
        windows=windows,
        held_out=held_out,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """All that stays the same during a run."""

    cell: Any
    loss: Any
    trainable: Trainable
    optimiser: optax.GradientTransformation
    model: Any
    prepared: tuple[Any, ...]
    key: jax.Array
    steps: int
    chunk: int
    patience: int | None
    mesh: Mesh | None = None

    def advance(self, state: State, stop: int) -> tuple[State, Chunk]:
        """Train until `stop` updates are applied."""
        bound = jnp.asarray(stop, jnp.int32)
        data = self.prepared[0]
        result = advance(
            self.loss, self.trainable, self.optimiser, self.model, data, self.key, state, bound, self.chunk, self.mesh
        )
        return jax.block_until_ready(result)

    def scores(self, free: dict[str, jax.Array]) -> tuple[float, float]:
        """Training and held-out score; NaN where there is no held-out data."""
        found = scores(self.loss, self.trainable, self.model, self.prepared, self.key, free, self.mesh)
        found = np.asarray(found, np.float64)
        return float(found[0]), float(found[1]) if len(found) > 1 else float("nan")

    def kept(self, run: _Run) -> dict[str, jax.Array]:
        """The free coordinates of the model to return."""
        if self.patience is not None and np.isfinite(run.record.best_score):
            return run.record.best
        return run.state.previous if run.lost else run.state.free


@dataclasses.dataclass
class _Run:
    """All that changes during a run. `lost`: the loss at the current model is not finite."""

    state: State
    record: Record
    compile_seconds: float = 0.0
    lost: bool = False

    @staticmethod
    def begin(job: _Job, file: Checkpoint | None, start: State, resume: bool) -> _Run:
        """A fresh run, or the one in the checkpoint."""
        found = None
        if file is not None and resume:
            found = file.read(start)
        elif file is not None and parallel.first_process(job.mesh):
            file.set_aside()
        if found is not None:
            return _Run(*found)
        if file is not None and resume:
            warnings.warn(f"no checkpoint in {file.path.parent} yet: starting at step 0", stacklevel=3)
        return _Run(start, Record(best=start.free))

    def exhausted(self, job: _Job) -> bool:
        """Has the held-out score stopped getting better?"""
        return job.patience is not None and self.record.chunks_since_best >= job.patience

    def add_steps(self, chunk: Chunk, first: int, cpu: float) -> None:
        """Record the steps of a chunk; their CPU time is spread evenly."""
        failed = bool(chunk.failed)
        number = int(self.state.step) - first + failed
        done = np.arange(1, number + 1)
        self.record.history = extended(
            self.record.history,
            step=first + done - 1,
            loss=np.asarray(chunk.losses)[:number],
            gradient_norm=np.asarray(chunk.gradient_norms)[:number],
            seconds=self.record.seconds + cpu * done / max(number, 1),
        )
        self.record.seconds += cpu

    def add_score(self, step: int, train: float, held_out: float) -> None:
        """Record a score, and remember the model if it is the best so far."""
        record = self.record
        record.history = extended(
            record.history,
            score_step=np.asarray([step]),
            train_score=np.asarray([train]),
            held_out_score=np.asarray([held_out]),
        )
        if held_out > record.best_score:
            record.best, record.best_score, record.best_step = self.state.free, held_out, step
            record.chunks_since_best = 0
        else:
            record.chunks_since_best += 1


def _train(job: _Job, run: _Run, file: Checkpoint | None, bar: Progress, callback: Callable[..., Any] | None) -> str:
    """Run to the end; returns the status. This is the one place where everything meets."""
    with Interrupt() as interrupt:
        try:
            _compile(job, run)
            while (first := int(run.state.step)) < job.steps and not run.exhausted(job):
                if parallel.any_process(interrupt.asked, job.mesh):
                    return _say(bar, f"interrupted at step {first}" + _best(job, run))
                begin = time.process_time()
                # chunks end at multiples of `chunk`, wherever the run was resumed
                stop = min((first // job.chunk + 1) * job.chunk, job.steps)
                run.state, chunk = job.advance(run.state, stop)
                failed = bool(chunk.failed)
                train, held_out = (np.nan, np.nan) if failed else job.scores(run.state.free)
                run.add_steps(chunk, first, time.process_time() - begin)
                if failed:
                    status = _failure(job, run, chunk)
                    warnings.warn(status, stacklevel=3)
                    return status
                run.add_score(stop, train, held_out)
                complaint = None
                if file is not None and parallel.first_process(job.mesh):
                    complaint = file.write(run.state, run.record)
                if complaint:
                    warnings.warn(complaint, stacklevel=3)
                loss, norm = (float(run.record.history[name][-1]) for name in ("loss", "gradient_norm"))
                bar.update(stop, loss, norm, held_out)
                if callback is not None:
                    model = job.trainable.to_model(parallel.take(run.state.free, job.mesh), job.cell)
                    snapshot = Snapshot(stop, job.steps, loss, norm, train, held_out, model)
                    if parallel.any_process(_call(callback, snapshot, interrupt) is True, job.mesh):
                        return _say(bar, f"stopped by the callback at step {stop}" + _best(job, run))
            if int(run.state.step) < job.steps:
                return _say(bar, f"stopped early at step {int(run.state.step)}" + _best(job, run))
            return f"finished {job.steps} steps" + _best(job, run)
        except Exception as error:
            if parallel.several_processes(job.mesh) and parallel.lost(error):
                step = int(run.record.history["score_step"][-1:].sum())
                raise RuntimeError(lost(step, None if file is None else file.path)) from error
            raise
        finally:
            bar.close()


def _compile(job: _Job, run: _Run) -> None:
    """Compile both functions by running no step of one, and the other at the start; note the time."""
    begin = time.perf_counter()
    step = int(run.state.step)
    job.advance(run.state, step)
    train, held_out = job.scores(run.state.free)
    run.compile_seconds = time.perf_counter() - begin
    if not run.record.history["score_step"].size:
        run.add_score(step, train, held_out)


def _failure(job: _Job, run: _Run, chunk: Chunk) -> str:
    step, names = int(run.state.step), np.asarray(job.trainable.names)[np.asarray(chunk.bad)]
    parts = ["the loss"] if bool(chunk.bad_loss) else []
    parts += [f"the gradient or update of {', '.join(names)}"] if len(names) else []
    run.lost = bool(chunk.bad_loss)
    kept = max(step - 1, 0) if run.lost else step
    if run.lost and isinstance(job.loss, SimulatedObjective):
        model = job.trainable.to_model(run.state.free, job.model)
        why = job.loss.complaint(model, job.prepared[0], jax.random.fold_in(job.key, step))
        if why:
            return (
                f"stopped at step {step}: the simulation failed"
                + (_best(job, run) or f"; kept the model of step {kept}")
                + f": {why}"
            )
    return (
        f"stopped at step {step}: {' and '.join(parts)} is not finite"
        + (_best(job, run) or f"; kept the model of step {kept}")
        + ("; try a smaller learning_rate or dt" if step else "; choose other start values")
    )


def _best(job: _Job, run: _Run) -> str:
    if job.patience is None or not np.isfinite(run.record.best_score):
        return ""
    return f"; kept the model of step {run.record.best_step}, whose held-out score is the best"


def _say(bar: Progress, status: str) -> str:
    bar.note(status)
    return status


def _call(callback: Callable[..., Any], snapshot: Snapshot, interrupt: Interrupt) -> Any:
    try:
        return callback(snapshot)
    except KeyboardInterrupt:
        if interrupt.asked:
            raise
        interrupt.asked = True


@functools.lru_cache(maxsize=32)
def _default_optimiser(learning_rate: float, steps: int) -> optax.GradientTransformation:
    # cached, so that a second fit with the same loss finds its compiled step
    schedule = optax.cosine_decay_schedule(learning_rate, steps, 0.05)
    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule))


def _prepare(
    loss: Any, cell: Any, data: SpikeTrain, windows: Windows | None, held_out: SpikeTrain | Windows | None, dt: float
) -> tuple[Any, ...]:
    prepared = [loss.prepare(cell, data, windows=windows, dt=dt)]
    if held_out is not None:
        # judged against the Poisson process that a user could have known: the one at the training rate
        rate = _rate(data, windows)
        judge = (data, held_out) if isinstance(held_out, Windows) else (held_out, None)
        prepared.append(loss.prepare(cell, judge[0], windows=judge[1], dt=dt, rate=rate))
    return tuple(_on_device(p) for p in prepared)


def _rate(data: SpikeTrain, windows: Windows | None) -> float:
    times = np.asarray(data.times, np.float64)
    inside = np.isfinite(times) if windows is None else windows.contains(times)
    rows = np.prod(times.shape[:-1])  # trials and neurons
    return float(inside.sum() / (rows * (data.duration if windows is None else windows.duration)))


def _on_device(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray | np.generic) else x, tree)
