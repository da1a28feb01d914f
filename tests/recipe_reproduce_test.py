"""`roughspike reproduce`: finding recipes, picking up finished rows, what is written, and the published current."""

import json
import sys
import types

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from roughspike import cli
from roughspike.recipe.reproduce_context import Context
from roughspike.recipe.reproduce_outcome import Outcome, at_least, at_most, mean_and_error, near
from roughspike.recipe.reproduce_plan import FOLDER, load_recipe, shipped

pytestmark = pytest.mark.plain

TOY = 'title = "A toy"\nshows = "It adds up."\nminutes = 1\nseeds = 3\nrun = "toy"\nexpected = 1.0\n'


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", *map(str, arguments)])
    return stop.value.code


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A recipe whose rows are the seeds; `module.stop_at` is the seed at which Ctrl-C is pressed."""
    module = types.ModuleType("toy")
    module.made, module.stop_at = [], None

    def make(seed, epochs):
        if seed == module.stop_at:
            raise KeyboardInterrupt
        module.made.append(seed)
        return {"seed": seed, "value": np.float32(seed), "epochs": epochs}

    def work(settings, context):
        for seed in context.seeds:
            context.row(f"seed{seed}", lambda seed=seed: make(seed, context.length(10)))

    def show(settings, rows):
        values = [row["value"] for row in rows.values()]
        figure, axes = plt.subplots()
        axes.plot(values)
        table = [{"seeds": len(rows), "mean": mean_and_error(values)}]
        return Outcome(table, {"values": figure}, [at_least("mean", values, settings["expected"])], "A note.")

    module.run, module.show = work, show
    monkeypatch.setitem(sys.modules, f"{FOLDER}.toy", module)
    module.file = tmp_path / "mine.toml"
    module.file.write_text(TOY)
    return module


def test_list_shows_every_recipe_and_how_long_it_takes(capsys):
    assert run("--list") == 0
    text = capsys.readouterr().out
    for name, recipe in shipped().items():
        assert name in text and recipe.shows in text and f"{recipe.minutes:g} min" in text
        assert recipe.shows.endswith(".") and recipe.minutes > 0 and recipe.module()
    assert "holberg2024-fig1" in text


def test_what_is_refused(toy, capsys, tmp_path):
    assert run("nowhere") == 2
    said = capsys.readouterr().err
    assert "no published result named 'nowhere'; known: " in said and "holberg2024-fig1" in said
    for option in ("--seeds", "--steps"):
        assert run(toy.file, option, 0) == 2
        assert "--seeds and --steps must be at least 1" in capsys.readouterr().err
    toy.file.write_text(TOY.replace("minutes = 1\n", ""))
    assert run(toy.file) == 2
    assert "entry 'minutes' is missing or of the wrong type" in capsys.readouterr().err
    toy.file.write_text(TOY.replace('"toy"', '"toys"'))
    assert run(toy.file) == 2
    assert "run = 'toys' names no module" in capsys.readouterr().err
    with pytest.raises(ValueError, match="row names consist of letters"):
        Context(tmp_path, [0]).keep("a/b", {})


def test_a_run_writes_table_figure_and_results(toy, tmp_path, capsys):
    folder = tmp_path / "out"
    assert run(toy.file, "--out", folder) == 0
    assert "mean: 1 \N{PLUS-MINUS SIGN} 0.58, expected at least 1: met" in capsys.readouterr().out
    files = {"rows", "results.json", "table.md", "values.svg", "report.html"}
    assert {path.name for path in folder.iterdir()} == files
    assert "| 3 | 1.00 \N{PLUS-MINUS SIGN} 0.58 |" in (folder / "table.md").read_text()
    found = json.loads((folder / "results.json").read_text())
    assert found["ended"] and found["rows"]["seed2"] == {"seed": 2, "value": 2.0, "epochs": 10}
    page = (folder / "report.html").read_text()
    assert "<svg" in page and "A note." in page and "http://" not in page.replace("http://www.w3.org", "")


def test_a_missed_number_gives_exit_code_1_but_not_in_a_short_run(toy, tmp_path, capsys):
    toy.file.write_text(TOY.replace("1.0", "1.5"))
    assert run(toy.file, "--out", tmp_path / "out") == 1
    assert "NOT MET" in (tmp_path / "out" / "table.md").read_text()
    assert run(toy.file, "--out", tmp_path / "short", "--steps", 2) == 0
    assert "not compared" in capsys.readouterr().out
    assert json.loads((tmp_path / "short" / "results.json").read_text())["rows"]["seed0"]["epochs"] == 2


def test_an_interrupted_run_goes_on_where_it_was(toy, tmp_path):
    folder, toy.stop_at = tmp_path / "out", 2
    assert run(toy.file, "--out", folder, "-q") == 130
    found = json.loads((folder / "results.json").read_text())
    assert len(found["rows"]) == 2 and not found["ended"] and found["verdicts"][0]["met"] is None
    toy.stop_at = None
    assert run(toy.file, "--out", folder, "-q") == 0
    assert toy.made == [0, 1, 2]
    assert run(toy.file, "--out", folder, "-q", "--seeds", 4, "--resume") == 0  # one more seed
    assert toy.made == [0, 1, 2, 3]
    assert run(toy.file, "--out", folder, "-q", "--seeds", 1, "--resume", "--steps", 5) == 0  # another length
    assert run(toy.file, "--out", folder, "-q", "--seeds", 1) == 1  # ended: anew, and seed 0 alone misses the mean
    assert toy.made == [0, 1, 2, 3, 0, 0]


def test_nothing_finished_leaves_nothing(toy, tmp_path):
    toy.stop_at = 0
    assert run(toy.file, "--out", tmp_path / "out") == 130
    assert not (tmp_path / "out" / "results.json").exists()


def test_verdicts():
    assert at_least("x", [1.0, 3.0], 2.0).met and not at_least("x", [1.0], 2.0).met
    assert at_least("x", [1.9], 2.0, 0.2).met and at_most("x", [2.1], 2.0, 0.2).met and not at_most("x", [3.0], 2).met
    assert near("x", [2.1], 2.0, 0.2).met and not near("x", [2.3], 2.0, 0.2).met
    for verdict in (at_least, at_most):
        assert verdict("x", [np.nan], 0.0).met is False and verdict("x", [], 0.0).met is None


# ------------------------------------------------------------------------------------------- holberg2024-fig1


@pytest.fixture
def settings():
    """The recipe with one optimiser and two small sample sizes, on a coarser grid."""
    whole = load_recipe("holberg2024-fig1").settings
    methods = {"faster": whole["methods"]["faster"]}
    return whole | {"sample_sizes": [4, 8], "grid": {"t1": 5.0, "dt": 0.02}, "methods": methods}


@pytest.fixture
def fig1():
    from roughspike.recipe.published import holberg2024_fig1

    return holberg2024_fig1


def test_recipe_is_complete(fig1):
    experiment = fig1.experiment_of(load_recipe("holberg2024-fig1").settings)
    sizes = len(experiment.sample_sizes)
    for loss in experiment.losses:
        for sigma in experiment.sigmas:
            assert len(experiment.published_row(loss, sigma).c) == sizes
    assert {len(v) for v in vars(experiment.expected).values()} == {sizes}
    assert experiment.methods["faster"].steps <= 100 and experiment.methods["published"].steps == 1500


@pytest.mark.slow
def test_training_finds_the_current(settings, fig1, tmp_path):
    settings |= {"sample_sizes": [32], "sigmas": [0.25]}
    fig1.run(settings, Context(tmp_path, [0, 1], steps=60, shown=False))
    rows = Context(tmp_path, [0, 1], steps=60).rows  # as they are on the disk
    assert len(rows) == 2  # losses
    for row in rows.values():
        c = np.array(row["curve"])
        assert c.shape == (60, 2) and np.all(c[0] > settings["start"])
        # 32 samples fix c to 0.09 / sqrt(32) = 0.016; 60 steps of training add little
        assert np.all(np.abs(np.array(row["c"]) - 1.5) < 0.1), row["c"]
        assert np.all(np.array(row["error"]) < 0.3)  # 4 at the start
        errors = np.array(row["error_curve"])
        assert errors.shape == (60, 2) and np.all(errors[0] > 1)
        np.testing.assert_allclose(errors[-10:].mean(axis=0), row["error"], atol=1e-4)
    outcome = fig1.show(settings, rows)
    assert outcome.figures["figure"].count("<path") > 4 and outcome.verdicts[0].met is None
    assert outcome.table[0]["loss"] == "signature" and outcome.table[0][""] == "not compared"


def test_rows_of_a_run_belong_together(settings, fig1):
    from roughspike.recipe.published.holberg2024_fig1_train import _Runs

    runs = _Runs(fig1.experiment_of(settings | {"sample_sizes": [2, 3]}), seeds=2)
    assert runs.of_row.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7]
    assert runs.sigma_of_row[[0, 3, 4, 8, 14]].tolist() == [0.25, 0.25, 0.5, 0.25, 0.5]
    means = runs.each(lambda rows: rows.mean(), jnp.asarray(runs.of_row, jnp.float32)[:, None])
    assert np.allclose(means, np.arange(8))


def test_a_missed_current_is_seen(settings, fig1):
    experiment = fig1.experiment_of(settings)
    expected, row = experiment.expected, _row(samples=8, steps=100)
    good = {"c": [expected.c[1]] * 3, "error": [expected.error[1]] * 3}
    assert fig1.verdict(experiment, row | good).met
    for worse in (
        {"c": [expected.c[1] + 2 * expected.c_tolerance[1]] * 3},
        {"error": [expected.error[1] + 2 * expected.error_tolerance[1]] * 3},
        {"c": [np.nan] * 3},
    ):
        assert fig1.verdict(experiment, row | good | worse).met is False


def test_a_run_that_never_comes_close_is_shown_as_such(settings, fig1):
    outcome = fig1.show(settings, {"a": _row(samples=4, steps=20)})
    assert "never" in outcome.cells()[1] and "not compared" in outcome.cells()[1]
    assert "faster, signature, s = 0.25" in outcome.figures["figure"]


def _row(samples, steps):
    return {
        "method": "faster",
        "loss": "signature",
        "sigma": 0.25,
        "samples": samples,
        "c": [0.6],
        "error": [4.0],
        "first_close": [None],
        "milliseconds": 1.0,
        "curve": np.linspace(0.565, 0.6, steps)[:, None].tolist(),
        "error_curve": np.linspace(6.0, 4.0, 5)[:, None].tolist(),
    }
