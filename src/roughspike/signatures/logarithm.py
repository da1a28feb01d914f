"""The log-signature: the signature without what the shuffle product makes of lower levels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import as_float
from roughspike.signatures.truncated import signature


def log_signature(path: Float[Array, "*batch vertices channels"], depth: int) -> Float[Array, "*batch words"]:
    """Levels 1 to `depth` of the logarithm of the signature in the tensor algebra, a Lie series.

        log(1 + X) = X - X (x) X / 2 + X (x) X (x) X / 3 - ..

    Level 1 is the increment, level 2 the matrix of Levy areas. The log-signature of a straight line is its increment.

    **Arguments**

    - `path`, `depth`: as in `signature`.

    **Returns** coordinates in the basis of words, laid out as those of `signature`: twice as long as needed or more,
    and without a choice of a basis of brackets. The area of channels i and j is the coordinate of the word ij.

    **Reference**: Chen (1957); Reizenstein & Graham (2020), arXiv 1802.08252.

    >>> import jax.numpy as jnp, roughspike as rs
    >>> rs.log_signature(jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]), 2).tolist()
    [1.0, 2.0, 0.0, 1.0, -1.0, 0.0]
    """
    path = as_float(path)
    flat = signature(path, depth)
    channels = path.shape[-1]
    cuts = np.cumsum([channels**k for k in range(1, depth + 1)])[:-1]
    x = jnp.split(flat, cuts, axis=-1)
    # Horner: log(1 + x) = x (1 - x (1/2 - x (1/3 - ..)));  a bracket is (its level 0, its levels 1 .. depth)
    scalar, levels = 1 / depth, [jnp.zeros_like(level) for level in x]
    for n in range(depth - 1, 0, -1):
        levels = [-level for level in _times(x, scalar, levels)]
        scalar = 1 / n
    return jnp.concatenate(_times(x, scalar, levels), axis=-1)


def _times(x: list[jax.Array], scalar: float, levels: list[jax.Array]) -> list[jax.Array]:
    """x (x) (scalar + levels), where x has no level 0."""
    out = []
    for k in range(1, len(x) + 1):
        value = scalar * x[k - 1]
        for j in range(1, k):
            outer = x[j - 1][..., :, None] * levels[k - j - 1][..., None, :]
            value = value + outer.reshape(value.shape)
        out.append(value)
    return out
