"""The ordered engine's hand-written adjoint: against autodiff of the plain loop, and against central differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from coupled_tools import Case, options, relative_gap

import roughspike as rs

H, STEPS, NEURONS = 0.1, 12, 3


def rich(seed):
    """Everything that an ordered network can have: all noises, adaptation, refractoriness, input spikes, a changing
    current, a parabola as driver; sparse weights."""
    rng = np.random.default_rng(seed)
    neuron = rs.SLIF(
        mu=(6.0, 5.0),
        sigma=((0.25, 0.05), (0.1, 0.25)),
        v_reset=1.2,
        alpha=0.03,
        escape=rs.ExponentialEscape(5.0, 1.0, 0.5),
        refractory=0.13,
        self_weight=-0.2,
    )
    pre, post = np.nonzero(rng.uniform(size=(NEURONS, NEURONS)) < 0.7)
    weights = rs.Synapses.from_pairs(pre, post, rng.uniform(-0.4, 0.8, pre.size), NEURONS, NEURONS)
    current = rs.PiecewiseLinear(np.array([0.0, 0.5, 1.2]), rng.uniform(1.3, 1.7, (NEURONS, 3)))
    start = rng.uniform(0.3, 0.8, (2, NEURONS))
    return rs.Recurrent(
        neuron,
        weights=weights,
        current=current,
        input_weights=rng.uniform(0.2, 0.9, (2, NEURONS)),
        v0=start[0],
        i0=start[1],
    ), jnp.asarray(np.sort(rng.uniform(0.0, 1.3, (2, 2, 3)), axis=2))


def plain(seed):
    """A dense network with a reset to a value, at constant current."""
    rng = np.random.default_rng(seed)
    escape, reset = rs.ExponentialEscape(3.0, 1.0, 0.5), rs.ResetToValue()
    neuron = rs.SLIF((6.0, 6.0), ((0.25, 0.0), (0.0, 0.0)), v_reset=0.2, alpha=0.03, escape=escape, reset=reset)
    weights = rng.uniform(-0.4, 0.8, (NEURONS, NEURONS))
    return rs.Recurrent(neuron, weights=weights, current=rng.uniform(1.3, 1.6, NEURONS), v0=0.4, i0=0.3), None


@pytest.fixture(scope="module", params=["rich", "plain"])
def case(request):
    """The case with its gradient by hand and, of the rich one, by JAX: that takes long to compile."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        if request.param == "rich":
            opts = options(STEPS, H, batch=(2,), driver=rs.ParabolaDriver(), trace=True, capacity=8)
            return Case(*rich(1), opts)
        return Case(*plain(1), options(STEPS, H, samples=2, driver=rs.LinearDriver(), capacity=8), compare=False)


def test_all_neurons_spike_and_nothing_fails(case):
    assert case.flags.tolist() == [0, 0]
    assert case.counts.sum() >= 12 and (case.counts.sum(axis=0) > 0).all()


def test_adjoint_is_the_derivative_of_the_loop(case):
    if case.by_jax is None:
        pytest.skip("compared with differences alone")
    assert relative_gap(case.by_hand, case.by_jax) < 1e-12


def test_adjoint_against_central_differences(case):
    inputs = case.at[1] is not None
    free = {
        "weights": lambda at: at[0].synapses.free,
        "currents": lambda at: at[0].current,
        "rates": lambda at: at[0].neuron.mu,
        "threshold": lambda at: at[0].neuron.escape.v_th,
        "width": lambda at: (at[0].neuron.escape.beta, at[0].neuron.escape.tau_s),
        "reset": lambda at: at[0].neuron.v_reset,
        "alpha": lambda at: at[0].neuron.alpha,
        "sigma": lambda at: at[0].neuron.sigma if inputs else at[0].neuron.sigma[0, :1],
        "potential": lambda at: at[0].v0,
        "synaptic current": lambda at: at[0].i0,
    }
    if inputs:
        free["refractory"] = lambda at: at[0].neuron.refractory
        free["self-weight"] = lambda at: at[0].neuron.self_weight
        free["input weights"] = lambda at: at[0].inputs.free
        free["input times"] = lambda at: at[1]
    errors, exact = case.errors(free)
    assert min(abs(x) for x in exact.values()) > 1e-3, exact
    assert max(errors.values()) < 1e-6, errors
