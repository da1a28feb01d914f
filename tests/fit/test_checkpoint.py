"""Checkpoints: what may be resumed, and what is said when it may not."""

from __future__ import annotations

import errno
import importlib.metadata

import equinox as eqx
import fit_toys
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import roughspike as rs
from roughspike.fit import checkpoint as checkpoints
from roughspike.fit.checkpoint import Checkpoint
from roughspike.fit.loop import fit


def run(**options):
    options = {"steps": 40, "dt": 0.01, "key": jr.key(1), "progress": False, "held_out": fit_toys.spikes()} | options
    options.setdefault("trainable", lambda m: (m.mu, m.current))
    return fit(fit_toys.toy(), fit_toys.spikes(), loss=fit_toys.Parabola(), **options)


def begun(folder, **options):
    return run(checkpoint=folder, callback=lambda snapshot: True, **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 80}, r"steps \(40 then, 80 now\)"),
        ({"dt": 0.02}, r"dt \(0.01 then, 0.02 now\)"),
        ({"key": jr.key(2)}, "key.numbers"),
        ({"learning_rate": 0.1}, "optimiser"),
        ({"optimiser": optax.sgd(0.1)}, "optimiser state"),
        ({"trainable": lambda m: m.mu}, "trainable"),
        ({"held_out": rs.SpikeTrain(np.array([[0.2]]), 0.0, 1.0)}, "held_out"),
    ],
)
def test_resuming_another_run_names_what_differs(options, named, tmp_path):
    begun(tmp_path)
    with pytest.raises(
        ValueError, match=f"another run; these differ: .*{named}.*Pass the same arguments.*resume=False"
    ):
        run(checkpoint=tmp_path, resume=True, **options)


def test_resuming_with_another_model_data_or_loss(tmp_path):
    begun(tmp_path)
    options = {"steps": 40, "dt": 0.01, "key": jr.key(1), "held_out": fit_toys.spikes(), "progress": False}
    options |= {"checkpoint": tmp_path, "resume": True, "trainable": lambda m: (m.mu, m.current)}
    cell, data, loss = fit_toys.toy(), fit_toys.spikes(), fit_toys.Parabola()
    with pytest.raises(ValueError, match=r"differ: start values.current\. Pass"):
        fit(fit_toys.toy(jnp.array(0.75)), data, loss=loss, **options)
    with pytest.raises(ValueError, match="differ: model structure"):
        fit(eqx.tree_at(lambda m: m.sigma, cell, jnp.zeros((3, 2))), data, loss=loss, **options)
    with pytest.raises(ValueError, match=r"differ: data\. Pass"):
        fit(cell, rs.SpikeTrain(np.array([[0.1, 0.4, 0.75]]), 0.0, 1.0), loss=loss, **options)
    with pytest.raises(ValueError, match="differ: loss"):
        fit(cell, data, loss=fit_toys.Parabola(noise=0.2), **options)


def test_a_damaged_checkpoint_is_named(tmp_path):
    begun(tmp_path)
    file = tmp_path / "checkpoint.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    with pytest.raises(ValueError, match="checkpoint.npz is damaged .*delete it and start again with resume=False"):
        run(checkpoint=tmp_path, resume=True)
    file.write_bytes(whole)
    with np.load(file) as arrays:
        changed = {k: arrays[k] + 1 if k == "history:loss" else arrays[k] for k in arrays.files}
    np.savez(file, **changed)
    with pytest.raises(ValueError, match="checkpoint.npz is damaged .*do not match its header"):
        run(checkpoint=tmp_path, resume=True)


def test_other_versions_are_warned_about(tmp_path, monkeypatch):
    begun(tmp_path)
    real = importlib.metadata.version
    monkeypatch.setattr("importlib.metadata.version", lambda p: "9.9" if p == "optax" else real(p))
    with pytest.warns(UserWarning, match=r"other versions of optax \(.* then, 9.9 now\).*install the same versions"):
        run(checkpoint=tmp_path, resume=True)


def test_resuming_where_nothing_is_yet_starts_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="no checkpoint in .* yet: starting at step 0"):
        assert len(run(checkpoint=tmp_path, resume=True).history["loss"]) == 40


def test_an_older_checkpoint_is_set_aside(tmp_path):
    begun(tmp_path)
    old = (tmp_path / "checkpoint.npz").read_bytes()
    run(checkpoint=tmp_path)
    assert (tmp_path / "checkpoint.previous.npz").read_bytes() == old
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.npz", "checkpoint.previous.npz"}


def test_a_full_disk_does_not_stop_training(tmp_path, monkeypatch):
    whole = run(steps=80)
    writes = []

    def full_after_one(path, data):
        from roughspike.io.atomic import write_atomic

        writes.append(path)
        if len(writes) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomic(path, data)

    monkeypatch.setattr(checkpoints, "write_atomic", full_after_one)
    with pytest.warns(
        UserWarning, match="cannot write .*No space left.*training goes on, the last good checkpoint"
    ) as w:
        result = run(checkpoint=tmp_path, steps=80)
    assert len(w) == 1 and len(writes) == 4
    np.testing.assert_array_equal(result.history["loss"], whole.history["loss"])
    monkeypatch.undo()
    steps = []
    run(checkpoint=tmp_path, resume=True, steps=80, callback=lambda s: steps.append(s.step))
    assert steps == [40, 60, 80]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        Checkpoint(tmp_path / "file" / "sub", {}, {})
