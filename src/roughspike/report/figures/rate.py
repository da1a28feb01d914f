"""Smoothed firing rate over the whole recording, recorded and simulated."""

from __future__ import annotations

from roughspike.evaluation.types import Evaluation, Rate
from roughspike.report.figures.base import MOST_NEURONS, Figure, and_more, of_neuron, shade_spans, shades_windows
from roughspike.report.svg import FULL, HELD_OUT, MODEL, RECORDED, Panel, drawing, legend, padded

LEFT, WIDTH = 70.0, FULL - 82


def draw(evaluation: Evaluation) -> Figure | None:
    """Rates of the first neurons; None without rates."""
    rates = evaluation.rates[:MOST_NEURONS]
    if not rates:
        return None
    height = 190.0 if len(rates) == 1 else 110.0
    panels = [
        _panel(rate, 26 + k * (height + 18), height, evaluation, last=k == len(rates) - 1)
        for k, rate in enumerate(rates)
    ]
    entries = [("recorded", RECORDED, "line"), ("simulated, mean", MODEL, "line")]
    entries.append(("simulated, 90 % range", "#cce3f0", "box"))
    if shades_windows(evaluation):
        entries.append(("held-out windows", HELD_OUT, "box"))
    total = 26 + len(rates) * (height + 18) + 22
    svg = drawing(FULL, total, "Firing rate, recorded and simulated", panels, legend(LEFT, 14.0, entries))
    return Figure("rate", _title(evaluation), svg, _caption(evaluation, rates[0]))


def _panel(rate: Rate, top: float, height: float, evaluation: Evaluation, *, last: bool) -> Panel:
    y = padded(rate.recorded, rate.simulated, rate.high, zero=True)
    panel = Panel(LEFT, top, WIDTH, height, (evaluation.t0, evaluation.t1), y)
    if shades_windows(evaluation):
        shade_spans([panel], evaluation.held_out)
    panel.area(rate.time, rate.low, rate.high, MODEL, 0.2)
    panel.line(rate.time, rate.simulated, MODEL, width=1.8)
    panel.line(rate.time, rate.recorded, RECORDED, width=1.4)
    panel.y_axis("Rate (spikes/s)", grid=True)
    panel.note(8, 14, of_neuron(rate.neuron, evaluation.num_neurons).strip(", "), colour=RECORDED)
    if last:
        panel.x_axis("Time (s)", about=10)
    return panel


def _title(evaluation: Evaluation) -> str:
    return "Firing rate" if len(evaluation.recorded) == 1 else "Firing rate over trials (PSTH)"


def _caption(evaluation: Evaluation, rate: Rate) -> str:
    trials = len(evaluation.recorded)
    outside = float(((rate.recorded < rate.low) | (rate.recorded > rate.high)).mean())
    per_trial = f"averaged over {trials} trials and " if trials > 1 else ""
    words = (
        f"Spikes per second, {per_trial}smoothed with a Gaussian of {rate.width * 1e3:g} ms standard deviation. The "
        "blue band holds 90 % of simulated recordings of the same length. The black curve should leave it about a "
        f"tenth of the time; it is outside for {100 * outside:.0f} % of the time shown. Look for slow trends that "
        "the model misses."
    )
    return words + and_more(evaluation.num_neurons)
