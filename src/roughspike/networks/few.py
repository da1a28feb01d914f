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

_BITS = 24  # lanes in a word: as many as float32 holds exactly


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
    return 0 if lanes < 256 else max(16, lanes // 64)


def over_few(where: jax.Array, room: int, act: Callable[[Some, Any], Any], carry: Any) -> Any:
    """`act` on the lanes in which `where` is true, `room` at a time."""
    packed = pack(where)

    # places go around the loop: else XLA would compute them again in every kernel that uses them
    def body(loop: tuple[jax.Array, jax.Array, Any]) -> tuple[jax.Array, jax.Array, Any]:
        done, place, carry = loop
        carry = act(Some(place, where.size), carry)
        done = done + room
        return done, jax.lax.cond(done < packed.total, lambda: packed.places(done, room), lambda: place), carry

    start = jnp.int32(0), packed.places(jnp.int32(0), room), carry
    return jax.lax.while_loop(lambda loop: loop[0] < packed.total, body, start)[2]


class Packed(NamedTuple):
    """Which lanes: 24 of them in a word, far apart, and how many there are up to the end of each word.

    A running count of all lanes and a search in it would cost more than everything else in a step.
    """

    words: jax.Array
    ends: jax.Array
    size: int

    @property
    def total(self) -> jax.Array:
        """How many lanes."""
        return self.ends[-1]

    def places(self, first: jax.Array, room: int) -> jax.Array:
        """Places of `room` lanes, from number `first` on in the order of the words; `size` where there is none left."""
        rank = first + jnp.arange(room, dtype=jnp.int32)
        word = self._words_of(first, rank)
        bits = self.words[word]
        left = rank - self.ends[word] + _count(bits)
        bit = jnp.zeros_like(word)
        for width in (16, 8, 4, 2, 1):
            low = _count(bits & np.uint32((1 << width) - 1))
            beyond = left >= low
            left = jnp.where(beyond, left - low, left)
            bit = jnp.where(beyond, bit + width, bit)
            bits = jnp.where(beyond, bits >> np.uint32(width), bits)
        return jnp.where(rank < self.total, bit * self.words.size + word, self.size)

    def _words_of(self, first: jax.Array, rank: jax.Array) -> jax.Array:
        """In which word the lanes number `rank` are: as many words end before, or the last that has begun."""
        count, room = self.words.size, rank.size
        if count * room < 1 << 12:
            ended = jnp.sum(self.ends[None] <= rank[:, None], axis=1, dtype=jnp.int32)
            return jnp.minimum(ended, count - 1)
        begin = jnp.maximum(self.ends - _count(self.words) - first, 0)
        marks = jnp.zeros(room, jnp.int32).at[begin].max(jnp.arange(count, dtype=jnp.int32), mode="drop")
        return jax.lax.cummax(marks)


def pack(where: jax.Array) -> Packed:
    """The lanes in which `where` is true.

    The bits are put together by a product, exact in float32: a sum of shifted integers is not vectorised.
    """
    flat = where.reshape(-1)
    bits = jnp.pad(flat, (0, -flat.size % _BITS)).reshape(_BITS, -1).astype(jnp.float32)
    powers = jnp.asarray(2.0 ** np.arange(_BITS), jnp.float32)
    words = jnp.matmul(powers, bits, precision=jax.lax.Precision.HIGHEST).astype(jnp.uint32)
    return Packed(words, jnp.cumsum(_count(words), dtype=jnp.int32), flat.size)


def _count(bits: jax.Array) -> jax.Array:
    return jax.lax.population_count(bits).astype(jnp.int32)
