"""Histograms of inter-spike intervals on held-out windows."""

from __future__ import annotations

import numpy as np

from roughspike.evaluation.types import Evaluation, Intervals
from roughspike.report.figures.base import MOST_NEURONS, Figure, and_more, of_neuron
from roughspike.report.svg import HALF, MODEL, RECORDED, Panel, drawing, legend

LEFT, WIDTH = 58.0, HALF - 72


def draw(evaluation: Evaluation) -> Figure | None:
    """Histograms of the first neurons; None without intervals."""
    shown = [i for i in evaluation.intervals[:MOST_NEURONS] if len(i.recorded) > 1 and len(i.simulated) > 1]
    if not shown:
        return None
    height = 250.0 if len(shown) == 1 else 120.0
    panels = []
    for k, item in enumerate(shown):
        panels.append(_panel(item, 26 + k * (height + 26), height, evaluation.num_neurons))
    panels[-1].x_axis("Inter-spike interval (ms)")
    entries = [("recorded", "#c7cad0", "box"), ("simulated", MODEL, "line")]
    total = 26 + len(shown) * (height + 26) + 14
    svg = drawing(HALF, total, "Histograms of inter-spike intervals", panels, legend(LEFT, 14.0, entries))
    return Figure("intervals", "Inter-spike intervals", svg, _caption(evaluation, shown[0]), wide=False)


def _panel(item: Intervals, top: float, height: float, num_neurons: int) -> Panel:
    ours, theirs = item.recorded * 1e3, item.simulated * 1e3
    limit = float(np.quantile(np.concatenate([ours, theirs]), 0.99) * 1.1)
    edges = np.linspace(0.0, limit, int(np.clip(2.5 * len(ours) ** 0.5, 20, 60)) + 1)
    heights = [np.histogram(x, edges)[0] / len(x) / np.diff(edges) * 100 for x in (ours, theirs)]
    panel = Panel(LEFT, top, WIDTH, height, (0.0, limit), (0.0, 1.3 * float(np.max(heights))))
    panel.histogram(edges, heights[0], RECORDED, filled=True)
    panel.histogram(edges, heights[1], MODEL, filled=False)
    panel.y_axis("Intervals (% per ms)", grid=True, gap=42.0)
    s = item.statistics
    lines = (
        of_neuron(item.neuron, num_neurons).strip(", "),
        f"recorded: CV {s.recorded_cv:.2f}, mean {s.recorded_mean * 1e3:.1f} ms",
        f"simulated: CV {s.simulated_cv:.2f}, mean {s.simulated_mean * 1e3:.1f} ms",
    )
    for k, (line, colour) in enumerate(zip(lines, (RECORDED, RECORDED, MODEL), strict=True)):
        panel.note(WIDTH - 4, 14 + 17 * k - (0 if lines[0] else 17), line, anchor="end", colour=colour)
    return panel


def _caption(evaluation: Evaluation, item: Intervals) -> str:
    s = item.statistics
    words = (
        f"{s.recorded_count} recorded and {s.simulated_count} simulated intervals inside held-out windows. The blue "
        "outline should follow the grey bars: its left edge is the refractory time, its tail the pauses. CV "
        "(standard deviation over mean) is 0 for a clock and 1 for a Poisson process. Largest gap between the two "
        f"distribution functions (KS) {s.ks:.3f}; an interval must be moved by {s.wasserstein * 1e3:.2f} ms on "
        "average (Wasserstein distance) to turn one into the other."
    )
    return words + and_more(evaluation.num_neurons)
