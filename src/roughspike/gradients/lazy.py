"""Work that most iterations do not need: run only if some lane of the batch needs it.

Under `vmap` a predicate has a value per lane, and JAX then runs both branches of a `lax.cond`, and selects from all
that a `lax.while_loop` carries. A predicate that is the same for all lanes keeps them as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
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


def when(wanted: jax.Array, function: Callable[..., Any], otherwise: Any, *operands: Any) -> Any:
    """`function(*operands)` where `wanted`, else `otherwise`, of the same structure, shapes and types.

    Differentiable in both modes in `operands` and in `otherwise`. A lane that does not want the function may make it
    infinite or NaN, since it is evaluated at whatever state that lane is in: neither the value nor the derivative of
    it is taken. What `function` closes over has no such shelter, and should not be differentiated.
    """

    def run():
        floats, rest = eqx.partition(operands, eqx.is_inexact_array)
        floats = jax.tree.map(lambda x: _derivative_if(wanted, x), floats)
        found = function(*eqx.combine(floats, rest))
        return jax.tree.map(lambda new, old: jnp.where(wanted, new, old), found, otherwise)

    return jax.lax.cond(any_lane(wanted), run, lambda: otherwise)


@jax.custom_jvp
def _derivative_if(wanted: jax.Array, x: jax.Array) -> jax.Array:
    """x, of which tangents and cotangents pass only where `wanted`, also those that are not finite."""
    del wanted
    return x


@_derivative_if.defjvp
def _derivative_if_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (wanted, x), (_, change) = primals, tangents
    return x, jnp.where(wanted, change, jnp.zeros_like(change))
