"""What a device does for its share: noise is what the whole draw holds, and every pair is met once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from roughspike.losses.shared_out import pairs_of
from roughspike.networks import noise

SOME, TOTAL = [3, 1, 7], 9


@pytest.mark.parametrize(("kind", "dtype"), [("threefry2x32", jnp.float64), ("raw", jnp.float32), ("rbg", jnp.float32)])
def test_a_part_is_what_the_whole_holds(kind: str, dtype):
    key = jr.PRNGKey(3) if kind == "raw" else jr.key(3, impl=kind)
    part = noise.Part(key, jnp.array(SOME), TOTAL)

    @jax.jit
    def draw(key, part):
        return (
            [noise.draw_normals(k, 2, 40, (n,), dtype) for k, n in ((key, TOTAL), (part, 3))],
            [noise.draw_log_uniforms(k, (5, n), dtype) for k, n in ((key, TOTAL), (part, 3))],
            [noise.normal(k, (5, n), dtype) for k, n in ((key, TOTAL), (part, 3))],
        )

    for whole, some in draw(key, part):
        np.testing.assert_array_equal(np.asarray(whole)[..., SOME], some)
    first, second = noise.split(part)
    assert not np.array_equal(jr.key_data(first.key), jr.key_data(second.key)) and first.total == TOTAL


def test_more_samples_than_a_key_can_number():
    part = noise.Part(jr.key(0), jnp.arange(4), 2**31)
    with pytest.raises(ValueError, match="too many for one key.*make several runs, each with its own key"):
        noise.draw_normals(part, 0, 1, (1, 4), jnp.float32)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize(("n", "devices"), [(8, 4), (9, 3), (4, 1)])
def test_every_pair_of_samples_is_weighed_once(n: int, devices: int, unbiased: bool):
    m, own = 3, n // devices
    random = np.random.default_rng(n).standard_normal((n + m, n + m))
    gram, found = random + random.T, 0.0
    for device in range(devices):
        circle = np.concatenate([np.roll(np.arange(n), -device * own), np.arange(n, n + m)])
        first, second, weights = pairs_of(own, n, m, unbiased)
        found += np.sum(weights * gram[circle[first], circle[second]])
    among, across = gram[:n, :n], gram[:n, n:]
    within = (among.sum() - np.trace(among)) / (n * (n - 1)) if unbiased else among.mean()
    assert found == pytest.approx(within - 2 * across.mean())
