"""Fitted kernels: what the stimulus and past spikes do to the membrane."""

from __future__ import annotations

from roughspike.evaluation.types import Evaluation, Kernel
from roughspike.report.figures.base import Figure
from roughspike.report.svg import FULL, GREY, MODEL, SECOND, THIRD, Panel, drawing, legend, padded

LEFT, GAP, HEIGHT = 70.0, 92.0, 220.0
WIDTH = (FULL - LEFT - GAP - 12) / 2


def draw(evaluation: Evaluation) -> Figure | None:
    """Up to two kernels side by side; None without kernels."""
    kernels = evaluation.kernels[:2]
    if not kernels:
        return None
    panels = [_panel(kernel, LEFT + k * (WIDTH + GAP)) for k, kernel in enumerate(kernels)]
    extra = ""
    for kernel, panel in zip(kernels, panels, strict=True):
        entries = [("fitted", MODEL, "line")]
        entries += [(c[0], colour, "dash") for c, colour in zip(kernel.compared, (SECOND, THIRD), strict=False)]
        extra += legend(panel.left, 14.0, entries)
    svg = drawing(FULL, HEIGHT + 74, "Fitted kernels", panels, extra)
    words = " ".join(f"{kernel.name}: {kernel.note}".rstrip(": ").rstrip(".") + "." for kernel in kernels)
    return Figure("kernels", "What drives the membrane", svg, words)


def _panel(kernel: Kernel, left: float) -> Panel:
    curves = [kernel.values, *(c[2] for c in kernel.compared)]
    lag = kernel.lag * 1e3
    panel = Panel(left, 30.0, WIDTH, HEIGHT, (float(lag.min()), float(lag.max())), padded(*curves))
    panel.level(0.0, GREY)
    for (_, x, y), colour in zip(kernel.compared, (SECOND, THIRD), strict=False):
        panel.line(x * 1e3, y, colour, dash="5 3", width=1.5)
    panel.line(lag, kernel.values, MODEL, width=2.0)
    panel.x_axis(f"{kernel.lag_name} (ms)")
    panel.y_axis(f"{kernel.name} ({kernel.unit})" if kernel.unit else kernel.name, grid=True)
    return panel
