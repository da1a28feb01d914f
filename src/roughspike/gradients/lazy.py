"""Work that most iterations do not need: run only if some lane of the batch needs it.

Under `vmap` a predicate has a value per lane, and JAX then runs both branches of a `lax.cond`, and selects from all
that a `lax.while_loop` carries. A predicate that is the same for all lanes keeps them as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap


@custom_vmap
def any_lane(predicate: jax.Array) -> jax.Array:
    """Is it true in any lane of all batches around? The same answer in every lane."""
    return predicate


@any_lane.def_vmap
def _any_lane_of_batch(size: int, batched: list[bool], predicate: jax.Array) -> tuple[jax.Array, bool]:
    del size
    return any_lane(jnp.any(predicate, axis=0) if batched[0] else predicate), False


def when(wanted: jax.Array, function: Callable[[], Any], otherwise: Any) -> Any:
    """`function()` where `wanted`, else `otherwise`, of the same structure, shapes and types.

    Differentiable in both modes.
    """

    def run():
        return jax.tree.map(lambda new, old: jnp.where(wanted, new, old), function(), otherwise)

    return jax.lax.cond(any_lane(wanted), run, lambda: otherwise)
