"""A scan of which reverse mode keeps only the first carry of every block."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax


def scan_in_blocks(body: Callable[..., Any], start: Any, inputs: Any, length: int, blocks: int) -> tuple[Any, Any]:
    """`jax.lax.scan(body, start, inputs, length)` without outputs.

    In reverse mode each of `blocks` blocks is run twice; one block is a plain scan, of which every carry is kept.
    """
    if blocks <= 1:
        return jax.lax.scan(body, start, inputs, length=length)
    size = math.ceil(length / blocks)
    whole = length // size
    front = jax.tree.map(lambda x: x[: whole * size].reshape(whole, size, *x.shape[1:]), inputs)
    block = jax.checkpoint(lambda c, x: jax.lax.scan(body, c, x, length=size), prevent_cse=False)
    carry, _ = jax.lax.scan(block, start, front, length=whole)
    if length > whole * size:
        rest = jax.tree.map(lambda x: x[whole * size :], inputs)
        carry, _ = jax.lax.scan(body, carry, rest, length=length - whole * size)
    return carry, None
