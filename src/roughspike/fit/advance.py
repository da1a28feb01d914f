"""The compiled part of training: several optimiser steps in one call, and the scores of a model."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from roughspike import parallel
from roughspike._types import default_float
from roughspike.fit.trainable import Trainable

_SCORE_STREAM = 2**31 - 1  # no training step has this number, so scores never share a key with one


class State(eqx.Module):
    """What one training step hands to the next.

    **Attributes**

    - `step`: how many updates have been applied.
    - `free`: the free coordinates now.
    - `previous`: those before the last update, whose loss and gradient are known to be finite.
    - `optimiser`: the optimiser's own state.
    """

    step: Int[Array, ""]
    free: dict[str, jax.Array]
    previous: dict[str, jax.Array]
    optimiser: Any


class Chunk(eqx.Module):
    """What one call of `advance` saw; entries past the last evaluated step are NaN.

    **Attributes**

    - `losses`, `gradient_norms`: one per step, evaluated before the update of that step.
    - `bad_loss`: the loss at the last step is not finite.
    - `bad`: one entry per trained leaf: its gradient or its update at the last step is not finite.
    """

    losses: Float[Array, " size"]
    gradient_norms: Float[Array, " size"]
    bad_loss: Bool[Array, ""]
    bad: Bool[Array, " leaves"]

    @property
    def failed(self) -> jax.Array:
        """Scalar boolean: something was not finite, so the last step was not applied."""
        return self.bad_loss | jnp.any(self.bad)


def start_state(trainable: Trainable, model: Any, optimiser: optax.GradientTransformation) -> State:
    """The state before the first step."""
    free = trainable.to_free(model)
    return State(jnp.asarray(0, jnp.int32), free, free, jax.tree.map(jnp.asarray, optimiser.init(free)))


@eqx.filter_jit
def advance(
    loss: Any,
    trainable: Trainable,
    optimiser: optax.GradientTransformation,
    model: Any,
    prepared: Any,
    key: jax.Array,
    state: State,
    stop: jax.Array,
    size: int,
    mesh: Mesh | None = None,
) -> tuple[State, Chunk]:
    """Train until `stop` updates are applied, at most `size` of them here, or until something is not finite.

    `stop` is traced, so this compiles once however the run is cut into chunks, and the arithmetic of a step does not
    depend on the cut: step k uses the key `fold_in(key, k)`. All devices of a mesh hold the whole state.
    """
    first = state.step
    empty = jnp.full(size, jnp.nan, default_float())
    quiet = jnp.zeros(len(trainable.names), bool)

    def go_on(carry: tuple[State, Chunk]) -> jax.Array:
        now, chunk = carry
        return (now.step < stop) & (now.step - first < size) & ~chunk.failed

    def one_step(carry: tuple[State, Chunk]) -> tuple[State, Chunk]:
        now, chunk = carry
        step_key = jr.fold_in(key, now.step)
        value, gradient = jax.value_and_grad(
            lambda free: _scalar(loss(trainable.to_model(free, model), prepared, step_key))
        )(now.free)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
            updates, optimiser_state = optimiser.update(gradient, now.optimiser, now.free)
            moved = optax.apply_updates(now.free, updates)
        after = State(now.step + 1, moved, now.free, optimiser_state)  # pyright: ignore[reportArgumentType]
        k = now.step - first
        chunk = Chunk(
            chunk.losses.at[k].set(value.astype(empty.dtype)),
            chunk.gradient_norms.at[k].set(_norm(gradient).astype(empty.dtype)),
            ~jnp.isfinite(value),
            _to_blame([gradient[n] for n in trainable.names], [moved[n] for n in trainable.names]),  # pyright: ignore
        )
        kept = jax.tree.map(lambda old, new: jnp.where(chunk.failed, old, new), now, after)
        return kept, chunk

    begin = state, Chunk(empty, empty, jnp.asarray(False), quiet)
    return parallel.whole(lax.while_loop(go_on, one_step, begin), mesh)


@eqx.filter_jit
def scores(
    loss: Any,
    trainable: Trainable,
    model: Any,
    prepared: tuple[Any, ...],
    key: jax.Array,
    free: dict[str, jax.Array],
    mesh: Mesh | None = None,
) -> jax.Array:
    """Score of the model at `free` on each of the prepared data sets, always with the same key."""
    now = trainable.to_model(free, model)
    found = jnp.stack([_scalar(loss.score(now, p, jr.fold_in(key, _SCORE_STREAM))) for p in prepared])
    return parallel.whole(found, mesh)


def _scalar(value: Any) -> jax.Array:
    if jnp.shape(value) != ():
        raise ValueError(f"the loss must return one number, got shape {jnp.shape(value)}: take its mean")
    return jnp.asarray(value)


def _norm(tree: dict[str, jax.Array]) -> jax.Array:
    return jnp.sqrt(sum((jnp.sum(jnp.square(x)).astype(default_float()) for x in tree.values()), jnp.zeros(())))


def _to_blame(gradients: list[jax.Array], moved: list[jax.Array]) -> jax.Array:
    # Where the norm of all is clipped, one bad gradient spoils every update: blame updates only if no gradient is bad.
    bad, spoilt = (jnp.stack([~jnp.all(jnp.isfinite(x)) for x in arrays]) for arrays in (gradients, moved))
    return jnp.where(jnp.any(bad), bad, spoilt)
