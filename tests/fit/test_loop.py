"""The training loop: the same arithmetic however it is cut, and every way it can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import fit_toys
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import roughspike as rs
from roughspike.fit.loop import fit
from roughspike.fit.validate import check_data, check_numbers

EVERYTHING = ("step", "loss", "gradient_norm", "score_step", "train_score", "held_out_score")


def failing(**options):
    with pytest.warns(UserWarning, match="stopped at step .* is not finite"):
        return run(**options)


def run(cell=None, *, loss=None, **options):
    options = {"steps": 60, "dt": 0.01, "key": jr.key(1), "progress": False, "chunk": 20} | options
    options.setdefault("trainable", lambda m: (m.mu, m.current))
    return fit(cell or fit_toys.toy(), fit_toys.spikes(), loss=loss or fit_toys.Parabola(), **options)


def same(a, b):
    for name in EVERYTHING:
        np.testing.assert_array_equal(a.history[name], b.history[name], err_msg=name)
    for x, y in zip(jax.tree.leaves(a.model), jax.tree.leaves(b.model), strict=True):
        np.testing.assert_array_equal(x, y)


def stop_at(step):
    return lambda snapshot: snapshot.step >= step


def test_it_finds_the_minimum_and_keeps_its_books():
    result = run(loss=fit_toys.Parabola(noise=0.0), steps=400, learning_rate=0.1)
    assert float(result.model.current) == pytest.approx(3.0, abs=1e-2)
    np.testing.assert_allclose(result.model.mu, [0.5, 0.0], atol=1e-2)
    assert result.status == "finished 400 steps" and result.trainable == ("mu", "current")
    h = result.history
    assert all(column.dtype == np.float64 for column in h.values())
    np.testing.assert_array_equal(h["step"], np.arange(400))
    np.testing.assert_array_equal(h["score_step"], np.arange(0, 401, 20))
    assert h["loss"][0] == pytest.approx(2.5**2 + 1.5**2)
    # slope in the free coordinates: mu moves as exp(x), so 2 (mu - 0.5) mu
    assert h["gradient_norm"][0] == pytest.approx(np.hypot(2 * 2.5, 2 * 1.5 * 2.0))
    assert h["train_score"][0] == pytest.approx(-(2.5**2)) and np.isnan(h["held_out_score"]).all()
    assert np.all(np.diff(h["seconds"]) >= 0) and result.config["compile_seconds"] > 0


def test_every_step_has_its_own_key_and_the_run_repeats():
    rule = optax.sgd(0.0)
    noise = run(optimiser=rule, steps=5).history["loss"]
    wobble = 0.1 * np.array([jr.normal(jr.fold_in(jr.key(1), k), dtype=float) for k in range(5)]) * 0.5
    np.testing.assert_allclose(noise, 2.5**2 + 1.5**2 + wobble)
    same(run(), run())
    assert not np.array_equal(run().history["loss"], run(key=jr.key(2)).history["loss"])


@pytest.mark.parametrize("chunk", [1, 7, 60, 1000])
def test_the_cut_into_chunks_changes_nothing(chunk):
    whole, cut = run(), run(chunk=chunk)
    for name in ("step", "loss", "gradient_norm"):
        np.testing.assert_array_equal(whole.history[name], cut.history[name])
    np.testing.assert_array_equal(whole.model.current, cut.model.current)


def test_one_compilation_serves_all_chunks_and_a_second_fit():
    traces = []

    class Counted(fit_toys.Parabola):
        def __call__(self, cell, prepared, key):
            traces.append(1)
            return super().__call__(cell, prepared, key)

    run(loss=Counted(), steps=50, chunk=20)
    once = len(traces)
    run(loss=Counted(), steps=50, chunk=20, key=jr.key(5))
    assert len(traces) == once


def test_held_out_windows_and_held_out_trains():
    windows = rs.Windows.tile(0.0, 1.0, 2)  # two spikes in the first half, one in the second
    result = run(windows=windows.select([0]), held_out=windows.select([1]), optimiser=optax.sgd(0.0), steps=1)
    assert result.history["train_score"][0] == pytest.approx(-(1.5**2))
    assert result.history["held_out_score"][0] == pytest.approx(-(0.5**2))
    other = rs.SpikeTrain(np.array([[0.2]]), 0.0, 1.0)
    assert run(held_out=other, steps=1).history["held_out_score"][0] == pytest.approx(-(0.5**2))


def test_the_held_out_score_is_against_the_training_rate():
    told = []

    class Told(fit_toys.Parabola):
        def prepare(self, cell, data, *, windows, dt, rate=None):
            told.append(rate)
            return super().prepare(cell, data, windows=windows, dt=dt)

    halves = rs.Windows.tile(0.0, 1.0, 2)
    run(loss=Told(), windows=halves.select([0]), held_out=halves.select([1]), steps=1)
    run(loss=Told(), held_out=rs.SpikeTrain(np.array([[0.2]]), 0.0, 1.0), steps=1)
    assert told == [None, 4.0, None, 3.0]  # two spikes in half a second; three in one


def test_without_patience_the_last_model_is_kept():
    loss = fit_toys.Parabola(turning=1.5)
    result = run(loss=loss, held_out=fit_toys.spikes(), steps=300)
    assert float(result.model.current) > 2.5 and result.status == "finished 300 steps"


def test_patience_stops_early_and_keeps_the_best():
    loss = fit_toys.Parabola(turning=1.5)
    result = run(loss=loss, held_out=fit_toys.spikes(), steps=300, chunk=5, patience=3)
    scores = result.history["held_out_score"]
    best = int(np.argmax(scores))
    assert len(scores) == best + 1 + 3
    step = int(result.history["score_step"][best])
    assert f"stopped early at step {step + 15}; kept the model of step {step}" in result.status
    assert -((float(result.model.current) - 1.5) ** 2) == pytest.approx(scores[best])


def test_a_loss_that_is_not_finite_stops_with_the_last_good_model():
    loss = fit_toys.Parabola(nan_above=1.5)
    result = failing(loss=loss, steps=300)
    failed = int(result.history["step"][-1])
    assert f"stopped at step {failed}: the loss" in result.status
    assert f"kept the model of step {failed - 1}" in result.status and "smaller learning_rate" in result.status
    assert np.isnan(result.history["loss"][-1]) and np.isfinite(result.history["loss"][:-1]).all()
    assert failed % 20 and result.history["score_step"][-1] == failed // 20 * 20
    assert float(result.model.current) <= 1.5
    same_until = run(steps=300, callback=stop_at(failed - 1), chunk=failed - 1)
    np.testing.assert_array_equal(result.model.current, same_until.model.current)


def test_a_gradient_that_is_not_finite_names_its_parameter():
    result = failing(loss=fit_toys.Parabola(wall=1.5), steps=300)
    failed = int(result.history["step"][-1])
    assert f"stopped at step {failed}: the gradient or update of current is not finite" in result.status
    assert "mu" not in result.status.split("is not finite")[0]
    assert np.isfinite(result.history["loss"]).all() and float(result.model.current) > 1.5
    assert f"kept the model of step {failed};" in result.status


def test_a_start_that_fails_is_returned_as_it_was():
    result = failing(loss=fit_toys.Parabola(nan_above=0.0))
    assert "stopped at step 0: the loss" in result.status and "kept the model of step 0; choose other" in result.status
    assert float(result.model.current) == 0.5


def test_an_optimiser_that_breaks_is_caught():
    broken = optax.chain(optax.scale(-1e308), optax.scale(1e308))
    result = failing(optimiser=broken)
    assert "stopped at step 0: the gradient or update of mu, current is not finite" in result.status
    np.testing.assert_allclose(result.model.mu, [2.0, 0.0])


@pytest.fixture
def control_c():
    """Ctrl-C as in an ordinary program; parallel test runners ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("control_c")
def test_control_c_stops_after_the_chunk_and_keeps_what_there_is():
    def press(snapshot):
        if snapshot.step == 40:
            signal.raise_signal(signal.SIGINT)

    result = run(steps=200, callback=press)
    assert result.status == "interrupted at step 40" and len(result.history["loss"]) == 40
    same(result, run(steps=200, callback=stop_at(40)))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ignored_control_c_stays_ignored(control_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    result = run(callback=lambda snapshot: signal.raise_signal(signal.SIGINT))
    assert result.status == "finished 60 steps"


@pytest.mark.usefixtures("control_c")
def test_a_second_control_c_raises():
    def press(snapshot):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(callback=press)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_runs_outside_the_main_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join()
    assert results[0].status == "finished 60 steps"


@pytest.mark.parametrize("stops", [(20,), (40,), (20, 40)])
def test_resuming_is_bit_identical(tmp_path, stops):
    options = {"held_out": fit_toys.spikes(), "steps": 100}
    for stop in stops:
        assert run(checkpoint=tmp_path, resume=stop != stops[0], callback=stop_at(stop), **options).status == (
            f"stopped by the callback at step {stop}"
        )
    resumed = run(checkpoint=tmp_path, resume=True, **options)
    same(resumed, run(**options))
    assert len(resumed.history["seconds"]) == 100 and np.all(np.diff(resumed.history["seconds"]) >= 0)
    same(run(checkpoint=tmp_path, resume=True, **options), resumed)  # a finished run is simply returned


def test_resuming_with_another_chunk_keeps_the_steps(tmp_path):
    run(checkpoint=tmp_path, callback=stop_at(21), chunk=7)
    resumed, whole = run(checkpoint=tmp_path, resume=True), run()
    np.testing.assert_array_equal(resumed.history["loss"], whole.history["loss"])
    np.testing.assert_array_equal(resumed.model.current, whole.model.current)
    np.testing.assert_array_equal(resumed.history["score_step"], [0, 7, 14, 21, 40, 60])


def test_resuming_early_stopping(tmp_path):
    options = {"loss": fit_toys.Parabola(turning=1.5), "held_out": fit_toys.spikes(), "steps": 300, "patience": 3}
    options |= {"chunk": 5}
    whole = run(**options)
    run(checkpoint=tmp_path, callback=stop_at(20), **options)
    resumed = run(checkpoint=tmp_path, resume=True, **options)
    same(whole, resumed)
    assert resumed.status == whole.status == run(checkpoint=tmp_path, resume=True, **options).status


@pytest.mark.plain
def test_single_precision_and_raw_keys_resume_too(tmp_path):
    options = {"key": jr.PRNGKey(3), "held_out": fit_toys.spikes()}
    run(checkpoint=tmp_path, callback=stop_at(20), **options)
    same(run(checkpoint=tmp_path, resume=True, **options), run(**options))


KILLED = """
import sys, signal, os
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parallel test runner may ignore it
sys.path.insert(0, sys.argv[1])
import fit_toys, jax.random as jr
from roughspike.fit.loop import fit
from roughspike.fit.validate import check_data, check_numbers
def callback(snapshot):
    if snapshot.step == 40:
        os.kill(os.getpid(), {signal})
result = fit(fit_toys.toy(), fit_toys.spikes(), loss=fit_toys.Parabola(), steps=100, dt=0.01, key=jr.key(1),
             trainable=lambda m: (m.mu, m.current), checkpoint=sys.argv[2], callback=callback)
print(result.status)
"""


def program(folder, name):
    script = textwrap.dedent(KILLED).replace("{signal}", f"signal.{name}")
    paths = [str(Path(rs.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in paths if p), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-c", script, str(Path(fit_toys.__file__).parent), str(folder)],
        env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.plain
def test_a_killed_process_loses_no_finished_chunk(tmp_path):
    ended = program(tmp_path, "SIGKILL")
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    steps = []
    resumed = run(steps=100, checkpoint=tmp_path, resume=True, callback=lambda s: steps.append(s.step))
    assert steps == [60, 80, 100]
    same(resumed, run(steps=100))


@pytest.mark.plain
def test_control_c_in_a_program_of_its_own(tmp_path):
    ended = program(tmp_path, "SIGINT")
    assert ended.returncode == 0 and ended.stdout == "interrupted at step 40\n", ended.stderr
    assert "fit: interrupted at step 40" in ended.stderr and "Traceback" not in ended.stderr
    same(run(steps=100, checkpoint=tmp_path, resume=True), run(steps=100))


def test_progress_writes_to_the_standard_error_only(capfd):
    run(progress=True, held_out=fit_toys.spikes())
    out, error = capfd.readouterr()
    assert out == "" and error.count("\n") == 1
    for part in ("fit: step 60/60", "loss", "held-out bits/spike", "gradient", "steps/s", "s left"):
        assert part in error
    run(progress=False)
    assert capfd.readouterr() == ("", "")


def test_progress_on_a_terminal_is_a_bar(capfd, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    run(progress=True)
    error = capfd.readouterr().err
    assert "60/60" in error and "loss" in error and "step/s" in error and error.count("\n") <= 1


def test_the_callback_sees_the_current_model():
    seen = []
    result = run(callback=seen.append)
    assert [s.step for s in seen] == [20, 40, 60] and seen[-1].steps == 60
    np.testing.assert_array_equal(seen[-1].model.current, result.model.current)
    assert seen[-1].loss == result.history["loss"][-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"patience": 0, "held_out": rs.Windows([0.0], [0.1])}, "patience must be a whole number"),
        ({"dt": -0.1}, "dt must be a finite number above 0, got -0.1"),
        ({"learning_rate": np.inf}, "learning_rate must be a finite number above 0"),
        ({"patience": 2}, "patience needs held-out data to watch: pass held_out"),
        ({"resume": True}, "resume=True needs the folder of the checkpoint: pass checkpoint="),
        ({"num_samples": 3}, "num_samples is for losses that simulate; give"),
        ({"held_out": rs.Windows([0.0], [0.1])}, r"all of the data is trained on: pass windows=all.drop"),
        ({"windows": rs.Windows([0.0], [2.0])}, r"windows covers \[0, 2\], the data only \[0, 1\]: give windows"),
        (
            {"windows": rs.Windows([0.0], [0.5]), "held_out": rs.Windows([0.4], [0.6])},
            r"held_out \[0.4, 0.6\] overlaps the training window \[0, 0.5\].*select and drop",
        ),
        ({"loss": len}, "loss has no method prepare: pass an objective such as NegativeLogLikelihood"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_arguments_of_the_wrong_type():
    # asked of the checks themselves: the type checker of the tests would stop such a call of `fit` before they see it
    numbers = {"steps": 5, "dt": 0.1, "chunk": 2, "patience": None, "learning_rate": 0.1, "key": jr.key(0)}
    with pytest.raises(ValueError, match="chunk must be a whole number of at least 1, got 2.5"):
        check_numbers(**numbers | {"chunk": 2.5})
    with pytest.raises(ValueError, match=r"key must be one JAX random key, got 7: pass key=jax.random.key\(0\)"):
        check_numbers(**numbers | {"key": 7})
    with pytest.raises(ValueError, match="key must be one JAX random key"):
        check_numbers(**numbers | {"key": jr.split(jr.key(0), 2)})
    with pytest.raises(ValueError, match="data must be a SpikeTrain, got list: use read_spikes"):
        check_data([0.1, 0.2], None, None, None, fit_toys.Parabola())
    with pytest.raises(ValueError, match="held_out must be Windows or a SpikeTrain, got float"):
        check_data(fit_toys.spikes(), None, 0.5, None, fit_toys.Parabola())


def test_a_loss_that_is_no_number():
    class Many(fit_toys.Parabola):
        def __call__(self, cell, prepared, key):
            return jnp.stack([cell.current, cell.current])

    with pytest.raises(ValueError, match=r"must return one number, got shape \(2,\): take its mean"):
        run(loss=Many())
