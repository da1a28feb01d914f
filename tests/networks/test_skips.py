"""Layers that form a graph: synapses from further back than the layer before."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from lane_tools import QUICK

import roughspike as rs

SIZES, T1, DT = (2, 3, 2, 2), 40e-3, 1e-3


def graph(weights, delays):
    """Inputs drive two layers side by side, and both of them a third."""
    to_a, to_b, a_to_c, b_to_c = weights
    return rs.FeedForward(
        SIZES,
        rs.LIF(20e-3, 5e-3),
        weights=[to_a, None, b_to_c],
        delays=[delays[0], None, delays[1]],
        skips={(0, 2): to_b, (1, 3): a_to_c},
        skip_delays={} if delays[0] is None else {(0, 2): delays[0], (1, 3): delays[1]},
    )


def chain(weights, delays):
    """The same with both layers as one."""
    to_a, to_b, a_to_c, b_to_c = weights
    joined = [jnp.concatenate([to_a, to_b], axis=1), jnp.concatenate([a_to_c, b_to_c])]
    return rs.FeedForward([2, 5, 2], rs.LIF(20e-3, 5e-3), weights=joined, delays=list(delays))


@functools.partial(jax.jit, static_argnums=(0, 3), compiler_options=QUICK)
def times_and_slopes(make, at, inputs, checkpoint):
    """Spike times of all neurons that are no inputs, and gradients of a sum over them in (weights, delays)."""

    def loss(at):
        run = {"t1": T1, "dt": DT, "max_spikes": 16, "max_spikes_per_step": 2, "checkpoint": checkpoint}
        sol = rs.simulate(make(*at), inputs=rs.SpikeTrain(inputs, 0.0, T1), **run)
        times = jnp.concatenate([layer.times for layer in sol.layers], axis=-2)
        signs = jnp.asarray(np.cos(1.3 * np.arange(times.size) + 0.4).reshape(times.shape))
        return jnp.sum(jnp.where(jnp.isfinite(times), signs * jnp.sin(100 * times), 0.0)), (times, sol.result.flags)

    (_, aux), slopes = jax.value_and_grad(loss, has_aux=True)(at)
    return *aux, slopes


@pytest.mark.parametrize("delays", [(None, None), (2.3e-3, 1.7e-3)])
def test_layers_side_by_side_are_one_wide_layer(delays):
    """Spike times and gradients in weights and delays, to rounding; and with checkpoints."""
    draw = lambda k, *shape: 4.0 + 2.0 * jr.normal(jr.key(k), shape)  # noqa: E731
    weights = draw(1, 2, 3), draw(2, 2, 2), 0.5 * draw(3, 3, 2), 0.5 * draw(4, 2, 2)
    at = weights, tuple(None if d is None else jnp.asarray(d) for d in delays)
    inputs = jnp.sort(25e-3 * jr.uniform(jr.key(0), (3, 2, 4)), axis=-1)
    wanted, flags, slopes = times_and_slopes(chain, at, inputs, False)
    assert np.isfinite(wanted).sum() > 30 and not np.any(flags)
    for checkpoint in (False, True):
        found, _, ours = times_and_slopes(graph, at, inputs, checkpoint)
        np.testing.assert_allclose(found, wanted, rtol=1e-10)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9), ours, slopes)


def test_complaints():
    w, make = jnp.ones((2, 2)), functools.partial(rs.FeedForward, SIZES, rs.LIF(), jr.key(0))
    with pytest.raises(ValueError, match="give weights of neighbours by weights="):
        make(skips={(0, 1): jnp.ones((2, 3))})
    with pytest.raises(ValueError, match=r"skips\[0, 3\] must be"):
        make(skips={(0, 3): jnp.ones((3, 2))})
    with pytest.raises(ValueError, match="which skips has not"):
        make(skip_delays={(0, 2): 1e-3})
    with pytest.raises(ValueError, match="eligibility has no skips"):
        rs.eligibility(make(skips={(0, 2): w}), lambda t, now: 0.0, t1=T1, dt=DT)
