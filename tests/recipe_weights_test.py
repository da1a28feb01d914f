"""Recipes of weights and digits: the fast expected signature, Newton's method, and files of images."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import roughspike as rs
from roughspike.recipe.published.holberg2024_fig2_likelihood import _derivatives, layer_of, newton
from roughspike.recipe.published.holberg2024_fig2_model import _expected_signature, _steps, signature_loss
from roughspike.recipe.reproduce_plan import load_recipe

pytestmark = pytest.mark.plain


def trains(samples, neurons, seed=0):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 1, (samples, neurons, 3)), axis=-1)
    return np.where(np.arange(3) < rng.integers(0, 4, (samples, neurons, 1)), times, np.inf)


def test_products_of_matrices_give_the_expected_signature():
    times = trains(4, 2)
    steps = jnp.stack([_steps(jnp.asarray(x), jnp.asarray(99), 1.0, 6) for x in times])
    expected = rs.expected_signature(rs.SpikeTrain(times), 3)
    np.testing.assert_allclose(_expected_signature(steps), expected, atol=1e-6)
    one, other = trains(1, 2, 1), trains(1, 2, 2)
    fewer = min(np.isfinite(x).sum() for x in (one, other))
    capped = []
    for x in (one, other):  # both keep as many spikes as the one with fewer
        last = np.sort(x.ravel())[fewer - 1]
        capped.append(rs.expected_signature(rs.SpikeTrain(np.where(x <= last, x, np.inf)), 3))
    found = signature_loss(jnp.asarray(one), jnp.asarray(other), 1.0, 6)
    np.testing.assert_allclose(found, np.mean((capped[0] - capped[1]) ** 2), rtol=1e-4)


def test_newton_ends_at_the_maximum():
    settings = load_recipe("holberg2024-fig2").settings
    settings = settings | {"likelihood": {"dt": 0.05, "rounds": 12, "block": 40}}
    layer = layer_of(settings, trains(80, 2, 3), trains(80, 2, 4))
    start = np.full((2, 2), 0.5)
    curve = newton(settings, layer, start, 80, shrink=False)
    slope, curvature = _derivatives(settings, layer, curve.weights[-1], 80)
    first, _ = _derivatives(settings, layer, start, 80)
    assert np.abs(slope).max() < 0.05 and np.abs(slope).max() < 1e-3 * np.abs(first).max()
    assert np.linalg.eigvalsh(curvature).min() > 0
    shrunk = newton(settings, layer, start, 80, shrink=True).weights[-1]
    assert np.ptp(shrunk) < np.ptp(curve.weights[-1])
