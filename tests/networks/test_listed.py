"""Input spikes delivered one by one give what the dense product gives, forward and backward."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import roughspike as rs
from roughspike.networks.listed import worth_listing
from roughspike.paths.spikes import unchecked

PRE, POST, STEPS, BATCH, T1 = 300, 128, 64, 2, 64e-3


def test_it_is_done_where_spikes_are_few_and_the_layer_is_wide():
    weights = jnp.zeros((PRE, POST))
    assert worth_listing(1, weights, STEPS) and worth_listing(2, weights, STEPS)
    assert not worth_listing(4, weights, STEPS) and not worth_listing(1, weights[:, :20], STEPS)
    assert not worth_listing(1, weights[:50], STEPS)


def test_values_and_derivatives_are_those_of_the_dense_product():
    """`forward_mode` takes the dense product; spikes are missing, and some fall together into a step or on the grid."""
    net = rs.FeedForward([PRE, POST], neuron=rs.LIF(20e-3, 5e-3), key=jr.key(0), delays=0.4e-3)
    times = 25e-3 * jr.uniform(jr.key(1), (BATCH, PRE, 2))
    times = times.at[:, ::3, 0].set(4e-3).at[0, :, 1].set(jnp.inf).at[1, 7].set(jnp.inf)
    weights = 0.6 * net.layers[0].synapses.dense()

    def loss(weights, shift, forward_mode):
        moved = jnp.sort(times + jnp.where(times < 20e-3, shift, 0.0), axis=-1)
        layer = rs.FeedForward([PRE, POST], neuron=net.layers[0].neuron, weights=[weights], delays=0.4e-3)
        options = {"t1": T1, "dt": T1 / STEPS, "max_spikes": 8, "forward_mode": forward_mode}
        out = rs.simulate(layer, inputs=unchecked(moved, 0.0, T1), **options).spikes.times
        return jnp.sum(jnp.where(jnp.isfinite(out), jnp.sin(60 * out + jr.normal(jr.key(3), out.shape)), 0.0))

    low = {"xla_backend_optimization_level": "0"}
    shift = 1e-5 * jr.normal(jr.key(4), times.shape)
    direction = jr.normal(jr.key(5), weights.shape), 1e-3 * jr.normal(jr.key(6), times.shape)
    dense = jax.jit(lambda: jax.jvp(lambda w, s: loss(w, s, True), (weights, shift), direction), compiler_options=low)()
    value, gradient = jax.jit(lambda: jax.value_and_grad(loss, (0, 1))(weights, shift, False), compiler_options=low)()
    along = sum(jnp.vdot(g, d) for g, d in zip(gradient, direction, strict=True))
    np.testing.assert_allclose((value, along), dense, rtol=1e-12)
    assert all(jnp.linalg.norm(g.ravel()) > 1 for g in gradient)
