"""Figure: a drawing with its heading and its caption; and marks that several figures share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from roughspike.evaluation.metrics import Spans
from roughspike.evaluation.types import Evaluation
from roughspike.report.svg import Panel

MOST_NEURONS = 4
"""Neurons that get a panel of their own; the caption says how many there are in all."""


@dataclass(frozen=True)
class Figure:
    """A section of the page.

    `name`: identifier in the page. `svg`: finished markup. `caption`: plain words, escaped by the page. `wide`: takes
    the whole width instead of half.
    """

    name: str
    title: str
    svg: str
    caption: str
    wide: bool = True


def shade_spans(panels: Iterable[Panel], spans: Spans) -> None:
    """Stripes where the held-out windows lie."""
    for panel in panels:
        for start, stop in spans:
            panel.shade(start, stop)


def shades_windows(evaluation: Evaluation) -> bool:
    """Do held-out windows alternate with training windows, so that shading them says something?"""
    return evaluation.held_out_trials is None and evaluation.held_out != evaluation.train


def unseen(evaluation: Evaluation, start: float, stop: float) -> bool:
    """Was nothing of [start, stop] used for training?"""
    touched = any(a < stop and b > start for a, b in evaluation.train)
    return not touched and any(a <= start and b >= stop for a, b in evaluation.held_out)


def of_neuron(neuron: int, num_neurons: int) -> str:
    """`, neuron 3`, or nothing when there is only one."""
    return f", neuron {neuron}" if num_neurons > 1 else ""


def and_more(num_neurons: int) -> str:
    """A sentence on the neurons that got no panel."""
    return f" The first {MOST_NEURONS} of {num_neurons} neurons are shown." if num_neurons > MOST_NEURONS else ""
