"""Small drawing layer: panels with axes, lines, bars and rasters as inline SVG with text kept as text.

A `Panel` maps data to pixels and collects marks; `drawing` puts panels into one `<svg>`. Marks are clipped to their
panel, coordinates rounded to a tenth of a pixel, so a figure of 40 rasters stays at some ten kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

INK, MUTED, RULE, GREY = "#1c2430", "#5b6675", "#d9dee5", "#9aa4b1"
RECORDED, MODEL, SECOND, THIRD = "#1c2430", "#0072b2", "#d55e00", "#009e73"
HELD_OUT = "#f6e7c1"
"""Okabe and Ito's palette, told apart by every common colour vision; the recording is always black."""

Pixels = float | int

FULL, HALF = 1000.0, 486.0


def number(value: Pixels) -> str:
    """A coordinate: at most one decimal, no trailing zero.

    >>> number(12.04), number(0.25)
    ('12', '0.2')
    """
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round tick positions (steps of 1, 2 or 5 times a power of ten) inside [low, high].

    >>> ticks(0.0, 1.0, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return []
    raw = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * min((1, 2, 5, 10), key=lambda m: abs(m * power - raw))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def tick_labels(positions: Sequence[float]) -> list[str]:
    """Labels with as many decimals as the steps need, and a true minus sign."""
    step = min((abs(b - a) for a, b in zip(positions[:-1], positions[1:], strict=True)), default=abs(positions[0]) or 1)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{p:,.{decimals}f}".replace("-", "\N{MINUS SIGN}").replace(",", "\N{NARROW NO-BREAK SPACE}")
            for p in positions]  # fmt: skip


def shorten(content: str, most: int) -> str:
    """At most `most` characters, the rest an ellipsis."""
    return content if len(content) <= most else content[: most - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def text(x: Pixels, y: Pixels, content: str, *, anchor: str = "start", css: str = "", colour: str = "") -> str:
    """A text element, escaped."""
    look = (f' class="{css}"' if css else "") + (f' style="color:{colour}"' if colour else "")
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{number(x)}" y="{number(y)}"{where}{look}>{escape(content)}</text>'


@dataclass
class Panel:
    """A rectangle of the drawing with linear axes: `x` and `y` are the ranges of the data it shows."""

    left: Pixels
    top: Pixels
    width: Pixels
    height: Pixels
    x: tuple[float, float]
    y: tuple[float, float]
    marks: list[str] = field(default_factory=list)
    frame: list[str] = field(default_factory=list)
    under: list[str] = field(default_factory=list)

    def px(self, value: float | np.ndarray) -> np.ndarray:
        """Data to pixels from the panel's left edge."""
        return np.asarray((np.asarray(value, float) - self.x[0]) / (self.x[1] - self.x[0]) * self.width)

    def py(self, value: float | np.ndarray) -> np.ndarray:
        """Data to pixels from the panel's top edge."""
        return np.asarray((self.y[1] - np.asarray(value, float)) / (self.y[1] - self.y[0]) * self.height)

    def line(
        self, x: np.ndarray, y: np.ndarray, colour: str, *, width: Pixels = 1.6, dash: str = "", opacity: Pixels = 1.0
    ) -> None:
        """A polyline; non-finite points break it, points closer than half a pixel are thinned."""
        look = f' stroke-dasharray="{dash}"' if dash else ""
        look += f' stroke-opacity="{opacity:g}"' if opacity < 1 else ""
        path = _path(self.px(x), np.clip(self.py(y), -2000, 2000))
        if path:
            self.marks.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}"{look}/>')

    def area(self, x: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str, opacity: Pixels = 0.2) -> None:
        """A filled band between two curves."""
        if not (np.all(np.isfinite(low)) and np.all(np.isfinite(high))):
            return
        path = _path(
            np.concatenate([self.px(x), self.px(x)[::-1]]), np.concatenate([self.py(high), self.py(low)[::-1]])
        )
        self.marks.append(f'<path d="{path}Z" fill="{colour}" fill-opacity="{opacity:g}"/>')

    def histogram(self, edges: np.ndarray, heights: np.ndarray, colour: str, *, filled: bool) -> None:
        """Bars that touch, filled, or their outline."""
        x = np.concatenate([[edges[0]], np.repeat(edges[1:-1], 2), [edges[-1]]])
        y = np.repeat(heights, 2)
        if filled:
            self.area(x, np.zeros_like(y), y, colour, opacity=0.25)
        else:
            self.line(np.r_[x[0], x, x[-1]], np.r_[0, y, 0], colour)

    def shade(self, start: Pixels, stop: Pixels, colour: str = HELD_OUT) -> None:
        """A vertical stripe over the height of the panel."""
        a, b = np.clip(self.px(np.array([start, stop])), 0, self.width)
        if b > a:
            where = f'x="{number(self.left + a)}" y="{number(self.top)}" width="{number(b - a)}"'
            self.under.insert(0, f'<rect {where} height="{number(self.height)}" fill="{colour}"/>')

    def raster(self, times: np.ndarray, low: Pixels, high: Pixels, colour: str, *, width: Pixels = 1.1) -> None:
        """One tick per spike between the levels `low` and `high`, as ONE path; ticks on the same pixel are merged."""
        inside = times[(times >= self.x[0]) & (times <= self.x[1])]
        if not len(inside):
            return
        columns = np.unique(np.round(self.px(inside) * 2) / 2)
        top, bottom = float(self.py(high)), float(self.py(low))
        steps = "".join(f"M{number(c)} {number(top)}v{number(bottom - top)}" for c in columns)
        self.marks.append(f'<path d="{steps}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>')

    def level(self, y: Pixels, colour: str = MUTED, *, dash: str = "4 3", width: Pixels = 1.0) -> None:
        """A horizontal line over the width of the panel."""
        self.line(np.array(self.x), np.array([y, y]), colour, dash=dash, width=width)

    def x_axis(self, label: str, *, about: int = 6, scale: float = 1.0, show_ticks: bool = True) -> None:
        """Axis below the panel; tick labels are the data times `scale`."""
        bottom = self.top + self.height
        self.frame.append(_rule(self.left, bottom, self.left + self.width, bottom))
        positions = ticks(self.x[0] * scale, self.x[1] * scale, about) if show_ticks else []
        for position, name in zip(positions, tick_labels(positions) if positions else [], strict=True):
            at = self.left + float(self.px(position / scale))
            self.frame.append(_rule(at, bottom, at, bottom + 4))
            self.frame.append(text(at, bottom + 17, name, anchor="middle", css="t"))
        self.frame.append(text(self.left + self.width / 2, bottom + 35, label, anchor="middle", css="l"))

    def y_axis(
        self,
        label: str,
        *,
        about: int = 4,
        at: Sequence[tuple[float, str]] | None = None,
        grid: bool = False,
        gap: Pixels = 44.0,
    ) -> None:
        """Axis left of the panel; `at` replaces the round ticks by (position, label)."""
        positions = ticks(*self.y, about)
        named = list(zip(positions, tick_labels(positions), strict=True)) if positions else []
        labelled = named if at is None else at
        gap = max(gap, 18 + 7 * max((len(name) for _, name in labelled), default=0))
        for position, name in labelled:
            y = self.top + float(self.py(position))
            if grid:
                self.under.append(f'<path d="M{number(self.left)} {number(y)}h{number(self.width)}" stroke="#e6eaef"/>')
            self.frame.append(text(self.left - 7, y + 4, name, anchor="end", css="t"))
        if label:
            lines = _two_lines(label, int(self.height / 5.5) + 4)
            for k, line in enumerate(reversed(lines)):
                self.frame.append(_turned(self.left - gap - 15 * k, self.top + self.height / 2, line))

    def note(self, x: Pixels, y: Pixels, content: str, *, anchor: str = "start", colour: str = MUTED) -> None:
        """Text at pixels from the panel's top left corner."""
        self.frame.append(text(self.left + x, self.top + y, content, anchor=anchor, css="t", colour=colour))

    def render(self) -> str:
        """The panel: shades and grid, clipped marks, axes."""
        x, y, width, height = map(number, (self.left, self.top, self.width, self.height))
        box = f'x="{x}" y="{y}" width="{width}" height="{height}"'
        return f"{''.join(self.under)}<svg {box}>{''.join(self.marks)}</svg>{''.join(self.frame)}"


def legend(x: Pixels, y: Pixels, entries: Sequence[tuple[str, str, str]]) -> str:
    """A row of (name, colour, kind), kind one of `line`, `dash`, `tick`, `box`, drawn from (x, y)."""
    out = []
    for full, colour, kind in entries:
        name = shorten(full, 48)
        if kind == "box":
            out.append(f'<rect x="{number(x)}" y="{number(y - 9)}" width="16" height="10" rx="1.5" fill="{colour}"/>')
        elif kind == "tick":
            out.append(f'<path d="M{number(x + 8)} {number(y - 11)}v14" stroke="{colour}" stroke-width="2"/>')
        else:
            dash = ' stroke-dasharray="4 3"' if kind == "dash" else ""
            out.append(f'<path d="M{number(x)} {number(y - 4)}h16" stroke="{colour}" stroke-width="2.2"{dash}/>')
        out.append(text(x + 22, y, name, css="t"))
        x += 22 + 6.7 * len(name) + 22
    return "".join(out)


def drawing(width: Pixels, height: Pixels, description: str, panels: Sequence[Panel], extra: str = "") -> str:
    """One `<svg>` that scales with the page; `description` is what a screen reader says."""
    body = "".join(panel.render() for panel in panels)
    return (
        f'<svg class="fig" viewBox="0 0 {number(width)} {number(height)}" role="img" '
        f'aria-label="{escape(description, quote=True)}">{body}{extra}</svg>'
    )


def padded(*values: np.ndarray, zero: bool = False, margin: float = 0.06) -> tuple[float, float]:
    """A range that holds all finite values with a margin, and 0 if `zero`."""
    everything = np.concatenate([np.zeros(1 if zero else 0), *(np.ravel(v) for v in values)])
    everything = everything[np.isfinite(everything)]
    low, high = (float(everything.min()), float(everything.max())) if len(everything) else (0.0, 1.0)
    room = (high - low) * margin or 0.5
    return (0.0 if zero and low >= 0 else low - room), high + room


def _rule(x0: Pixels, y0: Pixels, x1: Pixels, y1: Pixels) -> str:
    return f'<path d="M{number(x0)} {number(y0)}L{number(x1)} {number(y1)}" stroke="{GREY}"/>'


def _two_lines(label: str, most: int) -> list[str]:
    """The label on one line if it fits, else broken at the space nearest to its middle."""
    spaces = [k for k, letter in enumerate(label) if letter == " "]
    if len(label) <= most or not spaces:
        return [shorten(label, most)]
    cut = min(spaces, key=lambda k: abs(k - len(label) / 2))
    return [shorten(label[:cut], most), shorten(label[cut + 1 :], most)]


def _turned(x: Pixels, y: Pixels, content: str) -> str:
    return (
        f'<text transform="translate({number(x)} {number(y)}) rotate(-90)" text-anchor="middle" class="l">'
        f"{escape(content)}</text>"
    )


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """SVG path data, thinned to points at least 0.4 pixels apart from the last one kept."""
    out, last, pen = [], (math.inf, math.inf), "M"
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if not (math.isfinite(a) and math.isfinite(b)):
            pen, last = "M", (math.inf, math.inf)
        elif abs(a - last[0]) + abs(b - last[1]) >= 0.4:
            out.append(f"{pen}{number(a)} {number(b)}")
            pen, last = "L", (a, b)
    return "".join(out)
