"""The loop with losses that simulate, through the public names."""

from __future__ import annotations

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import roughspike as rs

OPTIONS = {"trainable": lambda m: m.current, "dt": 0.02, "key": jr.key(1), "progress": False, "steps": 40}


def cell(current: float) -> rs.Population:
    return rs.Population(rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4, alpha=0.03), current)


def recorded(current: float = 1.5, samples: int = 64, t1: float = 2.0) -> rs.SpikeTrain:
    spikes = rs.simulate(cell(current), t1=t1, dt=0.02, key=jr.key(0), num_samples=samples).spikes
    return rs.SpikeTrain(np.asarray(spikes.times), 0.0, t1)


@pytest.mark.plain
@pytest.mark.parametrize("name", ["signature", "first spikes"])
def test_a_current_is_found(name: str, tmp_path, capsys):
    loss = rs.FirstSpikesLoss(n=3) if name == "first spikes" else rs.with_horizon(rs.ExpectedSignatureLoss(depth=3))
    data = recorded(samples=96)
    options = OPTIONS | {"held_out": data[64:], "num_samples": 64, "progress": True}
    fit = rs.fit(cell(1.2), data[:64], loss=loss, optimiser=optax.adam(0.03), **options)
    print(float(fit.model.current))
    # 64 trials and 64 samples a step: the standard error of c is about 0.015
    assert float(fit.model.current) == pytest.approx(1.5, abs=0.08)
    assert fit.status == "finished 40 steps" and fit.config["score"] == "minus the loss"
    assert fit.history["held_out_score"][-1] > fit.history["held_out_score"][0]
    assert "minus the loss" in repr(fit) and "bits" not in repr(fit)
    shown = capsys.readouterr().err
    assert "held-out minus loss" in shown and "bits" not in shown
    assert rs.load(fit.save(tmp_path)).config["score"] == "minus the loss"


@pytest.mark.plain
def test_any_function_of_two_trains():
    def difference_of_first_times(simulated, recorded):
        return (jnp.mean(simulated.times[:, 0, 0]) - jnp.mean(recorded.times[:, 0, 0])) ** 2

    fit = rs.fit(cell(1.3), recorded(), loss=difference_of_first_times, **OPTIONS | {"steps": 4}, num_samples=16)
    assert fit.status == "finished 4 steps" and np.all(np.isfinite(fit.history["loss"]))


@pytest.mark.plain
def test_a_buffer_that_overflows_stops_the_run_with_the_reason():
    data = recorded(1.0, t1=1.0)
    loss = lambda simulated, recorded: jnp.mean(jnp.minimum(simulated.times[:, 0, 0], 1.0))  # noqa: E731
    with pytest.warns(UserWarning, match="simulated train has .* spikes and there is room for"):
        fit = rs.fit(cell(1.0), data, loss=loss, optimiser=optax.sgd(4.0), **OPTIONS, num_samples=32)
    assert "the simulation failed; kept the model of step" in fit.status and "fit again from this" in fit.status
    assert np.isfinite(float(fit.model.current))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "ExpectedSignatureLoss compares simulated with recorded spikes: say how many.*num_samples=128"),
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_input(changes, message: str):
    with pytest.raises(ValueError, match=message):
        rs.fit(cell(1.2), recorded(samples=4), loss=rs.ExpectedSignatureLoss(), **OPTIONS | changes)


def test_a_model_that_cannot_be_simulated():
    hot = rs.SLIF(mu=(15.0, 0.0), v_reset=0.0, escape=rs.ExponentialEscape(beta=5.0, tau_s=1e-3))
    with pytest.raises(ValueError, match="cannot be simulated at the start values: .*choose other start values"):
        rs.fit(rs.Population(hot, 3.0), recorded(samples=4), loss=rs.FirstSpikesLoss(), **OPTIONS, num_samples=4)
