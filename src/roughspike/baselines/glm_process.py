"""Fit the GLM baselines in one background process, so that they overlap with a fit of our own on the other core."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import roughspike
from roughspike.baselines.glm import BIN_SIZES, GLMScore, fit_glm, nemos_is_installed, recorded_glm
from roughspike.currents.signal import SampledSignal
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows

_INPUT, _OUTPUT, _LOG = "input.npz", "scores.jsonl", "log.txt"


class GLMProcess:
    """A background process that fits GLMs. Made by `start_glm_process`.

    It ends when its work is done, when this object is closed or collected, when the interpreter exits, and when the
    parent is killed (its standard input closes then), so it is never left behind.

    **Attributes**

    - `problem`: after `result`, why figures are missing or replaced by recorded ones; None if nothing went wrong.
    """

    def __init__(self, bin_sizes: Sequence[float], recorded_as: tuple[str, str] | None, work: dict[str, Any] | None):
        self.problem: str | None = None
        self._bin_sizes, self._recorded_as = tuple(bin_sizes), recorded_as
        self._process: subprocess.Popen | None = None
        self._scores: tuple[GLMScore, ...] | None = None
        if work is None:
            self.problem = "NeMoS is not installed (pip install nemos)"
            return
        self._folder = Path(tempfile.mkdtemp(prefix="roughspike-glm-"))
        try:
            np.savez(self._folder / _INPUT, **work)
            self._process = _launch(self._folder)
        except OSError as error:
            self.problem = f"the background process did not start: {error}"
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        self._finaliser = weakref.finalize(self, _stop, self._process, self._folder)

    @property
    def running(self) -> bool:
        """True while the process works."""
        return self._process is not None and self._process.poll() is None

    def result(self, timeout: float | None = None) -> tuple[GLMScore, ...]:
        """Wait for the figures, in the order of the bin sizes.

        A figure that is missing after an error, or after `timeout` seconds (the process is then stopped), is replaced
        by the recorded one, whose `source` and `note` say so. For data without recorded figures it is left out.
        `problem` holds the reason. Never raises for a failure of the process.
        """
        if self._scores is None:
            measured = self._collect(timeout) if self._process is not None else {}
            self._scores = tuple(self._complete(measured))
            self.close()
        return self._scores

    def close(self) -> None:
        """Stop the process if it still runs, and remove its files. Safe to call twice."""
        if self._process is not None:
            self._finaliser()

    def __enter__(self) -> GLMProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _collect(self, timeout: float | None) -> dict[float, GLMScore]:
        assert self._process is not None
        if not self._finaliser.alive:
            self.problem = "the background process was closed before its result was asked for"
            return {}
        try:
            code = self._process.wait(timeout)
            if code:
                self.problem = f"the background process failed: {_last_line(self._folder / _LOG, code)}"
        except subprocess.TimeoutExpired:
            self.problem = f"the background process was stopped after {timeout:g} s"
            _kill(self._process)
        lines = []
        with contextlib.suppress(OSError):
            lines = (self._folder / _OUTPUT).read_text().splitlines()
        scores = {}
        for line in lines:
            with contextlib.suppress(json.JSONDecodeError, TypeError):  # the line that was being written
                score = GLMScore(**json.loads(line))
                scores[score.bin_size] = score
        return scores

    def _complete(self, measured: dict[float, GLMScore]) -> list[GLMScore]:
        scores = []
        for bin_size in self._bin_sizes:
            if bin_size in measured:
                scores.append(measured[bin_size])
            elif self._recorded_as is not None:
                with contextlib.suppress(ValueError):  # no figure was recorded for this bin size
                    note = f"not measured in this run: {self.problem}"
                    scores.append(recorded_glm(*self._recorded_as, bin_size, note))
        return scores


def start_glm_process(
    recording_spikes: SpikeTrain,
    stimulus: SampledSignal | None,
    train: Windows,
    test: Windows,
    bin_sizes: Sequence[float] = BIN_SIZES,
    *,
    recorded_as: tuple[str, str] | None = None,
) -> GLMProcess:
    """Start `fit_glm` for several bin sizes, one after the other, in one background process.

    **Arguments**

    - `recording_spikes`, `stimulus`, `train`, `test`: as for `fit_glm`.
    - `bin_sizes`: in seconds.
    - `recorded_as`: (recording, split) whose recorded figures stand in, labelled, for what cannot be measured: if
      NeMoS is not installed, fails, or takes too long.

    **Returns** a GLMProcess; `result(timeout)` gives the scores. Use it as a context manager, or `close()` it.
    """
    if not nemos_is_installed():
        return GLMProcess(bin_sizes, recorded_as, None)
    work: dict[str, Any] = {
        "times": np.asarray(recording_spikes.times, dtype=np.float64),
        "window": np.array([recording_spikes.t0, recording_spikes.t1]),
        "train": np.array([train.starts, train.stops]),
        "test": np.array([test.starts, test.stops]),
        "bin_sizes": np.array(list(bin_sizes), dtype=np.float64),
    }
    if stimulus is not None:
        work |= {"stimulus": np.asarray(stimulus.values), "clock": np.array([stimulus.dt, stimulus.start])}
    return GLMProcess(bin_sizes, recorded_as, work)


def _launch(folder: Path) -> subprocess.Popen:
    home = str(Path(roughspike.__file__).resolve().parents[1])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    # one thread: the other core belongs to the caller
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip(),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with open(folder / _LOG, "wb") as log:
        # its own session: Ctrl-C stops the caller's fit, which may still want this result for its report
        return subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "roughspike.baselines.glm_process", str(folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


def _stop(process: subprocess.Popen, folder: Path) -> None:
    _kill(process)
    if process.stdin is not None:
        process.stdin.close()
    shutil.rmtree(folder, ignore_errors=True)


def _last_line(log: Path, code: int) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else f"exit code {code}"


def _end_with_parent() -> None:
    # The parent holds the other end of standard input and never writes: end of file means that it is gone.
    # Read the descriptor, not sys.stdin, whose lock this thread would still hold when the interpreter ends.
    os.read(0, 1)
    os._exit(3)


def _work(folder: Path) -> None:
    with np.load(folder / _INPUT, allow_pickle=False) as archive:
        given = dict(archive)
    spikes = SpikeTrain(given["times"], *given["window"].tolist())
    stimulus = SampledSignal(given["stimulus"], *given["clock"].tolist()) if "stimulus" in given else None
    windows = [Windows(*given[name].tolist()) for name in ("train", "test")]
    for bin_size in given["bin_sizes"].tolist():
        score = fit_glm(spikes, stimulus, windows[0], windows[1], bin_size)
        with open(folder / _OUTPUT, "a") as stream:
            stream.write(json.dumps(dataclasses.asdict(score)) + "\n")


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work(Path(sys.argv[1]))
