"""The delayed engine where nobody differentiates it: the numbers of the run that a gradient goes through."""

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from lane_tools import QUICK

import roughspike as rs

NEURONS, H, T1 = 12, 0.02, 1.5  # 75 steps: two pieces of 32 and a part of one


def noisy():
    weights = rs.Synapses(0.3 * np.random.default_rng(0).standard_normal((NEURONS, NEURONS)))
    neuron = rs.SLIF((6.0, 5.0), ((0.25, 0.05), (0.1, 0.25)), v_reset=1.2, alpha=0.03, refractory=0.03)
    return rs.Recurrent(neuron, weights=weights, delays=0.05, current=1.6, input_weights=np.ones((1, NEURONS)))


def thresholds():
    weights = 0.05 * np.random.default_rng(1).standard_normal((NEURONS, NEURONS))
    current, start = np.linspace(1.1, 1.5, NEURONS), np.linspace(0.0, 0.9, NEURONS)
    more = {"input_weights": np.ones((1, NEURONS)), "v0": start}
    return rs.Recurrent(rs.LIF(1 / 6, 1 / 5), weights=weights, delays=0.05, current=current, **more)


@pytest.mark.parametrize("make", [noisy, thresholds])
def test_same_numbers(make):
    inputs = rs.SpikeTrain(np.array([[0.305, 0.31, 0.9]]), t1=T1)

    def run(i0, net):
        more = {"num_samples": 2, "max_spikes": 40, "max_spikes_per_step": 2, "trace": True}
        sol = rs.simulate(eqx.tree_at(lambda n: n.i0, net, i0), inputs=inputs, t1=T1, dt=H, key=jr.key(1), **more)
        return jnp.mean(sol.membrane), (sol.spikes.times, sol.membrane, sol.result.flags, sol.result.needed)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def both(net):
        return run(net.i0, net)[1], jax.value_and_grad(run, has_aux=True)(net.i0, net)[0][1]

    light, whole = both(make())
    assert np.isfinite(light[0]).sum() > 5 * NEURONS
    for a, b in zip(light, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
