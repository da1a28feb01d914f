"""The page as text: self-contained, small, labelled, honest, escaped."""

from __future__ import annotations

import dataclasses
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from roughspike.evaluation.compare import compare_intervals, compare_rates, compare_trains
from roughspike.evaluation.metrics import time_rescaling
from roughspike.evaluation.types import Evaluation, Score, Stage
from roughspike.report import sentences
from roughspike.report.page import FIGURES, render, write_report

KINDS = ("driven", "trials", "neurons", "network", "hostile")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(page)
    return parser.found


def drawings(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r'<svg class="fig".*?</svg>(?=<figcaption)', page, re.S)]


def words(evaluation: Evaluation) -> str:
    return " ".join(sentences.failures(evaluation))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_loaded(pages: dict[str, Evaluation], kind: str):
    for tag, attributes in tags(render(pages[kind])):
        assert tag not in ("script", "img", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "data"):
            assert attributes.get(name) in (None, "data:,")
    assert "@import" not in render(pages[kind]) and "url(" not in render(pages[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_small(pages: dict[str, Evaluation], kind: str):
    assert len(render(pages[kind]).encode()) < 400_000


def test_small_even_with_dense_rasters(driven_evaluation: Evaluation):
    spikes = np.sort(np.random.default_rng(0).uniform(0, 10, 1000))
    crowd = tuple(((spikes,),) for _ in range(40))
    dense = dataclasses.replace(driven_evaluation, recorded=((spikes,),), simulated=crowd, shown=(0.0, 10.0))
    assert len(render(dense).encode()) < 2_000_000


def test_every_section_is_there(driven_evaluation: Evaluation):
    page = render(driven_evaluation)
    found = [attributes["id"] for tag, attributes in tags(page) if "id" in attributes]
    of_one_neuron = [name for name in FIGURES if name != "connectivity"]  # that one is of networks
    assert found == [*of_one_neuron, "parameters", "merits", "configuration"]
    assert "Grasshopper auditory receptor 1" in page and "NeMoS 0.2.8" in page and "0.10.2" in page


def test_sections_without_data_are_left_out(trials_evaluation: Evaluation):
    found = [attributes["id"] for tag, attributes in tags(render(trials_evaluation)) if "id" in attributes]
    assert found == ["rasters", "rate", "intervals", "merits", "configuration"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_has_labels_and_a_caption(pages: dict[str, Evaluation], kind: str):
    page = render(pages[kind])
    figures = drawings(page)
    assert len(figures) == page.count("<figure ") == page.count("<figcaption>") >= 3
    for figure in figures:
        labels = [element for element in figure.iter() if element.get("class") == "l"]
        assert labels and all(element.text for element in labels)
        assert figure.get("aria-label")
    assert all(len(caption) > 60 for caption in re.findall(r"<figcaption>(.*?)</figcaption>", page))


def test_axes_have_units(driven_evaluation: Evaluation):
    labels = {e.text for figure in drawings(render(driven_evaluation)) for e in figure.iter() if e.get("class") == "l"}
    for label in (
        "Time (s)",
        "Rate (spikes/s)",
        "Inter-spike interval (ms)",
        "Loss (nats per spike)",
        "Stimulus (z-score)",
    ):
        assert label in labels


@pytest.mark.parametrize("kind", KINDS)
def test_no_undefined_numbers_in_drawings(pages: dict[str, Evaluation], kind: str):
    for figure in drawings(render(pages[kind])):
        for element in figure.iter():
            for name, value in element.items():
                assert not re.search(r"\b(nan|inf)\b", value), (element.tag, name)


def test_raster_has_one_path_per_row(driven_evaluation: Evaluation):
    rasters = drawings(render(driven_evaluation))[0]
    blue = [e for e in rasters.iter() if e.tag == "path" and e.get("stroke") == "#0072b2" and "v" in e.get("d", "")]
    assert len(blue) == len(driven_evaluation.simulated)
    start, stop = driven_evaluation.shown
    first = driven_evaluation.simulated[0][0][0]
    expected = np.sum((first >= start) & (first <= stop))
    assert blue[0].get("d", "").count("M") == expected


def test_strings_are_escaped(pages: dict[str, Evaluation]):
    page = render(pages["hostile"])
    assert "<script" not in page and "</title>" in page
    assert page.count("</title>") == 1 and page.count("&lt;script") > 5


def test_header_has_the_figures(driven_evaluation: Evaluation):
    shown = {item.label: item.value for item in sentences.headlines(driven_evaluation)}
    assert shown["bits per spike, held out"] == "2.46"
    assert shown["coincidence factor at ±2 ms"] == f"{driven_evaluation.metrics.coincidence_at(0.002):.2f}"
    assert len(shown) == 4


def test_says_when_nothing_failed_what_was_checked(driven_evaluation: Evaluation):
    good = dataclasses.replace(driven_evaluation, rescaling=(time_rescaling((np.arange(200) + 0.5) / 200),))
    if not sentences.failures(good):
        assert "No check failed. Checked: better than every baseline" in render(good)


def test_says_where_the_model_fails(driven_evaluation: Evaluation):
    base = driven_evaluation
    bad = time_rescaling(np.random.default_rng(0).beta(3, 1, 200), "final")
    assert "lies outside the 95 % band" in words(dataclasses.replace(base, rescaling=(bad,)))
    wrong_rate = dataclasses.replace(base.metrics, rate_error=0.2, simulated_rate=80.0, recorded_rate=100.0)
    assert "too few spikes: 80.0 against 100.0" in words(dataclasses.replace(base, metrics=wrong_rate))
    assert "KS distance 0.30" in words(dataclasses.replace(base, metrics=dataclasses.replace(base.metrics, isi_ks=0.3)))
    beaten = (Score("GLM", 3.0), Score("ours", 2.0, ours=True))
    assert "GLM predicts the held-out spikes better" in words(dataclasses.replace(base, scores=beaten))
    assert "overfitted" in words(dataclasses.replace(base, scores=(Score("ours", 2.0, 2.9, ours=True),)))
    useless = dataclasses.replace(base, scores=(Score("o", -0.001, ours=True),))
    assert "no better than a Poisson process" in words(useless) and "It carries" not in render(useless)
    (shown, *_) = sentences.headlines(dataclasses.replace(useless, held_out=base.train))
    assert (shown.value, shown.label, shown.good) == ("0.00", "bits per spike, training data", False)
    infinite = dataclasses.replace(base, scores=(Score("ours", -math.inf, ours=True),))
    assert "is 0 or undefined" in words(infinite) and "not finite" in render(infinite)
    assert "Buffer full." in words(dataclasses.replace(base, warnings=("buffer full",)))


def test_a_tie_with_the_baseline_is_called_one(driven_evaluation: Evaluation):
    tie = dataclasses.replace(driven_evaluation, scores=(Score("GLM", 2.0), Score("ours", 2.02, ours=True)))
    assert "as much as the best baseline within 0.05 bits" in " ".join(sentences.achievements(tie))


def test_says_when_nothing_was_held_out(pages: dict[str, Evaluation]):
    assert "No data was held out" in render(pages["network"])


def test_silence_and_failed_training_still_give_a_page(driven_evaluation: Evaluation):
    silent = ((np.empty(0),),)
    found = compare_intervals(silent, (silent,), driven_evaluation.held_out)
    nothing = np.array([np.nan])
    page = render(
        dataclasses.replace(
            driven_evaluation,
            recorded=silent,
            simulated=(silent,),
            intervals=found,
            rates=compare_rates(silent, (silent,), 0.0, 10.0),
            metrics=compare_trains(silent, (silent,), driven_evaluation.held_out, found),
            stages=(Stage("training", np.array([0.0]), np.array([np.inf]), np.array([0.0]), nothing, nothing),),
        )
    )
    assert 'id="rasters"' not in page and 'id="loss"' in page


def test_write_replaces_in_one_step(tmp_path, driven_evaluation: Evaluation):
    path = write_report(driven_evaluation, tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_failed_write_leaves_the_old_page(tmp_path, driven_evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_report(driven_evaluation, path)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_options_beside_an_evaluation(tmp_path, driven_evaluation: Evaluation):
    with pytest.raises(TypeError, match=r"already holds everything: drop the arguments \['title'\]"):
        write_report(driven_evaluation, tmp_path / "r.html", title="x")
