"""Held-out bits per spike of the model and of the baselines, as bars."""

from __future__ import annotations

import math

from roughspike.evaluation.types import Evaluation, Score
from roughspike.report.figures.base import Figure
from roughspike.report.svg import FULL, GREY, INK, MODEL, Panel, drawing, legend, shorten, text

LEFT, ROW = 250.0, 30.0


def draw(evaluation: Evaluation) -> Figure | None:
    """One bar per model; None without scores."""
    scores = evaluation.scores
    if not scores:
        return None
    values = [v for s in scores for v in (s.bits, s.train_bits) if v is not None and math.isfinite(v)]
    low, high = min(0.0, *values, 0.0), max(0.1, *values, 0.1) * 1.08
    panel = Panel(LEFT, 26.0, FULL - LEFT - 70, ROW * len(scores), (low, high), (float(len(scores)), 0.0))
    for k, score in enumerate(scores):
        _bar(panel, k, score)
    panel.x_axis("Held-out bits per spike above a Poisson process of constant rate", about=6)
    at_zero = panel.left + float(panel.px(0.0))
    names = "".join(
        text(LEFT - 12, 26 + ROW * (k + 0.5) + 4, shorten(s.model, 32), anchor="end", css="b" if s.ours else "n")
        for k, s in enumerate(scores)
    )
    axis = f'<path d="M{at_zero:.1f} 26v{panel.height:g}" stroke="{INK}"/>'
    entries = [("this model", MODEL, "box"), ("baseline", GREY, "box")]
    if any(s.train_bits is not None for s in scores):
        entries.append(("on training windows", INK, "tick"))
    svg = drawing(
        FULL,
        panel.height + 72,
        "Held-out bits per spike of every model",
        [panel],
        names + axis + legend(LEFT, 14.0, entries),
    )
    return Figure("scores", "How much the model knows about spike times", svg, _caption(scores))


def _bar(panel: Panel, row: int, score: Score) -> None:
    css, middle = "b" if score.ours else "n", panel.top + (row + 0.5) * ROW + 4
    if not math.isfinite(score.bits):
        panel.frame.append(text(panel.left + float(panel.px(0.0)) + 8, middle, "not finite", css=css))
        return
    a, b = sorted((float(panel.px(0.0)), float(panel.px(score.bits))))
    top = row * ROW + 5
    colour = MODEL if score.ours else GREY
    panel.marks.append(
        f'<rect x="{a:.1f}" y="{top}" width="{max(b - a, 1.5):.1f}" height="{ROW - 10}" fill="{colour}" rx="1.5"/>'
    )
    end = b
    if score.train_bits is not None and math.isfinite(score.train_bits):
        mark = float(panel.px(score.train_bits))
        panel.marks.append(f'<path d="M{mark:.1f} {top - 2}v{ROW - 6}" stroke="{INK}" stroke-width="2"/>')
        end = max(b, mark)
    panel.frame.append(text(panel.left + end + 8, middle, f"{score.bits:.2f}".replace("-", "\N{MINUS SIGN}"), css=css))


def _caption(scores: tuple[Score, ...]) -> str:
    words = (
        "Log-likelihood of the held-out spikes, in bits per spike, above a Poisson process with the mean rate of "
        "the training windows: the information the model has about when spikes come. Longer is better; one bit more "
        "means each spike is twice as predictable. The short black line is the same figure on the training windows; "
        "a bar that ends far left of it is an overfitted model. Differences below about 0.05 bits are ties."
    )
    binned = any("GLM" in s.model for s in scores)
    return words + (
        " Part of the advantage over a generalised linear model (GLM) is time resolution: it sees spikes in bins, so "
        "compare with its finest bins too."
        if binned
        else ""
    )
