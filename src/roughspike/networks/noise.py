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

from roughspike.networks.threefry import fold, threefry
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


class Drawn(eqx.Module):
    """Normals that a run draws on its way, a chunk of steps at a time: their key, and how many a step has."""

    key: Any
    per_step: int = eqx.field(static=True)


def split(key: Key, count: int = 2) -> list[Any]:
    """As `jax.random.split`; the parts of a part are of the same samples."""
    if isinstance(key, Part):
        return [Part(k, key.lanes, key.total) for k in split(key.key, count)]
    return list(_folded(key, jnp.arange(count, dtype=jnp.uint32)) if is_threefry(key) else jax.random.split(key, count))


def _folded(key: jax.Array, numbers: jax.Array) -> jax.Array:
    """A Threefry key folded with each number: the bits of `jax.random`, in fewer kernels to compile."""
    words = jnp.stack(fold(_data(key), numbers), axis=-1)
    return words if jnp.issubdtype(key.dtype, jnp.unsignedinteger) else jax.random.wrap_key_data(words)


class LogUniforms(eqx.Module):
    """What `draw_log_uniforms` draws, interval by interval and lane by lane, hashed when it is asked for.

    `lanes`, `total`: as in `Part`; None: all.
    """

    key: Any
    lanes: Int[Array, "lanes"] | None
    total: int = eqx.field(static=True)
    shape: tuple[int, int, int] = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)

    @staticmethod
    def of(key: Key, shape: tuple[int, int, int], dtype: Any) -> LogUniforms | jax.Array:
        """Of (intervals, neurons, samples); all drawn at once for a generator other than Threefry."""
        if not is_threefry(key) or jnp.finfo(dtype).bits not in (32, 64):
            return draw_log_uniforms(key, shape, dtype)
        own, lanes, total = (key.key, key.lanes, key.total) if isinstance(key, Part) else (key, None, shape[2])
        return LogUniforms(_data(own), lanes, total, shape, np.dtype(dtype))

    def at(self, interval: jax.Array, places: jax.Array | None = None) -> jax.Array:
        """log u of these intervals (neurons, samples); of some lanes only if their places are given."""
        _, neurons, samples = self.shape
        if places is None:
            places = jnp.arange(neurons * samples, dtype=jnp.int32).reshape(neurons, samples)
        counters = places.astype(jnp.uint32)
        if self.lanes is not None:
            rows, columns = places // samples, self.lanes[places % samples]
            counters = rows.astype(jnp.uint32) * np.uint32(self.total) + columns.astype(jnp.uint32)
        bits = threefry(fold(self.key, interval), jnp.zeros_like(counters), counters)
        return jnp.log(_unit(*bits, self.dtype, least_uniform(self.dtype), 1.0))


def log_u_at(log_u: LogUniforms | jax.Array, interval: jax.Array, places: jax.Array | None = None) -> jax.Array:
    """log u of these intervals, the last that there is for those beyond, as `LogUniforms.at`."""
    interval = jnp.minimum(interval, log_u.shape[0] - 1)
    if isinstance(log_u, LogUniforms):
        return log_u.at(interval, places)
    if places is not None:
        return log_u.reshape(log_u.shape[0], -1)[interval, places]
    return jnp.take_along_axis(log_u, interval[None], axis=0, mode="promise_in_bounds")[0]


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
    keys = _folded(own, numbers) if is_threefry(own) else jax.vmap(lambda m: jax.random.fold_in(own, m))(numbers)
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
    normals = math.sqrt(2) * jax.lax.erf_inv(uniform)
    # the barrier: a loop over a vector is faster than one over the short rows of an array
    return jax.lax.optimization_barrier(normals.astype(jnp.float32)).reshape(shape)


def _uniforms(key: Key, shape: tuple[int, ...], dtype: Any, low: float, high: float) -> jax.Array:
    """As `jax.random.uniform`; of a part, the samples that belong to it."""
    if not isinstance(key, Part):
        return jax.random.uniform(key, shape, dtype, low, high)
    if not is_threefry(key) or jnp.finfo(dtype).bits not in (32, 64):
        return jax.random.uniform(key.key, (*shape[:-1], key.total), dtype, low, high)[..., key.lanes]
    rows = math.prod(shape[:-1])
    counters = _counters(key, rows, rows)
    upper, lower = jnp.split(threefry_2x32(_data(key.key), jnp.concatenate([jnp.zeros_like(counters), counters])), 2)
    return _unit(upper, lower, dtype, low, high).reshape(shape)


def _unit(upper: jax.Array, lower: jax.Array, dtype: Any, low: float, high: float) -> jax.Array:
    """Uniforms of two words each, by the bits that `jax.random.uniform` makes of them."""
    info = jnp.finfo(dtype)
    if info.bits == 64:
        bits = (upper.astype(jnp.uint64) << np.uint64(32)) | lower.astype(jnp.uint64)
    else:
        bits = upper ^ lower
    one = np.asarray(1.0, dtype)
    mantissa = (bits >> np.asarray(info.bits - info.nmant, bits.dtype)) | one.view(bits.dtype)
    unit = jax.lax.bitcast_convert_type(mantissa, dtype) - one
    least, most = np.asarray(low, dtype), np.asarray(high, dtype)
    return jnp.maximum(least, unit * (most - least) + least)


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
