"""What a recipe of a published result finds: a table, figures, and which expected numbers are met."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One expected number: what it is, what was found, what was expected (both in words), and is it met?

    `met` is None where it cannot be said, such as in a shortened run.
    """

    what: str
    found: str
    expected: str
    met: bool | None

    def line(self) -> str:
        """The verdict as a sentence."""
        word = {True: "met", False: "NOT MET", None: "not compared"}[self.met]
        return f"{self.what}: {self.found}, expected {self.expected}: {word}"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What is shown of a recipe's rows.

    - `table`: one mapping per line, from the head of a column to what stands there: text, a number, or None for
      nothing. Columns are those of the first line.
    - `figures`: by name (of the file, without its ending): a matplotlib figure, or the text of an SVG.
    - `verdicts`: every expected number of the recipe.
    - `note`: a paragraph that says what the columns are, and what the reader must know to judge them.
    """

    table: Sequence[Mapping[str, str | float | None]]
    figures: Mapping[str, Any]
    verdicts: Sequence[Verdict]
    note: str

    def cells(self) -> list[tuple[str, ...]]:
        """Head and lines of the table as text."""
        head = tuple(self.table[0]) if self.table else ()
        return [head, *(tuple(cell(line.get(key)) for key in head) for line in self.table)]


def cell(value: str | float | None) -> str:
    """Text as it is, whole numbers in full, others with four significant digits."""
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:d}" if isinstance(value, int | np.integer) else f"{value:.4g}"


def mean_and_error(values: Sequence[float], digits: int = 2) -> str:
    """Mean with its standard error; of one value, the value.

    >>> mean_and_error([98.1, 98.5, 98.6]), mean_and_error([98.1])
    ('98.40 \N{PLUS-MINUS SIGN} 0.15', '98.10')
    """
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} {PLUS_MINUS} {standard_error(values):.{digits}f}"


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; nan for fewer than two values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else math.nan


def at_least(what: str, values: Sequence[float], expected: float, tolerance: float = 0.0) -> Verdict:
    """Is the mean of the values at least `expected - tolerance`? None without values; nan is not."""
    return _verdict(what, values, lambda mean: mean >= expected - tolerance, f"at least {expected:g}", tolerance)


def at_most(what: str, values: Sequence[float], expected: float, tolerance: float = 0.0) -> Verdict:
    """Is the mean of the values at most `expected + tolerance`? None without values; nan is not."""
    return _verdict(what, values, lambda mean: mean <= expected + tolerance, f"at most {expected:g}", tolerance)


def near(what: str, values: Sequence[float], expected: float, tolerance: float) -> Verdict:
    """Is the mean of the values within the tolerance of `expected`? None without values; nan is not."""
    return _verdict(what, values, lambda mean: abs(mean - expected) <= tolerance, f"{expected:g}", tolerance)


def _verdict(what: str, values: Sequence[float], test: Any, wanted: str, tolerance: float) -> Verdict:
    if tolerance:
        wanted = f"{wanted} ({PLUS_MINUS}{tolerance:g})"
    if not len(values):
        return Verdict(what, "nothing", wanted, None)
    error = standard_error(values)
    spread = "" if math.isnan(error) else f" {PLUS_MINUS} {error:.2g}"
    return Verdict(what, f"{np.mean(values):.4g}{spread}", wanted, bool(test(float(np.mean(values)))))
