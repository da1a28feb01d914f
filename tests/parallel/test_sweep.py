"""`roughspike sweep`: a table of all seeds and settings, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from types import SimpleNamespace

import pytest

from roughspike.cli import Sweep
from roughspike.recipe import sweep
from roughspike.recipe.sweep_plan import changed_plan, runs_of, settings_of
from roughspike.recipe.sweep_worker import figures_of

TOY = """
import os, signal, time
from pathlib import Path
from roughspike.recipe.reproduce_outcome import Outcome, at_least, mean_and_error

def run(settings, context):
    for seed in context.seeds:
        context.row(f"seed{seed}", lambda: make(settings, seed, context.length(10)))

def make(settings, seed, length):
    with open(os.environ["TOY"] + "/made", "a") as made:
        made.write(f"{seed} ")
    if seed == 1 and settings["bad"] and not Path(os.environ["TOY"], "mended").exists():
        raise ValueError("the weights are broken")
    if seed == 2 and settings["bad"] and not Path(os.environ["TOY"], "mended").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(settings["wait"] * seed)
    return {"accuracy": settings["factor"] * seed, "length": length}

def show(settings, rows):
    found = [row["accuracy"] for row in rows.values()]
    table = [{"seeds": len(rows), "accuracy": mean_and_error(found, 3)}]
    return Outcome(table, {}, [at_least("accuracy", found, settings["expected"]["accuracy"])], "")
"""
RECIPE = """
title = "Toy"
shows = "Nothing."
minutes = 1
seeds = 3
run = "toy_of_a_test"
factor = 2.0
bad = true
wait = 0.0
[expected]
accuracy = 1.0
"""
NAME = "roughspike.recipe.published.toy_of_a_test"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a recipe, whose module is known to this process and to those that it starts."""
    (tmp_path / "toy.toml").write_text(RECIPE)
    (tmp_path / "toy_module.py").write_text(TOY)
    hook = f"import sys, importlib.abc, importlib.util\nNAME, FILE = {NAME!r}, {str(tmp_path / 'toy_module.py')!r}\n"
    hook += """
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_file_location(NAME, FILE) if name == NAME else None
sys.meta_path.insert(0, Finder())
"""
    (tmp_path / "sitecustomize.py").write_text(hook)
    paths = [str(tmp_path), str(Path(sweep.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in paths if p))
    monkeypatch.setenv("TOY", str(tmp_path))
    module = types.ModuleType(NAME)
    exec(compile(TOY, "toy", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, NAME, module)
    return tmp_path


def made(folder: Path) -> list[int]:
    return sorted(map(int, (folder / "made").read_text().split()))


def test_failures_are_shown_and_only_they_are_run_again(toy, capsys):
    options = Sweep(str(toy / "toy.toml"), seeds=3, out=toy / "out", workers=3)
    assert sweep.sweep_command(options) == 1
    shown = capsys.readouterr().out
    assert "1 of 3 seeds" in shown and "| 1     | 0.000    |" in shown
    assert "| seed 1 | ValueError: the weights are broken; see" in shown
    assert "| seed 2 | killed by signal 9; see" in shown
    (toy / "mended").touch()
    assert sweep.sweep_command(options) == 0
    shown = capsys.readouterr().out
    assert "1 of 3 runs are finished" in shown and "3 of 3 seeds" in shown and "Failed" not in shown
    assert "| 3     | 2.000 \N{PLUS-MINUS SIGN} 1.155 |" in shown and "accuracy: 2 \N{PLUS-MINUS SIGN} 1.2" in shown
    assert made(toy) == [0, 1, 1, 2, 2]
    assert (toy / "out" / "table.md").read_text().strip() in shown


def test_settings_have_their_own_tables_and_other_settings_are_run_anew(toy, capsys):
    (toy / "mended").touch()
    options = {"seeds": 2, "out": toy / "out", "workers": 4}
    assert sweep.sweep_command(Sweep(str(toy / "toy.toml"), set=("factor=2.0,3.0",), steps=4, **options)) == 0
    shown = capsys.readouterr().out
    assert "factor=2.0: 2 of 2 seeds" in shown and "factor=3.0: 2 of 2 seeds" in shown and "not compared" in shown
    assert "1.000 \N{PLUS-MINUS SIGN} 1.000" in shown and "1.500 \N{PLUS-MINUS SIGN} 1.500" in shown
    sweep.sweep_command(Sweep(str(toy / "toy.toml"), set=("factor=2.0,4.0",), steps=4, **options))
    assert made(toy) == [0, 0, 0, 1, 1, 1] and "factor=4.0: 2 of 2" in capsys.readouterr().out


def test_control_c_keeps_what_is_finished(toy, capsys):
    (toy / "mended").touch()
    (toy / "toy.toml").write_text(RECIPE.replace("wait = 0.0", "wait = 300.0"))
    listens = (  # a shell may start us with SIGINT ignored; no preexec_fn, which forks a process that has run JAX
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('roughspike.cli', run_name='__main__', alter_sys=True)"
    )
    command = [sys.executable, "-c", listens, "sweep", str(toy / "toy.toml"), "--seeds", "2", "--out", str(toy / "out")]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = toy / "out" / "runs" / "seeds-0.json"
    until = time.monotonic() + 240
    while not first.exists() and time.monotonic() < until:
        time.sleep(0.05)
    program.send_signal(signal.SIGINT)
    said, errors = program.communicate(timeout=120)
    assert program.returncode == 130, errors
    assert "1 of 2 seeds" in said and "Not run yet: 1. The same command goes on from here." in said
    assert "interrupted" in errors and first.exists() and not first.with_name("seeds-1.json").exists()


def test_values_of_a_setting():
    assert settings_of(()) == [{}]
    assert settings_of(('a="x"', "b.c=1,2"))[1] == {"a": "x", "b.c": 2}
    for bad in ("a", "a=", "a=x"):
        with pytest.raises(ValueError, match="write name=value,value with values as in a TOML file"):
            settings_of((bad,))


def test_settings_that_the_recipe_does_not_have(toy):
    with pytest.raises(ValueError, match="--set expected.speed: the recipe toy has no such entry; it has factor, bad"):
        runs_of(str(toy / "toy.toml"), 2, [{"expected.speed": 1}], None, {}, toy)
    with pytest.raises(ValueError, match="there is no published result named 'yin'; known: .*holberg2024"):
        runs_of("yin", 2, [{}], None, {}, toy)
    with pytest.raises(ValueError, match="--seeds must be at least 1, got 0"):
        sweep.sweep_command(Sweep(str(toy / "toy.toml"), seeds=0))


def test_a_recipe_that_runs_its_seeds_side_by_side_is_one_run(tmp_path):
    runs = runs_of("holberg2024-fig1", 3, [{}, {"current": 1.4}], None, {}, tmp_path)
    assert [run.seeds for run in runs] == [(0, 1, 2)] * 2
    assert [run.name for run in runs] == ["seeds 0 to 2", "current=1.4, seeds 0 to 2"]


def test_the_plan_and_the_numbers_of_a_fit(tmp_path):
    file = Path(sweep.__file__).with_name("grasshopper.toml")
    plan = changed_plan(str(file), {"exact.learning_rate": 0.2, "glm_bins": [0.001]}, 7)
    assert (plan.exact.learning_rate, plan.glm_bins, plan.seed, plan.exact.steps) == (0.2, (0.001,), 7, 1000)
    with pytest.raises(ValueError, match="--set exact.speed: a recipe of a fit has no such entry; it has dt"):
        changed_plan(str(file), {"exact.speed": 1})
    runs = runs_of(str(file), 2, [{}], 5, {}, tmp_path)
    found = SimpleNamespace(
        scores=[SimpleNamespace(model="SLIF", bits=2.3, ours=True), SimpleNamespace(model="GLM", bits=2.0, ours=False)],
        metrics=SimpleNamespace(coincidence=[SimpleNamespace(precision=2e-3, value=0.5)], rate_error=0.01),
        parameters=[SimpleNamespace(name="v_reset", value=1.25, fitted=True)],
    )
    marks = {run: {"figures": figures_of(found) | {"rate error": k / 10}, "seconds": 1.0} for k, run in enumerate(runs)}
    shown = sweep.table(runs, sweep.Sweep(marks, {}, []))
    assert "| bits/spike, SLIF  | 2.3000 \N{PLUS-MINUS SIGN} 0.0000" in shown and "GLM" not in shown
    assert "| rate error        | 0.0500 \N{PLUS-MINUS SIGN} 0.0500" in shown and "2 of 2 seeds" in shown
