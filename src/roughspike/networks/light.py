"""One way to compute something where nobody differentiates it, and another where somebody does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from roughspike.networks.adjoint import values_and_perturbed


def light_unless_differentiated(light: Callable[..., Any], whole: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the values of `light`; under reverse mode `whole` runs in its place and is differentiated.

    Both must compute the same. Only what is differentiated gets a cotangent: `whole` sees the rest as constants.

    >>> import jax, jax.numpy as jnp
    >>> from roughspike.networks.light import light_unless_differentiated
    >>> f = light_unless_differentiated(lambda x, n: x * n, lambda x, n: 0.5 * n * (x + x))
    >>> float(f(2.0, 3)), float(jax.grad(f)(2.0, 3))
    (6.0, 3.0)
    """

    @jax.custom_vjp
    def call(*given: Any) -> Any:
        return light(*given)

    def forward(*given: Any) -> tuple[Any, Any]:
        values, perturbed = values_and_perturbed(given)
        leaves, tree = jax.tree.flatten(values)
        moving = tuple(jax.tree.leaves(perturbed))

        def of(moved: list[Any]) -> Any:
            rest = iter(moved)
            each = [next(rest) if on else x for x, on in zip(leaves, moving, strict=True)]
            return whole(*jax.tree.unflatten(tree, each))

        out, back = jax.vjp(of, [x for x, on in zip(leaves, moving, strict=True) if on])
        return out, (back, _Moving(tree, moving))

    def backward(kept: Any, cotangent: Any) -> tuple[Any, ...]:
        back, moving = kept
        (found,) = back(jax.tree.map(_dense, cotangent, is_leaf=_is_zero))
        rest = iter(found)
        return jax.tree.unflatten(moving.tree, [next(rest) if on else None for on in moving.flags])

    call.defvjp(forward, backward, symbolic_zeros=True)
    return call


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Moving:
    """The structure of the arguments, and which of their leaves are differentiated."""

    tree: Any
    flags: tuple[bool, ...]


def _is_zero(x: Any) -> bool:
    return isinstance(x, jax.custom_derivatives.SymbolicZero)


def _dense(x: Any) -> Any:
    if not _is_zero(x):
        return x
    return jnp.zeros(x.shape, x.dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else np.zeros(x.shape, jax.dtypes.float0)
