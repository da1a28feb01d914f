"""Time-rescaling test: distribution of the rescaled intervals against the uniform law."""

from __future__ import annotations

import numpy as np

from roughspike.evaluation.types import Evaluation
from roughspike.report.figures.base import Figure
from roughspike.report.svg import GREY, HALF, MODEL, SECOND, THIRD, Panel, drawing, legend, shorten

LEFT, SIDE = 58.0, 250.0
COLOURS = (SECOND, MODEL, THIRD, GREY)


def draw(evaluation: Evaluation) -> Figure | None:
    """KS plot of every model stage; None without rescaled intervals."""
    tests = [test for test in evaluation.rescaling if len(test.z)][-4:]
    if not tests:
        return None
    colours = COLOURS[1:2] if len(tests) == 1 else COLOURS
    panel = Panel(LEFT, 26.0, HALF - 72, SIDE, (0.0, 1.0), (0.0, 1.0))
    band = max(test.band for test in tests)
    line = np.array([0.0, 1.0])
    panel.area(line, line - band, line + band, "#8a94a3", 0.16)
    panel.line(line, line, GREY, dash="4 3", width=1.0)
    entries = []
    for test, colour in zip(tests, colours, strict=False):
        n = len(test.z)
        steps = np.repeat(np.arange(n + 1) / n, 2)[1:-1]
        panel.line(np.repeat(test.z, 2), steps, colour, width=1.7)
        entries.append((shorten(test.model, 40), colour, "line"))
    panel.x_axis("Rescaled interval z, sorted (uniform if the model is right)")
    panel.y_axis("Fraction of intervals below z", grid=True, about=5, gap=42.0)
    for k, (name, colour, _) in enumerate(entries):
        panel.note(SIDE + 150, SIDE - 12 - 17 * (len(entries) - 1 - k), name, anchor="end", colour=colour)
    legend_row = legend(LEFT, 14.0, [("95 % band", "#e3e6ea", "box")])
    svg = drawing(HALF, SIDE + 66, "Kolmogorov-Smirnov plot of rescaled intervals", [panel], legend_row)
    return Figure("rescaling", "Time-rescaling test", svg, _caption(tests), wide=False)


def _caption(tests: list) -> str:
    words = [
        "If the model gave the true firing rate at every moment, held-out intervals measured in expected spikes "
        "would be uniform and the curve would stay in the grey band."
    ]
    for test in tests:
        verdict = "inside" if test.inside else "outside"
        words.append(
            f"{test.model}: largest distance D = {test.distance:.3f}, {verdict} the band of {test.band:.3f} "
            f"({len(test.z)} intervals, p = {test.p:.2g})."
        )
    words.append("A curve above the diagonal means intervals that end sooner than the model expects, below it later.")
    return " ".join(words)
