"""Recorded spikes above simulated ones, with the input, in one short window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roughspike.evaluation.types import Evaluation
from roughspike.report.figures.base import (
    MOST_NEURONS,
    Figure,
    and_more,
    of_neuron,
    shade_spans,
    shades_windows,
    unseen,
)
from roughspike.report.svg import FULL, GREY, HELD_OUT, INK, MODEL, RECORDED, Panel, drawing, legend, padded

LEFT, WIDTH = 74.0, FULL - 86
MOST_ROWS = 40


@dataclass(frozen=True)
class _Block:
    label: str
    rows: list[np.ndarray]
    colour: str
    guides: np.ndarray | None = None


def draw(evaluation: Evaluation) -> Figure | None:
    """Rasters of the shown window; None when the recording is silent and nothing was simulated."""
    blocks = _blocks(evaluation)
    if not any(len(row) for block in blocks for row in block.rows):
        return None
    start, stop = evaluation.shown
    panels, top = [], 26.0
    if evaluation.input is not None:
        panels.append(_input_panel(evaluation, top))
        top += panels[-1].height + 14
    for block in blocks:
        panels.append(_raster_panel(block, top, start, stop))
        top += panels[-1].height + 14
    panels[-1].x_axis("Time (s)", about=10)
    all_held_out = unseen(evaluation, start, stop)
    shaded = shades_windows(evaluation) and not all_held_out
    if shaded:
        shade_spans(panels, evaluation.held_out)
    entries = [("recorded", RECORDED, "line"), ("simulated", MODEL, "line")]
    if shaded:
        entries.append(("held-out window", HELD_OUT, "box"))
    svg = drawing(FULL, top + 34, "Rasters of recorded and simulated spikes", panels, legend(LEFT, 14.0, entries))
    return Figure("rasters", "Recorded and simulated spikes", svg, _caption(evaluation, blocks, all_held_out))


def _blocks(evaluation: Evaluation) -> list[_Block]:
    neurons, trials = evaluation.num_neurons, len(evaluation.recorded)
    if trials == 1 and neurons > 1:  # rows are neurons
        recorded = list(evaluation.recorded[0][:MOST_ROWS])
        blocks = [_Block("recorded", recorded, RECORDED)]
        if evaluation.simulated:
            blocks.append(_Block("one simulation", list(evaluation.simulated[0][0][:MOST_ROWS]), MODEL))
        return blocks
    blocks, most = [], MOST_ROWS if neurons == 1 else MOST_ROWS // 2
    for neuron in range(min(neurons, MOST_NEURONS)):
        recorded = [trial[neuron] for trial in evaluation.recorded][:most]
        simulated = [trial[neuron] for sample in evaluation.simulated for trial in sample][:most]
        blocks.append(_Block(f"recorded{of_neuron(neuron, neurons)}", recorded, RECORDED))
        if simulated:
            guides = recorded[0] if trials == 1 else None
            blocks.append(_Block("simulated", simulated, MODEL, guides))
    return blocks


def _raster_panel(block: _Block, top: float, start: float, stop: float) -> Panel:
    rows = len(block.rows)
    height = 30.0 if rows == 1 else max(96.0, rows * (5.5 if rows > 20 else 8.0))
    panel = Panel(LEFT, top, WIDTH, height, (start, stop), (float(rows), 0.0))
    if block.guides is not None:
        panel.raster(block.guides, float(rows), 0.0, "#c9cfd8", width=1.0)
    for k, row in enumerate(block.rows):
        panel.raster(row, k + 0.92, k + 0.08, block.colour, width=1.8 if rows == 1 else 1.5)
    if rows == 1:
        panel.note(-8, height / 2 + 4, block.label, anchor="end", colour=INK)
    else:
        panel.y_axis(block.label, at=[(0.5, "1"), (rows - 0.5, str(rows))], gap=40.0)
    return panel


def _input_panel(evaluation: Evaluation, top: float) -> Panel:
    signal = evaluation.input
    assert signal is not None
    inside = (signal.time >= evaluation.shown[0]) & (signal.time <= evaluation.shown[1])
    values = signal.values[inside]
    panel = Panel(LEFT, top, WIDTH, 84.0, evaluation.shown, padded(values))
    panel.line(signal.time[inside], values, GREY, width=1.1)
    panel.y_axis(f"{signal.name}{f' ({signal.unit})' if signal.unit else ''}", about=2, gap=40.0)
    return panel


def _caption(evaluation: Evaluation, blocks: list[_Block], all_held_out: bool) -> str:
    start, stop = evaluation.shown
    single = len(evaluation.recorded) == 1 and evaluation.num_neurons == 1
    rows = "neuron" if len(evaluation.recorded) == 1 and not single else "trial"
    words = f"The window from {start:g} to {stop:g} s".replace("-", "\N{MINUS SIGN}")
    words += ", none of which was used for training. " if all_held_out else ". "
    if single:
        words += (
            "Black: the recorded spikes, repeated as pale lines behind the simulations. Blue: "
            f"{len(blocks[-1].rows)} free runs of the fitted neuron, one per row, each with its own random numbers "
            "and none told the recorded spikes. Look for blue columns on the pale lines: spikes that the model "
            "times right on most runs. Columns between the lines are spikes the cell did not fire."
        )
    else:
        words += (
            f"Each row is a {rows}. Blue rows are free runs of the fitted model, none told the recorded spikes. Look "
            "for the same density, the same changes over time, and the same texture of bursts and pauses in black "
            "and blue."
        )
    drawn = len(blocks[0].rows)
    if rows == "trial" and drawn < len(evaluation.recorded):
        words += f" The first {drawn} of {len(evaluation.recorded)} recorded trials are shown."
    return words + and_more(evaluation.num_neurons) * (len(evaluation.recorded) > 1)
