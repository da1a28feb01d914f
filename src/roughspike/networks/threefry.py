"""The Threefry hash written out, so that a few words of it are one kernel: the rolled loop of JAX compiles a dozen.

The bits are those of `jax.random` (tests compare them): a key folded with m is the hash of (0, m), and so is the m-th
key of a split; the k-th word of a draw is made of both words of the hash of (0, k).

**Reference**: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", Threefry-2x32 with 20 rounds.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def threefry(key: Any, x: Any, y: Any) -> tuple[jax.Array, jax.Array]:
    """The hash of the words (x, y), uint32, under a key of two words."""
    parts = key[0], key[1], key[0] ^ key[1] ^ _PARITY
    x, y = x + parts[0], y + parts[1]
    for k in range(5):
        for r in _ROTATIONS[k % 2]:
            x = x + y
            y = ((y << np.uint32(r)) | (y >> np.uint32(32 - r))) ^ x
        x, y = x + parts[(k + 1) % 3], y + parts[(k + 2) % 3] + np.uint32(k + 1)
    return x, y


def fold(key: Any, numbers: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both words of the key folded with each of the numbers."""
    return threefry(key, jnp.zeros(numbers.shape, jnp.uint32), numbers.astype(jnp.uint32))
