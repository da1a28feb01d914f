"""What the likelihoods refuse, with the remedy; and how data are laid out in time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import roughspike as rs
from roughspike.likelihood.score import default_step
from roughspike.likelihood.segments import lay_out

NOISE = ((0.2, 0.0), (0.0, 0.0))


def _train(times=(0.2, 0.5), shape=(1,)):
    return rs.SpikeTrain(np.broadcast_to(np.asarray(times, float), (*shape, len(times))).copy(), 0.0, 1.0)


CASES = [
    (lambda: (rs.Population(rs.SLIF(), [1.0, 1.0]), _train(), {}), "data has 1 neurons and the population 2: give the"),
    (lambda: (rs.Population(rs.SLIF(), 1.0), _train(shape=(2, 3, 1)), {}), r"shape \(trials, neurons, capacity\)"),
    (
        lambda: (rs.Population(rs.SLIF(refractory=0.4), 1.0), _train(), {}),
        "an interval of 0.3, not longer than the refractory time 0.4.*pass refractory=0.27 or less",
    ),
    (
        lambda: (rs.Population(rs.SLIF(mu=(500.0, 0.0)), 1.0), _train(), {"dt": 0.01}),
        "too coarse.*pass dt=0.001 or less",
    ),
    (lambda: (rs.Population(rs.SLIF(), 1.0), _train(), {"dt": 0.0}), "dt must be a positive time step"),
    (lambda: (rs.Population(rs.SLIF(sigma=NOISE), 1.0), _train(), {}), r"particle filter: pass key=jax.random.key"),
]


@pytest.mark.parametrize(("make", "message"), CASES)
def test_log_likelihood(make, message):
    cell, train, options = make()
    with pytest.raises(ValueError, match=message):
        rs.log_likelihood(cell, train, **options)


def test_an_interval_that_equals_the_refractory_time_is_refused():
    with pytest.raises(ValueError, match="not longer than the refractory time"):
        rs.log_likelihood(rs.Population(rs.SLIF(refractory=0.25)), _train((0.25, 0.5)))


def test_traced_data():
    cell = rs.Population(rs.SLIF(), 1.0)
    with pytest.raises(ValueError, match="outside of jit, vmap and grad"):
        jax.jit(lambda t: rs.log_likelihood(cell, rs.SpikeTrain(t), dt=0.1))(jnp.array([[0.5]]))


def test_objective():
    objective, cell = rs.NegativeLogLikelihood(), rs.Population(rs.SLIF(), 1.0)
    with pytest.raises(ValueError, match="no spike.*choose other windows"):
        objective.prepare(cell, _train(), windows=rs.Windows([0.6], [0.9]), dt=0.01)
    with pytest.raises(ValueError, match=r"needs a current rate mu\[1\] > 0 where noise drives the current.*positive"):
        objective.prepare(rs.Population(rs.SLIF(sigma=((0.1, 0.0), (0.0, 0.1)))), _train(), dt=0.01)


def test_default_step():
    assert default_step(_train((0.2, 0.5))) == pytest.approx(0.3 / 20)
    assert default_step(_train((0.5,))) == pytest.approx(0.02)


def test_segments_cover_the_window_once():
    train = rs.SpikeTrain(np.array([[0.0, 0.25, 0.3, 1.0], [0.5, np.inf, np.inf, np.inf]]), 0.0, 1.0)
    windows = rs.Windows([0.1, 0.5, 0.75], [0.5, 0.75, 0.9])
    laid = lay_out(train, 0.05, windows)
    np.testing.assert_allclose(laid.lengths.sum(axis=-1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(laid.spike.sum(axis=-1), [[4, 1]])
    assert laid.num_spikes == 3  # 0.25, 0.3 and 0.5: a spike belongs to the window that holds the piece it ends
    assert laid.duration == pytest.approx(2 * (0.4 + 0.25 + 0.15))
    ends = laid.starts + laid.lengths
    np.testing.assert_allclose(ends[0, 0][laid.spike[0, 0] > 0], [1e-7, 0.25, 0.3, 1.0], atol=1e-7)
    assert (laid.lengths[laid.spike > 0] > 0).all()
    full = laid.lengths > 0
    assert (np.diff(laid.starts[full].reshape(-1)[: full[0, 0].sum()]) > 0).all()
    assert set(np.unique(laid.window)) == {-1, 0, 1, 2}


def test_an_hour_long_recording_keeps_its_precision():
    """Spikes of one hour in float64 on the host; the device sees only lengths of pieces."""
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.5, 1.5, 3500))
    train = rs.SpikeTrain(times[None], 0.0, 3600.0)
    cell = rs.Population(rs.SLIF(mu=(15.0, 0.0), v_reset=1.4), 0.8)
    exact = float(rs.log_likelihood(cell, train, dt=0.05))
    with jax.enable_x64(False):
        cell = rs.Population(rs.SLIF(mu=(15.0, 0.0), v_reset=1.4), 0.8)
        found = float(rs.log_likelihood(cell, train, dt=0.05))
    np.testing.assert_allclose(found, exact, rtol=2e-4)


def test_silent_trials_are_data():
    cell = rs.Population(rs.SLIF(), 1.0)
    silent = rs.SpikeTrain(np.full((3, 1, 1), np.inf), 0.0, 1.0)
    one = rs.SpikeTrain(np.full((1, 1, 1), np.inf), 0.0, 1.0)
    np.testing.assert_allclose(rs.log_likelihood(cell, silent), 3 * rs.log_likelihood(cell, one), rtol=1e-12)
    assert float(rs.log_likelihood(cell, one)) < 0
