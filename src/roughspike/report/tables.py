"""Tables of the report: parameters, scores, figures of merit, configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from roughspike.evaluation.types import Evaluation


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), css: str = "") -> str:
    """An HTML table; all cells are escaped. Columns in `right` hold numbers."""

    def cell(tag: str, k: int, content: str) -> str:
        return f"<{tag}{' class=r' if k in right else ''}>{escape(content)}</{tag}>"

    top = "".join(cell("th", k, name) for k, name in enumerate(head))
    body = "".join("<tr>" + "".join(cell("td", k, c) for k, c in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="{css}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def parameters(evaluation: Evaluation) -> str:
    """Name, symbol, value with unit, start value, fitted or fixed; empty without parameters."""
    if not evaluation.parameters:
        return ""
    notes = any(p.note for p in evaluation.parameters)
    starts = any(p.start is not None for p in evaluation.parameters)
    head = [
        "Parameter",
        "Symbol",
        "Value",
        "Unit",
        *(["Start"] if starts else []),
        "Status",
        *(["Note"] if notes else []),
    ]
    rows = []
    for p in evaluation.parameters:
        scale, unit = (1e3, "ms") if p.unit == "s" and 0 < abs(p.value) < 0.5 else (1.0, p.unit)
        start = [significant(p.start * scale) if p.start is not None and p.fitted else ""] if starts else []
        note = [p.note] if notes else []
        value = significant(p.value * scale)
        rows.append([p.name, p.symbol, value, unit, *start, "fitted" if p.fitted else "fixed", *note])
    return table(head, rows, right=(2, 4) if starts else (2,), css="parameters")


def scores(evaluation: Evaluation) -> str:
    """Bits per spike of every model, with the source of each figure."""
    if not evaluation.scores:
        return ""
    rows = [
        [
            s.model,
            _bits(s.bits),
            _bits(s.train_bits),
            "" if s.cpu_seconds is None else f"{s.cpu_seconds:.1f}",
            s.source,
        ]
        for s in evaluation.scores
    ]
    return table(
        ["Model", "Held-out bits/spike", "Training bits/spike", "CPU time (s)", "Source"], rows, right=(1, 2, 3)
    )


def _bits(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(value) else "not finite"


def merits(evaluation: Evaluation) -> str:
    """Figures of merit of the free simulations."""
    m = evaluation.metrics
    rows = [
        ["Mean rate, recorded", f"{m.recorded_rate:.2f}", "spikes/s", ""],
        ["Mean rate, simulated", f"{m.simulated_rate:.2f}", "spikes/s", "mean of all simulations"],
        ["Rate error", f"{100 * m.rate_error:.1f}", "%", "relative, without sign"],
        ["Interval distribution, KS distance", f"{m.isi_ks:.3f}", "", "0 is identical, 1 is disjoint"],
        ["Interval distribution, Wasserstein distance", f"{m.isi_w1 * 1e3:.3f}", "ms", "mean shift of an interval"],
    ]
    for c in m.coincidence:
        others = []
        if c.between_models is not None:
            others.append(f"{c.between_models:.2f} between simulations")
        if c.between_trials is not None:
            others.append(f"{c.between_trials:.2f} between recorded trials")
        chance = 2 * m.simulated_rate * c.precision
        if chance > 0.5:
            others.append(f"noisy, since {100 * chance:.0f} % of spikes coincide by chance")
        name = f"Coincidence factor at \N{PLUS-MINUS SIGN}{c.precision * 1e3:g} ms"
        rows.append([name, f"{c.value:.3f}", "", "; ".join(others)])
    rows = [[a, *(cell.replace("-", "\N{MINUS SIGN}") for cell in rest)] for a, *rest in rows if rest[0] != "nan"]
    return table(["Figure of merit", "Value", "Unit", "For comparison"], rows, right=(1,))


def configuration(evaluation: Evaluation) -> str:
    """Versions, seeds and windows, as a list of names and values."""
    rows = list(evaluation.configuration)
    rows.append(("training windows (s)", spans_text(evaluation.train)))
    rows.append(("held-out windows (s)", spans_text(evaluation.held_out)))
    if evaluation.held_out_trials is not None:
        rows.append(("held-out trials", ", ".join(map(str, evaluation.held_out_trials))))
    body = "".join(f"<div><dt>{escape(a)}</dt><dd>{escape(b)}</dd></div>" for a, b in rows)
    return f'<dl class="rows">{body}</dl>'


def spans_text(spans: Sequence[tuple[float, float]]) -> str:
    """Windows as text, neighbours merged."""
    merged: list[list[float]] = []
    for start, stop in spans:
        if merged and abs(start - merged[-1][1]) < 1e-9:
            merged[-1][1] = stop
        else:
            merged.append([start, stop])
    return ", ".join(f"{a:g} to {b:g}" for a, b in merged).replace("-", "\N{MINUS SIGN}") or "none"


def significant(value: float | None, digits: int = 3) -> str:
    """Three significant digits without an exponent where that stays readable.

    >>> significant(0.012345), significant(1500.0), significant(None)
    ('0.0123', '1500', '')
    """
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    shown = f"{value:.{digits - 1}e}" if size < -4 or size > 6 else f"{value:.{max(0, digits - 1 - size)}f}"
    return shown.replace("-", "\N{MINUS SIGN}", 1 if size >= -4 else 2)
