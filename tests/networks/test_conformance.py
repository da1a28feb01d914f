"""Recurrent networks against `rs.solve` on the same grid, increments and uniforms; rules of order; what is refused."""

from __future__ import annotations

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from coupled_tools import options

import roughspike as rs
from roughspike.networks.coupled import Noise, run_on

NEURONS, STEPS, H, FINER = 3, 6, 0.1, 32


def network():
    """Coupled through the current, all noises, refractory: everything that `as_event_sde` writes."""
    neuron = rs.SLIF(
        (6.0, 5.0), ((0.25, 0.05), (0.1, 0.25)), v_reset=1.2, alpha=0.03, refractory=0.08, self_weight=-0.2
    )
    weights = jnp.array([[0.0, 0.7, 0.4], [-0.5, 0.0, 0.6], [0.8, -0.3, 0.0]])
    return rs.Recurrent(
        neuron, weights=weights, current=jnp.array([1.6, 1.5, 1.4]), v0=0.8, i0=jnp.array([0.3, 0.4, 0.5])
    )


def solved(net, key):
    """Spike times (neurons, 4) by the general solver with a solver of order 3, and the noise of that run for ours."""
    form = net.as_event_sde()
    assert form.driver is not None
    count, first = NEURONS, form.first_spike_kind
    driver_key, uniform_key = jr.split(key)
    increments = form.driver.realise(driver_key, 0.0, STEPS * H, STEPS, jnp.float64).increments
    fine = jnp.repeat(increments, FINER, axis=0) / FINER
    start = form.start(jr.key(5))
    path = rs.PiecewisePath(
        jnp.linspace(0.0, STEPS * H, STEPS * FINER + 1), jnp.pad(jnp.cumsum(fine, 0), ((1, 0), (0, 0)))
    )
    sol = rs.solve(
        form.sde,
        t0=0.0,
        t1=STEPS * H,
        dt=H / FINER,
        y0=start,
        driver=path,
        key=key,
        solver=diffrax.Bosh3(),
        max_events=24,
        check=False,
    )
    keys = jax.vmap(lambda m: jr.fold_in(uniform_key, m))(jnp.arange(24, dtype=jnp.int32))
    u = jax.vmap(lambda k: jr.uniform(k, (first + count, 1), jnp.float64, minval=float(jnp.finfo(jnp.float64).tiny)))(
        keys
    )
    log_u = jnp.concatenate([(start.s + net.neuron.alpha)[None], jnp.log(u[:8, first:, 0])])
    normals = fine.reshape(-1, 2, 1, count) / jnp.sqrt(H / FINER)
    rank = jnp.cumsum(sol.event_kinds[:, None] == first + jnp.arange(count, dtype=jnp.int32)[None], axis=0)
    times = jnp.stack(
        [
            jnp.sort(jnp.where((sol.event_kinds == first + k) & (rank[:, k] <= 4), sol.event_times, jnp.inf))[:4]
            for k in range(count)
        ]
    )
    return times, Noise(normals, jax.lax.stop_gradient(log_u[:, None])), sol.result


def ordered(net, noise):
    """Spike times (neurons, 4) by the engine."""
    ran = run_on(net, None, None, noise, options(STEPS * FINER, H / FINER, capacity=8))
    return ran.times[0, :, :4]


@pytest.fixture(scope="module")
def both():
    """Times of both and their pullbacks in all parameters of the network."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        net = network()

        signs = jnp.asarray(np.cos(1.3 * np.arange(12) + 0.4).reshape(3, 4))

        def weighed(times, rest):
            finite = jnp.isfinite(times)
            return jnp.sum(jnp.where(finite, signs * jnp.where(finite, times, 0.0), 0.0)), (times, rest)

        def theirs(net):
            times, noise, result = solved(net, jr.key(3))
            return weighed(times, (noise, result.flags))

        @jax.jit
        def run(net):
            on_theirs, (times, (noise, flags)) = jax.grad(theirs, has_aux=True)(net)
            on_ours, (found, _) = jax.grad(lambda net: weighed(ordered(net, noise), None), has_aux=True)(net)
            return times, found, on_theirs, on_ours, flags

        return run(net)


def test_spike_times_agree_path_by_path(both):
    theirs, ours, _, _, flags = both
    assert int(flags) == 0
    assert (np.isfinite(theirs) == np.isfinite(ours)).all() and np.isfinite(theirs).sum() >= 5
    assert np.nanmax(np.abs(np.where(np.isfinite(theirs), theirs - ours, 0.0))) < 2e-6


def test_gradients_agree(both):
    _, _, theirs, ours, _ = both
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(theirs), jax.tree.leaves(ours), strict=True):
        name = jax.tree_util.keystr(path)
        scale = float(jnp.max(jnp.abs(a)))
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * scale + 1e-9, err_msg=name)


def test_refusals():
    hard, soft, w = rs.LIF(), rs.SLIF(), jnp.zeros((2, 2))
    with pytest.raises(ValueError, match="hard threshold needs delays"):
        rs.Recurrent(hard, weights=w)
    with pytest.raises(ValueError, match="delays must be greater than 0"):
        rs.Recurrent(soft, weights=w, delays=0.0)
    with pytest.raises(ValueError, match="delays must be a scalar"):
        rs.Recurrent(soft, weights=w, delays=jnp.ones(3))
    with pytest.raises(ValueError, match="one row per neuron"):
        rs.Recurrent(soft, weights=jnp.zeros((3, 2)))
    with pytest.raises(ValueError, match="rows of one sign"):
        rs.Synapses(jnp.array([[0.1, -0.2]]), dale=True)
    with pytest.raises(ValueError, match="inputs need weights"):
        train = rs.SpikeTrain(np.array([[0.5]]))
        rs.simulate(rs.Recurrent(soft, weights=w), inputs=train, t1=1.0, dt=0.01, key=jr.key(0))
    with pytest.raises(ValueError, match="as_event_sde does not write delays"):
        rs.Recurrent(soft, weights=w, delays=0.1).as_event_sde()


def test_sparse_synapses_are_their_matrix():
    synapses = rs.Synapses.from_pairs([1, 0, 1], [0, 2, 2], [0.5, 0.3, -0.4], 2, 3)
    masked = rs.Synapses(jnp.ones((2, 2)), mask=np.eye(2, dtype=bool))

    @jax.jit
    def both(synapses, masked):
        return synapses.dense(), jax.grad(lambda s: jnp.sum(s.dense()), allow_int=True)(masked).free

    matrix, slope = both(synapses, masked)
    np.testing.assert_array_equal(matrix, [[0.0, 0.0, 0.3], [0.5, 0.0, -0.4]])
    np.testing.assert_array_equal(slope, np.eye(2))
