"""`roughspike reproduce`: run a published experiment, compare with its figures and with ours, write what was found.

A recipe is ONE file `published/<name>.toml` and ONE module of that folder; nothing else is edited. The head of the file
says `title`, `shows` (one sentence), `minutes`, `seeds`, `run` (the module); every other entry, expected numbers
included, reaches the module as `settings`. The module has two functions:

    def run(settings: dict, context: Context) -> None       # works; keeps every finished row at once
    def show(settings: dict, rows: dict[str, Row]) -> Outcome      # table, figures, verdicts of the rows there are

`run` asks for a row by `context.row(name, make)`, which calls `make()` only if the row is not on the disk yet; so a
run that was interrupted or killed goes on where it was. `show` computes nothing that takes time; it also serves a part
of the rows (after Ctrl-C) and any set of seeds (a sweep). See `reproduce_context.Context`, `reproduce_outcome.Outcome`.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from roughspike.recipe.reproduce_context import Context
from roughspike.recipe.reproduce_outcome import Outcome
from roughspike.recipe.reproduce_page import text, write
from roughspike.recipe.reproduce_plan import Recipe, load_recipe, shipped

if TYPE_CHECKING:
    from roughspike import cli

EXIT_NOT_MET = 1


def reproduce_command(options: cli.Reproduce) -> int:
    """`roughspike reproduce`. Returns 0 if every expected number is met, 1 if not; KeyboardInterrupt after Ctrl-C."""
    if options.list or options.name is None:
        print(listing(shipped()))
        return 0
    recipe = load_recipe(options.name)
    seeds = recipe.seeds if options.seeds is None else options.seeds
    if seeds < 1 or (options.steps is not None and options.steps < 1):
        raise ValueError(f"--seeds and --steps must be at least 1, got {seeds} and {options.steps}")
    folder = options.out or Path("runs") / recipe.name
    shown, begin = not options.quiet, time.perf_counter()
    context = open_context(recipe, folder, seeds, options.steps, resume=options.resume, shown=shown)
    if shown and context.rows:
        print(f"{len(context.rows)} rows are finished in {folder}: going on from there")
    outcome, interrupted = run(recipe, context)
    if shown and outcome is not None:
        print(f"{text(outcome)}\n\n{time.perf_counter() - begin:.0f} s. Figure and table: {folder / 'report.html'}")
    if interrupted:
        raise KeyboardInterrupt
    return EXIT_NOT_MET if outcome is not None and any(v.met is False for v in outcome.verdicts) else 0


def open_context(
    recipe: Recipe, folder: Path, seeds: int, steps: int | None, *, resume: bool = False, shown: bool = True
) -> Context:
    """The context of a run in a folder: rows of an interrupted run are kept, of one that ended only with `resume`."""
    context = Context(folder, range(seeds), steps, recipe.fingerprint(steps), shown)
    if not resume and _ended(folder):
        context.forget()
    return context


def run(recipe: Recipe, context: Context) -> tuple[Outcome | None, bool]:
    """Run a recipe and write table, figures and results of all its finished rows.

    **Returns** what was found (None if not one row was finished), and whether Ctrl-C ended it early.
    """
    module, begin, interrupted = recipe.module(), time.perf_counter(), False
    (context.folder / "results.json").unlink(missing_ok=True)
    try:
        module.run(recipe.settings, context)
    except KeyboardInterrupt:
        interrupted = True
    if not context.rows:
        return None, interrupted
    whole = not interrupted and context.steps is None
    outcome = judged(module.show(recipe.settings, context.rows), whole)
    write(recipe, outcome, context, time.perf_counter() - begin, ended=not interrupted)
    return outcome, interrupted


def judged(outcome: Outcome, whole: bool) -> Outcome:
    """The outcome; of a run that is not whole (shortened, interrupted) no number is compared."""
    verdicts = outcome.verdicts if whole else [dataclasses.replace(v, met=None) for v in outcome.verdicts]
    return dataclasses.replace(outcome, verdicts=verdicts)


def listing(recipes: dict[str, Recipe]) -> str:
    """Names, what they show, and how long they take."""
    width = max(map(len, recipes))
    lines = [
        f"{recipe.name:{width}}  {f'{recipe.minutes:g} min':>7}  {recipe.title}\n{'':{width + 11}}{recipe.shows}"
        for recipe in recipes.values()
    ]
    return "\n".join(lines)


def _ended(folder: Path) -> bool:
    """Did the last run in this folder come to its end?"""
    try:
        return json.loads((folder / "results.json").read_text(encoding="utf-8"))["ended"] is True
    except (OSError, ValueError, KeyError):
        return False
