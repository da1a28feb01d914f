"""Everything random in a run of lanes, drawn in chunks that do not depend on how the run is cut."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from roughspike.neurons.lif import SLIF
from roughspike.paths.drivers import AbstractDriver

CHUNK = 32  # steps whose normals come from one key


def normals_per_step(neuron: SLIF, driver: AbstractDriver) -> int:
    """How many normals a step of one neuron needs."""
    return len(neuron.noise_channels) * driver.num_normals


def draw_normals(key: jax.Array, first: Any, steps: int, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Standard normals (steps, *shape) from the chunk `first` on; chunk m has a key of its own."""
    chunks = -(-steps // CHUNK)
    keys = jax.vmap(lambda m: jax.random.fold_in(key, first + m))(jnp.arange(chunks, dtype=jnp.int32))
    normals = jax.vmap(lambda k: jax.random.normal(k, (CHUNK, *shape), dtype))(keys)
    return normals.reshape(chunks * CHUNK, *shape)[:steps]


def draw_log_uniforms(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Logarithms of uniforms (intervals, neurons, samples).

    Interval m has a key of its own, so a larger buffer repeats the same run.
    """
    tiny = float(jnp.finfo(dtype).tiny)
    keys = jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(shape[0]))
    return jnp.log(jax.vmap(lambda k: jax.random.uniform(k, shape[1:], dtype, minval=tiny))(keys))
