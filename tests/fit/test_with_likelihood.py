"""The loop with the real model and the real likelihood, through the public names."""

from __future__ import annotations

import jax
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs


@pytest.mark.plain
def test_a_simulated_current_is_found_and_the_run_can_be_cut_saved_and_loaded(tmp_path):
    neuron = rs.SLIF(mu=(15.0, 0.0), sigma=((0.0, 0.0), (0.0, 0.0)), v_reset=1.4, alpha=0.0)
    spikes = rs.simulate(rs.Population(neuron, current=1.5), t1=2.0, dt=0.02, key=jr.key(0), num_samples=20).spikes
    data = rs.SpikeTrain(np.asarray(spikes.times), 0.0, 2.0)
    options = {"loss": rs.NegativeLogLikelihood(), "trainable": lambda m: m.current, "steps": 60, "dt": 0.02}
    options |= {"key": jr.key(1), "held_out": data[15:], "progress": False}
    start = rs.Population(neuron, current=1.0)
    rs.fit(start, data[:15], **options, checkpoint=tmp_path / "c", callback=lambda s: s.step == 20)
    resumed = rs.fit(start, data[:15], **options, checkpoint=tmp_path / "c", resume=True)
    whole = rs.fit(start, data[:15], **options)
    for name in ("loss", "gradient_norm", "train_score", "held_out_score"):
        np.testing.assert_array_equal(resumed.history[name], whole.history[name])
    assert whole.model.current == resumed.model.current == pytest.approx(1.5, abs=0.1)
    assert whole.history["held_out_score"][-1] > whole.history["held_out_score"][0] + 0.5

    again = rs.load(whole.save(tmp_path / "run"))
    for x, y in zip(jax.tree.leaves(again.model), jax.tree.leaves(whole.model), strict=True):
        np.testing.assert_array_equal(x, y)
    assert jax.tree.structure(again.model) == jax.tree.structure(whole.model)
    assert rs.log_likelihood(again.model, data, dt=0.02) == rs.log_likelihood(whole.model, data, dt=0.02)


def test_a_driven_cell_is_saved_with_its_stimulus(tmp_path):
    signal = rs.SampledSignal(np.sin(np.arange(2000) * 0.01), dt=0.001, start=0.0)
    current = rs.Stimulus(signal, gain=1.0, delay=0.006) + rs.ExponentialDrift(1.0, 2.0) + rs.Constant(0.5)
    neuron = rs.SLIF(mu=(15.0, 300.0), sigma=((0.2, 0.0), (0.0, 0.0)), v_reset=1.4, refractory=0.003, self_weight=-1.0)
    cell = rs.Population(neuron, current=current)
    from roughspike.fit.serialise import load_model, save_model
    from roughspike.fit.trainable import Trainable

    again = load_model(save_model(cell, tmp_path))
    assert jax.tree.structure(again) == jax.tree.structure(cell)
    np.testing.assert_array_equal(again.current.parts[0].signal.values, signal.values)
    parts = ("parts[0].gain", "parts[0].delay", "parts[1].amplitude", "parts[1].tau", "parts[2].value")
    assert Trainable.select(again, lambda m: m.current).names == tuple(f"current.{part}" for part in parts)
    everything = Trainable.select(again)
    assert {"neuron.sigma", "neuron.refractory", "neuron.self_weight", "current.parts[1].tau"} <= set(everything.names)
    assert "neuron.alpha" not in everything.names  # 0: switched off
    with pytest.raises(ValueError, match="neuron.alpha must start above 0 to be trained.*leave it out"):
        Trainable.select(again, lambda m: m.neuron.alpha)
