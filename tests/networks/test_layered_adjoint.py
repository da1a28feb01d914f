"""The hand-written adjoint of the layered engine: against autodiff of the plain code and against finite differences."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from lane_tools import QUICK

import roughspike as rs
from roughspike.paths.spikes import unchecked

T1, STEPS = 40e-3, 40


def hard_network():
    """Two layers with a hard threshold, some neurons spiking twice in a step; delays of axons and of synapses."""
    return rs.FeedForward(
        [3, 4, 2],
        neuron=[rs.LIF(20e-3, 5e-3), rs.LIF(10e-3, 6e-3, v_th=0.9, reset=rs.ResetToValue())],
        weights=[7.0 + 2.8 * jr.normal(jr.key(0), (3, 4)), 1.0 + 0.5 * jr.normal(jr.key(1), (4, 2))],
        delays=[4e-3 * jr.uniform(jr.key(7), (3, 4)), jnp.array([0.3e-3, 1.2e-3, 2.5e-3, 3.1e-3])],
        current=[0.2, jnp.array([0.1, -0.1])],
        v0=0.1,
        i0=0.3,
    )


def noisy_network():
    """Escape rates, diffusion in both equations, refractoriness, adaptation; then a readout."""
    neuron = rs.SLIF(
        mu=(50.0, 200.0),
        sigma=((1.0, 0.0), (0.5, 1.0)),
        v_reset=1.1,
        alpha=0.05,
        escape=rs.ExponentialEscape(beta=4.0, v_th=1.0, tau_s=2e-3),
        refractory=1e-3,
        self_weight=-0.3,
    )
    return rs.FeedForward(
        [3, 4, 2],
        neuron=neuron,
        key=jr.key(3),
        delays=[None, jnp.linspace(0.5e-3, 3e-3, 4)],
        readout=rs.Readout(),
        current=0.5,
    )


def input_times():
    return jnp.sort(25e-3 * jr.uniform(jr.key(11), (2, 3, 2)), axis=-1)


def loss(network, times, slots, forward_mode=False):
    """Smooth in every spike time and in the voltage of the readout."""
    sol = rs.simulate(
        network,
        inputs=unchecked(times, 0.0, T1),
        t1=T1,
        dt=T1 / STEPS,
        key=jr.key(5),
        max_spikes=40,
        max_spikes_per_step=slots,
        forward_mode=forward_mode,
    )
    total = jnp.zeros(())
    for k, train in enumerate(sol.layers):
        t = train.times
        total = total + jnp.sum(jnp.where(jnp.isfinite(t), jnp.sin(60 * t + jr.normal(jr.key(k), t.shape)), 0.0))
    if sol.membrane is not None:
        total = total + jnp.mean(jr.normal(jr.key(9), sol.membrane.shape) * sol.membrane**2)
    return total, (sol.result.flags, [train.counts for train in sol.layers])


class Case:
    """A network, its gradient, and the jitted functions that the tests share."""

    def __init__(self, network, slots):
        point, static = eqx.partition((network, input_times()), eqx.is_inexact_array)
        self.point = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), point)  # no weak types: one program for all
        whole = lambda point, fm=False: loss(*eqx.combine(point, static), slots, fm)  # noqa: E731
        self.value = jax.jit(lambda point: whole(point)[0], compiler_options=QUICK)
        self.gradient, (self.flags, self.counts) = jax.jit(jax.grad(whole, has_aux=True), compiler_options=QUICK)(
            self.point
        )
        self.directions = jax.tree.map(lambda x: jr.normal(jr.key(x.size), (3, *x.shape)) * _scale(x)[None], self.point)
        push = lambda d: jax.jvp(lambda p: whole(p, True)[0], (self.point,), (d,))[1]  # noqa: E731
        self.slopes = jax.jit(jax.vmap(push), compiler_options=QUICK)(self.directions)
        weights = lambda point: [layer.synapses.free for layer in point[0].layers]  # noqa: E731
        alone = lambda w: whole(eqx.tree_at(weights, self.point, w))[0]  # noqa: E731
        lean = jax.jit(jax.grad(alone), compiler_options=QUICK)
        self.lean, self.full = lean(weights(self.point)), weights(self.gradient)

    def along(self, k):
        pairs = zip(jax.tree.leaves(self.gradient), jax.tree.leaves(self.directions), strict=True)
        return sum(float(jnp.sum(g * d[k])) for g, d in pairs)


def _scale(x):
    return jnp.where(x != 0, jnp.abs(x), 0.0 if x.shape == (2, 2) else 1.0)  # sigma keeps its zeros


@pytest.fixture(scope="module", params=["hard", "noisy"])
def case(request):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield Case(hard_network(), 2) if request.param == "hard" else Case(noisy_network(), 1)


def test_the_runs_have_spikes_and_no_flags(case):
    assert not np.any(np.asarray(case.flags))
    assert all(int(counts.sum()) >= 10 for counts in case.counts)


def test_adjoint_equals_autodiff_of_the_plain_code(case):
    for k in range(3):
        np.testing.assert_allclose(case.along(k), case.slopes[k], rtol=1e-12)


def test_training_weights_alone_gives_the_same_gradient(case):
    for lean, full in zip(case.lean, case.full, strict=True):
        np.testing.assert_allclose(lean, full, rtol=1e-12, atol=1e-12 * float(jnp.max(jnp.abs(full))))


def test_gradient_equals_central_differences_in_every_parameter(case):
    flat, tree = jax.tree.flatten(case.point)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(case.point)]
    for k, (name, on, x) in enumerate(zip(names, jax.tree.leaves(case.gradient), flat, strict=True)):
        direction = jr.normal(jr.key(k), x.shape) * _scale(x)
        slope = float(jnp.sum(on * direction))
        errors = []
        for eps in (1e-6, 3e-7, 1e-7):  # a spike that crosses a grid point between the two sides spoils one of them
            moved = [jax.tree.unflatten(tree, [*flat[:k], x + s * eps * direction, *flat[k + 1 :]]) for s in (1, -1)]
            difference = float(case.value(moved[0]) - case.value(moved[1])) / (2 * eps)
            errors.append(abs(difference - slope))
        assert min(errors) <= 1e-6 * max(abs(slope), 1e-2), (name, slope, errors)
