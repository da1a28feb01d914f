"""The engine against an independent oracle, path by path: the same increments and uniforms, every event by RK4."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from lane_tools import oracle, refine, run

import roughspike as rs
from roughspike._types import TOO_MANY_SPIKES_IN_A_STEP
from roughspike.networks.lanes import Noise, draw_noise

SIGMA = ((0.3, -0.1), (0.2, 0.4))
# made inside the tests, where float64 is on
CELLS = {
    "subtract, adapting, alpha": lambda: rs.Population(
        rs.SLIF(mu=(15.0, 4.0), sigma=SIGMA, v_reset=1.2, alpha=0.05, self_weight=-0.4), current=1.5, v0=0.2, i0=0.3
    ),
    "to value, bursting, refractory, mu1 = mu2": lambda: rs.Population(
        rs.SLIF(mu=(10.0, 10.0), sigma=SIGMA, v_reset=0.1, reset=rs.ResetToValue(), refractory=0.033, self_weight=0.5),
        current=1.4,
    ),
    "softplus, refractory, alpha, no noise": lambda: rs.Population(
        rs.SLIF(
            mu=(12.0, 1.0),
            v_reset=0.8,
            alpha=0.2,
            escape=rs.SoftplusEscape(beta=6.0, tau_s=0.1),
            refractory=0.05,
            self_weight=-0.2,
        ),
        current=1.1,
        i0=0.4,
    ),
    "sigmoid, noise in v only": lambda: rs.Population(
        rs.SLIF(
            mu=(15.0, 0.0),
            sigma=((0.25, 0.0), (0.0, 0.0)),
            v_reset=1.4,
            escape=rs.SigmoidEscape(beta=5.0, tau_s=0.05),
        ),
        current=1.2,
    ),
}
STEPS, H, LANES = 75, 0.02, 4


@pytest.mark.parametrize("name", CELLS)
def test_every_spike_time(name):
    cell = CELLS[name]()
    noise = draw_noise(jr.key(5), cell.neuron, rs.LinearDriver(), STEPS, 1, LANES, 48, jnp.float64)
    host = np.asarray(noise.normals)[:, :, 0], np.asarray(noise.log_u)[:, 0]
    exact = [oracle(cell, host[0][..., lane], host[1][..., lane], H, substeps=24) for lane in range(LANES)]
    errors = {}
    for k in (1, 8):
        times, counts, flags = run(cell, refine(noise, k), H / k, capacity=48)
        assert int(jnp.max(flags)) == 0
        assert counts[0].tolist() == [len(row) for row in exact] and min(counts[0].tolist()) >= 3
        errors[k] = max(np.abs(times[: len(row), 0, lane] - row).max() for lane, row in enumerate(exact))
    assert errors[8] < 1e-7  # the oracle's own error is below 1e-9
    assert errors[8] < errors[1] / 8**2.5  # the order is three and a half, whatever the noise


def test_several_spikes_of_one_neuron_inside_one_step():
    neuron = rs.SLIF(mu=(3.0, 2.0), v_reset=0.05, escape=rs.ExponentialEscape(beta=0.5, tau_s=0.02), self_weight=0.1)
    cell = rs.Population(neuron, current=0.8)
    noise = Noise(jnp.zeros((20, 0, 1, 16)), jnp.log(jr.uniform(jr.key(3), (97, 1, 16))))
    times, counts, flags = run(cell, noise, 0.05, capacity=96, per_step=8)
    fine, fine_counts, fine_flags = run(cell, Noise(jnp.zeros((1280, 0, 1, 16)), noise.log_u), 0.05 / 64, capacity=96)
    per_step = np.asarray(jnp.diff(jnp.floor(times / 0.05), axis=0) == 0)
    assert (per_step[:-2] & per_step[1:-1] & per_step[2:]).any()  # at least four spikes in one step do occur
    assert int(jnp.max(flags)) == 0 and int(jnp.max(fine_flags)) == 0
    np.testing.assert_array_equal(counts, fine_counts)
    finite = np.isfinite(times)
    np.testing.assert_allclose(times[finite], fine[finite], atol=2e-5)  # the error of a coarse step, over 40 spikes
    crowded = run(cell, noise, 0.05, capacity=96, per_step=2)[2]
    assert (np.asarray(crowded) & TOO_MANY_SPIKES_IN_A_STEP).any()


def test_the_order_in_one_step_does_not_depend_on_the_number_of_slots():
    cell = CELLS["to value, bursting, refractory, mu1 = mu2"]()
    noise = draw_noise(jr.key(5), cell.neuron, rs.LinearDriver(), STEPS, 1, LANES, 48, jnp.float64)
    two, four = (run(cell, noise, H, capacity=48, per_step=n)[0] for n in (2, 4))
    np.testing.assert_allclose(two, four, atol=1e-14)
