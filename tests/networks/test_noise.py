"""The normals of a run: their law, and that how a run is cut or keyed does not change them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from roughspike.networks.noise import CHUNK, Part, draw_log_uniforms, draw_normals
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
