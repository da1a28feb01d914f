"""Fitting a network with hidden neurons, and the table that compares estimators."""

from __future__ import annotations

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs
from roughspike.fit.maximisation import expectation_maximisation
from roughspike.fit.serialise import load_model, save_model
from roughspike.pointprocess.compare import Drawn, _square_of_covariance, comparison_of


@pytest.fixture(scope="module")
def coupled():
    """A model with one observed and one hidden neuron, and trials of the observed one."""
    basis, link = rs.AlphaBasis(tau=(0.5,)), rs.SigmoidIntensity(4.0)
    weights, bias = np.array([[[-1.0, 4.0], [0.0, -2.0]]]), np.array([-2.0, -1.0])
    net = rs.PointProcessNetwork(1, 1, basis=basis, link=link, weights=weights, bias=bias)
    spikes = rs.sample(net, t1=20.0, key=jr.key(0), num_samples=8)
    return net, rs.SpikeTrain(np.asarray(spikes.times, np.float64)[:, :1], 0.0, 20.0)


@pytest.mark.parametrize(
    ("hidden", "change", "says"), [(0, {}, "no hidden neurons"), (1, {"draws": 0}, "draws must be")]
)
def test_expectation_maximisation_refuses(coupled, hidden, change, says):
    net, data = coupled
    net = net if hidden else rs.PointProcessNetwork(1, basis=net.basis, link=net.link, key=jr.key(0))
    with pytest.raises(ValueError, match=says):
        expectation_maximisation(net, data, dt=0.25, key=jr.key(0), **change)


@pytest.mark.plain
def test_fit_raises_the_bound_and_is_saved(coupled, tmp_path):
    net, data = coupled
    start = rs.PointProcessNetwork(1, 1, basis=net.basis, link=net.link, key=jr.key(3))
    pair = rs.WithPosterior(start, start)
    loss = rs.NegativeELBO(num_samples=2, score_samples=4)
    held_out = rs.SpikeTrain(data.times[4:], 0.0, 20.0)
    fitted = rs.fit(
        pair, data[:4], loss=loss, held_out=held_out, steps=60, chunk=30, dt=0.125, key=jr.key(1), progress=False
    )
    score = fitted.history["held_out_score"]
    print("held-out bits per spike:", score)
    assert score[-1] > score[0] + 0.2 and fitted.status == "finished 60 steps"
    assert set(fitted.trainable) == {f"{n}.{p}" for n in ("net", "posterior") for p in ("weights", "bias")}
    page = fitted.report(tmp_path / "page.html").read_text()
    assert "Who drives whom" in page and "time-rescaling distance" in page and "bits per spike, held out" in page
    again = load_model(save_model(fitted.model, tmp_path))
    np.testing.assert_array_equal(again.net.weights, fitted.model.net.weights)
    assert again.net.basis.values(jnp.ones(1)) == net.basis.values(jnp.ones(1))


def test_what_is_refused(coupled):
    net, data = coupled
    with pytest.raises(ValueError, match="no running mean"):
        rs.NegativeELBO(estimator=rs.Score(rs.RunningMean()))
    with pytest.raises(ValueError, match="takes whole trials"):
        rs.NegativeELBO().prepare(net, data, windows=rs.Windows.tile(0.0, 20.0, 2), dt=0.1)
    with pytest.raises(ValueError, match="holds no spike"):
        rs.NegativeELBO().prepare(net, rs.SpikeTrain(np.full((1, 1), np.inf), 0.0, 20.0), dt=0.1)
    with pytest.raises(ValueError, match="none of the estimators"):
        rs.compare_estimators(lambda e, k: (k, k), {"a": rs.Pathwise()}, 10, jr.key(0), truth="b")


def test_the_table_measures_bias_and_variance_of_a_known_problem():
    """Gradients that are normal: truth (1, 2), one estimator off by (0.3, 0), with standard deviations 1 and 2."""

    def problem(estimator, key):
        soft = isinstance(estimator, rs.Pathwise)
        noise = jr.normal(key, (2,), float)
        slope = jnp.array([1.3, 2.0]) + noise if soft else jnp.array([1.0, 2.0]) + 2 * noise
        return jnp.sum(noise), slope

    tables = []
    table = rs.compare_estimators(problem, {"soft": rs.Pathwise()}, 600, jr.key(0), finished=tables.append)
    soft, score = table.rows
    assert table.truth == score.name == "score, leave-one-out" and score.draws == 2400 and np.isnan(score.bias)
    np.testing.assert_allclose([soft.deviation, score.deviation], [np.sqrt(2), np.sqrt(8)], rtol=0.08)
    assert abs(soft.bias - 0.3) < 3 * soft.bias_error < 0.3 and soft.chi2 > 5
    np.testing.assert_allclose(table.signal, np.sqrt(5), atol=0.1)
    np.testing.assert_allclose(soft.cost, soft.deviation**2 * soft.milliseconds)
    assert [[row.name for row in t.rows] for t in tables] == [
        ["score, leave-one-out"],
        ["soft", "score, leave-one-out"],
    ]
    assert "soft" in str(table) and "truth: score, leave-one-out" in str(table)


def test_noise_along_one_direction_is_not_taken_for_bias():
    """300 comparisons of two estimators without bias, 40 parameters that move together: two standard errors hold."""
    direction, beyond = np.linspace(1.0, 2.0, 40), []
    for rng in map(np.random.default_rng, range(300)):
        found = {}
        for name in ("one", "truth"):
            slopes = rng.standard_normal((50, 1)) * direction
            centred = slopes - slopes.mean(0)
            variance, square = (centred**2).sum(0) / 49, _square_of_covariance(centred)
            found[name] = Drawn(50, slopes.mean(0), variance, 0.0, 0.0, 1.0, 1.0, square)
        row = comparison_of(found, "truth").rows[0]
        beyond.append(row.bias > 2 * row.bias_error)
    np.testing.assert_allclose(square, variance.sum() ** 2, rtol=0.2)
    print("beyond two standard errors:", np.mean(beyond))
    assert np.mean(beyond) < 0.15
