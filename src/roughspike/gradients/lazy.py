"""Work that most iterations do not need: run only if some lane of the batch needs it.

Under `vmap` a `lax.cond` evaluates both branches for every lane. A while loop of at most one turn does not: it turns
only if the predicate of some lane is true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


def when(wanted: jax.Array, function: Callable[[Any], Any], operands: Any, otherwise: Any) -> Any:
    """`function(operands)` where `wanted`, else `otherwise`, of the same structure, shapes and types.

    Differentiable in forward mode.
    """

    def turn(state):
        del state
        return jnp.zeros_like(wanted), function(operands)

    return jax.lax.while_loop(lambda state: state[0], turn, (wanted, otherwise))[1]


def when_reverse(wanted: jax.Array, function: Callable[[Any], Any], operands: Any, otherwise: Any) -> Any:
    """`when`, differentiable in reverse mode, as lazily.

    `function` may close over nothing that is differentiated; all leaves of `otherwise` are floats.
    """
    floats, rest = eqx.partition(operands, eqx.is_inexact_array)
    arrays, static = eqx.partition(rest, eqx.is_array)

    def call(floats, arrays):
        return function(eqx.combine(floats, arrays, static))

    @jax.custom_vjp
    def run(floats, otherwise, arrays, wanted):
        return when(wanted, lambda _: call(floats, arrays), None, otherwise)

    def forward(floats, otherwise, arrays, wanted):
        return run(floats, otherwise, arrays, wanted), (floats, arrays, wanted)

    def backward(kept, cotangent):
        floats, arrays, wanted = kept

        def pull(_):
            return jax.vjp(lambda x: call(x, arrays), floats)[1](cotangent)[0]

        on_floats = when(wanted, pull, None, jax.tree.map(jnp.zeros_like, floats))
        on_otherwise = jax.tree.map(lambda x: jnp.where(wanted, jnp.zeros_like(x), x), cotangent)
        return on_floats, on_otherwise, None, None

    run.defvjp(forward, backward)
    return run(floats, otherwise, arrays, wanted)
