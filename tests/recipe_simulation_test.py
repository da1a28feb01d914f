"""`roughspike fit-sim`: the recipe, what it refuses, what its page says, and one short run."""

import dataclasses
import json

import numpy as np
import pytest

import roughspike as rs
from roughspike import cli
from roughspike.evaluation.types import Coincidence, Metrics
from roughspike.recipe.job import shipped_job
from roughspike.recipe.simulation import _step, checks
from roughspike.recipe.simulation_page import Reached, cells, page, plainly, table_text
from roughspike.recipe.simulation_plan import load_simulation_plan

pytestmark = pytest.mark.plain


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(["fit-sim", *map(str, arguments)])
    return stop.value.code


def reached(name: str, bits: float, rate_error: float) -> Reached:
    metrics = Metrics(90.0, 90.0 * (1 + rate_error), rate_error, 0.05, 1e-3, (Coincidence(2e-3, 0.4),))
    at = np.linspace(0.1, 5.0, 60)
    return Reached(
        name, f"the {name}", name != "likelihood", bits, metrics, at, np.exp(-at), at[::20], at[::20] / 5, 9.0,
        "finished 60 steps",
    )  # fmt: skip


FOUND = [
    reached("likelihood", 2.4, 0.01),
    reached("energy", 2.2, 0.02),
    reached("signature", 0.3, 0.38),
    reached("signature-horizon", 0.9, 0.03),
]


def test_recipe_makes_the_losses():
    plan = load_simulation_plan()
    losses = {name: entry.loss() for name, entry in plan.losses.items()}
    assert isinstance(losses["likelihood"], rs.NegativeLogLikelihood)
    assert isinstance(losses["energy"], rs.EnergyScore) and losses["energy"].filters == (0.001, 0.004, 0.05)
    assert losses["signature"].time_weight == pytest.approx(40.0) and losses["signature"].unbiased
    assert losses["signature-horizon"].loss == losses["signature"]


def test_times_scale_with_the_recording():
    plan = load_simulation_plan()
    slow = plan.scaled(10 * plan.interval)
    assert slow.dt == pytest.approx(10 * plan.dt) and slow.losses["energy"].window == pytest.approx(0.5)
    assert slow.losses["energy"].filters == pytest.approx((0.01, 0.04, 0.5))
    assert slow.losses["likelihood"].window is None


def test_the_step_of_a_score_resolves_the_membrane():
    cells = [rs.Population(rs.SLIF((rate, 0.0)), 1.0) for rate in (200.0, 3000.0)]
    assert _step(0.001, cells[:1]) == 0.001 and _step(0.001, cells) == 0.00025


def test_words_follow_from_the_numbers():
    words = " ".join(plainly(FOUND))
    assert "likelihood is better where it is available: 2.40 bits" in words and "0.20 more than the best" in words
    assert (
        "38.0 % off, with it 3.0 %: the term cures the rate" in words and "higher with it (0.90 against 0.30)" in words
    )
    other = [reached("likelihood", 1.0, 0.1), *FOUND[1:3], reached("signature-horizon", 0.1, 0.36)]
    words = " ".join(plainly(other))
    assert "is better where" not in words and "the likelihood 1.00 in 5 s: less" in words
    assert "does not cure the rate" in words and "LOWER with it (0.10 against 0.30)" in words


def test_expected_figures():
    job, plan = shipped_job("grasshopper-1", "A"), load_simulation_plan()
    assert [line.split(": ")[-1] for line in checks(FOUND, plan, job)] == ["met", "met"]
    worse = [dataclasses.replace(FOUND[1], bits=2.0)]
    assert [line.split(": ")[-1] for line in checks(worse, plan, job)] == ["NOT MET", "met"]
    assert checks(FOUND[:1], plan, job) == [] and checks(FOUND, plan, shipped_job("grasshopper-2", "A")) == []


def test_table_and_page():
    lines = table_text(FOUND).splitlines()
    assert len(lines) == 6 and "2.200" in lines[3] and cells(FOUND[1])[2] == "2.0 %"
    html = page("A <recording>", "a receptor", "A", load_simulation_plan(), FOUND, 60.0)
    assert "A &lt;recording&gt;" in html and html.count("<svg class") == 1 and "http" not in html.split("</style>")[1]
    assert html.count("the energy</text>") == 2  # legend and panel


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "nothing"), "--only nothing: the recipe knows likelihood, energy, signature"),
        (("--steps", 0), "--steps must be at least 1, got 0"),
        (("--recipe", "nowhere.toml"), "nowhere.toml is no recipe file"),
        (("nowhere.csv",), "there is no file nowhere.csv"),
    ],
)
def test_bad_input(arguments, message, capsys):
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


def test_a_recipe_that_is_not_understood(tmp_path, capsys):
    (tmp_path / "bad.toml").write_text("dt = 0.1\n[losses.energy]\nlabel = 'x'\n")
    assert run("--recipe", tmp_path / "bad.toml") == 2
    assert "entry missing or not understood" in capsys.readouterr().err


@pytest.mark.slow
def test_a_short_run(tmp_path, capsys):
    assert run("--only", "energy", "--steps", 3, "--out", tmp_path) == 0
    shown = capsys.readouterr().out
    assert "1 of 1: energy score" in shown and "at least 2.1 expected: NOT MET" in shown
    row = json.loads((tmp_path / "results.json").read_text())["rows"][0]
    assert row["steps"] == 3 and len(row["scores"]) == 2 and np.isfinite(row["bits"])
    assert rs.load(tmp_path / "energy").config["steps"] == 3
    assert "</html>" in (tmp_path / "report.html").read_text()
