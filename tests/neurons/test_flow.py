"""The exact flow against quadrature and against a matrix exponential, through its removable singularities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import expm

from roughspike.neurons.flow import convolve, kappa, phi

RATES = [(15.0, 0.0), (15.0, 15.0), (15.0, 15.0 + 1e-9), (2.0, 30.0), (30.0, 2.0), (1.0, 1.001), (0.5, 0.0)]


@pytest.mark.parametrize("rate", [0.0, 1e-12, 1e-3, 0.0099999, 0.0100001, 1.0, 50.0])
@pytest.mark.parametrize("t", [0.0, 1e-3, 1.0])
def test_phi(rate, t):
    expected = quad(lambda s: np.exp(-rate * s), 0, t, epsabs=0, epsrel=1e-13)[0]
    np.testing.assert_allclose(phi(jnp.asarray(rate), t), expected, rtol=2e-13)
    slope = quad(lambda s: -s * np.exp(-rate * s), 0, t, epsabs=0, epsrel=1e-12)[0]
    np.testing.assert_allclose(jax.grad(phi)(rate, t), slope, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize(("mu1", "mu2"), RATES)
@pytest.mark.parametrize("t", [0.0, 0.003, 0.2, 3.0])
def test_flow_is_the_matrix_exponential(mu1, mu2, t):
    flow = expm(t * np.array([[-mu1, mu1], [0.0, -mu2]]))
    np.testing.assert_allclose(kappa(jnp.asarray(mu1), jnp.asarray(mu2), t), flow[0, 1], rtol=1e-11, atol=1e-15)


def _kappa_derivatives(mu1, mu2, t):
    """Derivatives of mu1 * integral of e^{-mu1 (t - s) - mu2 s}, by quadrature of the differentiated integrand."""
    weight = lambda s: np.exp(-mu1 * (t - s) - mu2 * s)  # noqa: E731
    options = {"epsabs": 0, "epsrel": 1e-12}
    whole = quad(weight, 0, t, **options)[0]
    by_mu1 = whole - mu1 * quad(lambda s: (t - s) * weight(s), 0, t, **options)[0]
    by_mu2 = -mu1 * quad(lambda s: s * weight(s), 0, t, **options)[0]
    return by_mu1, by_mu2


@pytest.mark.parametrize(("mu1", "mu2"), RATES)
def test_derivatives_of_the_flow(mu1, mu2):
    found = jax.grad(kappa, argnums=(0, 1))(jnp.asarray(mu1), jnp.asarray(mu2), 0.2)
    np.testing.assert_allclose(found, _kappa_derivatives(mu1, mu2, 0.2), rtol=1e-8)


def test_derivative_in_time_is_smooth_at_zero():
    slope = jax.grad(kappa, argnums=2)(jnp.asarray(15.0), jnp.asarray(3.0), 0.0)
    np.testing.assert_allclose(slope, 15.0, rtol=1e-14)


def test_convolve_is_the_response_to_a_push():
    kernel, shape, t = (lambda s: jnp.exp(-20.0 * s)), (lambda s: 1 + 3 * s), 0.05
    expected = quad(lambda s: np.exp(-20.0 * (t - s)) * (1 + 3 * s), 0, t, epsrel=1e-13)[0]
    np.testing.assert_allclose(convolve(kernel, shape, t), expected, rtol=1e-13)
