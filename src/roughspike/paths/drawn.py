"""Gaussian rows that are drawn when they are asked for, and again when they are asked for again."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


class DrawnRows(eqx.Module):
    """Row k of a table of independent N(0, scale^2) is drawn from the key and k: it needs no memory.

    `table[k]` takes one row or an array of them, any k >= 0. Only `scale` is differentiated.

    >>> import jax.random as jr, jax.numpy as jnp
    >>> from roughspike.paths.drawn import DrawnRows
    >>> rows = DrawnRows(jr.key(0), jnp.asarray(0.1), (1_000_000, 2))
    >>> rows[jnp.array([7, 8])].shape, bool((rows[jnp.array([7, 8])][1] == rows[jnp.array(8)]).all())
    ((2, 2), True)
    """

    key: Any
    scale: jax.Array
    shape: tuple[int, int] = eqx.field(static=True)

    @property
    def dtype(self) -> Any:
        """Of a row."""
        return self.scale.dtype

    def __getitem__(self, k: jax.Array) -> jax.Array:
        return self.scale * self.normals(k)

    def normals(self, k: jax.Array) -> jax.Array:
        """Rows before they are scaled; k of any shape."""
        draw = lambda k: jax.random.normal(jax.random.fold_in(self.key, k), self.shape[1:], self.dtype)  # noqa: E731
        for _ in range(jnp.ndim(k)):
            draw = jax.vmap(draw)
        return jax.lax.stop_gradient(draw(k))

    def plus(self, sums: DrawnRows, k: jax.Array, cotangents: jax.Array) -> DrawnRows:
        """Add what cotangents of the rows k say of the scale to sums of this kind."""
        return eqx.tree_at(lambda x: x.scale, sums, sums.scale + jnp.sum(self.normals(k) * cotangents))


class DrawnPath(eqx.Module):
    """A path without jumps, whose steps are drawn when they are asked for; otherwise like a `RealisedPath`."""

    increments: DrawnRows
    areas: DrawnRows | None

    @property
    def jump_times(self) -> jax.Array:
        """None."""
        return jnp.zeros(0, self.increments.dtype)

    @property
    def jump_sizes(self) -> jax.Array:
        """None."""
        return jnp.zeros((0, self.increments.shape[1]), self.increments.dtype)

    @property
    def overflow(self) -> jax.Array:
        """No jump is lost."""
        return jnp.zeros((), bool)
