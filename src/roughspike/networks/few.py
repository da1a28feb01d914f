"""Work on the few lanes that spike in a step, in place of all: gathered, advanced, and put back.

In a short step few neurons spike, and finding a spike costs several times what a step without one does. Those that
spike are taken `room` at a time, in a loop as long as there are any, so none is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Some(NamedTuple):
    """Some lanes: their places in the flattened arrays, out of range where there is none left."""

    place: jax.Array
    size: int

    @property
    def inside(self) -> jax.Array:
        """Places that exist."""
        return jnp.minimum(self.place, self.size - 1)

    @property
    def there(self) -> jax.Array:
        """Is there a lane?"""
        return self.place < self.size

    def take(self, tree: Any) -> Any:
        """Their entries of arrays of all lanes."""
        return jax.tree.map(lambda x: x.reshape(-1)[self.inside], tree)

    def put(self, tree: Any, some: Any) -> Any:
        """Arrays of all lanes with their entries replaced."""
        of = lambda x, y: x.reshape(-1).at[self.place].set(y, mode="drop").reshape(x.shape)  # noqa: E731
        return jax.tree.map(of, tree, some)

    def add(self, tree: Any, some: Any) -> Any:
        """Arrays of all lanes with something added to their entries."""
        of = lambda x, y: x.reshape(-1).at[self.place].add(y, mode="drop").reshape(x.shape)  # noqa: E731
        return jax.tree.map(of, tree, some)


def room_for(lanes: int) -> int:
    """How many lanes are taken at a time; 0, all at once, where there are not many."""
    return 0 if lanes < 256 else max(16, lanes // 16)


def over_few(where: jax.Array, room: int, act: Callable[[Some, Any], Any], carry: Any) -> Any:
    """`act` on the lanes in which `where` is true, `room` at a time."""
    rank = jnp.cumsum(where.reshape(-1).astype(jnp.int32))
    numbers = jnp.arange(1, room + 1, dtype=jnp.int32)

    def body(loop: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        done, carry = loop
        place = jnp.searchsorted(rank, done + numbers).astype(jnp.int32)
        return done + room, act(Some(place, where.size), carry)

    return jax.lax.while_loop(lambda loop: loop[0] < rank[-1], body, (jnp.int32(0), carry))[1]
