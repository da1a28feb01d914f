"""What fits by simulation reached: a table, a figure of loss and score against CPU time, and plain words."""

from __future__ import annotations

import dataclasses
from html import escape
from typing import Any

import numpy as np

from roughspike.evaluation.types import Metrics
from roughspike.recipe.simulation_plan import SimulationPlan
from roughspike.report.style import CSS
from roughspike.report.svg import FULL, MODEL, MUTED, RECORDED, SECOND, THIRD, Panel, drawing, legend, padded
from roughspike.report.tables import table

COLOURS = {"likelihood": RECORDED, "energy": MODEL, "signature": SECOND, "signature-horizon": THIRD}
HEAD = (
    "Loss", "Held-out bits/spike", "Rate error", "Interval KS", "Coincidence, 2 ms", "Steps", "CPU s, training",
    "s, compiling",
)  # fmt: skip
_TIE = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class Reached:
    """What one loss came to.

    **Attributes**

    - `bits`: held-out bits per spike at the end. `metrics`: of free simulations on the held-out part.
    - `seconds`, `loss`: CPU time after each step, and the loss there. `scored_at`, `scores`: CPU time of the models in
      between, and a quick estimate of their held-out bits per spike.
    """

    name: str
    label: str
    simulates: bool
    bits: float
    metrics: Metrics
    seconds: np.ndarray
    loss: np.ndarray
    scored_at: np.ndarray
    scores: np.ndarray
    compile_seconds: float
    status: str

    @property
    def cpu(self) -> float:
        """CPU time of all steps."""
        return float(self.seconds[-1]) if len(self.seconds) else 0.0

    def values(self) -> dict[str, Any]:
        """Plain values for results.json."""
        return {
            "name": self.name,
            "label": self.label,
            "bits": self.bits,
            "metrics": dataclasses.asdict(self.metrics),
            "steps": len(self.loss),
            "cpu_seconds": self.cpu,
            "compile_seconds": self.compile_seconds,
            "status": self.status,
            "scored_at": self.scored_at.tolist(),
            "scores": self.scores.tolist(),
        }


def cells(row: Reached) -> tuple[str, ...]:
    """A row of the table under `HEAD`."""
    m = row.metrics
    return (
        row.label,
        f"{row.bits:.3f}",
        f"{100 * m.rate_error:.1f} %",
        f"{m.isi_ks:.3f}",
        f"{m.coincidence_at(2e-3):.3f}",
        f"{len(row.loss)}",
        f"{row.cpu:.1f}",
        f"{row.compile_seconds:.0f}",
    )


def table_text(found: list[Reached]) -> str:
    """The table for a terminal."""
    rows = [HEAD, *(cells(row) for row in found)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEAD))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def plainly(found: list[Reached]) -> list[str]:
    """What the table says, in words that follow from its numbers."""
    by_name = {row.name: row for row in found}
    simulating = [row for row in found if row.simulates]
    out = []
    exact = by_name.get("likelihood")
    if exact is not None and simulating:
        best = max(simulating, key=lambda row: row.bits)
        more = exact.bits - best.bits
        if more > _TIE:
            out.append(
                f"The likelihood is better where it is available: {exact.bits:.2f} bits per spike in {exact.cpu:.0f} s "
                f"of CPU time, {more:.2f} more than the best loss that simulates ({best.label}, {best.bits:.2f} in "
                f"{best.cpu:.0f} s)."
            )
        else:
            out.append(
                f"Here the {best.label} reaches {best.bits:.2f} bits per spike in {best.cpu:.0f} s of CPU time and the "
                f"likelihood {exact.bits:.2f} in {exact.cpu:.0f} s: {'a tie' if more > -_TIE else 'less'}."
            )
    plain, horizon = by_name.get("signature"), by_name.get("signature-horizon")
    if plain is not None and horizon is not None:
        out.append(_horizon(plain, horizon))
    energy = by_name.get("energy")
    if energy is not None:
        out.append(
            "The energy score needs no horizon term: a spike that enters the window at its end adds an alpha function "
            f"that starts at 0 there, so nothing jumps. Its rate is {_off(energy)} off."
        )
    return [*out, *(f"{row.label}: {row.status}." for row in found if not row.status.startswith("finished"))]


def _horizon(plain: Reached, horizon: Reached) -> str:
    a, b = plain.metrics.rate_error, horizon.metrics.rate_error
    words = f"Without its horizon term the expected signature ends with a rate that is {_off(plain)} off, "
    words += f"with it {_off(horizon)}"
    words += ": the term cures the rate." if b < min(a / 2, 0.1) else ": here the term does not cure the rate."
    more = horizon.bits - plain.bits
    if abs(more) < _TIE:
        return f"{words} Bits per spike are the same within {_TIE}."
    return (
        f"{words} Bits per spike are {'higher' if more > 0 else 'LOWER'} with it "
        f"({horizon.bits:.2f} against {plain.bits:.2f})."
    )


def _off(row: Reached) -> str:
    return f"{100 * row.metrics.rate_error:.1f} %"


def page(title: str, subject: str, split: str, plan: SimulationPlan, found: list[Reached], seconds: float) -> str:
    """Figure, table and words as a self-contained page."""
    listed = "".join(f"<li>{escape(line)}</li>" for line in plainly(found))
    shown = table(HEAD, [cells(row) for row in found], right=tuple(range(1, len(HEAD))))
    windows = [f"{e.label}: {_setting(e)}" for e in plan.losses.values() if e.window is not None]
    body = f"""<header><p class="kicker">roughspike report</p><h1>{escape(title)}: fits by simulation</h1>
<dl class="lead"><dt>Recorded</dt><dd>{escape(subject)}</dd><dt>Fitted</dt><dd>A stochastic leaky integrate-and-fire
neuron, from the same poor start each time: by losses that compare simulated with recorded spikes, and by the
likelihood</dd></dl>
<p class="judged">Split {escape(split)}. Bits per spike are over a Poisson process of the training rate, by a particle
filter where there is diffusion; the other figures are of free simulations. One seed, one recording: read differences
under {_TIE} bits as ties. {seconds:.0f} s in all.</p>
<div class="verdict"><div><h3>Plainly</h3><ul>{listed}</ul></div><div><h3>How</h3><ul><li>Each window is simulated
from the state in which the recorded spikes before it leave the neuron, with the current parameters.</li>
{"".join(f"<li>{escape(line)}</li>" for line in windows)}</ul></div></div></header>
<section><figure id="loss"><h2>Loss and held-out score against CPU time</h2>{figure(found)}
<figcaption><b>Figure 1.</b> Top: each loss in its own unit (grey), and its running mean. Bottom: held-out bits per
spike of the models on the way, estimated by importance sampling (exact without diffusion); the table has the particle
filter's figure for the last one. CPU time of training alone, without compilation.</figcaption></figure></section>
<section id="table"><h2>What each loss reached</h2>{shown}</section>
<footer>Written by roughspike. This file holds everything it shows and loads nothing.</footer>"""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)} \N{MIDDLE DOT} fits by simulation</title><style>{CSS}</style></head>\n"
        f"<body>\n{body.replace(' %', chr(0xA0) + '%')}\n</body></html>\n"
    )


def _setting(entry: Any) -> str:
    return (
        f"{entry.windows_per_step} windows of {1e3 * entry.window:.3g} ms x {entry.num_samples} samples in each of "
        f"{entry.steps} steps"
    )


def figure(found: list[Reached]) -> str:
    """One panel for each loss, and one with the held-out score of all of them."""
    left, gap, top, height = 70.0, 62.0, 56.0, 130.0
    width = (FULL - left - 12 - gap * (len(found) - 1)) / len(found)
    panels = []
    for k, row in enumerate(found):
        middle = row.loss[np.isfinite(row.loss)]
        low, high = np.quantile(middle, [0.02, 0.98]) if len(middle) else (0.0, 1.0)
        where = (left + k * (width + gap), top, width, height)
        panel = Panel(*where, (0.0, max(row.cpu, 1e-3)), padded(np.array([low, high])))
        panel.line(row.seconds, row.loss, MUTED, width=1.0, opacity=0.4)
        panel.line(row.seconds, _running(row.loss), _colour(row), width=1.8)
        panel.y_axis("Loss" if k == 0 else "", grid=True)
        panel.x_axis("CPU time (s)", about=4)
        panel.note(0, -10, row.label)
        panels.append(panel)
    longest = max([1e-3, *(row.cpu for row in found)])
    everything = np.concatenate([row.scores for row in found])
    best = float(np.nanmax(everything, initial=0.0, where=np.isfinite(everything)))
    shown = padded(np.array([min(0.0, best), best]))
    score = Panel(left, top + height + 96, FULL - left - 12, 200.0, (0.0, longest), shown)
    for row in found:
        score.line(row.scored_at, row.scores, _colour(row), width=2.0)
    score.y_axis("Held-out bits per spike", grid=True)
    score.x_axis("CPU time (s)")
    extra = legend(left, 20.0, [(row.label, _colour(row), "line") for row in found])
    return drawing(
        FULL, top + height + 96 + 200 + 44, "Loss and held-out score against CPU time", [*panels, score], extra
    )


def _colour(row: Reached) -> str:
    return COLOURS.get(row.name, MUTED)


def _running(loss: np.ndarray, half: int = 10) -> np.ndarray:
    """Mean over the nearest 2 half + 1 steps."""
    kernel = np.ones(2 * half + 1)
    total = np.convolve(loss, kernel, "full")[half : half + len(loss)]
    return total / np.convolve(np.ones(len(loss)), kernel, "full")[half : half + len(loss)]
