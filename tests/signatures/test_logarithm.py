"""The log-signature: straight lines, areas, brackets by Baker, Campbell and Hausdorff, and signax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs


def test_a_straight_line_is_its_increment():
    found = rs.log_signature(jnp.array([[0.0, 0.0], [0.5, 1.0], [1.0, 2.0]]), 4)
    np.testing.assert_allclose(found[:2], [1.0, 2.0], rtol=1e-14)
    np.testing.assert_allclose(found[2:], 0.0, atol=1e-15)


def test_two_segments_by_baker_campbell_and_hausdorff():
    """log(e^a e^b) = a + b + [a, b] / 2 + [a, [a, b]] / 12 - [b, [a, b]] / 12."""
    a, b = np.array([0.7, -0.2, 1.0]), np.array([0.1, 0.9, -0.4])
    found = rs.log_signature(jnp.asarray(np.stack([0 * a, a, a + b])), 3)
    product = np.multiply.outer
    bracket = product(a, b) - product(b, a)
    third = [product(z, bracket) - np.moveaxis(product(z, bracket), 0, 2) for z in (a, b)]
    expected = np.concatenate([a + b, bracket.ravel() / 2, ((third[0] - third[1]) / 12).ravel()])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.plain
def test_signax_agrees():
    signax = pytest.importorskip("signax", exc_type=ImportError)
    paths = jnp.cumsum(0.4 * jr.normal(jr.key(0), (2, 3, 6, 2)), axis=-2)
    theirs = jax.vmap(jax.vmap(lambda path: signax.logsignature(path, 4)))(paths)
    ours = rs.log_signature(paths, 4)
    lyndon = [(0,), (1,), (0, 1), (0, 0, 1), (0, 1, 1), (0, 0, 0, 1), (0, 0, 1, 1), (0, 1, 1, 1)]
    at = [2 ** len(w) - 2 + int("".join(map(str, w)), 2) for w in lyndon]
    np.testing.assert_allclose(ours[..., jnp.array(at)], theirs, rtol=2e-4, atol=2e-5)
