"""The root of a hazard's integral where the quadratic is no good: flagged, but never NaN."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from roughspike.networks.cubic import differentiate_root, first_root, polish, through


@pytest.mark.plain
def test_a_quadratic_that_dips_gives_a_root_and_a_finite_derivative():
    """20,000 steep hazards (up to 38 decades in a step). Without the guards, roots at -1e16, 110 and 3611, and NaN."""
    draw, count = np.random.default_rng(0), 20_000
    nodes = np.exp(draw.uniform(-80, 9, (3, count)))
    share = np.where(draw.random(count) < 0.3, np.exp(draw.uniform(-30, 0, count)), draw.random(count))
    nodes[:, 0], share[0] = (2.8027970e-01, 1.0205182e-31, 2.9170504e-32), 0.99967104  # was NaN
    nodes[:, 1], share[1] = (5.1770059e-09, 1.4101964e-26, 1.4070082e-23), 0.99994403  # was 110
    wanted = jnp.ones(count, bool)

    def root(nodes, share):
        hazard = through(*nodes, jnp.asarray(5e-4, nodes.dtype))
        s = -share * hazard.total
        x = polish(hazard, s, first_root(hazard, s, wanted, 1))
        return jnp.sum(differentiate_root(hazard, s, x, wanted)), (x, hazard.dips_below_zero)

    given = jnp.asarray(nodes, jnp.float32), jnp.asarray(share, jnp.float32)
    slopes, (x, dips) = jax.jit(jax.grad(root, (0, 1), has_aux=True))(*given)
    assert np.mean(dips) > 0.3 and np.all((x >= 0) & (x <= 1))
    assert all(np.all(np.isfinite(slope)) for slope in slopes)


def test_a_quadratic_that_does_not_dip_is_differentiated_everywhere():
    hazard = through(jnp.array(1.0), jnp.array(2.0), jnp.array(4.0), 0.5)
    for share in (0.01, 0.5, 0.99):
        s = -share * hazard.total
        x = polish(hazard, s, first_root(hazard, s, jnp.array(True), 2))
        slope = jax.grad(lambda s, x=x: differentiate_root(hazard, s, x, jnp.array(True)))(s)
        np.testing.assert_allclose(slope, -1 / (0.5 * hazard.rate(x)), rtol=1e-12)
        np.testing.assert_allclose(s + hazard.integral(x), 0.0, atol=1e-10)
