"""Every current: its means over pieces against fine quadrature, its derivatives against differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import roughspike as rs

RNG = np.random.default_rng(3)
SIGNAL = rs.SampledSignal(RNG.normal(size=400), dt=0.005, start=0.0)  # 2 s
KNOTS = np.array([0.1, 0.3, 0.8, 1.4])
EDGES = np.sort(np.concatenate([np.linspace(0.0, 2.0, 160), RNG.uniform(0.0, 2.0, 40)]))


_compiled = eqx.filter_jit(lambda current, prepared: current.means(prepared))


@eqx.filter_jit
def _for_each_delay(current, delays, prepared):
    return jax.vmap(lambda d: eqx.tree_at(lambda c: c.delay, current, d).means(prepared))(delays)


def _pieces(edges=EDGES):
    return edges[:-1][None], np.diff(edges)[None]


def _means(current, edges=EDGES):
    return np.asarray(_compiled(current, current.prepare(*_pieces(edges))))


def _quadrature(function, edges=EDGES, points=400):
    """Means of a function of time over pieces, by the midpoint rule."""
    starts, lengths = edges[:-1], np.diff(edges)
    at = starts[:, None] + lengths[:, None] * (np.arange(points) + 0.5) / points
    return np.mean(function(at), axis=-1)[None]


def _held(t, signal=SIGNAL):
    """The signal as the contract says: constant over each sample, held at its ends."""
    index = np.floor((t - signal.start) / signal.dt).astype(int)
    return signal.values[np.clip(index, 0, len(signal.values) - 1)]


SMOOTH = [
    (rs.Constant(1.5), lambda t: 1.5 + 0 * t),
    (rs.PiecewiseLinear(KNOTS, [1.0, -1.0, 2.0, 0.5]), lambda t: np.interp(t, KNOTS, [1.0, -1.0, 2.0, 0.5])),
    (rs.ExponentialDrift(0.8, 1.7), lambda t: 0.8 * np.exp(-t / 1.7)),
]


@pytest.mark.parametrize(("current", "function"), SMOOTH, ids=lambda x: type(x).__name__)
def test_means_of_curves(current, function):
    # the means are taken at the midpoint: second order, and first where a knot lies inside a piece
    np.testing.assert_allclose(_means(current), _quadrature(function), atol=0.02)
    fine = np.linspace(0.0, 2.0, 3001)
    np.testing.assert_allclose(_means(current, fine), _quadrature(function, fine, 20), atol=1.5e-3)


@pytest.mark.parametrize("delay", [0.0, 0.0033, 0.02])
def test_means_of_a_stimulus_are_exact(delay):
    current = rs.Stimulus(SIGNAL, gain=1.3, delay=delay)
    edges = np.sort(np.concatenate([EDGES, np.arange(0.0, 2.0, 0.005)]))
    expected = 1.3 * _quadrature(lambda t: _held(t - delay), edges, 2000)
    np.testing.assert_allclose(_means(current, edges), expected, atol=3e-3)  # error of the midpoint rule at jumps
    np.testing.assert_allclose(np.mean(np.abs(_means(current, edges) - expected)), 0.0, atol=1e-4)


def test_a_stimulus_is_held_before_its_start_and_after_its_end():
    short = rs.SampledSignal(np.array([1.0, 5.0, -2.0]), dt=0.1, start=0.5)
    current = rs.Stimulus(short, gain=1.0, delay=0.0)
    edges = np.array([0.0, 0.2, 0.45, 0.55, 0.65, 0.9, 1.5])  # pieces that straddle both ends
    expected = [[1.0, 1.0, 1.0, 3.0, (0.05 * 5.0 - 0.2 * 2.0) / 0.25, -2.0]]
    np.testing.assert_allclose(_means(current, edges), expected, rtol=1e-12)


@pytest.mark.parametrize("start", [0.0, 0.03, -1.995])
def test_a_stimulus_is_continuous_in_the_delay(start):
    signal = rs.SampledSignal(SIGNAL.values, SIGNAL.dt, start)
    edges = np.linspace(0.0, 0.1, 4)
    delays = np.linspace(0.0, 0.02, 801)
    prepared = rs.Stimulus(signal).prepare(*_pieces(edges))
    means = np.asarray(_for_each_delay(rs.Stimulus(signal), jnp.asarray(delays), prepared))
    largest = 2 * np.abs(SIGNAL.values).max() / np.diff(edges).min() * (delays[1] - delays[0])
    assert np.abs(np.diff(means, axis=0)).max() <= largest


def test_low_pass_is_the_solution_of_its_equation():
    tau, delay = 0.04, 0.0033
    current = rs.Stimulus(SIGNAL, gain=0.0, delay=delay, low_pass_gain=1.0, tau_low_pass=tau)
    edges = np.arange(0.0, 2.0001, 0.005) + 0.0  # sample edges shifted by the delay: the filter's input is constant
    edges = np.unique(np.clip(np.concatenate([[0.0], edges + delay]), 0.0, 2.0))
    u, states, means = _held(np.array([0.0 - delay]))[0], [], []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        x = _held(np.array([0.5 * (a + b) - delay]))[0]
        states.append(u)
        path = solve_ivp(lambda t, y, x=x: [(x - y[0]) / tau, y[0]], (0.0, b - a), [u, 0.0], rtol=1e-10, atol=1e-12)
        u = path.y[0, -1]
        means.append(path.y[1, -1] / (b - a))
    np.testing.assert_allclose(_means(current, edges)[0], means, atol=1e-8)


def test_low_pass_does_not_depend_on_the_pieces():
    current = rs.Stimulus(SIGNAL, gain=0.5, delay=0.004, low_pass_gain=-0.7, tau_low_pass=0.03)
    fine = np.linspace(0.0, 2.0, 80 * 64 + 1)
    fine_means = _means(current, fine)[0].reshape(80, 64).mean(axis=1)
    finer = _means(current, np.linspace(0.0, 2.0, 80 * 32 + 1))[0].reshape(80, 32).mean(axis=1)
    np.testing.assert_allclose(finer[5:], fine_means[5:], atol=2e-3)


def test_derivatives_of_a_stimulus():
    current = rs.Stimulus(SIGNAL, gain=1.3, delay=0.0047, low_pass_gain=-0.6, tau_low_pass=0.03)
    prepared = current.prepare(*_pieces())
    weight = np.random.default_rng(0).normal(size=(1, len(EDGES) - 1)) * np.diff(EDGES)
    fields = lambda c: [c.gain, c.delay, c.low_pass_gain, c.tau_low_pass]  # noqa: E731

    def value(x):
        return jnp.sum(weight * eqx.tree_at(fields, current, list(x)).means(prepared))

    value_and_slopes = jax.jit(jax.value_and_grad(value))
    here, eps = jnp.stack(fields(current)), 1e-7
    found = value_and_slopes(here)[1]
    for k, move in enumerate(eps * np.eye(4)):
        expected = (value_and_slopes(here + move)[0] - value_and_slopes(here - move)[0]) / (2 * eps)
        np.testing.assert_allclose(found[k], expected, rtol=2e-6)


@pytest.mark.plain
@pytest.mark.parametrize("start", [0.0, 3600.0])
def test_an_hour_into_a_recording_a_float32_stimulus_stays_precise(start):
    values = np.random.default_rng(1).normal(size=20_000) + 3.0
    rate = 20_000.0
    long = rs.SampledSignal(values, dt=1 / rate, start=start)
    edges = start + np.concatenate([[0.3], np.sort(np.random.default_rng(2).uniform(0.3, 0.9, 300)), [0.9]])
    current = rs.Stimulus(long, gain=1.0, delay=0.006)
    found = _means(current, edges)
    assert found.dtype == np.float32
    integral = np.concatenate([[0.0], np.cumsum(values)]) / rate
    at = np.interp(edges - start - 0.006, np.arange(20_001) / rate, integral)
    long_enough = np.diff(edges) > 1e-4
    expected = np.diff(at) / np.diff(edges)
    np.testing.assert_allclose(found[0][long_enough], expected[long_enough], atol=2e-4)


@pytest.mark.plain
def test_a_stimulus_that_is_an_argument_of_jit_is_as_precise():
    values = np.random.default_rng(1).normal(size=50_000) + 30.0
    starts, lengths = np.linspace(0.0, 2.4, 500)[None], np.full((1, 500), 0.004)
    outside = rs.Stimulus(rs.SampledSignal(values, dt=5e-5), gain=1.0, delay=0.002)
    inside = eqx.filter_jit(lambda c: c.means(c.prepare(starts, lengths)))(outside)
    np.testing.assert_allclose(inside, _compiled(outside, outside.prepare(starts, lengths)), atol=3e-5)


def test_currents_add():
    parts = [rs.Constant(0.4), rs.PiecewiseLinear(KNOTS, [1.0, -1.0, 2.0, 0.5]), rs.Stimulus(SIGNAL, 0.3, 0.01)]
    total = parts[0] + parts[1] + parts[2]
    assert isinstance(total, rs.SumOfCurrents) and len(total.parts) == 3
    np.testing.assert_allclose(_means(total), sum(_means(part) for part in parts), rtol=1e-14)
    assert len((parts[0] + (parts[1] + parts[2])).parts) == 3


def test_one_current_per_neuron():
    values = np.array([[1.0, -1.0, 2.0, 0.5], [0.0, 1.0, 0.0, -1.0], [2.0, 2.0, 2.0, 2.0]])
    many = rs.PiecewiseLinear(KNOTS, values)
    assert many.num_neurons == 3 and rs.Population(rs.SLIF(), many).num_neurons == 3
    found = _means(many)
    for k in range(3):
        np.testing.assert_allclose(found[k], _means(rs.PiecewiseLinear(KNOTS, values[k]))[0], rtol=1e-14)
    mixed = many + rs.Constant(np.array([1.0, 2.0, 3.0])) + rs.Stimulus(SIGNAL, 0.3, 0.01)
    assert mixed.num_neurons == 3 and _means(mixed).shape == found.shape


def test_a_batch_of_trials():
    starts, lengths = (np.broadcast_to(x, (4, 3, x.shape[-1])) for x in _pieces())
    current = (
        rs.Constant(np.array([1.0, 2.0, 3.0]))
        + rs.PiecewiseLinear(KNOTS, np.ones((3, 4)))
        + rs.Stimulus(SIGNAL, 0.3, 0.01, 0.2, 0.03)
        + rs.BSplineCurrent(np.ones(6), 0.0, 2.0)
        + rs.ExponentialDrift(1.0, 2.0)
    )
    found = _compiled(current, current.prepare(starts, lengths))
    assert found.shape == (4, 3, starts.shape[-1])
    np.testing.assert_allclose(found[0], found[3], rtol=0)


def test_splines_are_a_partition_of_unity():
    np.testing.assert_allclose(_means(rs.BSplineCurrent(np.full(9, 0.7), 0.0, 2.0)), 0.7, rtol=1e-13)
    beyond = np.array([-1.0, -0.5, 0.0, 2.0, 3.0])
    current = rs.BSplineCurrent(np.arange(5.0), 0.0, 2.0)
    np.testing.assert_allclose(_means(current, beyond)[0][[0, 1, 3]], [0.0, 0.0, 4.0], atol=1e-12)


def test_a_spline_follows_a_cubic_exactly():
    at = np.linspace(0.0, 2.0, 400)
    basis = rs.BSplineCurrent(np.ones(8), 0.0, 2.0).prepare(*_pieces(at))[0]
    middle = 0.5 * (at[:-1] + at[1:])
    target = 1 - 2 * middle + middle**3
    weights, *_ = np.linalg.lstsq(basis, target, rcond=None)
    np.testing.assert_allclose(basis @ weights, target, atol=1e-12)


def test_empty_pieces_do_no_harm():
    edges = np.array([0.1, 0.1, 0.2, 0.2, 0.5])
    parts = rs.Stimulus(SIGNAL, 0.3, 0.01, 0.2, 0.03), rs.PiecewiseLinear(KNOTS, np.ones(4)), rs.Constant(1.0)
    current = parts[0] + parts[1] + parts[2]
    total = eqx.filter_jit(eqx.filter_value_and_grad(lambda c, p: jnp.sum(c.means(p))))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(total(current, current.prepare(*_pieces(edges)))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rs.PiecewiseLinear([0.0, 1.0], [1.0, 2.0, 3.0]), r"values must have shape \(knots,\) or \(neurons"),
        (lambda: rs.PiecewiseLinear([0.0, 1.0, 1.0], [1.0, 2.0, 3.0]), "ascend strictly: sort the knots and drop"),
        (lambda: rs.BSplineCurrent(np.ones(3), 0.0, 1.0), "at least 4"),
        (lambda: rs.BSplineCurrent(np.ones(5), 1.0, 1.0), "t1 must lie after t0"),
        (lambda: rs.ExponentialDrift(1.0, 0.0), "tau must be greater than 0, got 0.0: pass the time constant"),
        (lambda: rs.Stimulus(SIGNAL, 1.0, -0.01), "delay must not be negative.*the stimulus comes first"),
        (lambda: rs.Stimulus(SIGNAL, 1.0, 0.01, low_pass_gain=1.0), "belong together: pass both or neither"),
        (lambda: rs.Stimulus(SIGNAL, 1.0, 0.01, 1.0, 0.0), "tau_low_pass must be greater than 0"),
        (
            lambda: rs.Population(rs.SLIF(), np.ones((2, 3))),
            "for a current that changes in time pass rs.PiecewiseLinear",
        ),
        (lambda: rs.Population(rs.SLIF(), np.ones(2), v0=np.ones(3)), "one value for each of 2 neurons"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_checks_pass_under_jit():
    made = jax.jit(lambda d, t: rs.Stimulus(SIGNAL, 1.0, d, 1.0, t).delay + rs.ExponentialDrift(d, t).tau)(0.01, 0.2)
    np.testing.assert_allclose(made, 0.21)
