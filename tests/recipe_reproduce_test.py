"""`roughspike reproduce`: a short run, what it writes, what it refuses, and when it says that a figure is missed."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from roughspike import cli
from roughspike.recipe import reproduce
from roughspike.recipe.reproduce_page import cells, figure, markdown
from roughspike.recipe.reproduce_plan import NAMES, load_experiment
from roughspike.recipe.reproduce_train import _Runs, train

pytestmark = pytest.mark.plain


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", *map(str, arguments)])
    return stop.value.code


@pytest.fixture
def small(monkeypatch):
    """The experiment with two small sample sizes on a coarser grid."""
    whole = load_experiment(NAMES[0])
    rows = tuple(
        dataclasses.replace(row, **{k: getattr(row, k)[:2] for k in ("c", "error", "first_close", "seconds")})
        for row in whole.published
    )
    experiment = dataclasses.replace(whole, sample_sizes=(4, 8), grid={"t1": 5.0, "dt": 0.02}, published=rows)
    monkeypatch.setattr(reproduce, "load_experiment", lambda name: experiment)
    return experiment


def test_list(capsys):
    assert run("--list") == 0
    assert "holberg2024-fig1  Input current of one neuron" in capsys.readouterr().out


def test_a_name_that_is_not_known(capsys):
    assert run("nowhere") == 2
    assert "no published result named 'nowhere'; known: holberg2024-fig1" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seeds", "--steps"])
def test_numbers_that_make_no_sense(option, capsys):
    assert run(option, 0) == 2
    assert "--seeds and --steps must be at least 1" in capsys.readouterr().err


def test_recipe_is_complete():
    experiment = load_experiment("holberg2024-fig1")
    sizes = len(experiment.sample_sizes)
    for loss in experiment.losses:
        for sigma in experiment.sigmas:
            assert len(experiment.published_row(loss, sigma).c) == sizes
    expected = experiment.expected
    assert {len(v) for v in dataclasses.asdict(expected).values()} == {sizes}
    assert experiment.methods["faster"].steps <= 100 and experiment.methods["published"].steps == 1500


@pytest.mark.slow
def test_a_short_run_writes_table_figure_and_results(small, tmp_path, capsys):
    assert run("--steps", 3, "--seeds", 1, "--out", tmp_path) == 0  # shortened: nothing is compared
    text = capsys.readouterr().out
    assert "not compared" in text and "first-spikes" in text
    assert {p.name for p in tmp_path.iterdir()} == {"results.json", "table.md", "figure.svg", "report.html"}
    found = json.loads((tmp_path / "results.json").read_text())["settings"]
    assert len(found) == 2 * 2 * 2 * 2  # methods, losses, noises, sample sizes
    assert all(row["c"][0] > small.start for row in found)  # every gradient points towards the truth
    assert (tmp_path / "figure.svg").read_text().count("<path") > 16


@pytest.mark.slow
def test_training_finds_the_current(small):
    experiment = dataclasses.replace(small, sample_sizes=(32,), sigmas=(0.25,))
    *_, (done, history) = train(experiment, experiment.methods["faster"], "signature", seeds=2, steps=60)
    assert done == 60 and history.c.shape == (60, 1, 1, 2)
    # 32 samples fix c to 0.09 / sqrt(32) = 0.016; 60 steps of training add little
    assert np.all(np.abs(history.c[-1] - 1.5) < 0.1), history.c[-1]
    assert np.all(history.error[-1] < history.error[0] / 5)


def test_rows_of_a_run_belong_together():
    experiment = dataclasses.replace(load_experiment("holberg2024-fig1"), sample_sizes=(2, 3))
    runs = _Runs(experiment, seeds=2)
    assert runs.of_row.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7]
    assert runs.sigma_of_row[[0, 3, 4, 8, 14]].tolist() == [0.25, 0.25, 0.5, 0.25, 0.5]
    means = runs.each(lambda rows: rows.mean(), jnp.asarray(runs.of_row, jnp.float32)[:, None])
    assert np.allclose(means, np.arange(8))


def test_a_missed_figure_gives_exit_code_1(monkeypatch, tmp_path):
    experiment = load_experiment("holberg2024-fig1")
    expected = experiment.expected
    good = np.full(3, expected.c[3]), np.full(3, expected.error[3])
    assert reproduce.verdict(experiment, 3, *good)
    off = good[0] + 2 * expected.c_tolerance[3]
    assert not reproduce.verdict(experiment, 3, off, good[1])
    assert not reproduce.verdict(experiment, 3, good[0], good[1] + 2 * expected.error_tolerance[3])
    assert not reproduce.verdict(experiment, 3, np.full(3, np.nan), good[1])
    setting = _setting(met=False)
    monkeypatch.setattr(reproduce, "run", lambda *a, **k: ([setting], 1.0, False))
    assert run("--out", tmp_path) == 1
    monkeypatch.setattr(reproduce, "run", lambda *a, **k: ([setting], 1.0, True))
    assert run("--out", tmp_path) == 130


def test_a_run_that_never_comes_close_is_shown_as_such():
    experiment = load_experiment("holberg2024-fig1")
    setting = _setting(met=None)
    assert "never" in cells(setting) and "not compared" in cells(setting)
    assert "never" in markdown(experiment, [setting], "note")
    assert "published, signature, s = 0.25" in figure(experiment, [setting])


def _setting(met):
    return reproduce.Setting(
        method="published",
        loss="signature",
        sigma=0.25,
        samples=16,
        c=[0.6],
        error=[4.0],
        first_close=[None],
        milliseconds=1.0,
        published=None,
        met=met,
        curve=np.linspace(0.565, 0.6, 20)[:, None],
    )
