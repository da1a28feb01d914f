"""Online learning by three factors: the gradient of the adjoint without a backward pass, in memory of a moment."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import roughspike as rs

T1, DT = 0.9, 0.02  # 45 steps, two chunks of noise


def inputs():
    """Three channels; one spike lies on the end of the first chunk, one on the end of the run."""
    times = np.sort(np.random.default_rng(3).uniform(0.0, T1, (3, 6)), axis=1)
    times[0, 3], times[1, 5] = 0.64, T1
    return rs.SpikeTrain(np.sort(times, axis=1), t1=T1)


def stochastic():
    """Two layers with all noises, refractoriness and adaptation, and a readout; a mask, Dale's law, sparse synapses."""
    rng = np.random.default_rng(0)
    neuron = rs.SLIF((8.0, 12.0), ((0.2, 0.05), (0.1, 0.2)), v_reset=1.2, alpha=0.03, refractory=0.03, self_weight=-0.2)
    weights = [
        rs.Synapses(rng.uniform(0.5, 2.0, (3, 4)), mask=rng.uniform(size=(3, 4)) < 0.8),
        rs.Synapses(rng.uniform(0.2, 1.5, (4, 3)), dale=True),
        rs.Synapses.from_pairs([0, 0, 1, 2], [0, 1, 1, 0], [0.9, 1.1, 0.7, 1.3], 3, 2),
    ]
    return rs.FeedForward([3, 4, 3, 2], neuron, weights=weights, current=1.1, readout=rs.Readout(0.1, 0.05))


def deterministic():
    """Two layers with a hard threshold, seen by their spikes."""
    neuron = rs.LIF(tau_mem=0.1, tau_syn=0.05)
    current = [rs.PiecewiseLinear(np.array([0.0, 0.4, T1]), np.array([[1.1, 1.4, 1.0]] * 4)), 0.7]
    weights = [np.random.default_rng(1).uniform(0.5, 3.0, (3, 4)), np.random.default_rng(2).uniform(0.2, 1.0, (4, 2))]
    return rs.FeedForward([3, 4, 2], neuron, weights=weights, current=current)


def sees(number, time):
    """What a spike with this number at this time adds to a loss."""
    here = jnp.isfinite(time)
    return jnp.where(here, jnp.cos(1.3 * number) * jnp.sin(3 * jnp.where(here, time, 0.0)), 0.0)


def by_moments(t, now):
    slots = jnp.arange(now.times.shape[0], dtype=jnp.int32)[:, None]
    before = jnp.sum(sees((now.counts[None] + slots).astype(float), now.times))
    return before + 0.1 * jnp.sum(jnp.sin(now.membrane) * jnp.cos(t))


def whole(sol):
    """The same loss of a whole run."""
    membrane = sol.membrane[-1] if isinstance(sol.membrane, tuple) else sol.membrane
    total = 0.1 * jnp.sum(jnp.sin(membrane[:, 1:]) * jnp.cos(sol.times[1:]))
    if sol.layers[-1].times.shape[-2] == 3:  # those of the layer before a readout
        return total
    return total + jnp.sum(sees(jnp.arange(sol.spikes.times.shape[-1], dtype=float), sol.spikes.times))


@pytest.fixture(scope="module", params=["stochastic", "deterministic"])
def both(request):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        net = stochastic() if request.param == "stochastic" else deterministic()
        room = {"max_spikes": 32, "max_spikes_per_step": 1}
        online = rs.eligibility(net, by_moments, inputs=inputs(), t1=T1, dt=DT, key=jr.key(5), **room)

        @jax.jit
        def reference(net):
            def loss(net):
                sol = rs.simulate(net, inputs=inputs(), t1=T1, dt=DT, key=jr.key(5), trace=True, **room)
                return whole(sol), sol

            return jax.value_and_grad(loss, has_aux=True, allow_int=True)(net)

        return online, *reference(net)


def test_it_is_the_gradient_of_the_adjoint(both):
    online, (_, _), gradient = both
    for ours, layer in zip(online.gradient, gradient.layers, strict=True):
        theirs = layer.synapses.signed if layer.synapses.free is None else layer.synapses.free
        assert jnp.max(jnp.abs(theirs)) > 1e-2
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


def test_it_runs_what_simulate_runs(both):
    online, (value, sol), _ = both
    np.testing.assert_allclose(online.losses, [value], rtol=1e-12)
    for ours, train in zip(online.counts, sol.layers, strict=False):  # a readout has none
        assert int(train.counts.min()) >= 1
        np.testing.assert_array_equal(ours, train.counts)
    assert bool(online.result.ok) and bool(sol.result.ok)


def test_learning_online_follows_the_gradient_and_needs_no_more_memory_in_a_longer_run():
    net = rs.FeedForward([3, 2], rs.LIF(), weights=[jnp.zeros((3, 2))], readout=rs.Readout(0.1, 0.05))
    spikes = rs.poisson_spikes(jr.key(0), 30.0 * jnp.ones(3), t1=20.0, max_spikes=800)

    def loss(t, now):
        return jnp.sum((now.membrane - jnp.array([0.5, 1.0])) ** 2)

    def learn(net, t1):
        return rs.eligibility(net, loss, inputs=spikes, t1=t1, dt=0.01, optimiser=optax.sgd(1e-3), every=20)

    found = learn(net, 20.0)
    assert found.losses.shape == (100,)
    assert found.losses[-20:].mean() < 0.3 * found.losses[:5].mean()
    arrays, others = eqx.partition(net, eqx.is_array)
    size = [
        jax.jit(lambda arrays, t1=t1: learn(eqx.combine(arrays, others), t1).gradient)
        .lower(arrays)
        .compile()
        .memory_analysis()
        .temp_size_in_bytes
        for t1 in (2.0, 20.0)
    ]
    assert size[1] < size[0] + 4096  # the losses between updates, and no trace of 1800 steps


def test_it_says_what_it_does_not_do():
    net = rs.FeedForward([1, 1], neuron=rs.SLIF(mu=(8.0, 12.0)), weights=[jnp.ones((1, 1))])
    train = rs.SpikeTrain(np.array([[0.5]]), t1=1.0)
    run = lambda net=net, **more: rs.eligibility(net, by_moments, t1=1.0, dt=0.02, **more)  # noqa: E731
    with pytest.raises(ValueError, match="key is missing"):
        run(inputs=train)
    with pytest.raises(ValueError, match="rs.FeedForward"):
        run(rs.Recurrent(rs.SLIF(), weights=jnp.zeros((1, 1))))
    with pytest.raises(ValueError, match="delays=None"):
        run(rs.FeedForward([1, 1], neuron=rs.SLIF(), weights=[jnp.ones((1, 1))], delays=0.1))
    with pytest.raises(ValueError, match="no batch"):
        run(inputs=rs.SpikeTrain(np.array([[[0.5]]]), t1=1.0), key=jr.key(0))
    with pytest.raises(ValueError, match="pass an optimiser"):
        run(inputs=train, key=jr.key(0), every=5)
