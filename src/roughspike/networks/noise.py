"""Everything random in a run of lanes, drawn in chunks that do not depend on how the run is cut.

A run may also be cut by samples, over devices or blocks. The part of the noise that belongs to some of the samples is
then drawn from the same counters of the same hash, so that it is what the whole draw would have held.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Int

from roughspike.neurons.base import AbstractNeuron
from roughspike.neurons.lif import SLIF
from roughspike.paths.drivers import AbstractDriver
from roughspike.paths.uniform import least_uniform

CHUNK = 32  # steps whose normals come from one key; even, so that halves are whole steps
_MOST_COUNTERS = 2**32


class Part(eqx.Module):
    """A key for some of the samples of a draw: the last axis of what is drawn holds `lanes` out of `total`."""

    key: Any
    lanes: Int[Array, "lanes"]
    total: int = eqx.field(static=True)


Key = jax.Array | Part


def split(key: Key, count: int = 2) -> list[Any]:
    """As `jax.random.split`; the parts of a part are of the same samples."""
    if isinstance(key, Part):
        return [Part(k, key.lanes, key.total) for k in jax.random.split(key.key, count)]
    return list(jax.random.split(key, count))


def normals_per_step(neuron: SLIF | AbstractNeuron, driver: AbstractDriver) -> int:
    """How many normals a step of one neuron needs."""
    return len(neuron.noise_channels) * driver.num_normals


def draw_normals(key: Key, first: Any, steps: int, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Standard normals (steps, *shape) from the chunk `first` on; chunk m has a key of its own."""
    chunks = -(-steps // CHUNK)
    draw = lambda k: _normals(k, (CHUNK, *shape), dtype)  # noqa: E731
    normals = _over_keys(draw, key, first + jnp.arange(chunks, dtype=jnp.int32))
    return normals.reshape(chunks * CHUNK, *shape)[:steps]


def draw_log_uniforms(key: Key, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Logarithms of uniforms (intervals, neurons, samples), those of `open_uniform`.

    Interval m has a key of its own, so a larger buffer repeats the same run.
    """
    draw = lambda k: _uniforms(k, shape[1:], dtype, least_uniform(dtype), 1.0)  # noqa: E731
    return jnp.log(_over_keys(draw, key, jnp.arange(shape[0])))


def normal(key: Key, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """As `jax.random.normal`; of a part, the samples that belong to it."""
    if not isinstance(key, Part):
        return jax.random.normal(key, shape, dtype)
    above = float(np.nextafter(np.asarray(-1.0, dtype), np.asarray(0.0, dtype)))
    return (math.sqrt(2) * jax.lax.erf_inv(_uniforms(key, shape, dtype, above, 1.0))).astype(dtype)


def is_threefry(key: Key) -> bool:
    """Is it a key whose draws can be made in parts, each at the cost of its share?"""
    own = key.key if isinstance(key, Part) else key
    return str(jax.random.key_impl(own)) == "threefry2x32" and getattr(jax.config, "jax_threefry_partitionable", True)


def _over_keys(draw: Any, key: Key, numbers: jax.Array) -> jax.Array:
    """draw(key m) for the key folded with each number."""
    own, part = (key.key, key) if isinstance(key, Part) else (key, None)
    keys = jax.vmap(lambda m: jax.random.fold_in(own, m))(numbers)
    return jax.vmap(lambda k: draw(k if part is None else Part(k, part.lanes, part.total)))(keys)


def _normals(key: Key, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Standard normals; in float32 from JAX's own Threefry hash, of which `jax.random` uses one word of two.

    A third of the time of a run is this hash, so both words are used: half the cost, and one bit more of resolution.
    """
    if dtype != jnp.float32 or not is_threefry(key):
        return normal(key, shape, dtype)
    if isinstance(key, Part):
        rows = math.prod(shape[:-1])
        counters = _counters(key, rows // 2, rows)
        words = threefry_2x32(_data(key.key), jnp.concatenate([counters, counters + np.uint32(rows // 2 * key.total)]))
    else:
        count = math.prod(shape)
        words = threefry_2x32(_data(key), jnp.arange(count + count % 2, dtype=jnp.uint32))[:count]
    odd = 2 * (jax.lax.bitcast_convert_type(words, jnp.int32) >> 8) + 1  # of 24 bits and a sign
    uniform = odd.astype(jnp.float32) * 2.0**-24  # exact, and never -1, 0 or 1
    return (math.sqrt(2) * jax.lax.erf_inv(uniform)).astype(jnp.float32).reshape(shape)


def _uniforms(key: Key, shape: tuple[int, ...], dtype: Any, low: float, high: float) -> jax.Array:
    """As `jax.random.uniform`; of a part, the samples that belong to it."""
    if not isinstance(key, Part):
        return jax.random.uniform(key, shape, dtype, low, high)
    info = jnp.finfo(dtype)
    if not is_threefry(key) or info.bits not in (32, 64):
        return jax.random.uniform(key.key, (*shape[:-1], key.total), dtype, low, high)[..., key.lanes]
    rows = math.prod(shape[:-1])
    counters = _counters(key, rows, rows)
    upper, lower = jnp.split(threefry_2x32(_data(key.key), jnp.concatenate([jnp.zeros_like(counters), counters])), 2)
    if info.bits == 64:
        bits = (upper.astype(jnp.uint64) << np.uint64(32)) | lower.astype(jnp.uint64)
    else:
        bits = upper ^ lower
    one = np.asarray(1.0, dtype)
    mantissa = (bits >> np.asarray(info.bits - info.nmant, bits.dtype)) | one.view(bits.dtype)
    unit = jax.lax.bitcast_convert_type(mantissa, dtype) - one
    least, most = np.asarray(low, dtype), np.asarray(high, dtype)
    return jnp.maximum(least, unit * (most - least) + least).reshape(shape)


def _counters(part: Part, rows: int, of: int) -> jax.Array:
    """Where the samples of a part lie in the first rows of a draw of (of, total) numbers."""
    if of * part.total > _MOST_COUNTERS:
        raise ValueError(
            f"{part.total} samples are too many for one key ({_MOST_COUNTERS} numbers): make several runs, each "
            "with its own key"
        )
    lanes = part.lanes.astype(jnp.uint32)
    starts = jnp.asarray(np.uint32(part.total) * np.arange(rows, dtype=np.uint32))
    return (starts[:, None] + lanes[None]).reshape(-1)


def _data(key: jax.Array) -> jax.Array:
    return key if jnp.issubdtype(key.dtype, jnp.unsignedinteger) else jax.random.key_data(key)
