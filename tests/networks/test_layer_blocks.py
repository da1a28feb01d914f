"""checkpoint=True for layers: the same spikes and derivatives, in memory that grows with sqrt(steps)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from lane_tools import QUICK

import roughspike as rs
from roughspike.paths.spikes import unchecked

T1 = 0.05


def direct():
    """Hard thresholds, no delays, a current that changes in time."""
    current = [rs.PiecewiseLinear(jnp.array([0.0, T1]), jnp.array([0.2, 0.8])), 0.0]
    net = rs.FeedForward([4, 8, 2], rs.LIF(20e-3, 5e-3), key=jr.key(0), readout=rs.Readout(), current=current)
    return net, 600


def delayed():
    """Escape rates, noise and refractory behind axonal delays of inputs, then synaptic delays."""
    noisy = rs.SLIF(
        (50.0, 200.0),
        ((1.0, 0.0), (0.0, 0.0)),
        escape=rs.ExponentialEscape(5.0, 1.0, 1e-3),
        alpha=0.1,
        refractory=2e-3,
    )
    delays = [1e-3 * jnp.arange(1.0, 5.0), 1e-3 * jr.uniform(jr.key(5), (5, 2)) + 3e-3]
    net = rs.FeedForward([4, 5, 2], [noisy, rs.Readout()], key=jr.key(1), delays=delays, current=[0.3, 0.0])
    return net, 70


@pytest.fixture(scope="module", params=[direct, delayed])
def pair(request):
    """Temporary memory, outputs and gradients without and with checkpoints."""

    def loss(at, steps, checkpoint):
        net, times = at
        run = {"max_spikes": 24, "max_spikes_per_step": 1, "num_samples": 2, "checkpoint": checkpoint}
        sol = rs.simulate(net, inputs=unchecked(times, 0.0, T1), t1=T1, dt=T1 / steps, key=jr.key(4), **run)
        total = jnp.mean(jnp.sin(sol.membrane * jnp.arange(steps + 1.0)))
        for k, train in enumerate(sol.layers):
            seen = jnp.isfinite(train.times)
            total += (1.0 + k) * jnp.sum(jnp.where(seen, jnp.sin(100.0 * jnp.where(seen, train.times, 0.0)), 0.0))
        return total, (sol.result.flags, [x.times for x in sol.layers], sol.membrane)

    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        net, steps = request.param()
        at = net, 0.03 * jr.uniform(jr.key(1), (3, 4, 2))
        found = []
        for checkpoint in (False, True):
            of = jax.grad(lambda at, c=checkpoint: loss(at, steps, c), has_aux=True)
            program = jax.jit(of, compiler_options=QUICK).lower(at).compile()
            found.append((program.memory_analysis().temp_size_in_bytes, *program(at)))
        return request.param.__name__, found


def test_numbers_are_the_same(pair):
    name, ((_, on_plain, plain), (_, on_blocks, blocks)) = pair
    assert not np.any(plain[0]) and not np.any(blocks[0])
    for a, b in zip(plain[1], blocks[1], strict=True):
        assert np.isfinite(a).sum() > 20
        np.testing.assert_allclose(a, b, rtol=0.0 if name == "direct" else 1e-12)
    np.testing.assert_allclose(plain[2], blocks[2], rtol=1e-9, atol=1e-12)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(on_plain), jax.tree.leaves(on_blocks), strict=True):
        limit = 1e-10 * np.max(np.abs(a)) + 1e-12
        np.testing.assert_allclose(a, b, atol=limit, rtol=0.0, err_msg=jax.tree_util.keystr(path))


def test_memory_is_a_fraction(pair):
    name, ((plain, *_), (blocks, *_)) = pair
    if name == "direct":  # 600 steps in blocks of 25
        assert blocks < 0.25 * plain, (blocks, plain)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"checkpoint=True is for an rs\.Population or an rs\.FeedForward"):
        net = rs.Recurrent(rs.SLIF(), weights=jnp.zeros((2, 2)))
        rs.simulate(net, t1=1.0, dt=0.01, key=jr.key(0), checkpoint=True)
