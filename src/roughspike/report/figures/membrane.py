"""Membrane potential of a few simulated samples, with spikes and resets."""

from __future__ import annotations

import numpy as np

from roughspike.evaluation.types import Evaluation, Membrane
from roughspike.report.figures.base import Figure, of_neuron
from roughspike.report.svg import FULL, MODEL, RECORDED, SECOND, Panel, drawing, legend

LEFT, WIDTH = 70.0, FULL - 82


def draw(evaluation: Evaluation) -> Figure | None:
    """Traces of the shown samples; None without traces."""
    membrane = evaluation.membrane
    if membrane is None or not len(membrane.values):
        return None
    start, stop = float(membrane.time[0]), float(membrane.time[-1])
    panels, top = [], 26.0
    if len(evaluation.recorded) == 1:
        recorded = Panel(LEFT, top, WIDTH, 18.0, (start, stop), (0.0, 1.0))
        recorded.raster(evaluation.recorded[0][membrane.neuron], 0.0, 1.0, RECORDED, width=1.6)
        recorded.note(-7, 13, "recorded", anchor="end")
        panels, top = [recorded], top + 28
    y = _range(membrane)
    for k in range(len(membrane.values)):
        panels.append(_panel(membrane, k, top, y))
        top += panels[-1].height + 12
    panels[-1].x_axis("Time (s)", about=10)
    entries = [("membrane potential", MODEL, "line"), ("simulated spike", SECOND, "line")]
    if membrane.threshold is not None:
        entries.append(("soft threshold", "#5b6675", "dash"))
    svg = drawing(
        FULL, top + 36, "Simulated membrane potential with spikes and resets", panels, legend(LEFT, 14.0, entries)
    )
    return Figure("membrane", "Inside the model: membrane, spikes and resets", svg, _caption(evaluation, membrane))


def _range(membrane: Membrane) -> tuple[float, float]:
    low, high = np.nanpercentile(membrane.values, [0.2, 99.8])
    level = [] if membrane.threshold is None else [membrane.threshold]
    low, high = min(low, *level, low), max(high, *level, high)
    room = (high - low or 1.0) * 0.08
    return float(low - room), float(high + 3.2 * room)


def _panel(membrane: Membrane, sample: int, top: float, y: tuple[float, float]) -> Panel:
    panel = Panel(LEFT, top, WIDTH, 96.0, (float(membrane.time[0]), float(membrane.time[-1])), y)
    if membrane.threshold is not None:
        panel.level(membrane.threshold)
    panel.line(membrane.time, membrane.values[sample], MODEL, width=1.3)
    panel.raster(membrane.spikes[sample], y[1] - 0.14 * (y[1] - y[0]), y[1], SECOND, width=1.8)
    middle = sample == len(membrane.values) // 2
    label = f"v ({membrane.unit})" if middle and membrane.unit else "v"
    panel.y_axis(label, about=3, grid=True, gap=40.0)
    return panel


def _caption(evaluation: Evaluation, membrane: Membrane) -> str:
    count = len(membrane.values)
    which = of_neuron(membrane.neuron, evaluation.num_neurons).strip(", ")
    return (
        f"{count} free runs of the fitted model{f' ({which})' if which else ''}, a variable nobody recorded. The "
        "higher the potential, the likelier a spike; there is no sharp threshold, the dashed level is where the "
        "escape rate is centred. At each spike (orange tick) the potential is reset. Where all runs spike together "
        "the input decides; where they differ, chance does."
    )
