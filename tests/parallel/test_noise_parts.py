"""The noise of some samples is what the whole draw holds for them, for every kind of key and type of number."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from roughspike.networks import noise

SOME, TOTAL = [3, 1, 7], 9


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("kind", ["threefry2x32", "raw", "rbg"])
def test_a_part_is_what_the_whole_holds(kind: str, dtype):
    key = jr.PRNGKey(3) if kind == "raw" else jr.key(3, impl=kind)
    part = noise.Part(key, jnp.array(SOME), TOTAL)

    @jax.jit
    def draw(key, part):
        return (
            [noise.draw_normals(k, 2, 40, (2, n), dtype) for k, n in ((key, TOTAL), (part, 3))],
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
