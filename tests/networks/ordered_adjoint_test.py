"""The ordered engine's hand-written adjoint: against autodiff of the plain loop, and against central differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from coupled_tools import difference_errors, noise_of, options, relative_gap, weigh

import roughspike as rs
from roughspike.networks.coupled import run_on
from roughspike.networks.means import prepare_means

H, STEPS, NEURONS = 0.1, 12, 3


def rich(seed):
    """Everything that an ordered network can have: all noises, adaptation, refractoriness, input spikes, a changing
    current, a parabola as driver; sparse weights."""
    rng = np.random.default_rng(seed)
    neuron = rs.SLIF(
        mu=(6.0, 5.0),
        sigma=((0.25, 0.05), (0.0, 0.25)),
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


CASES = {"rich": (rich, rs.ParabolaDriver(), (2,)), "plain": (plain, rs.LinearDriver(), ())}


class Case:
    """A network, its noise, and the loss as a function of (network, input times)."""

    def __init__(self, name):
        make, driver, batch = CASES[name]
        self.at = make(1)
        self.trace = name == "rich"
        samples = None if batch else 2
        self.options = options(STEPS, H, samples=samples, batch=batch, driver=driver, trace=self.trace, capacity=8)
        self.noise = noise_of(self.at[0], self.options, 2)
        self.prepared = prepare_means(self.at[0].current, 0.0, STEPS * H, STEPS)

    def run(self, at, forward_mode=False):
        opts = self.options._replace(forward_mode=forward_mode)
        return run_on(at[0], self.prepared, at[1], self.noise, opts)

    def loss(self, at, forward_mode=False):
        ran = self.run(at, forward_mode)
        return weigh(ran), (ran.counts, ran.flags)


@pytest.fixture(scope="module", params=list(CASES))
def case(request):
    """The case with its gradient by hand and, of the rich one, by JAX."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        case = Case(request.param)
        gradient = lambda mode: jax.jit(jax.grad(lambda at: case.loss(at, mode), has_aux=True, allow_int=True))  # noqa: E731
        by_hand, (counts, flags) = gradient(False)(case.at)
        case.by_hand = jax.tree.map(_float, by_hand)
        if case.trace:  # one comparison with JAX's own derivative is enough: it takes long to compile
            case.by_jax = jax.tree.map(_float, gradient(True)(case.at)[0])
        case.counts, case.flags = np.asarray(counts), np.asarray(flags)
        return case


def _float(x):
    return jnp.zeros(()) if x.dtype == jax.dtypes.float0 else x


def test_all_neurons_spike_and_nothing_fails(case):
    assert case.flags.tolist() == [0, 0]
    assert case.counts.sum() >= 12 and (case.counts.sum(axis=0) > 0).all()


def test_adjoint_is_the_derivative_of_the_loop(case):
    if not case.trace:
        pytest.skip("compared with differences alone")
    assert relative_gap(case.by_hand, case.by_jax) < 1e-12


def test_adjoint_against_central_differences(case):
    free = {
        "weights": lambda at: at[0].synapses.free,
        "currents": lambda at: at[0].current,
        "rates": lambda at: at[0].neuron.mu,
        "threshold": lambda at: at[0].neuron.escape.v_th,
        "width": lambda at: (at[0].neuron.escape.beta, at[0].neuron.escape.tau_s),
        "reset": lambda at: at[0].neuron.v_reset,
        "alpha": lambda at: at[0].neuron.alpha,
        "sigma": lambda at: at[0].neuron.sigma[0],
        "potential": lambda at: at[0].v0,
        "synaptic current": lambda at: at[0].i0,
    }
    if case.at[1] is not None:
        free |= {
            "refractory": lambda at: at[0].neuron.refractory,
            "self-weight": lambda at: at[0].neuron.self_weight,
            "input weights": lambda at: at[0].inputs.free,
            "input times": lambda at: at[1],
        }
    else:
        free["sigma"] = lambda at: at[0].neuron.sigma[0, :1]
    numbers = jax.tree.map(lambda x: x if jnp.issubdtype(x.dtype, jnp.floating) else None, case.at)
    others = jax.tree.map(lambda x: None if jnp.issubdtype(x.dtype, jnp.floating) else x, case.at)
    join = lambda at: jax.tree.map(lambda a, b: b if a is None else a, at, others, is_leaf=lambda x: x is None)  # noqa: E731
    gradient = jax.tree.map(lambda x, g: None if x is None else g, numbers, case.by_hand, is_leaf=lambda x: x is None)
    errors, exact = difference_errors(lambda at: case.loss(join(at))[0], numbers, gradient, free)
    assert min(abs(x) for x in exact.values()) > 1e-3, exact
    assert max(errors.values()) < 1e-6, errors
