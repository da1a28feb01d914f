"""write_report: one self-contained HTML page from an evaluation, or from the result of a fit."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from roughspike.evaluation.types import Evaluation
from roughspike.report import sentences, tables
from roughspike.report.figures.base import Figure
from roughspike.report.style import CSS

FIGURES = ("rasters", "scores", "rate", "intervals", "rescaling", "membrane", "kernels", "connectivity", "loss")
"""Order of the page; each names a file of `roughspike.report.figures` with `draw(evaluation)`."""


def write_report(result: Any, path: str | os.PathLike[str], **options: Any) -> Path:
    """Write the report of a fit as ONE HTML file that needs no network.

    **Arguments**

    - `result`: what `fit` returned (it is evaluated first, which simulates), or an `Evaluation`.
    - `path`: the file to write, replaced in one step.
    - `options`: go to `evaluate_fit`, such as `title`, `subject`, `scores`; not allowed with an `Evaluation`.

    **Returns** the path.

    **Raises** TypeError for options beside an `Evaluation`, which already holds all of them.
    """
    if isinstance(result, Evaluation):
        if options:
            raise TypeError(f"an Evaluation already holds everything: drop the arguments {sorted(options)}")
        evaluation = result
    else:
        from roughspike.evaluation.evaluate import evaluate_fit  # imports jax

        evaluation = evaluate_fit(result, **options)
    return _replace(Path(path), render(evaluation))


def render(evaluation: Evaluation) -> str:
    """The page as a string."""
    figures = [figure for figure in map(_draw, FIGURES, [evaluation] * len(FIGURES)) if figure is not None]
    parts = [_header(evaluation), *_sections(evaluation, figures), _closing(evaluation)]
    body = "\n".join(parts).replace(" %", "\N{NO-BREAK SPACE}%")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(evaluation.title)} \N{MIDDLE DOT} roughspike report</title><style>{CSS}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _replace(path: Path, page: str) -> Path:
    """Write beside the target, then take its place, so that a failure leaves the old page intact."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _draw(name: str, evaluation: Evaluation) -> Figure | None:
    return importlib.import_module(f"roughspike.report.figures.{name}").draw(evaluation)


def _header(evaluation: Evaluation) -> str:
    tiles = []
    for item in sentences.headlines(evaluation):
        css = "" if item.good is None else ' class="yes"' if item.good else ' class="no"'
        tiles.append(
            f"<div{css}><b>{escape(item.value)}</b><span>{escape(item.label)}</span>"
            f"<small>{escape(item.remark)}</small></div>"
        )
    fails = sentences.failures(evaluation)
    weak = (
        _list(fails, "fails")
        if fails
        else f'<p class="none">No check failed. {escape(sentences.checks(evaluation))}</p>'
    )
    strong = sentences.achievements(evaluation)
    verdict = f"<div><h3>How well</h3>{_list(strong)}</div>" if strong else ""
    lead = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in sentences.lead(evaluation))
    return (
        '<header><p class="kicker">roughspike report</p>'
        f"<h1>{escape(evaluation.title)}</h1>"
        f'<dl class="lead">{lead}</dl>'
        f'<p class="judged">{escape(sentences.judged_on(evaluation))}</p>'
        f'<div class="headlines">{"".join(tiles)}</div>'
        f'<div class="verdict">{verdict}<div><h3>Where it falls short</h3>{weak}</div></div></header>'
    )


def _sections(evaluation: Evaluation, figures: Sequence[Figure]) -> list[str]:
    """Wide figures alone, half-width neighbours in pairs, each number once."""
    out, k = [], 0
    while k < len(figures):
        figure = figures[k]
        follower = figures[k + 1] if k + 1 < len(figures) else None
        if not figure.wide and follower is not None and not follower.wide:
            out.append(f'<section class="pair">{_figure(figure, k + 1)}{_figure(follower, k + 2)}</section>')
            k += 2
            continue
        css = "" if figure.wide else ' class="solo"'
        extra = tables.scores(evaluation) if figure.name == "scores" else ""
        out.append(f"<section{css}>{_figure(figure, k + 1, extra)}</section>")
        k += 1
    return out


def _figure(figure: Figure, index: int, extra: str = "") -> str:
    return (
        f'<figure id="{figure.name}"><h2>{escape(figure.title)}</h2>{figure.svg}'
        f"<figcaption><b>Figure {index}.</b> {escape(figure.caption)}</figcaption>{extra}</figure>"
    )


def _closing(evaluation: Evaluation) -> str:
    parts = []
    listed = tables.parameters(evaluation)
    if listed:
        parts.append(f'<section id="parameters"><h2>Parameters</h2>{listed}</section>')
    parts.append(f'<section id="merits"><h2>Figures of merit</h2>{tables.merits(evaluation)}</section>')
    parts.append(
        f'<section id="configuration"><h2>How to repeat this run</h2>{tables.configuration(evaluation)}</section>'
    )
    if evaluation.remarks:
        parts.append(f'<section id="remarks"><h2>To be fair</h2>{_list(evaluation.remarks)}</section>')
    parts.append("<footer>Written by roughspike. This file holds everything it shows and loads nothing.</footer>")
    return "\n".join(parts)


def _list(lines: Sequence[str], css: str = "") -> str:
    return f'<ul class="{css}">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
