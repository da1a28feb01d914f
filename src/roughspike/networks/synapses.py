"""Synapses: the weights of a network, dense or sparse, with a mask and Dale's law as constraints."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from roughspike._constraints import KeepsSign, Real, declare
from roughspike._types import as_float, concrete


class Synapses(eqx.Module):
    """Weights from presynaptic neurons (rows) to postsynaptic ones: i_post += w[pre, post] at a spike of pre.

    **Arguments**

    - `values`: shape (pre, post); or, with `targets`, (pre, fan_out), the weights of the synapses that exist.
    - `targets`: None for a dense matrix; else which neuron each value goes to, integers of shape (pre, fan_out), fixed.
      An entry that is `num_post` or more is a pad. Memory and the cost of a delivery grow with the fan-out alone.
    - `num_post`: number of postsynaptic neurons; needed with `targets`.
    - `mask`: booleans (pre, post): which entries of a dense matrix exist. The others count as 0, whatever their value,
      and so does their gradient.
    - `dale`: Dale's law: all weights of a row have one sign, and training by `fit` keeps every sign (and every 0).

    **Raises** ValueError for shapes that do not fit, or for rows of both signs under Dale's law.

    >>> import jax.numpy as jnp, roughspike as rs
    >>> synapses = rs.Synapses(jnp.array([[0.0, 0.5], [-1.0, 0.0]]), dale=True)
    >>> synapses.num_pre, synapses.num_post
    (2, 2)
    """

    free: Float[Array, "pre fan_out"] | None = eqx.field(metadata=declare(Real()))
    signed: Float[Array, "pre fan_out"] | None = eqx.field(metadata=declare(KeepsSign()))
    targets: Int[Array, "pre fan_out"] | None
    mask: Any
    num_post: int = eqx.field(static=True)

    def __init__(
        self, values: Any, targets: Any = None, *, num_post: int | None = None, mask: Any = None, dale: bool = False
    ):
        values = as_float(values)
        if values.ndim != 2:
            raise ValueError(f"values must be a matrix, rows presynaptic, got shape {values.shape}")
        if targets is not None:
            targets = jnp.asarray(targets, jnp.int32)
            if num_post is None:
                raise ValueError("num_post is missing: targets alone do not say how many neurons there are")
            if targets.shape != values.shape:
                raise ValueError(f"targets must have the shape of values, {values.shape}, got {targets.shape}")
            if mask is not None:
                raise ValueError("mask is for dense weights: with targets leave out the synapses that do not exist")
        elif num_post is not None and num_post != values.shape[1]:
            raise ValueError(f"num_post={num_post} does not fit values of shape {values.shape}: leave it out")
        if mask is not None:
            mask = jnp.asarray(mask, bool)
            if mask.shape != values.shape:
                raise ValueError(f"mask must have the shape of the weights, {values.shape}, got {mask.shape}")
        self.free, self.signed = (None, values) if dale else (values, None)
        self.targets, self.mask = targets, mask
        self.num_post = values.shape[1] if num_post is None else int(num_post)
        if dale:
            _check_signs(concrete(self.values))

    @staticmethod
    def from_pairs(pre: Any, post: Any, values: Any, num_pre: int, num_post: int, *, dale: bool = False) -> Synapses:
        """Sparse synapses from lists of (presynaptic, postsynaptic, weight): host work, done once."""
        pre, post, values = np.asarray(pre), np.asarray(post), np.asarray(values)
        if not (pre.ndim == 1 and pre.shape == post.shape == values.shape):
            raise ValueError(
                f"pre, post, values must be vectors of one length, got {pre.shape, post.shape, values.shape}"
            )
        for name, ids, count in (("pre", pre, num_pre), ("post", post, num_post)):
            if ids.size and not (0 <= ids.min() and ids.max() < count):
                raise ValueError(f"{name} must lie in [0, {count}), got {ids.min()} to {ids.max()}")
        order = np.lexsort((post, pre))
        pre, post, values = pre[order], post[order], values[order]
        fan_out = np.bincount(pre, minlength=num_pre)
        column = np.arange(pre.size) - np.repeat(np.cumsum(fan_out) - fan_out, fan_out)
        shape = (num_pre, max(1, int(fan_out.max(initial=0))))
        targets, padded = np.full(shape, num_post, np.int32), np.zeros(shape)
        targets[pre, column], padded[pre, column] = post, values
        return Synapses(padded, targets, num_post=num_post, dale=dale)

    @property
    def values(self) -> Float[Array, "pre fan_out"]:
        """The weights that count: masked where there is a mask."""
        values = self.signed if self.free is None else self.free
        assert values is not None
        return values if self.mask is None else jnp.where(self.mask, values, 0.0)

    @property
    def num_pre(self) -> int:
        """Number of presynaptic neurons (or input channels)."""
        return self.values.shape[0]

    def dense(self) -> Float[Array, "pre post"]:
        """The whole matrix."""
        if self.targets is None:
            return self.values
        rows = jnp.arange(self.num_pre, dtype=jnp.int32)[:, None]
        zeros = jnp.zeros((self.num_pre, self.num_post), self.values.dtype)
        return zeros.at[rows, self.targets].add(self.values, mode="drop")


def row(values: jax.Array, targets: jax.Array | None, num_post: int, k: jax.Array) -> jax.Array:
    """The weights of presynaptic neuron k, shape (post,)."""
    if targets is None:
        return values[k]
    return jnp.zeros(num_post, values.dtype).at[targets[k]].add(values[k], mode="drop")


def add_to_rows(total: jax.Array, targets: jax.Array | None, k: jax.Array, on_row: jax.Array) -> jax.Array:
    """Transpose of `row` for many k at once: `on_row` (many, post) added to rows k of `total`; k out of range: none."""
    if targets is not None:
        padded = jnp.pad(on_row, ((0, 0), (0, 1)))
        inside = jnp.clip(k, 0, total.shape[0] - 1)
        column = jnp.minimum(targets[inside], on_row.shape[1])
        on_row = jnp.take_along_axis(padded, column, axis=1)
    return total.at[k].add(on_row, mode="drop")


def as_synapses(weights: Any) -> Synapses:
    """A plain matrix as dense synapses."""
    return weights if isinstance(weights, Synapses) else Synapses(weights)


def _check_signs(values: np.ndarray | None) -> None:
    if values is None:
        return
    mixed = np.flatnonzero((values > 0).any(axis=1) & (values < 0).any(axis=1))
    if mixed.size:
        raise ValueError(
            f"dale=True needs rows of one sign, and {mixed.size} rows have both, the first is row {mixed[0]}: "
            "rows are presynaptic neurons; transpose the matrix if yours are columns"
        )
