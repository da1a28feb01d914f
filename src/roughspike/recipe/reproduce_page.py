"""What a reproduction shows: the table of ours beside the published, and a figure like the paper's."""

from __future__ import annotations

import dataclasses
import math
from html import escape

import numpy as np

from roughspike.recipe.reproduce_plan import Experiment
from roughspike.report.svg import FULL, MODEL, MUTED, SECOND, THIRD, Panel, drawing, legend

COLOURS = (MUTED, THIRD, SECOND, MODEL)
HEAD = (
    "method", "loss", "s", "n", "c, published", "c, ours", "error, published", "error, ours",
    "first close, published", "ours", "ms a step, published", "ours", "",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Setting:
    """One finished setting: means over seeds, one entry per seed in `c`, and the curves of c (steps, seeds)."""

    method: str
    loss: str
    sigma: float
    samples: int
    c: list[float]
    error: list[float]
    first_close: list[int | None]
    milliseconds: float
    published: dict[str, float] | None
    met: bool | None
    curve: np.ndarray = dataclasses.field(compare=False, repr=False)

    def row(self) -> dict:
        """Plain values, without the curve."""
        return {k.name: getattr(self, k.name) for k in dataclasses.fields(self) if k.name != "curve"}


def cells(setting: Setting) -> tuple[str, ...]:
    """The setting as a row of the table under `HEAD`."""
    paper = setting.published
    close = [k for k in setting.first_close if k is not None]
    spread = f" \N{PLUS-MINUS SIGN} {np.std(setting.c, ddof=1):.3f}" if len(setting.c) > 1 else ""
    return (
        setting.method,
        setting.loss,
        f"{setting.sigma:g}",
        f"{setting.samples}",
        f"{paper['c']:.3f}" if paper else "",
        f"{np.mean(setting.c):.3f}{spread}",
        f"{paper['error']:.3f}" if paper else "",
        f"{np.mean(setting.error):.3f}",
        f"{paper['first_close']:g}" if paper else "",
        f"{np.mean(close):.0f}" if close else "never",
        f"{1e3 * paper['seconds']:.0f}" if paper else "",
        f"{setting.milliseconds:.2g}",
        {True: "met", False: "NOT MET", None: "not compared"}[setting.met],
    )


def text(settings: list[Setting]) -> str:
    """The table for a terminal."""
    rows = [HEAD, *(cells(s) for s in settings)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEAD))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def markdown(experiment: Experiment, settings: list[Setting], note: str) -> str:
    """The table as markdown."""
    rows = [HEAD, tuple("---" for _ in HEAD), *(cells(s) for s in settings)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"# {experiment.title}\n\n{note}\n\n{table}\n"


def page(experiment: Experiment, settings: list[Setting], note: str) -> str:
    """Figure and table as a self-contained page."""
    head = "".join(f"<th>{escape(h)}</th>" for h in HEAD)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in cells(s)) + "</tr>" for s in settings)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(experiment.title)}</title><style>"
        "body{font:14px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#1c2430}"
        "td,th{padding:.15em .6em;white-space:nowrap;text-align:left;font-variant-numeric:tabular-nums}"
        "table{border-collapse:collapse}"
        "tr{border-bottom:1px solid #d9dee5}svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;"
        "fill:currentColor}div{overflow-x:auto}</style>"
        f"<h1>{escape(experiment.title)}</h1><p>{escape(note)}</p>{figure(experiment, settings)}"
        f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></html>\n"
    )


def figure(experiment: Experiment, settings: list[Setting]) -> str:
    """c against the optimiser's step, one panel per method, loss and noise, one colour per sample size."""
    groups = list(dict.fromkeys((s.method, s.loss, s.sigma) for s in settings))
    across = 4
    left, gap, top, width, height = 64.0, 46.0, 66.0, 184.0, 150.0
    high = max([experiment.current + 0.25, *(float(np.nanmax(s.curve)) + 0.02 for s in settings)])
    panels = []
    for k, group in enumerate(groups):
        mine = [s for s in settings if (s.method, s.loss, s.sigma) == group]
        where = left + (k % across) * (width + gap), top + (k // across) * (height + 84)
        panels.append(_panel(experiment, mine, where, (width, height), high, first=k % across == 0))
    colours = dict(zip(experiment.sample_sizes, COLOURS, strict=False))
    entries = [(f"n = {n}", colour, "line") for n, colour in colours.items()]
    extra = legend(left, 20.0, [*entries, (f"truth, c = {experiment.current:g}", MUTED, "dash")])
    bottom = top + math.ceil(len(groups) / across) * (height + 84)
    return drawing(FULL, bottom, f"{experiment.title}: c during training", panels, extra)


def _panel(
    experiment: Experiment,
    settings: list[Setting],
    where: tuple[float, float],
    size: tuple[float, float],
    high: float,
    first: bool,
) -> Panel:
    steps = max(len(s.curve) for s in settings)
    panel = Panel(*where, *size, (0.0, float(steps)), (experiment.start - 0.05, high))
    panel.level(experiment.current)
    for s in settings:
        colour = COLOURS[experiment.sample_sizes.index(s.samples) % len(COLOURS)]
        at = np.arange(1, len(s.curve) + 1)
        for curve in s.curve.T:
            panel.line(at, curve, colour, width=1.1, opacity=0.75)
    panel.x_axis("Optimiser step", about=4)
    panel.y_axis("c" if first else "", grid=True)
    panel.note(0, -10, f"{settings[0].method}, {settings[0].loss}, s = {settings[0].sigma:g}")
    return panel
