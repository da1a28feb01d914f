"""The normals of a run: their law, and that how a run is cut or keyed does not change them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from roughspike.networks.noise import CHUNK, draw_normals


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
