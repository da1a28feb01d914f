"""Uniforms of which a logarithm may be taken."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def open_uniform(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Uniforms on the open interval (0, 1): multiples of the resolution of `dtype`, from half of it on.

    `jax.random.uniform` may return 0, in float32 once in 8 million draws. Putting the smallest number in its place
    would keep log u finite, but an exponential time -log u of 87 in the place of one of about 16.

    >>> import jax.random as jr, jax.numpy as jnp
    >>> from roughspike.paths.uniform import open_uniform
    >>> u = open_uniform(jr.key(0), (1000,), jnp.float32)
    >>> bool((u >= 2.0**-24).all() & (u < 1).all())
    True
    """
    return jax.random.uniform(key, shape, dtype, minval=least_uniform(dtype))


def least_uniform(dtype: Any) -> float:
    """The smallest number that `open_uniform` returns: half the resolution of `dtype`."""
    return float(jnp.finfo(dtype).eps) / 2
