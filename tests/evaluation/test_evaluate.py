"""evaluate on small real cells: a stimulated recording, trials, and what a fit returns."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs
from roughspike.currents.signal import SampledSignal
from roughspike.evaluation.evaluate import evaluate, evaluate_fit
from roughspike.evaluation.kernels import history_kernel, spike_triggered_average, stimulus_kernel
from roughspike.evaluation.parameters import parameter_rows
from roughspike.paths.spikes import from_lists
from roughspike.report.page import render, write_report

pytestmark = pytest.mark.plain  # cells are made once for the whole module, so with one setting of JAX

DT = 0.002


def neuron(sigma: float = 0.0, **changes: Any) -> rs.SLIF:
    escape = rs.ExponentialEscape(beta=2.0, v_th=1.0, tau_s=0.05)
    noise = ((sigma, 0.0), (0.0, 0.0))
    given = {"mu": (60.0, 20.0), "sigma": noise, "v_reset": 1.5, "escape": escape, "refractory": 0.004} | changes
    return rs.SLIF(**given)


def current() -> rs.SumOfCurrents:
    values = np.random.default_rng(0).standard_normal(400)
    return rs.Stimulus(SampledSignal(values, 0.01), gain=2.0, delay=0.01) + rs.Constant(1.0)


@pytest.fixture(scope="module")
def cell() -> rs.Population:
    return rs.Population(neuron(), current=current())


@pytest.fixture(scope="module")
def recording(cell: rs.Population) -> rs.SpikeTrain:
    """Spikes that the cell itself made, so that it is the true model."""
    spikes = rs.simulate(cell, t1=4.0, dt=DT, key=jr.key(7), num_samples=1).spikes.to_lists()
    return from_lists([[np.sort(row)] for trial in spikes for row in trial], 0.0, 4.0)


@pytest.fixture(scope="module")
def split() -> tuple[rs.Windows, rs.Windows]:
    windows = rs.Windows.tile(0.0, 4.0, 8)
    return windows.drop([2, 5]), windows.select([2, 5])


@pytest.fixture(scope="module")
def evaluation(cell: rs.Population, recording: rs.SpikeTrain, split: tuple[rs.Windows, rs.Windows]) -> Any:
    options = {"windows": split[0], "held_out": split[1], "num_samples": 12}
    return evaluate(cell, recording, dt=DT, key=jr.key(1), start=cell, trainable=("neuron.mu",), **options)


def test_the_true_model_does_well(evaluation: Any):
    assert evaluation.scores[-1].bits > 0.1
    assert evaluation.rescaling[-1].distance < 1.6 * evaluation.rescaling[-1].band
    assert evaluation.metrics.rate_error < 0.3
    assert evaluation.warnings == ()


def test_bits_are_those_of_the_likelihood(evaluation: Any, cell: Any, recording: Any, split: Any):
    train, test = split
    times = recording.to_lists()[0][0]
    rate = train.contains(times).sum() / train.duration
    spikes = test.contains(times).sum()
    poisson = spikes * np.log(rate) - rate * test.duration
    total = float(rs.log_likelihood(cell, recording, windows=test, dt=DT))
    assert evaluation.scores[-1].bits == pytest.approx((total - poisson) / spikes / np.log(2), rel=1e-6)


def test_windows_and_samples(evaluation: Any, split: Any):
    assert evaluation.held_out == ((1.0, 1.5), (2.5, 3.0)) and evaluation.shown == (1.0, 1.5)
    assert len(evaluation.simulated) == 12
    assert evaluation.held_out_trials is None


def test_traces_belong_to_the_rasters(evaluation: Any):
    membrane = evaluation.membrane
    start, stop = membrane.time[0], membrane.time[-1]
    assert membrane.values.shape == (3, len(membrane.time)) and membrane.threshold == 1.0
    first = evaluation.simulated[0][0][0]
    np.testing.assert_array_equal(membrane.spikes[0], first[(first >= start) & (first < stop)])
    # at every spike the potential falls by about v_reset
    for spike in membrane.spikes[0][:5]:
        before = membrane.values[0][membrane.time < spike - DT][-1]
        after = membrane.values[0][membrane.time > spike + DT][0]
        assert after < before - 0.7


def test_stimulus_and_kernels_are_found(evaluation: Any):
    assert evaluation.input.name == "Stimulus" and len(evaluation.kernels) == 2


def test_parameters_know_what_was_fitted(evaluation: Any):
    rows = {p.symbol: p for p in evaluation.parameters}
    assert rows["μ₁"].fitted and rows["μ₁"].value == 60.0 and rows["μ₁"].unit == "1/s" and rows["μ₁"].start == 60.0
    assert not rows["δ"].fitted and rows["δ"].unit == "s"
    assert "σ₁₁" not in rows and "v(0)" not in rows  # fixed at zero


def test_report_of_a_real_cell(evaluation: Any, tmp_path: Any):
    page = write_report(evaluation, tmp_path / "r.html").read_text(encoding="utf-8")
    assert 'id="kernels"' in page and "evaluation random key" in page


@pytest.mark.slow
def test_trials_held_out():
    cell = rs.Population(neuron(sigma=2.0), current=1.2)
    spikes = rs.simulate(cell, t1=1.0, dt=DT, key=jr.key(3), num_samples=10).spikes.to_lists()
    data, held_out = from_lists(spikes[:8], 0.0, 1.0), from_lists(spikes[8:], 0.0, 1.0)
    options = {"num_samples": 5, "num_particles": 50, "scores": ()}
    found = evaluate(cell, data, held_out=held_out, dt=DT, key=jr.key(1), **options)
    assert found.held_out_trials == (8, 9) and len(found.recorded) == 10 and found.input is None
    assert len(found.rescaling[0].z) == sum(len(row) - 1 for trial in spikes[8:] for row in trial)
    assert "2 of 10 trials" in render(found)


@pytest.mark.slow
def test_several_neurons_in_one_trial():
    cell = rs.Population(neuron(), current=jnp.array([1.0, 1.4]))
    spikes = rs.simulate(cell, t1=2.0, dt=DT, key=jr.key(3)).spikes.to_lists()
    data = from_lists(spikes, 0.0, 2.0)
    found = evaluate(cell, data[0], dt=DT, key=jr.key(1), num_samples=4, scores=())
    assert found.num_neurons == 2 and len(found.intervals) == 2
    assert "No data was held out" in render(found)


def test_what_a_fit_returns(cell: Any, recording: Any, split: Any, evaluation: Any):
    @dataclasses.dataclass(frozen=True)
    class Fitted:
        model: Any = cell
        data: Any = recording
        windows: Any = split[0]
        held_out: Any = split[1]
        trainable: tuple[str, ...] = ("current.parts[0].gain",)
        history: Any = dataclasses.field(
            default_factory=lambda: {
                "step": np.arange(5.0),
                "loss": np.linspace(1, 0, 5),
                "gradient_norm": np.ones(5),
                "seconds": np.linspace(0, 2.0, 5),
                "score_step": np.array([0.0, 4.0]),
                "train_score": np.array([0.0, 1.0]),
                "held_out_score": np.array([0.0, 0.9]),
            }
        )
        config: Any = dataclasses.field(
            default_factory=lambda: {"dt": DT, "loss": "NegativeLogLikelihood()", "versions": {"jax": "0.10.2"}}
        )

    found = evaluate_fit(Fitted(), num_samples=12, title="Mine")
    assert found.title == "Mine" and found.train == evaluation.train
    assert found.stages[0].loss_name == "NegativeLogLikelihood" and found.stages[0].cpu_seconds == 2.0
    assert ("jax", "0.10.2") in found.configuration
    assert {p.symbol for p in found.parameters if p.fitted} == {"g"}


def test_history_kernel_is_the_path_after_a_spike():
    lag = np.linspace(0, 0.1, 200)
    model = neuron(self_weight=-0.8)
    found = history_kernel(model)
    a, b = 60.0, 20.0
    step = 1e-5
    v, i, path = -1.5, -0.8, []
    for _ in range(int(0.1 / step)):
        path.append(v)
        v, i = v + step * a * (i - v), i - step * b * i
    expected = np.interp(lag, np.arange(len(path)) * step, path)
    np.testing.assert_allclose(np.interp(lag, found.lag, found.values), expected, atol=2e-3)


def test_stimulus_kernel_is_the_response_to_a_pulse():
    stimulus = rs.Stimulus(
        SampledSignal(np.zeros(10), 0.01), gain=2.0, delay=0.01, low_pass_gain=-1.0, tau_low_pass=0.03
    )
    found = stimulus_kernel(neuron(), stimulus, np.empty(0))
    # a long step of the stimulus moves the potential by gain + low_pass_gain
    assert np.trapezoid(found.values * 1e3, found.lag) == pytest.approx(1.0, rel=0.05)
    assert np.all(found.values[found.lag < 0.0099] == 0)


def test_equal_rates_have_a_kernel():
    assert np.all(np.isfinite(history_kernel(neuron(mu=(30.0, 30.0), self_weight=1.0)).values))


def test_spike_triggered_average_finds_the_pulse():
    values = np.zeros(1000)
    values[100::100] = 1.0
    spikes = np.arange(1.055, 9.0, 1.0)  # each 50 ms after a pulse
    lag = np.linspace(0, 0.1, 11)
    average = spike_triggered_average(SampledSignal(values, 0.01), spikes, lag)
    assert lag[np.argmax(average)] == pytest.approx(0.05)


def test_long_vectors_get_one_row():
    cell = rs.Population(neuron(), current=rs.BSplineCurrent(np.linspace(0.5, 1.5, 20), 0.0, 4.0))
    row = next(p for p in parameter_rows(cell) if "coefficients" in p.name)
    assert row.name.endswith("(mean of 20)") and row.value == pytest.approx(1.0)
