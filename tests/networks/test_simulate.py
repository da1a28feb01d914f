"""The contract of `simulate`: shapes, transformations, randomness, and how it says that something went wrong."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from lane_tools import QUICK, fig1

import roughspike as rs
from roughspike._types import (
    NOT_FINITE,
    SPIKE_BUFFER_FULL,
    STEP_TOO_COARSE,
    TOO_MANY_SPIKES_IN_A_STEP,
    UNDECLARED_NOISE,
)

KEY = jr.key


def _run(cell, **options):
    return rs.simulate(cell, **{"t1": 1.0, "dt": 0.01, "key": KEY(0), **options})


def test_shapes():
    cell = rs.Population(fig1(), [1.2, 1.5, 1.9])
    many, one = _run(cell, num_samples=5, trace=True), _run(cell, trace=True)
    assert many.spikes.times.shape == (5, 3, 64) and one.spikes.times.shape == (3, 64)
    assert many.spikes.counts.shape == (5, 3) and one.spikes.counts.shape == (3,)
    assert many.membrane.shape == (5, 3, 101) and one.membrane.shape == (3, 101)
    assert many.result.flags.shape == (5,) and one.result.flags.shape == ()
    assert many.times.shape == (101,) and (many.spikes.t0, many.spikes.t1) == (0.0, 1.0)
    np.testing.assert_allclose(many.membrane[..., 0], 0.0)
    checked = rs.SpikeTrain(np.asarray(many.spikes.times), 0.0, 1.0)  # ascending, padded, inside the window
    np.testing.assert_array_equal(checked.counts, many.spikes.counts)


def test_one_sample_is_the_first_of_one():
    cell = rs.Population(fig1(), 1.5)
    one = _run(cell)
    np.testing.assert_array_equal(one.spikes.times, _run(cell, num_samples=1).spikes.times[0])
    assert one.membrane is None


def test_same_key_same_run_other_key_other_run():
    cell = rs.Population(fig1(), 1.5)
    first, again, other = (_run(cell, key=KEY(k)).spikes.times for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[:, 0], other[:, 0])


def test_a_larger_buffer_repeats_the_same_run():
    cell = rs.Population(fig1(), 1.5)
    small, large = (_run(cell, num_samples=4, max_spikes=n).spikes.times for n in (8, 32))
    np.testing.assert_array_equal(small, large[..., :8])


def test_the_noise_does_not_depend_on_the_parameters():
    near, there = (_run(rs.Population(fig1(), c), num_samples=4, max_spikes=32).spikes.times for c in (1.5 + 1e-9, 1.5))
    np.testing.assert_allclose(near, there, atol=1e-6)


def test_neurons_are_independent_and_use_their_own_current():
    sol = _run(rs.Population(fig1(), [1.5, 1.5, 2.5]), num_samples=64)
    times = np.asarray(sol.spikes.times[..., 0])
    assert abs(np.corrcoef(times[:, 0], times[:, 1])[0, 1]) < 0.4
    assert times[:, 2].mean() < times[:, 0].mean() - 0.05


def test_jit_vmap_and_grad_with_everything_traced():
    def first(mu1, sigma, v_reset, alpha, beta, v_th, tau_s, refractory, weight, current, v0, i0, key):
        neuron = rs.SLIF(
            mu=(mu1, 2.0),
            sigma=((sigma, 0.0), (0.0, 0.0)),
            v_reset=v_reset,
            alpha=alpha,
            escape=rs.ExponentialEscape(beta, v_th, tau_s),
            refractory=refractory,
            self_weight=weight,
        )
        cell = rs.Population(neuron, current, v0, i0)
        return rs.simulate(cell, t1=1.5, dt=0.01, key=key, max_spikes=16).spikes.times[0, :2].sum()

    values = [15.0, 0.25, 1.4, 0.03, 5.0, 1.0, 1.0, 0.03, -0.2, 1.6, 0.1, 0.1]
    slopes = jax.jit(jax.value_and_grad(first, argnums=tuple(range(12))), compiler_options=QUICK)
    value, gradient = slopes(*values, KEY(0))
    assert np.isfinite(value) and np.isfinite(gradient).all() and np.all(np.array(gradient) != 0)
    batched = jax.jit(jax.vmap(first, in_axes=(None,) * 12 + (0,)), compiler_options=QUICK)
    batch = batched(*values, jnp.stack([KEY(k) for k in range(3)]))
    assert batch.shape == (3,) and len(np.unique(batch)) == 3
    np.testing.assert_allclose(batch[0], value, rtol=1e-12)


def test_concrete_arguments_inside_jit():
    cell = rs.Population(fig1(), 1.5)
    inside = jax.jit(lambda x: x * _run(cell, throw=True).spikes.times[0, 0])(1.0)
    np.testing.assert_allclose(inside, _run(cell).spikes.times[0, 0], rtol=1e-12)


def test_a_stimulus_inside_and_outside_of_jit():
    signal = rs.SampledSignal(np.sin(np.arange(1000) * 0.02), dt=0.001)

    def first(gain, delay):
        current = rs.Stimulus(signal, gain, delay, -0.2, 0.02) + rs.Constant(1.2)
        return _run(rs.Population(fig1(), current)).spikes.times[0, 0]

    value, slope = jax.jit(jax.value_and_grad(first, argnums=1), compiler_options=QUICK)(0.5, 0.0043)
    np.testing.assert_allclose(value, first(0.5, 0.0043), rtol=1e-10)
    np.testing.assert_allclose(slope, (first(0.5, 0.0043 + 1e-6) - first(0.5, 0.0043 - 1e-6)) / 2e-6, rtol=1e-5)
    cell = rs.Population(fig1(), rs.Stimulus(signal, 0.5, 0.0043, -0.2, 0.02) + rs.Constant(1.2))
    as_argument = eqx.filter_jit(lambda c: _run(c).spikes.times)(cell)
    np.testing.assert_allclose(as_argument[0, 0], value, rtol=1e-9)


def test_a_constant_current_in_every_form_gives_the_same_spikes():
    forms = (
        1.5,
        rs.Constant(1.5),
        rs.PiecewiseLinear([0.0, 1.0], [1.5, 1.5]),
        rs.BSplineCurrent(np.full(5, 1.5), 0.0, 1.0),
    )
    times = [_run(rs.Population(fig1(), form)).spikes.times[0] for form in forms]
    for other in times[1:]:
        np.testing.assert_allclose(other, times[0], rtol=1e-9)


def test_a_window_that_starts_later_shifts_the_spikes():
    cell = rs.Population(fig1(), 1.5)
    late = _run(cell, t0=10.0, t1=11.0)
    np.testing.assert_allclose(late.spikes.times - 10.0, _run(cell).spikes.times, atol=1e-9)
    assert (late.spikes.t0, late.spikes.t1) == (10.0, 11.0) and float(late.times[0]) == 10.0


# how it says that something went wrong


def test_full_buffers_grow_outside_of_jit_and_are_reported_inside():
    cell = rs.Population(rs.SLIF(mu=(15.0, 0.0), v_reset=0.02, escape=rs.ExponentialEscape(tau_s=0.1)), 1.5)
    grown = _run(cell, t1=2.0, num_samples=2)
    assert bool(grown.result.ok) and grown.spikes.capacity >= int(grown.result.needed.max()) > 64
    fixed = _run(cell, t1=2.0, num_samples=2, max_spikes=8)
    assert fixed.spikes.capacity == 8 and fixed.result.has(SPIKE_BUFFER_FULL).all()
    assert (np.asarray(fixed.result.needed) > 64).all()  # an estimate: beyond the buffer the thresholds repeat
    np.testing.assert_array_equal(fixed.spikes.times, grown.spikes.times[..., :8])
    (line,) = fixed.result.messages()
    lost = "2 of 2 samples: spike buffer full (later spikes are lost): pass max_spikes="
    assert line == f"{lost}{fixed.result.needed.max()} or more"
    inside = jax.jit(lambda key: _run(cell, t1=2.0, key=key).result.flags)(KEY(0))
    assert int(inside) & SPIKE_BUFFER_FULL
    with pytest.raises(rs.SimulationError, match="spike buffer full.*pass max_spikes="):
        _run(cell, t1=2.0, num_samples=2, max_spikes=8, throw=True)


def test_flags_of_different_neurons_are_all_kept():
    neuron = rs.SLIF(mu=(15.0, 0.0), v_reset=0.02, escape=rs.ExponentialEscape(beta=20.0, tau_s=0.1))
    cell = rs.Population(neuron, [1.15, 4.0, np.nan])
    flags = int(_run(cell, max_spikes=4, max_spikes_per_step=1).result.flags)
    assert flags & NOT_FINITE and flags & TOO_MANY_SPIKES_IN_A_STEP and flags & SPIKE_BUFFER_FULL


def _provoke():
    slow = {"mu": (15.0, 0.0), "v_reset": 1.4}
    crowded = rs.SLIF(mu=(5.0, 0.0), v_reset=0.0, escape=rs.ExponentialEscape(beta=0.1, tau_s=0.002))
    declared = rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4)
    changed = eqx.tree_at(lambda n: n.sigma, declared, jnp.array([[0.25, 0.0], [0.0, 0.1]]))
    return {
        NOT_FINITE: (rs.Population(rs.SLIF(**slow), jnp.nan), {}, "not finite: check the parameters"),
        STEP_TOO_COARSE: (
            rs.Population(rs.SLIF(**slow, escape=rs.ExponentialEscape(beta=40.0)), 4.0, v0=-1.0),
            {"dt": 0.1},
            "hazard changes too fast inside a step.*smaller dt",
        ),
        TOO_MANY_SPIKES_IN_A_STEP: (
            rs.Population(crowded, 1.0),
            {"max_spikes": 1000, "t1": 0.2, "max_spikes_per_step": 1},
            "more spikes in one step than max_spikes_per_step: raise it",
        ),
        UNDECLARED_NOISE: (rs.Population(changed, 1.5), {}, "sigma is nonzero in an entry.*build a new neuron"),
    }


@pytest.mark.parametrize("flag", [NOT_FINITE, STEP_TOO_COARSE, TOO_MANY_SPIKES_IN_A_STEP, UNDECLARED_NOISE])
def test_every_flag_can_be_provoked(flag):
    cell, options, message = _provoke()[flag]
    result = _run(cell, **options).result
    assert int(result.flags) & flag and not bool(result.ok)
    assert any(message.split(".*")[0] in line for line in result.messages())
    with pytest.raises(rs.SimulationError, match=message):
        _run(cell, throw=True, **options)


def test_crowded_steps_get_room_outside_of_jit():
    cell = _provoke()[TOO_MANY_SPIKES_IN_A_STEP][0]
    sol = _run(cell, t1=0.1, dt=0.01, num_samples=4)
    assert not sol.result.has(TOO_MANY_SPIKES_IN_A_STEP).any(), sol.result


def test_a_result_says_what_happened():
    assert repr(_run(rs.Population(fig1(), 1.5)).result) == "Result(all ended well)"
    seen = []
    jax.eval_shape(lambda k: seen.append(repr(_run(rs.Population(fig1(), 1.5), key=k).result)) or k, KEY(0))
    assert seen == ["Result(<traced>)"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t1": 0.0}, "t1 must lie after t0"),
        ({"t1": -1.0}, "t1 must lie after t0"),
        ({"t0": 2.0}, "t1 must lie after t0.*t0=2.0, t1=1.0"),
        ({"t1": np.inf}, "both finite"),
        ({"dt": 0.0}, "dt must be a positive time step, got 0.0"),
        ({"dt": -0.1}, "dt must be a positive time step"),
        ({"dt": np.nan}, "dt must be a positive time step"),
        ({"dt": 0.2}, r"dt=0.2 is too coarse for the fastest rate mu=15 .*pass dt=0.033 or less"),
        ({"num_samples": 0}, "num_samples must be at least 1, or None for a single sample"),
        ({"max_spikes": 0}, "max_spikes and max_spikes_per_step must be at least 1"),
        ({"max_spikes_per_step": 0}, "must be at least 1"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        _run(rs.Population(fig1(), 1.5), **options)


def test_a_step_longer_than_the_refractory_time():
    with pytest.raises(ValueError, match="too coarse for the refractory time 0.004: pass dt=0.004 or less"):
        _run(rs.Population(fig1(refractory=0.004), 1.5))


def test_the_grid_has_steps_of_equal_length():
    sol = _run(rs.Population(fig1(), 1.5), t1=0.95, dt=0.1)
    assert sol.times.shape == (11,)
    np.testing.assert_allclose(np.diff(sol.times), 0.095, rtol=1e-12)
    assert jax.eval_shape(lambda: _run(rs.Population(fig1(), 1.5), t1=0.3, dt=0.1)).times.shape == (4,)


@pytest.mark.plain
def test_float32_follows_float64():
    sol = _run(rs.Population(fig1(sigma=((0.0, 0.0), (0.0, 0.0))), 1.5), num_samples=8)
    assert sol.spikes.times.dtype == jnp.float32 and bool(sol.result.ok)
    assert sol.membrane is None
