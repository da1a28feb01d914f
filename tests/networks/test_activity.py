"""The regulariser of activity: what it is, and that it brings a dead network to life and calms a busy one."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import roughspike as rs

LOW, HIGH = 0.5, 4
pytestmark = pytest.mark.plain  # optax and strict promotion do not go together


@pytest.fixture(scope="module")
def descend():
    """Start from weights times a factor, take steps of Adam on the penalty alone; spikes before and after, penalty."""
    net = rs.FeedForward([5, 12, 6], neuron=rs.LIF(20e-3, 5e-3), key=jr.key(0))
    inputs = rs.latency_code(rs.yin_yang(8, seed=0)[0], 48e-3, 30e-3)
    weights_of = lambda n: [layer.synapses.free for layer in n.layers]  # noqa: E731
    start, optimiser = weights_of(net), optax.adam(0.3)

    def loss(weights):
        moved = eqx.tree_at(weights_of, net, weights)
        sol = rs.simulate(moved, inputs=inputs, t1=48e-3, dt=1e-3, max_spikes=64, max_spikes_per_step=2, trace=True)
        counts = [train.counts for train in sol.layers]
        return rs.activity_penalty(sol, LOW, HIGH), (counts, sol.layers[0].times)

    @jax.jit
    def run(factor):
        weights = jax.tree.map(lambda x: factor * x, start)

        def body(carry, _):
            weights, state = carry
            (value, (counts, times)), on = jax.value_and_grad(loss, has_aux=True)(weights)
            updates, state = optimiser.update(on, state)
            spiking = jnp.where(jnp.isfinite(times), jnp.sin(times), 0.0).sum()
            return (optax.apply_updates(weights, updates), state), (value, counts, spiking)

        return jax.lax.scan(body, (weights, optimiser.init(weights)), None, length=200)[1]

    yield lambda factor: jax.tree.map(np.asarray, run(factor))


def test_a_dead_network_comes_to_life(descend):
    value, counts, spiking = descend(0.02)
    assert all(x[0].sum() == 0 for x in counts) and spiking[0] == 0  # no spike, so no loss of spikes has a gradient
    assert all((x[-1].mean(axis=0) > 0).all() for x in counts)  # and now every neuron of both layers spikes
    assert 0.9 < value[0] / 2 < 1.0 and value[-1] < 1e-3


def test_a_busy_network_calms_down_and_stays_alive(descend):
    value, counts, _ = descend(2.0)
    busy = [(x > HIGH).mean(axis=(1, 2)) for x in counts]
    assert all(share[0] > 0.6 and share[-1] < 0.2 for share in busy)
    assert all((x[-1].mean(axis=0) > 0).all() for x in counts)
    assert value[-1] < 0.2 * value[0]


def test_complaints_name_the_argument_and_the_remedy():
    net = rs.FeedForward([2, 3], neuron=rs.LIF(), key=jr.key(0))
    inputs = rs.SpikeTrain(jnp.array([[0.01], [0.02]]), 0.0, 0.05)
    plain, traced = (rs.simulate(net, inputs=inputs, t1=0.05, dt=1e-3, max_spikes=4, trace=x) for x in (False, True))
    for message, call in (
        ("pass trace=True", lambda: rs.activity_penalty(plain)),
        ("low must be greater than 0", lambda: rs.activity_penalty(traced, low=0.0)),
        ("high must be at least 0 and less than max_spikes", lambda: rs.activity_penalty(traced, high=4)),
    ):
        with pytest.raises(ValueError, match=message):
            call()
