"""Couplings of a network, as a matrix of coloured cells."""

from __future__ import annotations

import numpy as np

from roughspike.evaluation.types import Evaluation
from roughspike.report.figures.base import Figure
from roughspike.report.svg import FULL, MODEL, SECOND, Panel, drawing, shorten, text

LEFT, TOP, MOST_CELLS = 150.0, 34.0, 44.0


def draw(evaluation: Evaluation) -> Figure | None:
    """Rows are the neurons that receive; None for a model that is no network."""
    found = evaluation.connectivity
    if found is None:
        return None
    size = len(found.names)
    cell = min(MOST_CELLS, (FULL - LEFT - 20) / size)
    largest = float(np.max(np.abs(found.values))) or 1.0
    panel = Panel(LEFT, TOP, cell * size, cell * size, (0.0, float(size)), (float(size), 0.0))
    words = ""
    for (post, pre), value in np.ndenumerate(found.values):
        colour = SECOND if value > 0 else MODEL
        panel.marks.append(
            f'<rect x="{pre * cell:.1f}" y="{post * cell:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}" '
            f'fill="{colour}" fill-opacity="{abs(value) / largest:.2f}"/>'
        )
        if cell >= 30:
            at = LEFT + (pre + 0.5) * cell, TOP + (post + 0.5) * cell + 4
            words += text(*at, f"{value:.1f}".replace("-", "\N{MINUS SIGN}"), anchor="middle", css="n")
    for k, name in enumerate(found.names):
        words += text(LEFT - 8, TOP + (k + 0.5) * cell + 4, shorten(name, 18), anchor="end", css="n")
        if cell >= 30:
            words += text(LEFT + (k + 0.5) * cell, TOP - 8, shorten(name, 9), anchor="middle", css="n")
    svg = drawing(FULL, TOP + cell * size + 16, "Couplings between neurons", [panel], words)
    caption = (
        f"Coupling from the neuron of a column onto that of a row: {found.unit}. Orange excites, blue inhibits; the "
        "stronger the colour, the stronger the coupling. Couplings of hidden neurons are those of the model: they "
        "stand for whatever was not recorded, and need not follow a real cell."
    )
    return Figure("connectivity", "Who drives whom", svg, caption)
