"""A neuron with dynamics of its own in the engines: its path against `rs.solve`, its gradients against differences."""

from __future__ import annotations

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from coupled_tools import Case, Noise, options
from lane_tools import QUICK
from scipy.linalg import expm

import roughspike as rs
from roughspike.networks.coupled import run_on
from roughspike.neurons.base import Variables

NEURONS, STEPS, H = 3, 14, 0.1


def cell(**more):
    """Adaptation by spikes and by the potential, which rings: 4 a mu1 mu3 > (mu1 - mu3)^2."""
    escape = rs.ExponentialEscape(3.0, 1.0, 0.5)
    return rs.AdaptiveSLIF((6.0, 5.0, 2.0), a=0.5, b=0.3, v_reset=1.2, alpha=0.03, escape=escape, **more)


@pytest.fixture(scope="module")
def case():
    """A recurrent network with delays, noise and input spikes."""
    rng = np.random.default_rng(1)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        net = rs.Recurrent(
            cell(sigma=0.25),
            weights=rng.uniform(-0.3, 0.9, (NEURONS, NEURONS)),
            delays=rng.uniform(0.12, 0.4, NEURONS),
            current=rng.uniform(1.3, 1.8, NEURONS),
            v0=rng.uniform(0.3, 0.8, NEURONS),
            i0=rng.uniform(0.3, 0.8, NEURONS),
        )
        opts = options(STEPS, H, driver=rs.LinearDriver(), trace=True, capacity=12)
        return Case(net, None, opts, compare=False, compiler=QUICK)


def test_adjoint_against_central_differences(case):
    assert not case.flags.any() and case.counts.sum() >= 6
    free = {
        "weights": lambda at: at[0].synapses.free,
        "delays": lambda at: at[0].delays,
        "currents": lambda at: at[0].current,
        "rates": lambda at: at[0].neuron.mu,
        "adaptation": lambda at: (at[0].neuron.a, at[0].neuron.b),
        "threshold": lambda at: at[0].neuron.escape.v_th,
        "width": lambda at: (at[0].neuron.escape.beta, at[0].neuron.escape.tau_s),
        "reset": lambda at: at[0].neuron.v_reset,
        "alpha": lambda at: at[0].neuron.alpha,
        "sigma": lambda at: at[0].neuron.sigma,
        "potential": lambda at: at[0].v0,
        "synaptic current": lambda at: at[0].i0,
    }
    errors, exact = case.errors(free)
    assert min(abs(x) for x in exact.values()) > 1e-3, exact
    assert max(errors.values()) < 1e-6, errors


def test_path_is_that_of_the_general_solver():
    """One neuron without noise but its thresholds, which are the same in both."""
    neuron, current, steps, h = cell(), 1.6, 400, 0.01

    def drift(t, y, args):
        d = neuron.drift(Variables(y[0], y[1], (y[2],)))
        return jnp.stack([d.v + neuron.mu[0] * current, d.i, d.more[0]])

    def spike(t, y, kind, u, args):
        after = neuron.transition(Variables(y[0], y[1], (y[2],)))
        return jnp.stack([after.v, after.i, after.more[0]])

    sde = rs.hazard(drift, lambda t, y, args: neuron.escape.rate(y[0]), neuron.alpha, spike)
    start, key = sde.start(jnp.array([0.2, 0.4, 0.0]), jr.key(5)), jr.key(3)
    sol = rs.solve(
        sde, t0=0.0, t1=steps * h, dt=h, y0=start, key=key, solver=diffrax.Bosh3(), max_events=16, check=False
    )
    tiny = float(jnp.finfo(jnp.float64).tiny)
    keys = jax.vmap(lambda m: jr.fold_in(jr.split(key)[1], m))(jnp.arange(16, dtype=jnp.int32))
    u = jax.vmap(lambda k: jr.uniform(k, (1, 1), jnp.float64, minval=tiny))(keys)
    log_u = jnp.concatenate([(start.s + neuron.alpha)[None], jnp.log(u[..., 0])])
    net = rs.Recurrent(neuron, weights=jnp.zeros((1, 1)), delays=0.5, current=current, v0=0.2, i0=0.4)
    ran = run_on(net, None, None, Noise(jnp.zeros((steps, 0, 1, 1)), log_u[:, None]), options(steps, h, capacity=16))
    found = np.sort(np.asarray(sol.event_times))
    count = int(ran.counts[0, 0])
    assert count == np.isfinite(found).sum() >= 3
    np.testing.assert_allclose(ran.times[0, 0, :count], found[:count], atol=2e-6)


def test_the_flow_is_a_step_of_order_four():
    neuron, y, force = cell(), np.array([0.3, 0.7, 0.2]), 9.0
    matrix = np.array([[-6.0, 6.0, -6.0, 1.0], [0.0, -5.0, 0.0, 0.0], [1.0, 0.0, -2.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    errors = []
    for t in (0.04, 0.02):
        found = neuron.flow(
            Variables(jnp.array(y[0]), jnp.array(y[1]), (jnp.array(y[2]),)), jnp.array(force), jnp.array(t)
        )
        exact = expm(t * matrix) @ np.array([*y, force])
        errors.append(np.abs(np.array(jax.tree.leaves(found)) - exact[:3]).max())
    assert errors[0] < 1e-4 and 25 < errors[0] / errors[1] < 40, errors  # t^5 in one step


def test_layers_and_populations():
    """Without adaptation it is an rs.SLIF, on the same noise; with it, slower."""
    inputs = rs.SpikeTrain(np.array([[0.11, 0.53, 1.32], [0.27, 0.92, 1.87]]), t1=2.0)
    run = {"t1": 2.0, "dt": 0.01, "key": jr.key(0), "num_samples": 50, "max_spikes": 16, "max_spikes_per_step": 1}

    def spikes(neuron, scale=1.0):
        net = rs.FeedForward([2, 1], neuron, weights=[scale * jnp.array([[0.5], [0.8]])], current=1.4)
        sol = rs.simulate(net, inputs=inputs, **run)
        assert bool(sol.result.ok) and sol.engine == "layered"
        return sol.spikes

    fixed = {"v_reset": 1.2, "alpha": 0.03}
    plain = spikes(rs.SLIF((6.0, 5.0), sigma=((0.25, 0.0), (0.0, 0.0)), **fixed))
    own = spikes(rs.AdaptiveSLIF((6.0, 5.0, 2.0), b=0.0, sigma=0.25, **fixed))
    np.testing.assert_array_equal(own.counts, plain.counts)
    real = np.isfinite(plain.times)
    gap = np.abs(np.asarray(own.times)[real] - np.asarray(plain.times)[real])
    assert gap.size > 100 and gap.max() < 1e-6, gap.max()
    adapted = rs.AdaptiveSLIF((6.0, 5.0, 2.0), b=0.4, sigma=0.25, **fixed)
    assert spikes(adapted).counts.mean() < 0.8 * own.counts.mean()
    alone = rs.simulate(rs.Population(adapted, current=1.4), **run)
    np.testing.assert_allclose(alone.spikes.times, spikes(adapted, 0.0).times, rtol=1e-9)


def test_what_is_refused():
    neuron = cell()
    with pytest.raises(ValueError, match="pass delays of a step or more"):
        rs.Recurrent(neuron, weights=jnp.zeros((1, 1)))
    with pytest.raises(ValueError, match="three positive rates"):
        rs.AdaptiveSLIF(mu=(1.0, 2.0))
    alone, data = rs.Population(neuron, current=1.6), rs.SpikeTrain(np.array([[0.3, 0.9]]), t1=1.0)
    with pytest.raises(ValueError, match="pass key"):
        rs.simulate(alone, t1=1.0, dt=0.02)
    with pytest.raises(ValueError, match=r"must be an rs\.SLIF to be scored or fitted, got AdaptiveSLIF"):
        rs.fit(alone, data, loss=rs.NegativeLogLikelihood(), steps=1, dt=0.02, key=jr.key(0), progress=False)
    with pytest.raises(ValueError, match=r"must be an rs\.SLIF"):
        rs.log_likelihood(alone, data, dt=0.02)
