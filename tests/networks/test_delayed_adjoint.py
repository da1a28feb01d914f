"""The delayed engine's hand-written adjoint: against autodiff of the plain scan, and against central differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from coupled_tools import Case, options, relative_gap

import roughspike as rs

H, STEPS, NEURONS = 0.1, 14, 3


def rich(seed):
    """Noise in both variables, sparse synapses with a delay each, refractoriness, input spikes, a changing current."""
    rng = np.random.default_rng(seed)
    escape = rs.ExponentialEscape(3.0, 1.0, 0.5)
    sigma = ((0.25, 0.05), (0.1, 0.25))
    neuron = rs.SLIF((6.0, 5.0), sigma, v_reset=1.2, alpha=0.03, escape=escape, refractory=0.13, self_weight=-0.2)
    pre, post = np.array([0, 0, 1, 2, 2]), np.array([1, 2, 0, 0, 2])
    weights = rs.Synapses.from_pairs(pre, post, rng.uniform(0.3, 0.9, 5), NEURONS, NEURONS)
    return rs.Recurrent(
        neuron,
        weights=weights,
        delays=rng.uniform(0.12, 0.4, weights.values.shape),
        current=rs.PiecewiseLinear(np.array([0.0, 0.5, 1.4]), rng.uniform(0.8, 1.2, (NEURONS, 3))),
        input_weights=rng.uniform(0.2, 0.9, (2, NEURONS)),
        v0=rng.uniform(0.3, 0.8, NEURONS),
        i0=rng.uniform(0.3, 0.8, NEURONS),
    ), jnp.asarray(np.sort(rng.uniform(0.0, 1.3, (2, 2, 3)), axis=2))


def hard(seed):
    """A hard threshold, dense weights, one delay per neuron."""
    rng = np.random.default_rng(seed)
    return rs.Recurrent(
        rs.LIF(tau_mem=1 / 6, tau_syn=1 / 5),
        weights=rng.uniform(-0.3, 0.4, (NEURONS, NEURONS)),
        delays=rng.uniform(0.12, 0.4, NEURONS),
        current=rng.uniform(1.1, 1.3, NEURONS),
        v0=0.4,
        i0=rng.uniform(0.3, 0.8, NEURONS),
    ), None


@pytest.fixture(scope="module", params=["rich", "hard"])
def case(request):
    """The case with its gradient by hand and, of the rich one, by JAX."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        if request.param == "rich":
            return Case(*rich(1), options(STEPS, H, batch=(2,), driver=rs.LinearDriver(), trace=True, capacity=12))
        return Case(*hard(1), options(STEPS, H, capacity=24, per_step=2), noisy=False, compare=False)


def test_all_neurons_spike_and_nothing_fails(case):
    assert not case.flags.any()
    assert case.counts.sum() >= 9 and (case.counts > 0).all()


def test_adjoint_is_the_derivative_of_the_scan(case):
    if case.by_jax is None:
        pytest.skip("compared with differences alone")
    assert relative_gap(case.by_hand, case.by_jax) < 1e-12


def test_adjoint_against_central_differences(case):
    inputs = case.at[1] is not None
    free = {
        "weights": lambda at: at[0].synapses.free,
        "delays": lambda at: at[0].delays,
        "currents": lambda at: at[0].current,
        "rates": lambda at: at[0].neuron.mu,
        "threshold": lambda at: at[0].neuron.escape.v_th,
        "reset": lambda at: at[0].neuron.v_reset,
        "potential": lambda at: at[0].v0,
        "synaptic current": lambda at: at[0].i0,
    }
    if inputs:
        free["width"] = lambda at: (at[0].neuron.escape.beta, at[0].neuron.escape.tau_s)
        free["alpha"] = lambda at: at[0].neuron.alpha
        free["sigma"] = lambda at: at[0].neuron.sigma
        free["refractory"] = lambda at: at[0].neuron.refractory
        free["input weights"] = lambda at: at[0].inputs.free
        free["input times"] = lambda at: at[1]
    errors, exact = case.errors(free)
    assert min(abs(x) for x in exact.values()) > 1e-3, exact
    assert max(errors.values()) < 1e-6, errors
