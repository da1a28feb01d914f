"""The parallel linear recurrence equals the plain loop, and so do its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roughspike.paths.recurrence import linear_recurrence


def _loop(a, b, y0):
    y = [y0]
    for k in range(a.shape[-1]):
        y.append(a[..., k] * y[-1] + b[..., k])
    return np.stack(y, axis=-1)


def _case(shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1.1, 1.1, shape), rng.normal(size=shape), rng.normal(size=shape[:-1])


@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (4,), (5,), (17,), (3, 100), (2, 3, 257), (50, 2, 31)])
def test_equals_the_loop(shape):
    a, b, y0 = _case(shape)
    found = linear_recurrence(jnp.asarray(a), jnp.asarray(b), jnp.asarray(y0))
    assert found.shape == (*shape[:-1], shape[-1] + 1)
    np.testing.assert_allclose(found, _loop(a, b, y0), rtol=1e-12, atol=1e-12)


def test_a_zero_in_the_middle_cuts_the_past():
    a, b, y0 = _case((40,))
    a[20] = 0.0
    gradient = jax.grad(lambda y0: linear_recurrence(jnp.asarray(a), jnp.asarray(b), y0)[25])(jnp.asarray(y0))
    assert float(gradient) == 0.0


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_both_modes_of_differentiation_agree_with_differences(steps):
    a, b, y0 = _case((2, steps), seed=steps)
    rng = np.random.default_rng(7)
    direction = tuple(rng.normal(size=x.shape) for x in (a, b, y0))
    weight = rng.normal(size=(2, steps + 1))
    value = lambda a, b, y0: jnp.sum(weight * linear_recurrence(a, b, y0))  # noqa: E731
    eps = 1e-6
    plus, minus = ([jnp.asarray(x + s * d) for x, d in zip((a, b, y0), direction, strict=True)] for s in (eps, -eps))
    expected = (value(*plus) - value(*minus)) / (2 * eps)
    here = tuple(map(jnp.asarray, (a, b, y0)))
    forward = jax.jvp(value, here, tuple(map(jnp.asarray, direction)))[1]
    gradient = jax.grad(value, argnums=(0, 1, 2))(*here)
    backward = sum(np.sum(g * d) for g, d in zip(gradient, direction, strict=True))
    np.testing.assert_allclose(forward, expected, rtol=1e-7)
    np.testing.assert_allclose(backward, expected, rtol=1e-7)


def test_under_vmap_and_jit():
    a, b, y0 = _case((6, 23))
    found = jax.jit(jax.vmap(linear_recurrence))(jnp.asarray(a), jnp.asarray(b), jnp.asarray(y0))
    np.testing.assert_allclose(found, _loop(a, b, y0), rtol=1e-12, atol=1e-12)


def test_second_derivatives_exist():
    a, b, y0 = _case((9,))
    last = lambda y: linear_recurrence(jnp.asarray(a) * y, jnp.asarray(b), jnp.asarray(y0))[-1]  # noqa: E731
    eps = 1e-5
    expected = (jax.grad(last)(1.0 + eps) - jax.grad(last)(1.0 - eps)) / (2 * eps)
    np.testing.assert_allclose(jax.grad(jax.grad(last))(1.0), expected, rtol=1e-6)
