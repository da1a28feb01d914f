"""`roughspike sweep`: a recipe over seeds and settings, in worker processes, with one table at the end.

Every run is a process of its own, so one that crashes or is killed takes nothing with it. A finished run leaves a mark
in its folder (and, for a published result, its rows), so the same command goes on where it was; runs that failed are
tried again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from roughspike.io.atomic import write_atomic
from roughspike.recipe.sweep_plan import PUBLISHED, Run, changed_recipe, runs_of, settings_of
from roughspike.recipe.sweep_worker import content_of, context_of

if TYPE_CHECKING:
    from roughspike import cli

EXIT_FAILED = 1
_POLL = 0.1


@dataclasses.dataclass
class Sweep:
    """Runs by how they ended: `done` (what their marks hold), `failed` (why), and those that have not begun."""

    done: dict[Run, dict[str, Any]]
    failed: dict[Run, str]
    waiting: list[Run]


def sweep_command(options: cli.Sweep) -> int:
    """`roughspike sweep`. Returns 0, or 1 if a run failed; KeyboardInterrupt after Ctrl-C, when the table was shown."""
    workers = _processors() if options.workers is None else options.workers
    steps = 1 if options.steps is None else options.steps
    for name, value in (("seeds", options.seeds), ("workers", workers), ("steps", steps)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    folder = options.out or Path("runs") / f"sweep-{Path(options.recipe).stem}"
    runs = runs_of(options.recipe, options.seeds, settings_of(options.set), options.steps, _of_fit(options), folder)
    sweep = _sorted(runs)
    say = (lambda text: None) if options.quiet else (lambda text: print(text, flush=True))
    if sweep.done:
        say(f"{len(sweep.done)} of {len(runs)} runs are finished in {folder}: going on from there")
    interrupted = False
    try:
        _run_all(sweep, workers, shown=not options.quiet)
    except KeyboardInterrupt:
        interrupted = True
    text = table(runs, sweep)
    write_atomic(folder / "table.md", (text + "\n").encode())
    say(f"{text}\n\nTable and runs: {folder}")
    if interrupted:
        raise KeyboardInterrupt
    return EXIT_FAILED if sweep.failed else 0


def table(runs: list[Run], sweep: Sweep) -> str:
    """One block per setting: numbers as mean and standard error over seeds, then the runs that failed and why."""
    blocks, settings = [], list(dict.fromkeys(json.dumps(run.setting) for run in runs))
    for setting in settings:
        mine = [run for run in runs if json.dumps(run.setting) == setting]
        done = [run for run in mine if run in sweep.done]
        head = ", ".join(f"{key}={value}" for key, value in mine[0].setting.items())
        seeds = sum(len(run.seeds) for run in done)
        title = f"{head + ': ' if head else ''}{seeds} of {sum(len(run.seeds) for run in mine)} seeds"
        blocks.append(f"{title}\n{_numbers(done, sweep)}" if done else title)
    if sweep.failed:
        blocks.append("Failed\n" + _aligned([("run", "why"), *((r.name, why) for r, why in sweep.failed.items())]))
    if sweep.waiting:
        blocks.append(f"Not run yet: {len(sweep.waiting)}. The same command goes on from here.")
    return "\n\n".join(blocks)


def _numbers(done: list[Run], sweep: Sweep) -> str:
    """The recipe's own table of all rows there are; for fits one line per number."""
    from roughspike.recipe.reproduce import judged
    from roughspike.recipe.reproduce_outcome import mean_and_error

    first = done[0]
    if first.kind == PUBLISHED:
        recipe = changed_recipe(first.recipe, first.setting)
        outcome = judged(recipe.module().show(recipe.settings, context_of(first).rows), first.steps is None)
        lines = [verdict.line() for verdict in outcome.verdicts]
        return "\n".join([_aligned(outcome.cells()), *lines])
    figures = [sweep.done[run]["figures"] for run in done]
    names = list(dict.fromkeys(name for one in figures for name in one))
    rows = [(n, mean_and_error([one[n] for one in figures if n in one], 4)) for n in names]
    rows.append(("CPU seconds", mean_and_error([sweep.done[run]["seconds"] for run in done], 1)))
    return _aligned([("number", "mean and standard error"), *rows])


def _aligned(cells: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def _sorted(runs: list[Run]) -> Sweep:
    """Which runs are finished."""
    sweep = Sweep({}, {}, [])
    for run in runs:
        if (mark := _mark(run)) is not None:
            sweep.done[run] = mark
        else:
            sweep.waiting.append(run)
    return sweep


def _mark(run: Run) -> dict[str, Any] | None:
    """What a finished run has left, of the same recipe, settings and version."""
    try:
        mark = json.loads(run.mark.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return mark if mark.get("fingerprint") == run.fingerprint(content_of(run)) else None


def _run_all(sweep: Sweep, workers: int, shown: bool) -> None:
    """Keep so many workers busy until nothing waits. Ctrl-C stops them; they lose what is not finished."""
    busy: dict[subprocess.Popen, Run] = {}
    total = len(sweep.done) + len(sweep.waiting)
    bar = tqdm(total=total, initial=len(sweep.done), desc="sweep", unit="run", disable=not shown)
    try:
        while sweep.waiting or busy:
            while sweep.waiting and len(busy) < workers:
                run = sweep.waiting.pop(0)
                busy[_start(run)] = run
            for worker in [w for w in busy if w.poll() is not None]:
                run = busy.pop(worker)
                _ended(sweep, run, worker.returncode)
                bar.update()
            time.sleep(_POLL)
    finally:
        for worker, run in busy.items():
            worker.kill()
            worker.wait()
            if (mark := _mark(run)) is not None:
                sweep.done[run] = mark
            else:
                sweep.waiting.insert(0, run)
        bar.close()


def _start(run: Run) -> subprocess.Popen:
    """A worker in a session of its own, which Ctrl-C does not reach; what it says goes to a file."""
    run.mark.parent.mkdir(parents=True, exist_ok=True)
    task, log = run.mark.with_suffix(".task.json"), run.mark.with_suffix(".log")
    write_atomic(task, json.dumps(dataclasses.asdict(run)).encode())
    command = [sys.executable, "-m", "roughspike.recipe.sweep_worker", str(task)]
    with log.open("wb") as said:
        return subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True)


def _ended(sweep: Sweep, run: Run, code: int) -> None:
    log = run.mark.with_suffix(".log")
    if code == 0 and (mark := _mark(run)) is not None:
        sweep.done[run] = mark
    elif code < 0:
        sweep.failed[run] = f"killed by signal {-code}; see {log}"
    else:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        sweep.failed[run] = f"{said[-1] if said else f'exit code {code}'}; see {log}"


def _processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _of_fit(options: cli.Sweep) -> dict[str, Any]:
    """Which recording a fit is of, as plain values."""
    names = ("data", "stimulus", "stimulus_dt", "decibel", "window", "num_trials", "neuron", "unit", "split", "glm")
    return {name: str(v) if isinstance(v := getattr(options, name), Path) else v for name in names}
