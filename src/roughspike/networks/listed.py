"""Input spikes that are delivered one by one: a row of the weights each, in place of a product with a row of zeros.

An exact spike time takes two numbers per channel and step, so a dense product for what arrives costs twice that of
spikes on the grid, and nearly all of it multiplies by 0. Here 64 inputs of 700 channels with 4 spikes each, 256 neurons
and 200 steps take 60 ms forward and 60 ms back, where the dense products take 230 and 140, and one of them alone 140.

Both passes are plain loops over rows that lie in memory one after the other: for a processor, not for an accelerator.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.networks.adjoint import Perturbed, values_and_perturbed


class Spikes(NamedTuple):
    """Spikes (capacity, pre, lanes): what each adds per unit weight in its step `n` (`left_of_step`), which is the
    number of steps where there is no spike.
    """

    on: tuple[jax.Array, ...]
    n: jax.Array


def worth_listing(capacity: int, weights: jax.Array, steps: int) -> bool:
    """Is one by one faster than dense? By the times of one lane, forward and back, in nanoseconds, as measured."""
    pre, post = weights.shape
    one_by_one = 2000 * steps + capacity * pre * (100 + 1.8 * post)
    dense = 0.15 * steps * pre * post
    sortable = (steps + 1) * capacity * pre < 2**31
    return one_by_one < dense and sortable and jax.default_backend() == "cpu"


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def deliver(steps: int, weights: jax.Array, spikes: Spikes) -> tuple[jax.Array, ...]:
    """What the spikes add in each step: arrays (steps, lanes, post), one for each part of `Spikes.on`."""
    capacity, pre, lanes = spikes.n.shape
    each = capacity * pre
    order, first = _by_key(jnp.moveaxis(spikes.n, 2, 0).reshape(lanes, each), steps)
    flat = lambda x: jnp.take_along_axis(jnp.moveaxis(x, 2, 0).reshape(lanes, each), order, axis=1).ravel()  # noqa: E731
    on, who = tuple(flat(x) for x in spikes.on), (order % pre).ravel()

    def cell(bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        def add(k: jax.Array, total: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            row = weights[who[k]]
            return tuple(t + x[k] * row for t, x in zip(total, on, strict=True))

        nothing = jnp.zeros(weights.shape[1], weights.dtype)
        return jax.lax.fori_loop(*bounds, add, (nothing,) * len(on))

    first = (first + each * jnp.arange(lanes, dtype=first.dtype)[:, None]).T
    return jax.lax.map(lambda bounds: jax.lax.map(cell, bounds), (first[:-1], first[1:]))


def _by_key(keys: jax.Array, limit: int) -> tuple[jax.Array, jax.Array]:
    """Order of each row of keys in 0..limit, and where each key begins in it, up to `limit`.

    One sort of a number that holds key and place takes a seventh of the time of `argsort`.
    """
    count = keys.shape[1]
    packed = keys * count + jnp.arange(count, dtype=jnp.int32)[None]
    # the barrier: XLA would sort inputs that a program holds as constants while it compiles, for 24 s instead of 6 ms
    packed = jax.lax.sort(jax.lax.optimization_barrier(packed), dimension=1)
    marks = count * jnp.arange(limit + 1, dtype=jnp.int32)
    first = jax.vmap(lambda row: jnp.searchsorted(row, marks))(packed)
    return packed % count, first.astype(jnp.int32)


def _forward(steps, weights, spikes):
    (weights, spikes), perturbed = values_and_perturbed((weights, spikes))
    flags = Perturbed((perturbed[0], any(perturbed[1].on)))
    return deliver(steps, weights, spikes), (weights, spikes, flags)


def _backward(steps, kept, cotangent):
    """A weight collects from its channel's spikes; a spike, from its channel's weights."""
    weights, spikes, flags = kept
    on_weights, on_spikes = flags.flags
    capacity, pre, lanes = spikes.n.shape
    dense = [_dense(x, (steps, lanes, weights.shape[1]), weights.dtype) for x in cotangent]
    p = tuple(x.reshape(steps * lanes, -1) for x in dense)
    flat = lambda x: jnp.moveaxis(x, 1, 0).reshape(pre, capacity * lanes)  # noqa: E731
    cells = flat(spikes.n * lanes + jnp.arange(lanes, dtype=spikes.n.dtype)[None, None])
    missing = steps * lanes
    found, on = jnp.zeros_like(weights), tuple(jnp.zeros_like(x) for x in spikes.on)

    def channel(given: tuple[Any, ...]) -> jax.Array:
        cells, on, count = given

        def add(k: jax.Array, total: jax.Array) -> jax.Array:
            return total + sum(x[k] * p_x[cells[k]] for x, p_x in zip(on, p, strict=True))

        return jax.lax.fori_loop(0, count, add, jnp.zeros(weights.shape[1], weights.dtype))

    if on_weights:
        here = flat(spikes.n) < steps
        order, first = _by_key((~here).astype(jnp.int32), 1)
        pick = lambda x: jnp.take_along_axis(x, order, axis=1)  # noqa: E731
        found = jax.lax.map(channel, (pick(cells), tuple(pick(flat(x)) for x in spikes.on), first[:, 1]))
    if on_spikes:
        here = cells < missing
        at = jnp.where(here, cells, 0)
        pull = lambda p: jax.lax.map(lambda x: p[x[0]] @ x[1], (at, weights))  # noqa: E731
        back = lambda x: jnp.moveaxis(x.reshape(pre, capacity, lanes), 0, 1)  # noqa: E731
        on = tuple(back(jnp.where(here, pull(x), 0.0)) for x in p)
    return found, Spikes(on, None)  # pyright: ignore[reportArgumentType]


def _dense(x: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jnp.zeros(shape, dtype) if isinstance(x, jax.custom_derivatives.SymbolicZero) else x


deliver.defvjp(_forward, _backward, symbolic_zeros=True)
