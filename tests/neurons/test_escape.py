"""One suite for every escape rate, and what is particular to each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import roughspike as rs

RATES = [rs.ExponentialEscape, rs.SigmoidEscape, rs.SoftplusEscape]
V = np.linspace(-2.0, 3.0, 41)


@pytest.fixture(params=RATES, ids=lambda member: member.__name__)
def escape(request):
    return request.param(beta=4.0, v_th=0.7, tau_s=0.3)


def test_the_rate_is_positive_and_grows(escape):
    rate = np.asarray(jax.jit(lambda v: escape.rate(v))(jnp.asarray(V)))
    assert (rate > 0).all() and (np.diff(rate) > 0).all()


def test_curvature_is_the_second_derivative(escape):
    @jax.jit
    def both(v):
        curvature = jnp.broadcast_to(escape.curvature(v), V.shape)
        return jax.vmap(jax.grad(jax.grad(escape.rate)))(v), curvature * escape.rate(v)

    second, found = both(jnp.asarray(V))
    np.testing.assert_allclose(found, second, rtol=1e-7, atol=1e-12)


def test_tails_are_finite_in_value_and_gradient(escape):
    @jax.jit
    def everything(escape, v):
        functions = (escape.log_rate, escape.curvature, lambda x: escape.mean_log_rate(x, 0.01))
        return [jax.value_and_grad(f)(v) for f in functions], jax.grad(lambda e: e.log_rate(v))(escape)

    for v in jnp.array([-1e3, -50.0, 50.0, 1e3]):
        assert all(np.isfinite(x) for x in jax.tree.leaves(everything(escape, v)))


@pytest.mark.plain
def test_tails_are_finite_in_float32(escape):
    for v in jnp.array([-100.0, 100.0]):
        value, slope = jax.value_and_grad(escape.log_rate)(v)
        assert np.isfinite(value) and np.isfinite(slope)
        assert np.isfinite(type(escape)(beta=200.0).rate(v))  # as in a coarse step of a strongly driven neuron


def test_mean_rate_over_a_small_noise(escape):
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    variance = 1e-4
    for v in (0.2, 0.7, 1.2):
        noisy = escape.rate(jnp.asarray(v + np.sqrt(variance) * nodes))
        mean = np.sum(weights * np.asarray(noisy)) / np.sum(weights)
        shift = np.exp(escape.mean_log_rate(jnp.asarray(v), variance)) / escape.rate(jnp.asarray(v)) - 1
        np.testing.assert_allclose(shift, mean / escape.rate(jnp.asarray(v)) - 1, rtol=0.01, atol=1e-8)


def test_rates_at_threshold():
    np.testing.assert_allclose(rs.ExponentialEscape(tau_s=0.5).rate(jnp.asarray(1.0)), 2.0)
    np.testing.assert_allclose(rs.SigmoidEscape(tau_s=0.5).rate(jnp.asarray(1.0)), 1.0)
    np.testing.assert_allclose(rs.SoftplusEscape(tau_s=0.5).rate(jnp.asarray(1.0)), 2 * np.log(2))


def test_exponential_rate_is_capped_as_in_the_paper():
    escape = rs.ExponentialEscape(beta=2.0, v_th=1.0)
    np.testing.assert_allclose(escape.log_rate(jnp.asarray(40.0)), 20.0)


@pytest.mark.parametrize("x", [-15.001, -14.999])
def test_softplus_joins_its_asymptote(x):
    exact = np.log(np.log1p(np.exp(x)))
    np.testing.assert_allclose(rs.SoftplusEscape(beta=1.0, v_th=0.0).log_rate(jnp.asarray(x)), exact, rtol=1e-7)


@pytest.mark.parametrize("member", RATES)
def test_bad_input(member):
    with pytest.raises(ValueError, match="beta must not be negative.*pass beta > 0"):
        member(beta=-1.0)
    with pytest.raises(ValueError, match="tau_s must be greater than 0, got 0.0"):
        member(tau_s=0.0)
