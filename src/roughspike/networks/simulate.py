"""simulate: a network, a key and a grid in; spikes, and how the run ended, out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from roughspike import parallel
from roughspike._types import SPIKE_BUFFER_FULL, TOO_MANY_SPIKES_IN_A_STEP, is_concrete
from roughspike.networks.coupled import run_recurrent
from roughspike.networks.feedforward import FeedForward
from roughspike.networks.inputs import as_inputs
from roughspike.networks.layered import run_layered
from roughspike.networks.means import prepare_means
from roughspike.networks.options import Options, check_rates, room_in_a_step
from roughspike.networks.population import Population
from roughspike.networks.recurrent import Recurrent
from roughspike.networks.shared_out import Engine, run_shared, shared_axis
from roughspike.networks.solution import Solution
from roughspike.networks.uncoupled import run_population
from roughspike.neurons.base import AbstractNeuron
from roughspike.paths import grid
from roughspike.paths.drivers import AbstractDriver, ExplicitEuler, LinearDriver
from roughspike.paths.spikes import SpikeTrain

_FIRST_CAPACITY = 64
_Run = Callable[[Options], Solution]
_Arguments = tuple[Any, Any, Any, Any]  # network, prepared current, times of input spikes, key


def simulate(
    network: Population | FeedForward | Recurrent,
    *,
    t1: float,
    dt: float,
    key: jax.Array | None = None,
    inputs: SpikeTrain | None = None,
    num_samples: int | None = None,
    t0: float = 0.0,
    max_spikes: int | None = None,
    max_spikes_per_step: int | None = None,
    driver: AbstractDriver | None = None,
    trace: bool = False,
    forward_mode: bool = False,
    checkpoint: bool = False,
    throw: bool = False,
    mesh: Mesh | None = None,
) -> Solution:
    """Simulate a network on [t0, t1] with spike times off the grid, exact for the path that it draws.

    Increments are drawn once on the grid and run straight inside a step; spike times, and anything computed from
    them, are differentiable in every numeric field of the network. Works under `jit`, `vmap` and `grad`.

    **Arguments**

    - `network`: what to simulate. Its wiring decides which engine runs: `Solution.engine`.
    - `t0`, `t1`: the window, plain numbers.
    - `dt`: the longest step allowed; the grid has ceil((t1 - t0) / dt) equal steps.
    - `key`: a JAX random key; the same key gives the same noise whatever the parameters. Not needed where nothing is
      random.
    - `inputs`: spikes that drive the first layer of an `rs.FeedForward`; its batch is one more axis of the solution.
    - `num_samples`: independent samples, as a leading axis; None for one sample without it.
    - `max_spikes`: slots per neuron. None: 64, and outside of `jit`, `vmap` and `grad` more as needed.
    - `max_spikes_per_step`: how many spikes of one neuron a step may hold. None: 1 for a hard threshold, or if the
      refractory time is known to be at least a step, else 2; and more as needed like `max_spikes`.
    - `driver`: `LinearDriver()` (default), `ParabolaDriver()`, or `ExplicitEuler()`, which reproduces published runs.
    - `trace`: also return the membrane potential on the grid.
    - `forward_mode`: leave the derivative to JAX, which `jax.jvp` and `jax.jacfwd` need. Otherwise a hand-written
      adjoint serves `jax.grad` and `jax.vjp`: the same derivative, faster and in less memory.
    - `checkpoint`: keep only the states at about sqrt(steps) times and run the steps between them again in the backward
      pass: the same numbers in memory that grows with sqrt(steps). For populations and layers; not with `trace` or
      `forward_mode`.
    - `throw`: raise `SimulationError` if a sample ended badly (outside of `jit` only); otherwise look at `result`.
    - `mesh`: devices to share the samples out over (or the batch of inputs, where num_samples is no multiple of their
      number), `rs.parallel.mesh()`. Each has the noise that it has on one device, so the solution is the same.

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
    driver = LinearDriver() if driver is None else driver
    capacity = _FIRST_CAPACITY if max_spikes is None else max_spikes
    options = Options(
        float(t0), float(t1), steps, num_samples, driver, trace, forward_mode, checkpoint, capacity=capacity
    )
    engine, arguments, options = _engine(network, inputs, key, options)
    if mesh is None:
        run: _Run = lambda options: engine(*arguments, options)  # noqa: E731
    else:
        devices = parallel.checked(mesh)
        shared_axis(devices, options)
        run = lambda options: run_shared(engine, arguments, options, devices)  # noqa: E731
    if max_spikes_per_step is not None:
        options = options._replace(per_step=(max_spikes_per_step,) * len(options.per_step))
    solution = run(options)
    eager = is_concrete(solution.result)  # inside `jit` the result is traced even if every argument is concrete
    if max_spikes is None and eager:
        solution = _with_room(run, options, solution)
    if throw and eager:
        solution.result.raise_if_failed()
    return solution


def _with_room(run: _Run, options: Options, sol: Solution) -> Solution:
    """Repeat a run whose buffers were too small, with room for what it needed."""
    for _ in range(8):
        full = bool(jnp.any(sol.result.has(SPIKE_BUFFER_FULL)))
        crowded = bool(jnp.any(sol.result.has(TOO_MANY_SPIKES_IN_A_STEP)))
        if not (full or crowded):
            break
        if full:
            needed = int(jnp.max(sol.result.needed))
            options = options._replace(capacity=1 << max(options.capacity - 1, needed - 1).bit_length())
        if crowded:
            options = options._replace(per_step=tuple(2 * n for n in options.per_step))
        if max(options.per_step) > 16:
            break
        sol = run(options)
    return sol


def _engine(
    network: Population | FeedForward | Recurrent, inputs: SpikeTrain | None, key: jax.Array | None, options: Options
) -> tuple[Engine, _Arguments, Options]:
    """The engine, what it needs, and the options that kind and inputs of the network determine, to begin with."""
    if isinstance(network, Population) and isinstance(network.neuron, AbstractNeuron):
        if inputs is not None or key is None:
            raise ValueError("a population is random and has no inputs: pass key=jr.key(0) and a current")
        network = _as_layer(network)
    if isinstance(network, Population):
        return _population(network, inputs, key, options)
    if options.checkpoint and isinstance(network, Recurrent):
        raise ValueError("checkpoint=True is for an rs.Population or an rs.FeedForward: leave it out")
    if isinstance(options.driver, ExplicitEuler):
        raise ValueError("ExplicitEuler reproduces runs of a population: pass LinearDriver() or ParabolaDriver()")
    if isinstance(network, FeedForward):
        return _layers(network, inputs, key, options)
    return _coupled(network, inputs, key, options)


def _as_layer(cells: Population) -> FeedForward:
    """Neurons with dynamics of their own as a layer that nothing reaches."""
    none = jnp.zeros((1, cells.num_neurons), cells.v0.dtype)
    return FeedForward(
        [1, cells.num_neurons], cells.neuron, weights=[none], current=cells.current, v0=cells.v0, i0=cells.i0
    )


def _population(
    network: Population, inputs: SpikeTrain | None, key: jax.Array | None, options: Options
) -> tuple[Engine, _Arguments, Options]:
    """The engine for uncoupled neurons."""
    if inputs is not None:
        raise ValueError("inputs drive the first layer of an rs.FeedForward, a population has none: pass a current")
    if key is None:
        raise ValueError("key is missing: a population is random; pass key=jr.key(0)")
    check_rates(network.neuron, options.h)
    prepared = prepare_means(network.current, options.t0, options.t1, options.steps)
    per_step = (room_in_a_step(network.neuron, options.h),)
    return run_population, (network, prepared, None, key), options._replace(per_step=per_step)


def _layers(
    network: FeedForward, inputs: SpikeTrain | None, key: jax.Array | None, options: Options
) -> tuple[Engine, _Arguments, Options]:
    """The layered engine."""
    for layer in network.layers:
        check_rates(layer.neuron, options.h)
    per_step = tuple(room_in_a_step(layer.neuron, options.h) for layer in network.layers)
    prepared = tuple(prepare_means(x.current, options.t0, options.t1, options.steps) for x in network.layers)
    times, batch = None, ()
    if inputs is not None:
        times = as_inputs(inputs, network.num_inputs, options.t0, network.layers[0].v0.dtype)
        batch = times.shape[:-2]
    options = options._replace(batch=batch, per_step=per_step)
    return run_layered, (network, prepared, times, key), options


def _coupled(
    network: Recurrent, inputs: SpikeTrain | None, key: jax.Array | None, options: Options
) -> tuple[Engine, _Arguments, Options]:
    """The engines for recurrent networks."""
    if key is None:
        raise ValueError("key is missing: a network with escape rates is random; pass key=jr.key(0)")
    if inputs is not None and network.inputs is None:
        raise ValueError("inputs need weights: pass input_weights, of shape (channels, neurons), to rs.Recurrent")
    check_rates(network.neuron, options.h)
    prepared = prepare_means(network.current, options.t0, options.t1, options.steps)
    times, batch = None, ()
    if inputs is not None and network.inputs is not None:
        times = as_inputs(inputs, network.inputs.num_pre, options.t0, network.weights.dtype)
        batch = times.shape[:-2]
    options = options._replace(batch=batch, per_step=(room_in_a_step(network.neuron, options.h),))
    return run_recurrent, (network, prepared, times, key), options
