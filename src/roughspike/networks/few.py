"""Work on the few lanes that spike in a step, in place of all: gathered, advanced, and put back.

In a short step few neurons spike, and finding a spike costs several times what a step without one does. Those that
spike are taken `room` at a time, in a loop as long as there are any, so none is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


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
    packed = pack(where)
    numbers = jnp.arange(room, dtype=jnp.int32)

    def body(loop: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        done, carry = loop
        return done + room, act(Some(packed.places(done + numbers), where.size), carry)

    return jax.lax.while_loop(lambda loop: loop[0] < packed.total, body, (jnp.int32(0), carry))[1]


class Packed(NamedTuple):
    """Which lanes: 32 of them in a word, and how many there are up to the end of each word.

    A running count of all lanes and a search in it would cost more than everything else in a step.
    """

    words: jax.Array
    ends: jax.Array
    size: int

    @property
    def total(self) -> jax.Array:
        """How many lanes."""
        return self.ends[-1]

    def places(self, rank: jax.Array) -> jax.Array:
        """Places of the lanes number `rank`, from 0, in ascending order; `size` where there is none."""
        word = jnp.searchsorted(self.ends, rank, side="right", method="scan_unrolled").astype(jnp.int32)
        inside = jnp.minimum(word, self.words.size - 1)
        bits = self.words[inside]
        left = rank - self.ends[inside] + _count(bits)
        place = 32 * word
        for width in (16, 8, 4, 2, 1):
            low = _count(bits & np.uint32((1 << width) - 1))
            beyond = left >= low
            left = jnp.where(beyond, left - low, left)
            place = jnp.where(beyond, place + width, place)
            bits = jnp.where(beyond, bits >> np.uint32(width), bits)
        return jnp.where(rank < self.total, place, self.size)


def pack(where: jax.Array) -> Packed:
    """The lanes in which `where` is true."""
    flat = where.reshape(-1)
    bits = jnp.pad(flat, (0, -flat.size % 32)).reshape(-1, 32).astype(jnp.uint32)
    words = jnp.sum(bits << jnp.arange(32, dtype=jnp.uint32)[None], axis=1, dtype=jnp.uint32)
    return Packed(words, jnp.cumsum(_count(words), dtype=jnp.int32), flat.size)


def _count(bits: jax.Array) -> jax.Array:
    return jax.lax.population_count(bits).astype(jnp.int32)
