"""The root of a hazard's integral where the quadratic is no good: flagged, but never NaN."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roughspike.networks.cubic import differentiate_root, first_root, polish, through


@pytest.mark.plain
def test_a_quadratic_that_dips_gives_a_root_and_a_finite_derivative():
    """Steep hazards on a coarse grid: e^{beta v} grows from nothing by 10 to 20 decades in a step, or falls so."""
    rising = jnp.array([0.0, 1e-30, 1e-8, 0.1, 0.1, 3.0, 9.0])
    middle = jnp.array([1e-20, 1e-9, 1e-2, 1e-6, 0.02, 0.0, 1e-5])
    end = jnp.array([9.0, 9.0, 5.0, 4.0, 3.0, 0.1, 8.0])
    shares = jnp.array([0.0, 1e-6, 0.01, 0.3, 0.7, 1.0])[:, None]
    hazard = through(rising, middle, end, 0.8)
    assert np.all(hazard.dips_below_zero)
    wanted = jnp.ones((6, 7), bool)

    def root(hazard, s):
        x = polish(hazard, s, first_root(hazard, s, wanted, 1))
        return differentiate_root(hazard, s, x, wanted)

    s = -shares * hazard.total
    x, back = jax.vjp(root, hazard, s)
    assert np.all((x >= 0) & (x <= 1))
    for slope in jax.tree.leaves(back(jnp.ones_like(x))):
        assert np.all(np.isfinite(slope))


def test_a_quadratic_that_does_not_dip_is_differentiated_everywhere():
    hazard = through(jnp.array(1.0), jnp.array(2.0), jnp.array(4.0), 0.5)
    for share in (0.01, 0.5, 0.99):
        s = -share * hazard.total
        x = polish(hazard, s, first_root(hazard, s, jnp.array(True), 2))
        slope = jax.grad(lambda s, x=x: differentiate_root(hazard, s, x, jnp.array(True)))(s)
        np.testing.assert_allclose(slope, -1 / (0.5 * hazard.rate(x)), rtol=1e-12)
        np.testing.assert_allclose(s + hazard.integral(x), 0.0, atol=1e-10)
