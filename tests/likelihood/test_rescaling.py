"""Time rescaling: compensators of simulated spikes are exponential. Kolmogorov-Smirnov, sizes and levels stated."""

import jax.random as jr
import numpy as np
import pytest
from scipy.stats import kstest

import roughspike as rs
from roughspike.likelihood.score import time_rescaling

CELLS = {
    "no diffusion, alpha": lambda: rs.Population(
        rs.SLIF(mu=(10.0, 4.0), v_reset=0.8, alpha=0.1, refractory=0.02, self_weight=-0.3), 1.3
    ),
    "no diffusion, to value": lambda: rs.Population(
        rs.SLIF(mu=(10.0, 2.0), v_reset=0.1, reset=rs.ResetToValue(), self_weight=0.1, escape=rs.SoftplusEscape()), 1.1
    ),
    "diffusion": lambda: rs.Population(
        rs.SLIF(mu=(8.0, 4.0), sigma=((0.6, 0.0), (0.3, 0.4)), v_reset=1.0, refractory=0.02, self_weight=-0.2), 1.1
    ),
}


def _simulated(cell, t1, trials):
    sol = rs.simulate(cell, t1=t1, dt=0.01, key=jr.key(21), num_samples=trials, throw=True)
    return rs.SpikeTrain(np.asarray(sol.spikes.times), 0.0, t1)


@pytest.mark.parametrize("name", CELLS)
def test_simulated_spikes_are_rescaled_to_a_uniform_law(name):
    """Long trials, so that leaving out the interval that t1 cuts does not bias the rest. Level 0.001."""
    cell = CELLS[name]()
    train = _simulated(cell, 20.0, 40)
    z = time_rescaling(cell, train, dt=0.02, key=jr.key(1), num_particles=400)
    assert len(z) > 600 and ((z >= 0) & (z <= 1)).all()
    assert kstest(z, "uniform").pvalue > 1e-3
    wrong = rs.Population(cell.neuron, 1.15 * cell.current)
    assert kstest(time_rescaling(wrong, train, dt=0.02, key=jr.key(1)), "uniform").pvalue < 1e-3


def test_only_intervals_inside_one_window_count():
    cell = CELLS["no diffusion, alpha"]()
    train = rs.SpikeTrain(np.array([[0.3, 0.9, 1.4, 1.8, 2.6]]), 0.0, 3.0)
    assert len(time_rescaling(cell, train, dt=0.02)) == 4
    windows = rs.Windows([0.0, 1.0], [1.0, 3.0])  # the interval from 0.9 to 1.4 is cut
    whole = time_rescaling(cell, train, dt=0.02)
    np.testing.assert_allclose(time_rescaling(cell, train, windows=windows, dt=0.02), whole[[0, 2, 3]], rtol=1e-6)


def test_a_train_without_an_interval():
    cell = CELLS["no diffusion, alpha"]()
    assert time_rescaling(cell, rs.SpikeTrain(np.array([[0.3, np.inf]]), 0.0, 1.0)).shape == (0,)
