"""Losses that simulate on windows of one recording: engine, gradient, horizon, and the loop through public names."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs
from roughspike.fit.simulated import PreparedWindows, SimulatedObjective, by_condition
from roughspike.losses.base import AbstractLoss
from roughspike.networks.lanes import LaneStart
from roughspike.networks.windows import simulate_lanes
from roughspike.paths.spikes import unchecked


def driven_cell(gain: float = 1.0, alpha: float = 0.02) -> rs.Population:
    neuron = rs.SLIF(
        (40.0, 15.0), ((0.8, 0.0), (0.3, 0.5)), 1.2, alpha, rs.ExponentialEscape(2.0, 1.0, 0.05),
        refractory=0.01, self_weight=-0.5,
    )  # fmt: skip
    signal = rs.SampledSignal(np.random.default_rng(0).normal(size=400), 0.005)
    return rs.Population(neuron, rs.Stimulus(signal, gain, 0.012, -0.4, 0.03) + rs.Constant(1.4))


def recording(gain: float = 1.0, key: int = 3) -> rs.SpikeTrain:
    spikes = rs.simulate(driven_cell(gain), t1=2.0, dt=0.0025, key=jr.key(key), num_samples=1).spikes
    return rs.SpikeTrain(np.asarray(spikes.times), 0.0, 2.0)


def test_lanes_are_what_simulate_runs():
    cell = rs.Population(driven_cell().neuron, np.array([1.2, 1.6, 0.9]), v0=0.2, i0=0.1)
    sol = rs.simulate(cell, t1=0.5, dt=0.005, key=jr.key(1), num_samples=5, max_spikes=30)
    column = lambda x: jnp.full((3, 1), x)  # noqa: E731
    start = LaneStart(column(0.2), column(0.1), column(0.0), column(0.02))
    means = jnp.broadcast_to(cell.current[:, None], (3, 200))
    options = {"h": 0.005, "num_samples": 5, "capacity": 30, "max_spikes_per_step": 1}
    lanes = eqx.filter_jit(lambda means, start: simulate_lanes(cell.neuron, means, start, **options, key=jr.key(1)))
    run = lanes(means, start)
    np.testing.assert_allclose(jnp.swapaxes(run.times, 0, 1), sol.spikes.times, rtol=1e-12)
    np.testing.assert_allclose(run.threshold.T, sol.spikes.horizon.threshold, rtol=1e-10)
    assert bool(jnp.all(run.open.T == sol.spikes.horizon.open)) and int(run.needed.max()) > 3
    late = lanes(means + 4.0, start._replace(rest=column(0.123)))
    assert 0.123 < float(late.times.min()) < 0.14


def prepared(objective: SimulatedObjective, cell: rs.Population, windows: rs.Windows) -> PreparedWindows:
    return jax.tree.map(jnp.asarray, objective.prepare(cell, recording(), windows=windows, dt=0.005))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["energy", "signature"])
def test_gradient_against_differences(name: str):
    """Common random numbers, every parameter that is free, start states included."""
    loss = rs.EnergyScore((0.01, 0.03)) if name == "energy" else rs.ExpectedSignatureLoss(3, unbiased=True)
    objective, cell = SimulatedObjective(loss, 4), driven_cell()
    data = prepared(objective, cell, rs.Windows.tile(0.1, 2.0, 10))
    value = eqx.filter_jit(lambda cell: objective(cell, data, jr.key(5)))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda cell: objective(cell, data, jr.key(5))))(cell)
    stimulus = lambda m: m.current.parts[0]  # noqa: E731
    leaves = {
        "mu": (lambda m: m.neuron.mu, np.array([1.0, 0.5])),
        "sigma": (lambda m: m.neuron.sigma, np.array([[1.0, 0.0], [0.3, 0.7]])),
        "v_reset": (lambda m: m.neuron.v_reset, 1.0),
        "alpha": (lambda m: m.neuron.alpha, 1.0),
        "refractory": (lambda m: m.neuron.refractory, 0.1),
        "self weight": (lambda m: m.neuron.self_weight, 1.0),
        "beta": (lambda m: m.neuron.escape.beta, 1.0),
        "gain": (lambda m: stimulus(m).gain, 1.0),
        "low-pass": (lambda m: stimulus(m).tau_low_pass, 0.1),
        "v0": (lambda m: m.v0, 1.0),
    }
    for label, (where, direction) in leaves.items():
        step = 1e-6 * np.asarray(direction)
        ends = [value(eqx.tree_at(where, cell, where(cell) + sign * step)) for sign in (1, -1)]
        exact = float(jnp.sum(where(gradient) * direction))
        assert exact == pytest.approx(float(ends[0] - ends[1]) / 2e-6, rel=2e-5, abs=1e-7), label
    assert float(jnp.abs(gradient.neuron.mu[0])) > 1e-7


class MeanCount(AbstractLoss):
    def features(self, spikes):
        return jnp.sum(jnp.isfinite(spikes.times), axis=-1).astype(float)

    def compare(self, simulated, recorded):
        return jnp.mean(simulated) - jnp.mean(recorded)


def test_the_horizon_term_of_windows():
    """For a Poisson process the derivative of the mean count is the window's length times that of the rate, always."""
    cell = rs.Population(rs.SLIF((15.0, 0.0), v_reset=0.0, escape=rs.ExponentialEscape(5.0, 1.0, 0.1)), 1.0, v0=1.0)
    windows = rs.Windows([0.5, 1.0], [0.9, 1.4])
    for loss, expected in ((MeanCount(), 0.0), (rs.with_horizon(MeanCount()), 0.4 * 10.0 / 0.1)):
        objective = SimulatedObjective(loss, 3)
        data = prepared(objective, cell, windows)
        slope = lambda tau, objective=objective, data=data: objective(  # noqa: E731
            eqx.tree_at(lambda m: m.neuron.escape.tau_s, cell, tau), data, jr.key(0)
        )
        assert float(jax.grad(slope)(jnp.asarray(0.1))) == pytest.approx(-expected, rel=1e-9)


def test_one_observation_per_condition():
    times = jnp.sort(jr.uniform(jr.key(0), (3, 4, 1, 5)), axis=-1)
    simulated, recorded = unchecked(times, 0.0, 1.0), unchecked(times[:, 0] * 0.9, 0.0, 1.0)
    for loss in (rs.EnergyScore((0.1,)), rs.ExpectedSignatureLoss(2), rs.FirstSpikesLoss(2)):
        alone = [loss(simulated[k], recorded[k]) for k in range(3)]
        np.testing.assert_allclose(by_condition(loss, simulated, recorded), alone, rtol=1e-10)
        np.testing.assert_allclose(by_condition(loss.__call__, simulated, recorded), alone, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.plain
def test_a_fit_of_windows(tmp_path):
    options = {"trainable": lambda m: m.current.parts[0].gain, "dt": 0.005, "key": jr.key(1), "progress": False}
    windows = rs.Windows.tile(0.0, 2.0, 20)
    fit = rs.fit(
        driven_cell(0.2), recording(1.5), loss=rs.EnergyScore((0.01, 0.04), resolution=4), steps=40,
        windows=windows.drop([3, 13]), held_out=windows.select([3, 13]), num_samples=8, windows_per_step=9,
        learning_rate=0.1, **options,
    )  # fmt: skip
    assert fit.status == "finished 40 steps" and fit.config["score"] == "minus the loss"
    # 2 s of one neuron: the score's minimum lies within about 0.3 of the truth
    assert 0.9 < float(fit.model.current.parts[0].gain) < 2.1
    assert fit.history["held_out_score"][-1] > fit.history["held_out_score"][0]
    assert rs.load(fit.save(tmp_path)).windows == fit.windows


@pytest.mark.plain
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windows": rs.Windows([0.0, 0.5], [0.2, 0.9])}, "must be equally long, got lengths from 0.2 to 0.4"),
        ({"windows_per_step": 4}, "windows_per_step chooses from windows: pass windows="),
        ({"windows_per_step": 0}, "windows_per_step must be a whole number of at least 1, got 0"),
        ({"loss": rs.NegativeLogLikelihood(), "num_samples": None, "windows_per_step": 4}, "windows_per_step is for"),
        ({"dt": 0.02, "windows": rs.Windows.tile(0.0, 2.0, 4)}, "too coarse for the refractory time"),
    ],
)
def test_bad_input(changes, message: str):
    options = {"loss": rs.EnergyScore((0.01,)), "num_samples": 4, "dt": 0.005, "key": jr.key(0), "steps": 2}
    with pytest.raises(ValueError, match=message):
        rs.fit(driven_cell(), recording(), **options | changes)


@pytest.mark.plain
def test_room_without_a_refractory_time():
    neuron = rs.SLIF((15.0, 0.0), v_reset=1.4)
    data = rs.SpikeTrain(np.array([[[0.2, 0.9, 1.4]]]), 0.0, 2.0)
    found = SimulatedObjective(rs.EnergyScore((0.1,)), 4).prepare(
        rs.Population(neuron, 1.5), data, windows=rs.Windows.tile(0.0, 2.0, 4), dt=0.01
    )
    assert isinstance(found, PreparedWindows) and 8 < found.room < 40 and found.per_step == 2
