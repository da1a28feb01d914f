"""The normals of a run: their law, and that how a run is cut or keyed does not change them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from roughspike.networks.noise import CHUNK, LogUniforms, Part, draw_log_uniforms, draw_normals, log_u_at, split
from roughspike.paths.uniform import open_uniform


def test_normals_in_single_precision_are_independent_standard_normals():
    """300,000 normals: Kolmogorov-Smirnov, fourth moment, and correlation of neighbours in time and lane."""
    z = np.asarray(jax.jit(lambda key: draw_normals(key, 0, 3 * CHUNK, (3125,), jnp.float32))(jr.key(7)), float)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    assert np.mean(z**4) == pytest.approx(3.0, abs=4 * np.sqrt(96 / z.size))
    for a, b in ((z[1:], z[:-1]), (z[:, 1:], z[:, :-1])):
        assert abs(np.mean(a * b)) < 4 / np.sqrt(a.size)
    assert np.all(np.isfinite(z)) and np.unique(z).size > 0.9 * z.size


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_part_of_a_run_repeats_its_normals_whatever_kind_of_key(dtype):
    whole = draw_normals(jr.key(1), 0, 3 * CHUNK, (5,), dtype)
    assert whole.dtype == dtype
    np.testing.assert_array_equal(whole[CHUNK : 2 * CHUNK + 3], draw_normals(jr.key(1), 1, CHUNK + 3, (5,), dtype))
    np.testing.assert_array_equal(whole, draw_normals(jr.PRNGKey(1), 0, 3 * CHUNK, (5,), dtype))


def test_another_generator_is_respected():
    key = jr.key(1, impl="rbg")
    found = draw_normals(key, 0, CHUNK, (4,), jnp.float32)
    np.testing.assert_array_equal(found, jr.normal(jr.fold_in(key, 0), (CHUNK, 4), jnp.float32))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_thresholds_are_logarithms_of_uniforms_that_are_never_0(dtype):
    """Whole or in parts. A uniform is at least half the resolution: no waiting time is longer than about 17 or 37."""
    found = draw_log_uniforms(jr.key(3), (3, 2, 5), dtype)
    for m in range(3):
        np.testing.assert_array_equal(found[m], jnp.log(open_uniform(jr.fold_in(jr.key(3), m), (2, 5), dtype)))
    part = draw_log_uniforms(Part(jr.key(3), jnp.array([1, 4]), 5), (3, 2, 2), dtype)
    np.testing.assert_array_equal(part, found[..., jnp.array([1, 4])])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_thresholds_hashed_when_they_are_needed_are_the_same(dtype):
    """Of all lanes or some, of a whole run or a part; beyond the last interval the last one."""
    shape, interval = (4, 2, 5), jnp.array([[0, 1, 2, 3, 4], [3, 2, 1, 0, 9]])
    table = draw_log_uniforms(jr.key(3), shape, dtype)
    wanted = log_u_at(table, interval)
    np.testing.assert_array_equal(wanted[1], table[jnp.array([3, 2, 1, 0, 3]), 1, jnp.arange(5)])
    found = LogUniforms.of(jr.key(3), shape, dtype)
    assert isinstance(found, LogUniforms)
    np.testing.assert_allclose(log_u_at(found, interval), wanted, rtol=1e-6)
    places = jnp.array([7, 2])
    np.testing.assert_allclose(log_u_at(found, interval.ravel()[places], places), wanted.ravel()[places], rtol=1e-6)
    part = LogUniforms.of(Part(jr.key(3), jnp.array([1, 4]), 5), (4, 2, 2), dtype)
    np.testing.assert_allclose(log_u_at(part, interval[:, [1, 4]]), wanted[:, [1, 4]], rtol=1e-6)


def test_keys_are_those_of_jax():
    for key in (jr.key(5), jr.PRNGKey(5)):
        for ours, theirs in zip(split(key, 3), jr.split(key, 3), strict=True):
            np.testing.assert_array_equal(jr.key_data(ours), jr.key_data(theirs))
