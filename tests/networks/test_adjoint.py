"""The hand-written adjoint against the plain autodiff of the same scan."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from lane_tools import QUICK

import roughspike as rs

CASES = {
    "plain": (None, rs.SubtractiveReset(), None, 1.5, 0.02),
    "refractory, reset to a value, self weight, current in time": (
        *(0.05, rs.ResetToValue(), -0.3),
        ([0.0, 1.0, 2.0], [1.0, 2.0, 1.5]),
        0.02,
    ),
    "two neurons, several spikes in a step": (None, rs.SubtractiveReset(), 0.2, np.array([3.0, 1.2]), 0.05),
}


def cell_of(name):
    refractory, reset, weight, current, _ = CASES[name]
    neuron = rs.SLIF(
        mu=(15.0, 5.0),
        sigma=((0.25, 0.1), (-0.2, 0.3)),
        v_reset=0.9,
        alpha=0.03,
        reset=reset,
        refractory=refractory,
        self_weight=weight,
    )
    current = rs.PiecewiseLinear(*current) if isinstance(current, tuple) else current
    return rs.Population(neuron, current, v0=0.1, i0=0.2)


@pytest.mark.parametrize("name", CASES)
def test_every_gradient_equals_autodiff_to_rounding(name):
    """Spike times, membrane trace and final threshold, with respect to every leaf."""
    cell = cell_of(name)
    dynamic, static = eqx.partition(cell, eqx.is_inexact_array)

    def loss(dynamic, forward_mode):
        sol = rs.simulate(
            eqx.combine(dynamic, static),
            t1=1.0,
            dt=CASES[name][-1],
            key=jr.key(0),
            num_samples=4,
            max_spikes=64,
            max_spikes_per_step=3 if "several" in name else 1,
            trace=True,
            forward_mode=forward_mode,
        )
        times = jnp.where(jnp.isfinite(sol.spikes.times), sol.spikes.times, 0.0)
        return jnp.sum(jnp.sin(3 * times)) + 0.01 * jnp.sum(sol.membrane**2) + jnp.sum(sol.spikes.horizon.threshold)

    gradient = jax.jit(jax.grad(loss), static_argnums=1, compiler_options=QUICK)
    plain, written = gradient(dynamic, True), gradient(dynamic, False)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(written), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12 * max(1.0, float(jnp.max(jnp.abs(a)))))
    assert any(float(jnp.max(jnp.abs(a))) > 0.1 for a in jax.tree.leaves(plain))


def test_several_spikes_in_a_step_do_occur_in_the_case_that_says_so():
    name = "two neurons, several spikes in a step"
    sol = rs.simulate(cell_of(name), t1=2.0, dt=0.05, key=jr.key(0), num_samples=8, max_spikes_per_step=3)
    times = np.sort(np.asarray(sol.spikes.times), axis=-1)
    step = np.floor(np.where(np.isfinite(times), times, -np.arange(times.shape[-1])) / 0.05)
    assert np.any(np.diff(step, axis=-1) == 0)


def test_under_vmap_over_keys_and_parameters():
    neuron = cell_of("plain").neuron

    def first(current, key, forward_mode=False):
        cell = rs.Population(neuron, current)
        options = {"max_spikes": 8, "forward_mode": forward_mode}
        return rs.simulate(cell, t1=1.0, dt=0.02, key=key, **options).spikes.times[0, 0]

    keys, currents = jr.split(jr.key(1), 3), jnp.array([1.3, 1.5, 1.7])
    batched = jax.vmap(jax.grad(first))(currents, keys)
    slopes = [jax.jvp(lambda c, k=k: first(c, k, True), (c,), (1.0,))[1] for c, k in zip(currents, keys, strict=True)]
    np.testing.assert_allclose(batched, np.array(slopes), rtol=1e-12)


@pytest.mark.parametrize("steps", [64, 80])
def test_checkpointing_changes_no_number(steps):
    """Blocks of 32 steps, with and without a remainder, a current that changes in time, a refractory time."""
    cell = cell_of("refractory, reset to a value, self weight, current in time")
    dynamic, static = eqx.partition(cell, eqx.is_inexact_array)

    def loss(dynamic, checkpoint):
        options = {"dt": 0.02, "key": jr.key(0), "num_samples": 3, "max_spikes": 64, "checkpoint": checkpoint}
        sol = rs.simulate(eqx.combine(dynamic, static), t1=0.02 * steps, **options)
        times = jnp.where(jnp.isfinite(sol.spikes.times), sol.spikes.times, 0.0)
        return jnp.sum(jnp.sin(3 * times)) + jnp.sum(sol.spikes.horizon.threshold)

    both = jax.jit(jax.value_and_grad(loss), static_argnums=1, compiler_options=QUICK)
    kept, again = (both(dynamic, x) for x in (False, True))
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-11, atol=1e-11)


def test_checkpointing_needs_memory_of_the_order_of_the_square_root():
    """Temporary memory of the compiled gradient at 2048 and 16384 steps: 8 times the steps, about 3 times as much."""
    neuron = rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4)

    def memory(steps, checkpoint):
        def loss(current):
            options = {"dt": 0.01, "key": jr.key(0), "num_samples": 64, "max_spikes": 4, "checkpoint": checkpoint}
            return jnp.sum(
                rs.simulate(rs.Population(neuron, current), t1=0.01 * steps, **options).spikes.times[..., :1]
            )

        compiled = jax.jit(jax.grad(loss), compiler_options=QUICK).lower(1.0).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(16384, True) < 4 * memory(2048, True) < memory(2048, False)


def test_checkpointing_says_what_it_does_not_go_with():
    cell = cell_of("plain")
    for mode in ("trace", "forward_mode"):
        with pytest.raises(ValueError, match=rf"checkpoint=True .* {mode}=True.*drop one"):
            rs.simulate(cell, t1=1.0, dt=0.1, key=jr.key(0), checkpoint=True, **{mode: True})


def test_blocks_of_lanes_change_no_number(monkeypatch):
    """Not differentiated it runs in small blocks, differentiated in large ones: 1001 lanes in 4, in 2, and at once."""
    cell = cell_of("plain")

    def run(room):  # one more slot makes another program, and repeats the same run
        def mean(current):
            options = {"num_samples": 1001, "max_spikes": room}
            sol = rs.simulate(rs.Population(cell.neuron, current), t1=1.0, dt=0.05, key=jr.key(5), **options)
            times = sol.spikes.times[..., :16]
            return jnp.mean(jnp.where(jnp.isfinite(times), times, 0.0)), (times, sol.result.flags)

        light = mean(cell.current)[1]
        (_, whole), slope = jax.value_and_grad(mean, has_aux=True)(jnp.asarray(1.5))
        return *light, *whole, slope

    once = run(16)
    monkeypatch.setattr("roughspike.networks.lanes._SMALL", 256)
    monkeypatch.setattr("roughspike.networks.lanes._LANES", 512)
    for a, b in zip(run(17), once, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert once[0].shape == (1001, 1, 16) and once[-1] != 0
    first = np.asarray(once[0][:, 0, 0])
    assert len(np.unique(first[np.isfinite(first)])) == np.sum(np.isfinite(first))  # no sample is repeated
