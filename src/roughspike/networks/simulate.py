"""simulate: a network, a key and a grid in; spikes, and how the run ended, out."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import (
    SPIKE_BUFFER_FULL,
    TOO_MANY_SPIKES_IN_A_STEP,
    UNDECLARED_NOISE,
    Result,
    concrete,
    is_concrete,
)
from roughspike.currents.base import AbstractCurrent
from roughspike.networks.lanes import LaneStart, simulate_samples
from roughspike.networks.population import Population
from roughspike.networks.step import settings
from roughspike.paths import grid
from roughspike.paths.drivers import AbstractDriver, LinearDriver
from roughspike.paths.spikes import Horizon, SpikeTrain, unchecked

_FIRST_CAPACITY = 64


class _Options(NamedTuple):
    """What a run is compiled for, beside the room for its spikes."""

    t0: float
    t1: float
    steps: int
    samples: int
    driver: AbstractDriver
    trace: bool
    forward_mode: bool
    checkpoint: bool


class Solution(eqx.Module):
    """What a simulation returns; with `num_samples=None` every array lacks its leading axis.

    **Attributes**

    - `spikes`: SpikeTrain, times of shape (samples, neurons, capacity); its `horizon` says how near each neuron is
      to one more spike at t1.
    - `result`: how each sample ended.
    - `times`: the grid, shape (steps + 1,).
    - `membrane`: membrane potential on the grid, shape (samples, neurons, steps + 1), if a trace was asked for.
    """

    spikes: SpikeTrain
    result: Result
    times: Float[Array | np.ndarray, "grid"]
    membrane: Float[Array, "*samples neurons grid"] | None


def simulate(
    network: Population,
    *,
    t1: float,
    dt: float,
    key: jax.Array,
    num_samples: int | None = None,
    t0: float = 0.0,
    max_spikes: int | None = None,
    max_spikes_per_step: int | None = None,
    driver: AbstractDriver | None = None,
    trace: bool = False,
    forward_mode: bool = False,
    checkpoint: bool = False,
    throw: bool = False,
) -> Solution:
    """Simulate a network on [t0, t1] with spike times off the grid, exact for the path that it draws.

    Increments are drawn once on the grid and run straight inside a step; spike times, and anything computed from
    them, are differentiable in every numeric field of the network. Works under `jit`, `vmap` and `grad`.

    **Arguments**

    - `network`: what to simulate.
    - `t0`, `t1`: the window, plain numbers.
    - `dt`: the longest step allowed; the grid has ceil((t1 - t0) / dt) equal steps.
    - `key`: a JAX random key; the same key gives the same noise whatever the parameters.
    - `num_samples`: independent samples, as a leading axis; None for one sample without it.
    - `max_spikes`: slots per neuron. None: 64, and outside of `jit`, `vmap` and `grad` more as needed.
    - `max_spikes_per_step`: how many spikes of one neuron a step may hold. None: 1 if the refractory time is known to
      be at least a step, else 2, and more as needed like `max_spikes`.
    - `driver`: `LinearDriver()` (default), `ParabolaDriver()`, or `ExplicitEuler()`, which reproduces published runs.
    - `trace`: also return the membrane potential on the grid.
    - `forward_mode`: leave the derivative to JAX, which `jax.jvp` and `jax.jacfwd` need. Otherwise a hand-written
      adjoint serves `jax.grad` and `jax.vjp`: the same derivative, faster and in less memory.
    - `checkpoint`: keep only the states at about sqrt(steps) times and run the steps between them again in the backward
      pass: the same numbers in memory that grows with sqrt(steps). Not with `trace` or `forward_mode`.
    - `throw`: raise `SimulationError` if a sample ended badly (outside of `jit` only); otherwise look at `result`.

    **Raises** ValueError naming the argument, before any work, for a window or step that makes no sense.

    **Reference**: Holberg & Salvi (2024), section 3; discretisation: docs, "The mathematics", section 3.

    >>> import jax.random as jr, roughspike as rs
    >>> cell = rs.Population(rs.SLIF(mu=(15.0, 0.0), v_reset=1.4), current=1.5)
    >>> sol = rs.simulate(cell, t1=1.0, dt=0.01, key=jr.key(0), num_samples=4)
    >>> sol.spikes.times.shape, bool(sol.result.ok)
    ((4, 1, 64), True)
    """
    steps = grid.num_steps(t0, t1, dt)
    if num_samples is not None and num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, or None for a single sample, got {num_samples}")
    if min(x for x in (1, max_spikes, max_spikes_per_step) if x is not None) < 1:
        raise ValueError("max_spikes and max_spikes_per_step must be at least 1")
    if checkpoint and (trace or forward_mode):
        what = (
            "trace=True, whose output has the length of the run" if trace else "forward_mode=True, which keeps nothing"
        )
        raise ValueError(f"checkpoint=True saves memory of the backward pass and does not go with {what}: drop one")
    _check_step(network, (t1 - t0) / steps)
    driver = LinearDriver() if driver is None else driver
    prepared = _prepare(network.current, t0, t1, steps)
    capacity = _FIRST_CAPACITY if max_spikes is None else max_spikes
    per_step = _spikes_per_step(network, (t1 - t0) / steps) if max_spikes_per_step is None else max_spikes_per_step
    options = _Options(
        float(t0), float(t1), steps, 1 if num_samples is None else num_samples, driver, trace, forward_mode, checkpoint
    )
    solution = _simulate(network, prepared, key, options, capacity, per_step)
    eager = is_concrete(solution.result)  # inside `jit` the result is traced even if every argument is concrete
    if max_spikes is None and eager:
        solution = _with_room(network, prepared, key, options, capacity, per_step, solution)
    if throw and eager:
        solution.result.raise_if_failed()
    return _first_sample(solution) if num_samples is None else solution


def _with_room(
    network: Population, prepared: Any, key: jax.Array, options: _Options, capacity: int, per_step: int, sol: Solution
) -> Solution:
    """Repeat a run whose buffers were too small, with room for what it needed."""
    for _ in range(8):
        full = bool(jnp.any(sol.result.has(SPIKE_BUFFER_FULL)))
        crowded = bool(jnp.any(sol.result.has(TOO_MANY_SPIKES_IN_A_STEP)))
        if not (full or crowded):
            break
        needed = int(jnp.max(sol.result.needed))
        capacity = 1 << max(capacity - 1, needed - 1).bit_length() if full else capacity
        per_step = 2 * per_step if crowded else per_step
        if per_step > 16:
            break
        sol = _simulate(network, prepared, key, options, capacity, per_step)
    return sol


@eqx.filter_jit
def _simulate(
    network: Population, prepared: Any, key: jax.Array, options: _Options, capacity: int, per_step: int
) -> Solution:
    t0, t1, steps, samples, driver, trace, forward_mode, checkpoint = options
    neuron, current = network.neuron, network.current
    h = (t1 - t0) / steps
    dtype = jnp.result_type(neuron.mu)
    static = settings(h, driver, neuron.reset.keep, per_step, dtype)
    means = _half_means(current, prepared, steps, network.num_neurons)
    size = (steps, network.num_neurons, samples, capacity)
    modes = {"trace": trace, "forward_mode": forward_mode, "checkpoint": checkpoint}
    run = simulate_samples(neuron, static, means, _start(network), key, size, **modes)
    times, counts = t0 + run.times, run.counts
    flags = run.flags | jnp.where(counts > capacity, SPIKE_BUFFER_FULL, 0)
    flags = jax.lax.reduce(flags, jnp.int32(0), jax.lax.bitwise_or, (0,)) | _undeclared(neuron)
    result = Result(flags, jnp.max(counts, axis=0))
    horizon = Horizon(run.threshold.T, run.open.T)
    membrane = None if run.membrane is None else jnp.moveaxis(run.membrane, 0, -1).swapaxes(0, 1)
    return Solution(
        spikes=unchecked(jnp.moveaxis(times, 0, -1).swapaxes(0, 1), t0, t1, horizon=horizon),
        result=result,
        times=t0 + h * jnp.arange(steps + 1, dtype=dtype),
        membrane=membrane,
    )


def _prepare(current: Any, t0: float, t1: float, steps: int) -> Any:
    """Host work of the current for the half steps of the grid: done outside of the compiled function."""
    if not isinstance(current, AbstractCurrent):
        return None
    starts, lengths = grid.half_steps(t0, t1, steps)
    return current.prepare(starts[None, :], lengths[None, :])


def _half_means(current: Any, prepared: Any, steps: int, neurons: int) -> jax.Array:
    """Means of the current over the half steps: (2, neurons, 1) if it is constant, else (steps, 2, neurons, 1)."""
    if not isinstance(current, AbstractCurrent):
        return jnp.broadcast_to(jnp.atleast_1d(current)[None, :, None], (2, neurons, 1))
    means = current.means(prepared)
    means = jnp.broadcast_to(means, (neurons, 2 * steps))
    return means.reshape(neurons, steps, 2).transpose(1, 2, 0)[..., None]


def _start(network: Population) -> LaneStart:
    column = lambda x: jnp.broadcast_to(jnp.atleast_1d(x), (network.num_neurons,))[:, None]  # noqa: E731
    return LaneStart(column(network.v0), column(network.i0), None, network.neuron.alpha)


def _spikes_per_step(network: Population, h: float) -> int:
    refractory = None if network.neuron.refractory is None else concrete(network.neuron.refractory)
    return 1 if refractory is not None and refractory >= h else 2


def _undeclared(neuron: Any) -> jax.Array:
    changed = jnp.any((neuron.sigma != 0) & ~np.array(neuron.noise))
    return jnp.where(changed, UNDECLARED_NOISE, 0).astype(jnp.int32)


def _first_sample(sol: Solution) -> Solution:
    membrane = None if sol.membrane is None else sol.membrane[0]
    return Solution(sol.spikes[0], jax.tree.map(lambda x: x[0], sol.result), sol.times, membrane)


def _check_step(network: Population, h: float) -> None:
    """Static complaints about dt, where the rates are known."""
    neuron = network.neuron
    mu = concrete(neuron.mu)
    if mu is not None and mu.max() * h > 2.0:
        raise ValueError(
            f"dt={h:g} is too coarse for the fastest rate mu={mu.max():g} (time constant {1 / mu.max():g}): "
            f"pass dt={0.5 / mu.max():.2g} or less"
        )
    refractory = None if neuron.refractory is None else concrete(neuron.refractory)
    if refractory is not None and 0 < refractory < h:
        raise ValueError(
            f"dt={h:g} is too coarse for the refractory time {refractory:g}: pass dt={refractory:.2g} or less"
        )
