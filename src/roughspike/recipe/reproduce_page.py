"""What a reproduction leaves: results.json, table.md, its figures as SVG, report.html; the table as text."""

from __future__ import annotations

import io
import json
from html import escape
from typing import Any

from roughspike.io.atomic import write_atomic
from roughspike.recipe.reproduce_context import Context
from roughspike.recipe.reproduce_outcome import Outcome
from roughspike.recipe.reproduce_plan import Recipe

_LOOK = (
    "body{font:14px/1.5 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#1c2430}"
    "td,th{padding:.15em .6em;white-space:nowrap;text-align:left;font-variant-numeric:tabular-nums}"
    "table{border-collapse:collapse}"
    "tr{border-bottom:1px solid #d9dee5}svg{max-width:100%;height:auto}svg.fig{width:100%}"
    "svg.fig text{font:12px system-ui,sans-serif;fill:currentColor}div{overflow-x:auto}li.no{color:#a34700}"
)
_NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # the same figure gives the same file
_SVG = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" fill="#1c2430"'


def write(recipe: Recipe, outcome: Outcome, context: Context, seconds: float, *, ended: bool) -> None:
    """Write the folder; results.json comes last, so that it stands for a complete folder."""
    figures = {name: svg(figure) for name, figure in outcome.figures.items()}
    found = {
        "name": recipe.name,
        "title": recipe.title,
        "ended": ended,
        "steps": context.steps,
        "seeds": list(context.seeds),
        "seconds": round(seconds, 1),
        "table": [dict(line) for line in outcome.table],
        "verdicts": [vars(verdict) for verdict in outcome.verdicts],
        "settings": recipe.settings,
        "rows": context.rows,
    }
    files = {f"{name}.svg": figure for name, figure in figures.items()}
    files |= {"table.md": markdown(recipe, outcome), "report.html": page(recipe, outcome, figures)}
    for name, content in (files | {"results.json": json.dumps(found, default=float)}).items():
        write_atomic(context.folder / name, content.encode())


def svg(figure: Any) -> str:
    """A figure as the text of an SVG file: text goes through, a matplotlib figure is drawn and closed."""
    if isinstance(figure, str):
        return figure if "xmlns=" in figure[:500] else figure.replace("<svg", _SVG, 1)
    import matplotlib
    import matplotlib.pyplot as plt

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": figure.get_label()}):
        figure.savefig(file, format="svg", bbox_inches="tight", metadata=_NOTHING)
    plt.close(figure)
    return file.getvalue()


def text(outcome: Outcome) -> str:
    """Table and verdicts for a terminal."""
    rows = outcome.cells()
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    table = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*table, "", *(verdict.line() for verdict in outcome.verdicts)])


def markdown(recipe: Recipe, outcome: Outcome) -> str:
    """Table and verdicts as markdown."""
    head, *rows = outcome.cells()
    table = "\n".join("| " + " | ".join(row) + " |" for row in [head, ("---",) * len(head), *rows])
    verdicts = "\n".join(f"- {verdict.line()}" for verdict in outcome.verdicts)
    return f"# {recipe.title}\n\n{recipe.shows}\n\n{table}\n\n{outcome.note}\n\n{verdicts}\n"


def page(recipe: Recipe, outcome: Outcome, figures: dict[str, str]) -> str:
    """Figures, table and verdicts as a self-contained page."""
    first, *rows = outcome.cells()
    head = "".join(f"<th>{escape(h)}</th>" for h in first)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    drawn = "".join(f"<div>{figure[figure.index('<svg') :]}</div>" for figure in figures.values())
    verdicts = "".join(
        f"<li{' class=no' if verdict.met is False else ''}>{escape(verdict.line())}</li>"
        for verdict in outcome.verdicts
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(recipe.title)}</title>"
        f"<style>{_LOOK}</style><h1>{escape(recipe.title)}</h1><p>{escape(recipe.shows)}</p>{drawn}"
        f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f"<p>{escape(outcome.note)}</p><ul>{verdicts}</ul></html>\n"
    )
