"""`roughspike compare`: named problems, one of the user's own, finished estimators after Ctrl-C, what is refused."""

import json

import jax
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs
from roughspike import cli
from roughspike.recipe.compare_problems import PROBLEMS

pytestmark = pytest.mark.plain

MINE = """
import jax.numpy as jnp, jax.random as jr, roughspike as rs
made = []

def toy():
    def problem(estimator, key):
        noise = jr.normal(key, (2,))
        made.append(estimator)
        soft = isinstance(estimator, rs.Pathwise)
        return jnp.sum(noise), jnp.array([1.5 if soft else 1.0, 2.0]) + noise
    return problem, {"soft": rs.Pathwise(0.5), "true": rs.Score(rs.LeaveOneOut()), "more": rs.Score()}

def stopped():
    problem, estimators = toy()
    def until(estimator, key):
        if isinstance(estimator, rs.Pathwise):
            raise KeyboardInterrupt
        return problem(estimator, key)
    return until, estimators

nothing = 3
def wrong():
    return 3
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", *map(str, arguments)])
    return stop.value.code


def test_table_of_a_problem_of_ones_own(mine, tmp_path, capsys):
    folder = tmp_path / "out"
    assert run(f"{mine}:toy", "--draws", 500, "--out", folder) == 0
    shown = capsys.readouterr()
    assert "truth: true" in shown.out and "draw" in shown.err
    lines = {line["estimator"]: line for line in json.loads((folder / "results.json").read_text())["table"]}
    assert list(lines) == ["soft", "true", "more"] and lines["true"]["draws"] == 2000
    assert (
        abs(lines["soft"]["bias"] - 0.5) < 4 * lines["soft"]["standard error"] < 0.4 and lines["soft"]["chi2/dof"] > 5
    )
    np.testing.assert_allclose(lines["soft"]["sd"], np.sqrt(2), rtol=0.1)
    assert (folder / "figure.svg").stat().st_size > 5000 and "chi2/dof" in (folder / "report.html").read_text()


def test_finished_estimators_survive_ctrl_c(mine, tmp_path):
    """The truth is drawn first; the interrupted run leaves it, and the next one draws the rest alone."""
    folder = tmp_path / "out"
    arguments = (f"{mine}:stopped", "--draws", 20, "--out", folder, "-q")
    assert run(*arguments) == cli.EXIT_INTERRUPTED
    assert [file.stem for file in (folder / "rows").iterdir()] == ["true"]
    before = (folder / "rows" / "true.json").read_bytes()
    mine.write_text(MINE.replace("raise KeyboardInterrupt", "pass"))
    assert run(*arguments) == 0
    assert len(json.loads((folder / "results.json").read_text())["table"]) == 3
    assert (folder / "rows" / "true.json").read_bytes() == before


def test_named_problems_and_what_is_refused(mine, capsys):
    assert run("--list") == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in PROBLEMS)
    for arguments, message in (
        (("nonsense",), "no problem named"),
        ((f"{mine}:absent",), "no function"),
        ((f"{mine}:wrong",), "must return a problem"),
        ((f"{mine.parent / 'no.py'}:toy",), "there is no file"),
        (("no_such_module:toy",), "cannot be imported"),
        ((f"{mine}:toy", "--only", "soft", "hard"), "no such estimator"),
        ((f"{mine}:toy", "--draws", 1), "at least 2"),
        ((f"{mine}:toy", "--truth", "x"), "none of the estimators"),
    ):
        assert run(*arguments) == cli.EXIT_BAD_INPUT
        assert message in capsys.readouterr().err


def test_the_same_problem_by_name_and_seed():
    one, two, other = (PROBLEMS["slif"].make(seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.net.weights, two.net.weights)
    assert not np.array_equal(one.net.weights, other.net.weights) and one.posterior is not None
    value, slope = jax.eval_shape(one, rs.StraightThrough(), jr.key(0))
    assert value.shape == () and slope.shape == (2 * (16 + 4),)  # of model and posterior
