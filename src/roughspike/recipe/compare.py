"""`roughspike compare`: all gradient estimators on one problem, in one table and one figure."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.random as jr
import numpy as np

import roughspike
from roughspike.pointprocess.compare import Comparison, Drawn, comparison_of, draw, with_truth
from roughspike.recipe.compare_problems import PROBLEMS, TRUTH, Found, problem_of
from roughspike.recipe.reproduce_context import Context, Row
from roughspike.recipe.reproduce_outcome import Outcome
from roughspike.recipe.reproduce_page import write
from roughspike.recipe.reproduce_plan import Recipe

if TYPE_CHECKING:
    from roughspike import cli

NOTE = (
    "Each estimator has draws of its own. Norms are Euclidean, over all parameters. bias: norm of the difference of "
    "the mean from the truth, less what noise explains, and its standard error; chi2/dof: that difference in units of "
    "its own noise, per parameter, about 1 where there is no bias; sd: of one draw; var x ms: what a given accuracy "
    "costs in CPU time, as long as the bias does not matter. Few draws underestimate variances with heavy tails."
)


def compare_command(options: cli.Compare) -> int:
    """`roughspike compare`. Returns 0; KeyboardInterrupt after Ctrl-C, when all finished estimators are written."""
    if options.list or options.problem is None:
        width = max(map(len, PROBLEMS))
        print("\n".join(f"{name:{width}}  {named.title}" for name, named in PROBLEMS.items()))
        return 0
    if options.draws < 2 or (options.truth_draws is not None and options.truth_draws < 2):
        raise ValueError("--draws and --truth-draws must be at least 2: a variance needs two")
    with jax.enable_x64(True):
        found = chosen(problem_of(options.problem, options.seed), options.only)
        truth = options.truth or (TRUTH if TRUTH in found.estimators else None)
        estimators, truth = with_truth(found.estimators, truth)
        truth_draws = options.truth_draws or 4 * options.draws
        settings = {
            "problem": options.problem,
            "seed": options.seed,
            "draws": options.draws,
            "truth": truth,
            "truth_draws": truth_draws,
        }
        recipe = Recipe(_slug(options.problem), found.title, NOTE, 0.0, 1, "compare", settings)
        folder = options.out or Path("runs") / f"compare-{recipe.name}"
        context = Context(folder, (options.seed,), None, _fingerprint(settings), not options.quiet)
        if options.again:
            context.forget()
        begin = time.perf_counter()
        interrupted = draw_all(found._replace(estimators=estimators), context, options.draws, truth, truth_draws)
    if truth in [row["name"] for row in context.rows.values()]:
        order = list(estimators)
        write(recipe, outcome_of(context.rows, truth, order), context, time.perf_counter() - begin, ended=True)
        if not options.quiet:
            print(f"{found.title}\n\n{table_of(context.rows, truth, order)}\n\nFigure: {folder / 'report.html'}")
    if interrupted:
        raise KeyboardInterrupt
    return 0


def draw_all(found: Found, context: Context, draws: int, truth: str, truth_draws: int) -> bool:
    """Draw every estimator that is not in the folder yet, the truth first. Returns whether Ctrl-C ended it early."""
    todo = sorted(found.estimators, key=lambda name: name != truth)
    todo = [name for name in todo if _slug(name) not in context.rows]
    counts = {name: truth_draws if name == truth else draws for name in todo}
    bar = context.progress(sum(-(-n // 10) * 10 for n in counts.values()), "compare", "draw")
    try:
        for name in todo:
            bar.set_postfix_str(name)
            # of the name alone, so that an interrupted run ends as if it had not been
            key = jr.fold_in(jr.key(context.seeds[0]), zlib.crc32(name.encode()))
            context.keep(
                _slug(name), row_of(name, draw(found.problem, found.estimators[name], counts[name], key, bar.update))
            )
    except KeyboardInterrupt:
        return True
    finally:
        bar.close()
    return False


def row_of(name: str, drawn: Drawn) -> Row:
    """What was drawn, as it is kept."""
    return {"name": name, **dataclasses.asdict(drawn)}


def table_of(rows: Mapping[str, Row], truth: str, order: list[str] | None = None) -> Comparison:
    """The comparison of kept rows, in the order of the estimators' names."""
    found = {row["name"]: drawn_of(row) for row in rows.values()}
    return comparison_of({name: found[name] for name in (order or found) if name in found}, truth)


def outcome_of(rows: Mapping[str, Row], truth: str, order: list[str] | None = None) -> Outcome:
    """Table and figure of kept rows."""
    table = table_of(rows, truth, order)
    lines = [
        {
            "estimator": r.name,
            "draws": r.draws,
            "bias": None if math.isnan(r.bias) else r.bias,
            "standard error": None if math.isnan(r.bias_error) else r.bias_error,
            "bias, % of the gradient": None if math.isnan(r.bias) else 100 * r.bias / table.signal,
            "chi2/dof": None if math.isnan(r.chi2) else r.chi2,
            "sd": r.deviation,
            "CPU ms": r.milliseconds,
            "var x ms": r.cost,
            "value": r.value,
        }
        for r in table.rows
    ]
    note = f"{NOTE} Truth: {truth}; norm of the true gradient {table.signal:.3g} +- {table.signal_error:.2g}."
    return Outcome(lines, {"figure": figure(table)}, [], note)


def figure(table: Comparison) -> Any:
    """Bias against standard deviation of one draw, both relative to the gradient; and the effective cost."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, NullLocator

    drawing = Figure(figsize=(10, 4.2), layout="constrained", label="compare")
    left, right = drawing.subplots(1, 2, width_ratios=(1.2, 1))
    seen = [r.name for r in table.rows if r.bias > 2 * r.bias_error]
    lowest = min([r.bias for r in table.rows if r.name in seen] + [table.signal]) / table.signal
    for number, row in enumerate(table.rows, 1):
        x, y = row.deviation / table.signal, row.bias / table.signal
        if row.name not in seen:  # below the line, one height for each, so that none hides another
            y = lowest * 1.3 ** -(number + 2)
        mark = "*" if row.name == table.truth else "o" if row.name in seen else "v"
        left.plot(x, y, mark, color=f"C{(number - 1) % 10}", ms=8)
        left.annotate(f"{number}", (x, y), textcoords="offset points", xytext=(6, -3), fontsize=8)
    left.axhline(lowest / 1.4, color="0.6", lw=0.8, ls="--")
    left.set(xscale="log", yscale="log", xlabel="standard deviation of one draw / norm of gradient")
    left.xaxis.set_minor_formatter(NullFormatter())
    left.yaxis.set_minor_locator(NullLocator())
    left.set_yticks([t for t in left.get_yticks() if t > lowest / 1.4])
    left.set_ylabel("bias / norm of gradient")
    left.set_title("below the line: no bias seen (at most two standard errors); star: truth", fontsize=8)
    left.margins(x=0.15)
    places, costs = range(len(table.rows)), [row.cost for row in table.rows]
    right.barh(places, costs, color=[f"C{k % 10}" for k in places])
    right.set_yticks(places, [f"{row.name}  {number}" for number, row in enumerate(table.rows, 1)], fontsize=7)
    right.invert_yaxis()
    right.set(xscale="log", xlabel="effective cost: variance x CPU ms")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return drawing


def chosen(found: Found, only: tuple[str, ...]) -> Found:
    """The problem with some of its estimators. **Raises** ValueError for one that it does not have."""
    if not only:
        return found
    known = {_slug(name): name for name in found.estimators}
    unknown = [name for name in only if _slug(name) not in known]
    if unknown:
        raise ValueError(f"--only {unknown[0]}: no such estimator; known: {', '.join(known)}")
    names = {known[_slug(name)] for name in only} | ({TRUTH} & set(found.estimators))
    return found._replace(estimators={n: e for n, e in found.estimators.items() if n in names})


def drawn_of(row: Row) -> Drawn:
    """What was drawn, from what was kept."""
    values = {field.name: row[field.name] for field in dataclasses.fields(Drawn)}
    values |= {key: np.asarray(row[key], np.float64) for key in ("mean", "variance")}
    return Drawn(**values)


def _fingerprint(settings: Mapping[str, Any]) -> str:
    return json.dumps([settings, roughspike.__version__, jax.__version__], sort_keys=True)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.+]+", "-", name).strip("-")
