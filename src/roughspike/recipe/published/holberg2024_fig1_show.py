"""Lines of the table of Fig. 1, ours beside the published, and a figure like the paper's."""

from __future__ import annotations

import math

import numpy as np

from roughspike.recipe.published.holberg2024_fig1_plan import Experiment
from roughspike.recipe.reproduce_context import Row
from roughspike.report.svg import FULL, MODEL, MUTED, SECOND, THIRD, Panel, drawing, legend

COLOURS = (MUTED, THIRD, SECOND, MODEL)


def line(experiment: Experiment, row: Row, met: bool | None) -> dict[str, str]:
    """The row as a line of the table."""
    paper, size = experiment.published_row(row["loss"], row["sigma"]), experiment.sample_sizes.index(row["samples"])
    close = [k for k in row["first_close"] if k is not None]
    spread = f" \N{PLUS-MINUS SIGN} {np.std(row['c'], ddof=1):.3f}" if len(row["c"]) > 1 else ""
    return {
        "method": row["method"],
        "loss": row["loss"],
        "s": f"{row['sigma']:g}",
        "n": f"{row['samples']}",
        "c, published": f"{paper.c[size]:.3f}",
        "c, ours": f"{np.mean(row['c']):.3f}{spread}",
        "error, published": f"{paper.error[size]:.3f}",
        "error, ours": f"{np.mean(row['error']):.3f}",
        "first close, published": f"{paper.first_close[size]:g}",
        "first close, ours": f"{np.mean(close):.0f}" if close else "never",
        "ms a step, published": f"{1e3 * paper.seconds[size]:.0f}",
        "ms a step, ours": f"{row['milliseconds']:.2g}",
        "": {True: "met", False: "NOT MET", None: "not compared"}[met],
    }


def figure(experiment: Experiment, rows: list[Row]) -> str:
    """c, and below it the held-out error, against the optimiser's step: one column per loss and noise, two lines of
    panels per method, one colour per sample size, one curve per seed.
    """
    groups = list(dict.fromkeys((s["method"], s["loss"], s["sigma"]) for s in rows))
    across = 4
    left, gap, top, width, height = 64.0, 46.0, 66.0, 184.0, (150.0, 110.0)
    high = max([experiment.current + 0.25, *(float(np.nanmax(s["curve"])) + 0.02 for s in rows)])
    both = sum(height) + 84 + 70
    panels = []
    for k, group in enumerate(groups):
        mine = [s for s in rows if (s["method"], s["loss"], s["sigma"]) == group]
        x, y, first = left + (k % across) * (width + gap), top + (k // across) * both, k % across == 0
        panels.append(_current(experiment, mine, (x, y, width, height[0]), high, first))
        panels.append(_error(experiment, mine, (x, y + height[0] + 58, width, height[1]), first))
    colours = dict(zip(experiment.sample_sizes, COLOURS, strict=False))
    entries = [(f"n = {n}", colour, "line") for n, colour in colours.items()]
    extra = legend(left, 20.0, [*entries, (f"truth, c = {experiment.current:g}", MUTED, "dash")])
    bottom = top + math.ceil(len(groups) / across) * both
    return drawing(FULL, bottom, "c and the held-out error during training", panels, extra)


def _current(
    experiment: Experiment, rows: list[Row], where: tuple[float, float, float, float], high: float, first: bool
) -> Panel:
    steps = max(len(s["curve"]) for s in rows)
    panel = Panel(*where, (0.0, float(steps)), (experiment.start - 0.05, high))
    panel.level(experiment.current)
    for s in rows:
        for curve in np.asarray(s["curve"]).T:
            panel.line(np.arange(1, len(curve) + 1), curve, _colour(experiment, s), width=1.1, opacity=0.75)
    panel.x_axis("", about=4)
    panel.y_axis("c" if first else "", grid=True)
    panel.note(0, -10, f"{rows[0]['method']}, {rows[0]['loss']}, s = {rows[0]['sigma']:g}")
    return panel


def _error(experiment: Experiment, rows: list[Row], where: tuple[float, float, float, float], first: bool) -> Panel:
    """The error on a logarithmic axis; a point is the mean over some steps."""
    steps = max(len(s["curve"]) for s in rows)
    panel = Panel(*where, (0.0, float(steps)), (math.log10(0.004), math.log10(8.0)))
    for s in rows:
        for curve in np.asarray(s["error_curve"]).T:
            at = (np.arange(len(curve)) + 0.5) * len(s["curve"]) / len(curve)
            panel.line(at, np.log10(np.maximum(curve, 1e-6)), _colour(experiment, s), width=1.1, opacity=0.75)
    panel.x_axis("Optimiser step", about=4)
    panel.y_axis("Held-out error" if first else "", at=[(-2, "0.01"), (-1, "0.1"), (0, "1")], grid=True)
    return panel


def _colour(experiment: Experiment, row: Row) -> str:
    return COLOURS[experiment.sample_sizes.index(row["samples"]) % len(COLOURS)]
