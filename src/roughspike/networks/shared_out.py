"""Run any engine with its samples shared out over the devices of a mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from roughspike import parallel
from roughspike.networks.noise import Part
from roughspike.networks.options import Options
from roughspike.networks.solution import Solution

Engine = Callable[[Any, Any, Any, Any, Options], Solution]
"""(network, prepared current, times of input spikes (*batch, channels, capacity) or None, key, options) -> Solution."""


def shared_axis(mesh: Mesh, options: Options) -> int:
    """Which axis of the solution is shared out: samples if their number allows it, else the batch of inputs.

    **Raises** ValueError if there is none.
    """
    for axis, count in enumerate(options.shape):
        if count % mesh.size == 0:
            return axis
    if not options.shape:
        raise ValueError("mesh shares out samples, and there is one: pass num_samples=..., or leave mesh out")
    what = "num_samples" if options.samples is not None else "the batch of inputs"
    parallel.check_shares(mesh, options.shape[0], what, "change it, or pass a smaller mesh=rs.parallel.mesh(n)")
    raise AssertionError


@eqx.filter_jit
def run_shared(engine: Engine, arguments: tuple[Any, Any, Any, Any], options: Options, mesh: Mesh) -> Solution:
    """As `engine(*arguments, options)`; every device runs its samples, or its part of the batch, on their own noise."""
    axis = shared_axis(mesh, options)
    over_samples = options.samples is not None and axis == 0
    share = options.shape[axis] // mesh.size
    if over_samples:
        mine = options._replace(samples=share)
    else:
        at = axis - (options.samples is not None)
        mine = options._replace(batch=(*options.batch[:at], share, *options.batch[at + 1 :]))

    def some(device: jax.Array, network: Any, prepared: Any, times: Any, key: Any) -> tuple[Solution, Any]:
        numbers = jnp.arange(options.lanes, dtype=jnp.int32).reshape(options.shape)
        lanes = jax.lax.dynamic_slice_in_dim(numbers, device * share, share, axis).reshape(-1)
        part = None if key is None else Part(key, lanes, options.lanes)
        found = engine(network, prepared, times, part, mine)
        return eqx.tree_at(lambda s: s.times, found, None), found.times

    shares_times = None if over_samples or arguments[2] is None else axis - (options.samples is not None)
    found, grid = parallel.spread(some, mesh, arguments, (None, None, shares_times, None), (axis, None))
    result = parallel.whole(found.result, mesh)  # so that every process can look at it
    return eqx.tree_at(lambda s: (s.times, s.result), found, (grid, result), is_leaf=lambda x: x is None)
