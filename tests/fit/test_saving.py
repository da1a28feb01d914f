"""Saved models and runs: exact inverses, and an error that names the file and the remedy for everything else."""

from __future__ import annotations

import errno
import json
import platform
import sys
import types

import equinox as eqx
import fit_toys
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import roughspike as rs
from roughspike.fit import history as histories
from roughspike.fit.loop import fit
from roughspike.fit.result import FitResult, load
from roughspike.fit.serialise import load_model, save_model


def run(**options):
    options = {"steps": 40, "dt": 0.01, "key": jr.key(1), "progress": False, "held_out": fit_toys.spikes()} | options
    options.setdefault("trainable", lambda m: (m.mu, m.current))
    return fit(fit_toys.toy(), fit_toys.spikes(), loss=fit_toys.Parabola(), **options)


@pytest.fixture(scope="module")
def result():
    with jax.enable_x64(True):
        return run()


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y) and np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_array_equal(x, y)


# -------------------------------------------------------------------------------------------------------- models


def test_a_nested_model_comes_back_exactly(tmp_path):
    model = fit_toys.toy(fit_toys.parts())
    again = load_model(save_model(model, tmp_path / "new"))
    same(again, model)
    assert type(again.current.parts[0].signal) is np.ndarray and again.rest is None and again.label == "cell"


def test_every_kind_of_value_comes_back_as_the_kind_it_was(tmp_path):
    model = {
        "numbers": [1, 2.5, -np.inf, True, None, "text"],
        "arrays": (jnp.arange(3, dtype=jnp.int32), np.float64(0.1), np.array([[True]]), np.zeros((0, 2), np.float32)),
        "seven": {7: 7},
        "bits": jnp.array([0.1, 1e30], jnp.bfloat16),
        "half": np.array(0.1, np.float16),
        "file": jnp.array(1 + 2j),
    }
    again = load_model(save_model(model, tmp_path))
    same(again, model)
    assert type(again["numbers"][3]) is bool and type(again["arrays"][1]) is np.float64


def test_random_keys_and_nan(tmp_path):
    again = load_model(save_model({"key": jr.key(3), "nan": float("nan"), "rbg": jr.key(1, impl="rbg")}, tmp_path))
    assert jr.normal(again["key"]) == jr.normal(jr.key(3)) and np.isnan(again["nan"])
    assert str(jr.key_impl(again["rbg"])) == "rbg"


def test_the_header_is_readable_and_nothing_is_pickled(tmp_path):
    save_model(fit_toys.toy(), tmp_path)
    header = json.loads((tmp_path / "model.json").read_text())
    assert header["model"]["class"] == "fit_toys:Toy" and header["model"]["fields"]["label"] == "cell"
    assert header["version"] == 1 and header["arrays"]["model.mu"]["shape"] == [2]
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["model.mu"], [2.0, 0.0])
    save_model(rs.Windows([0.0], [1.0]), tmp_path)
    assert '"class": "roughspike:Windows"' in (tmp_path / "model.json").read_text()


def test_long_arrays_without_x64_become_short_with_a_warning(tmp_path):
    save_model({"a": jnp.array(0.1), "b": np.array(0.1)}, tmp_path)
    with jax.enable_x64(False), pytest.warns(UserWarning, match="model.*'a'.*32-bit.*jax_enable_x64.*before loading"):
        again = load_model(tmp_path)
    assert again["a"].dtype == np.float32 and again["b"].dtype == np.float64 and again["b"] == 0.1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"f": jnp.tanh}, r"model\['f'\] is a .*, which cannot be saved: use arrays.*module with __call__"),
        ([optax.EmptyState()], r"model\[0\] is a EmptyState, which cannot be saved"),
        (np.array(["a"]), "model is an array of type .*, which cannot be saved: make it numeric"),
        (np.array([None]), "model is an array of type object, which cannot be saved"),
    ],
)
def test_what_cannot_be_saved(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_model(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_local_classes_are_refused_when_saved(tmp_path):
    class Local(eqx.Module):
        x: float

    with pytest.raises(ValueError, match="model is a .*Local, defined inside a function: move the class to a module"):
        save_model(Local(1.0), tmp_path)


def edit(folder, change, name="model.json"):
    header = json.loads((folder / name).read_text())
    change(header)
    (folder / name).write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(version=2), "model.json has format version 2, this roughspike reads up to 1: upgrade"),
        (lambda h: h.update(format="x"), "model.json is a 'x', not a 'roughspike model': give the folder"),
        (lambda h: h.pop("format"), "model.json is corrupted .*restore it from a copy"),
        (lambda h: h.pop("arrays"), "model.json is corrupted .*no table of arrays.*restore"),
        (lambda h: h.update(model={"set": []}), "model.json is corrupted .*unknown entry.*restore"),
        (lambda h: h["arrays"]["model.mu"].update(sha256="0"), "arrays.npz: .*model.mu.*hash mismatch.*restore both"),
        (lambda h: h["arrays"].update(other={}), "arrays.npz has no array 'other', model.json needs it: restore"),
        (lambda h: h["arrays"].pop("model.mu"), "model.json is corrupted .*unknown entry.*model.mu"),
        (lambda h: h["model"]["fields"].pop("mu"), "saved with the fields .*the class has .*install the version"),
        (lambda h: h["model"].update({"class": "nowhere:A"}), "class nowhere:A cannot be imported .*install or import"),
        (
            lambda h: h["model"].update({"class": "fit_toys:B"}),
            "class fit_toys:B cannot be imported .*install or import",
        ),
        (
            lambda h: h["model"].update({"class": "subprocess:Popen"}),
            "subprocess:Popen is not a concrete equinox module",
        ),
        (lambda h: h["model"].update({"class": "os:system"}), "os:system is not a concrete equinox module"),
        (
            lambda h: h["model"].update({"class": "roughspike._constraints:AbstractConstraint"}),
            "AbstractConstraint is not a concrete equinox module",
        ),
    ],
)
def test_damaged_headers(change, message, tmp_path):
    save_model(fit_toys.toy(), tmp_path)
    edit(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


def test_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no model.json: give the folder that `save` wrote"):
        load_model(tmp_path)
    save_model(fit_toys.toy(), tmp_path)
    whole = (tmp_path / "arrays.npz").read_bytes()
    (tmp_path / "arrays.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="arrays.npz is corrupted .*restore it from a copy"):
        load_model(tmp_path)
    (tmp_path / "arrays.npz").unlink()
    with pytest.raises(FileNotFoundError, match="arrays.npz is missing, model.json needs it: copy the whole folder"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ValueError, match="model.json is corrupted .*restore it from a copy"):
        load_model(tmp_path)


def test_pickles_are_refused(tmp_path):
    save_model({"a": np.zeros(2)}, tmp_path)
    np.savez(tmp_path / "arrays.npz", **{"model['a']": np.array([print], dtype=object)})
    with pytest.raises(ValueError, match="arrays.npz is corrupted .*restore"):
        load_model(tmp_path)


def test_a_loaded_module_is_checked_as_a_new_one(tmp_path):
    save_model(fit_toys.Checked(1.0), tmp_path)
    assert load_model(tmp_path).x == 1.0
    edit(tmp_path, lambda h: h["model"]["fields"].update(x=-1.0))
    with pytest.raises(ValueError, match="x must not be negative: give a positive x"):
        load_model(tmp_path)


# ---------------------------------------------------------------------------------------------------------- runs


def test_a_run_comes_back_exactly(result, tmp_path):
    again = load(result.save(tmp_path / "runs" / "mine"))
    assert isinstance(again, FitResult)
    same(again.model, result.model)
    same(again.data, result.data)
    same(again.held_out, result.held_out)
    for name in result.history:
        np.testing.assert_array_equal(again.history[name], result.history[name])
    assert (again.status, again.trainable, again.windows) == (result.status, result.trainable, None)
    assert again.config == result.config
    names = {"model.json", "arrays.npz", "history.csv", "config.json", "spikes.npz"}
    assert {p.name for p in (tmp_path / "runs" / "mine").iterdir()} == names


def test_windows_come_back(tmp_path):
    halves = rs.Windows.tile(0.0, 1.0, 2)
    again = load(run(windows=halves.select([0]), held_out=halves.select([1])).save(tmp_path))
    assert again.windows.stops == (0.5,) and again.held_out.starts == (0.5,)


def test_a_failed_run_comes_back(tmp_path):
    options = {"trainable": lambda m: m.current, "dt": 0.1, "key": jr.key(0), "progress": False}
    with pytest.warns(UserWarning, match="stopped at step"):
        failed = fit(fit_toys.toy(), fit_toys.spikes(), loss=fit_toys.Parabola(nan_above=1.0), **options)
    again = load(failed.save(tmp_path))
    np.testing.assert_array_equal(again.history["loss"], failed.history["loss"])
    assert np.isnan(again.history["loss"][-1]) and again.status == failed.status


def test_the_configuration_says_what_is_needed_to_repeat_the_run(result):
    assert result.config["key"] == {"implementation": "threefry2x32", "numbers": [0, 1]}
    assert result.config["steps"] == 40 and result.config["dt"] == 0.01 and "adam" in result.config["optimiser"]
    assert {"python", "roughspike", "jax", "equinox", "optax"} <= set(result.config["versions"])
    assert platform.node() not in json.dumps(result.config["platform"])
    given = run(optimiser=optax.chain(optax.clip(1.0), optax.adam(0.1)), steps=1)
    assert "given by the caller" in given.config["optimiser"] and "ScaleByAdamState" in given.config["optimiser"]


def test_the_table_names_parameters_with_units(result):
    text = repr(result)
    assert "finished 40 steps" in text and "held-out score at the last step" in text
    rows = {line.split()[0]: line for line in result.table().splitlines()}
    assert "1/s" in rows["mu"] and rows["mu"].endswith("trained") and rows["current"].endswith("trained")
    assert "1/sqrt(s)" in rows["sigma"] and rows["sigma"].endswith("fixed")


def test_saving_again_replaces_the_run_and_leaves_other_files(result, tmp_path):
    result.save(tmp_path)
    (tmp_path / "report.html").write_text("mine")
    run(steps=3).save(tmp_path)
    assert len(load(tmp_path).history["loss"]) == 3 and (tmp_path / "report.html").read_text() == "mine"


def test_a_full_disk_leaves_the_older_run(result, tmp_path, monkeypatch):
    result.save(tmp_path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        run(steps=3).save(tmp_path)
    monkeypatch.undo()
    assert len(load(tmp_path).history["loss"]) == 40 and len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda f: (f / "config.json").unlink(), FileNotFoundError, "no config.json, so it is no run: use load_model"),
        (lambda f: (f / "history.csv").unlink(), FileNotFoundError, "history.csv is missing: copy the whole folder"),
        (lambda f: (f / "spikes.npz").unlink(), FileNotFoundError, "spikes.npz is missing, config.json needs it"),
        (lambda f: (f / "history.csv").write_text("a,b\n"), ValueError, "history.csv is corrupted .*restore it"),
        (
            lambda f: (f / "history.csv").write_text((f / "history.csv").read_text() + "9,x,1,1,,\n"),
            ValueError,
            "history.csv is corrupted .*could not convert.*restore it",
        ),
        (lambda f: edit(f, lambda h: h.pop("data"), "config.json"), ValueError, "config.json is corrupted .*'data'"),
        (lambda f: edit(f, lambda h: h.update(version=9), "config.json"), ValueError, "version 9.*upgrade roughspike"),
    ],
)
def test_damaged_runs(damage, error, message, result, tmp_path):
    result.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(error, match=message):
        load(tmp_path)


def test_folders_that_are_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere: give the folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no config.json: give the folder"):
        load(tmp_path)


def test_the_report_is_asked_of_its_room(result, tmp_path, monkeypatch):
    asked = []
    room = types.SimpleNamespace(write_report=lambda fit, path: asked.append((fit, path)))
    monkeypatch.setitem(sys.modules, "roughspike.report", room)
    assert result.report(tmp_path / "report.html") == tmp_path / "report.html"
    assert asked == [(result, tmp_path / "report.html")]


def test_reading_a_history_is_the_inverse_of_writing_it(tmp_path):
    history = histories.empty()
    (tmp_path / "h.csv").write_bytes(histories.to_csv(history))
    assert all(column.size == 0 for column in histories.read_csv(tmp_path / "h.csv").values())
