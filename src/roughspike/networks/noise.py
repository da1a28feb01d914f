"""Everything random in a run of lanes, drawn in chunks that do not depend on how the run is cut."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32

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
    normals = jax.vmap(lambda k: _normals(k, (CHUNK, *shape), dtype))(keys)
    return normals.reshape(chunks * CHUNK, *shape)[:steps]


def _normals(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Standard normals; in float32 from JAX's own Threefry hash, of which `jax.random` uses one word of two.

    A third of the time of a run is this hash, so both words are used: half the cost, and one bit more of resolution.
    """
    if dtype != jnp.float32 or str(jax.random.key_impl(key)) != "threefry2x32":
        return jax.random.normal(key, shape, dtype)
    count = math.prod(shape)
    data = key if jnp.issubdtype(key.dtype, jnp.unsignedinteger) else jax.random.key_data(key)
    words = threefry_2x32(data, jnp.arange(count + count % 2, dtype=jnp.uint32))[:count]
    odd = 2 * (jax.lax.bitcast_convert_type(words, jnp.int32) >> 8) + 1  # of 24 bits and a sign
    uniform = odd.astype(jnp.float32) * 2.0**-24  # exact, and never -1, 0 or 1
    return (math.sqrt(2) * jax.lax.erf_inv(uniform)).astype(jnp.float32).reshape(shape)


def draw_log_uniforms(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Logarithms of uniforms (intervals, neurons, samples).

    Interval m has a key of its own, so a larger buffer repeats the same run.
    """
    tiny = float(jnp.finfo(dtype).tiny)
    keys = jax.vmap(lambda m: jax.random.fold_in(key, m))(jnp.arange(shape[0]))
    return jnp.log(jax.vmap(lambda k: jax.random.uniform(k, shape[1:], dtype, minval=tiny))(keys))
