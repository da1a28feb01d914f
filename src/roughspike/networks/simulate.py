"""simulate: a network, a key and a grid in; spikes, and how the run ended, out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike._types import SPIKE_BUFFER_FULL, TOO_MANY_SPIKES_IN_A_STEP, Result, concrete, is_concrete
from roughspike.networks.coupled import Options as CoupledOptions
from roughspike.networks.coupled import run_recurrent
from roughspike.networks.feedforward import FeedForward
from roughspike.networks.inputs import as_inputs, as_lanes
from roughspike.networks.lanes import LaneStart, simulate_samples
from roughspike.networks.layered import Options, run_layered
from roughspike.networks.means import half_means, prepare_means
from roughspike.networks.population import Population
from roughspike.networks.recurrent import Recurrent
from roughspike.networks.solution import Solution, undeclared_noise
from roughspike.networks.step import settings
from roughspike.neurons.lif import SLIF
from roughspike.neurons.threshold import HardThreshold
from roughspike.paths import grid
from roughspike.paths.drivers import AbstractDriver, ExplicitEuler, LinearDriver
from roughspike.paths.spikes import Horizon, SpikeTrain, unchecked

_FIRST_CAPACITY = 64


class _Options(NamedTuple):
    """What a run of a population is compiled for, beside the room for its spikes."""

    t0: float
    t1: float
    steps: int
    samples: int
    driver: AbstractDriver
    trace: bool
    forward_mode: bool
    checkpoint: bool


class _Runner(NamedTuple):
    """How to run a network given the room for spikes of a neuron and in a step; the room in a step to begin with."""

    run: Callable[[int, tuple[int, ...]], Solution]
    per_step: tuple[int, ...]


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
    driver = LinearDriver() if driver is None else driver
    window = float(t0), float(t1), steps
    if isinstance(network, FeedForward):
        if checkpoint:
            raise ValueError("checkpoint=True is for a Population: a layered network has no checkpoints")
        runner = _layers(network, inputs, key, window, num_samples, driver, trace, forward_mode)
    elif isinstance(network, Recurrent):
        if checkpoint:
            raise ValueError("checkpoint=True is for a Population: leave it out, a recurrent network needs none")
        runner = _coupled(network, inputs, key, window, num_samples, driver, trace, forward_mode)
    else:
        if inputs is not None:
            raise ValueError("inputs drive the first layer of an rs.FeedForward, a population has none: pass a current")
        runner = _population(network, key, window, num_samples, driver, trace, forward_mode, checkpoint)
    capacity = _FIRST_CAPACITY if max_spikes is None else max_spikes
    per_step = runner.per_step
    if max_spikes_per_step is not None:
        per_step = (max_spikes_per_step,) * len(per_step)
    solution = runner.run(capacity, per_step)
    eager = is_concrete(solution.result)  # inside `jit` the result is traced even if every argument is concrete
    if max_spikes is None and eager:
        solution = _with_room(runner.run, capacity, per_step, solution)
    if throw and eager:
        solution.result.raise_if_failed()
    return solution


def _with_room(
    run: Callable[[int, tuple[int, ...]], Solution], capacity: int, per_step: tuple[int, ...], sol: Solution
) -> Solution:
    """Repeat a run whose buffers were too small, with room for what it needed."""
    for _ in range(8):
        full = bool(jnp.any(sol.result.has(SPIKE_BUFFER_FULL)))
        crowded = bool(jnp.any(sol.result.has(TOO_MANY_SPIKES_IN_A_STEP)))
        if not (full or crowded):
            break
        needed = int(jnp.max(sol.result.needed))
        capacity = 1 << max(capacity - 1, needed - 1).bit_length() if full else capacity
        per_step = tuple(2 * n for n in per_step) if crowded else per_step
        if max(per_step) > 16:
            break
        sol = run(capacity, per_step)
    return sol


def _layers(
    network: FeedForward,
    inputs: SpikeTrain | None,
    key: jax.Array | None,
    window: tuple[float, float, int],
    num_samples: int | None,
    driver: AbstractDriver,
    trace: bool,
    forward_mode: bool,
) -> _Runner:
    """The layered engine."""
    t0, t1, steps = window
    h = (t1 - t0) / steps
    if isinstance(driver, ExplicitEuler):
        raise ValueError("ExplicitEuler reproduces runs of a population: pass LinearDriver() or ParabolaDriver()")
    for layer in network.layers:
        _check_rates(layer.neuron, h)
    per_step = tuple(_room_in_a_step(layer.neuron, h) for layer in network.layers)
    prepared = tuple(prepare_means(layer.current, t0, t1, steps) for layer in network.layers)
    times, batch = None, ()
    if inputs is not None:
        times = as_inputs(inputs, network.num_inputs, t0, network.layers[0].v0.dtype)
        batch, times = times.shape[:-2], as_lanes(times, num_samples or 1)

    def run(capacity: int, per_step: tuple[int, ...]) -> Solution:
        options = Options(t0, t1, steps, num_samples, batch, driver, trace, forward_mode, capacity, per_step)
        return run_layered(network, prepared, times, key, options)

    return _Runner(run, per_step)


def _coupled(
    network: Recurrent,
    inputs: SpikeTrain | None,
    key: jax.Array | None,
    window: tuple[float, float, int],
    num_samples: int | None,
    driver: AbstractDriver,
    trace: bool,
    forward_mode: bool,
) -> _Runner:
    """The engines for recurrent networks."""
    t0, t1, steps = window
    h = (t1 - t0) / steps
    if key is None:
        raise ValueError("key is missing: a network with escape rates is random; pass key=jr.key(0)")
    if isinstance(driver, ExplicitEuler):
        raise ValueError("ExplicitEuler reproduces runs of a population: pass LinearDriver() or ParabolaDriver()")
    if inputs is not None and network.inputs is None:
        raise ValueError("inputs need weights: pass input_weights, of shape (channels, neurons), to rs.Recurrent")
    _check_rates(network.neuron, h)
    prepared = prepare_means(network.current, t0, t1, steps)
    times, batch = None, ()
    if inputs is not None and network.inputs is not None:
        times = as_inputs(inputs, network.inputs.num_pre, t0, network.weights.dtype)
        batch = times.shape[:-2]

    def run(capacity: int, per_step: tuple[int, ...]) -> Solution:
        options = CoupledOptions(t0, t1, steps, num_samples, batch, driver, trace, forward_mode, capacity, per_step[0])
        return run_recurrent(network, prepared, times, key, options)

    return _Runner(run, (_room_in_a_step(network.neuron, h),))


def _population(
    network: Population,
    key: jax.Array | None,
    window: tuple[float, float, int],
    num_samples: int | None,
    driver: AbstractDriver,
    trace: bool,
    forward_mode: bool,
    checkpoint: bool,
) -> _Runner:
    """The engine for uncoupled neurons."""
    t0, t1, steps = window
    if key is None:
        raise ValueError("key is missing: a population is random; pass key=jr.key(0)")
    _check_step(network, (t1 - t0) / steps)
    prepared = prepare_means(network.current, t0, t1, steps)
    samples = 1 if num_samples is None else num_samples
    options = _Options(t0, t1, steps, samples, driver, trace, forward_mode, checkpoint)

    def run(capacity: int, per_step: tuple[int, ...]) -> Solution:
        solution = _simulate(network, prepared, key, options, capacity, per_step[0])
        return _first_sample(solution) if num_samples is None else solution

    return _Runner(run, (_spikes_per_step(network, (t1 - t0) / steps),))


@eqx.filter_jit
def _simulate(
    network: Population, prepared: Any, key: jax.Array, options: _Options, capacity: int, per_step: int
) -> Solution:
    t0, t1, steps, samples, driver, trace, forward_mode, checkpoint = options
    neuron, current = network.neuron, network.current
    h = (t1 - t0) / steps
    dtype = jnp.result_type(neuron.mu)
    static = settings(h, driver, neuron.reset.keep, per_step, dtype)
    means = half_means(current, prepared, steps, network.num_neurons)
    size = (steps, network.num_neurons, samples, capacity)
    modes = {"trace": trace, "forward_mode": forward_mode, "checkpoint": checkpoint}
    run = simulate_samples(neuron, static, means, _start(network), key, size, **modes)
    times, counts = t0 + run.times, run.counts
    flags = run.flags | jnp.where(counts > capacity, SPIKE_BUFFER_FULL, 0)
    flags = jax.lax.reduce(flags, jnp.int32(0), jax.lax.bitwise_or, (0,)) | undeclared_noise(neuron)
    result = Result(flags, jnp.max(counts, axis=0))
    horizon = Horizon(run.threshold.T, run.open.T)
    membrane = None if run.membrane is None else jnp.moveaxis(run.membrane, 0, -1).swapaxes(0, 1)
    return Solution(
        spikes=unchecked(jnp.moveaxis(times, 0, -1).swapaxes(0, 1), t0, t1, horizon=horizon),
        result=result,
        times=t0 + h * jnp.arange(steps + 1, dtype=dtype),
        membrane=membrane,
    )


def _start(network: Population) -> LaneStart:
    column = lambda x: jnp.broadcast_to(jnp.atleast_1d(x), (network.num_neurons,))[:, None]  # noqa: E731
    return LaneStart(column(network.v0), column(network.i0), None, network.neuron.alpha)


def _spikes_per_step(network: Population, h: float) -> int:
    return _room_in_a_step(network.neuron, h)


def _room_in_a_step(neuron: Any, h: float) -> int:
    """How many spikes of a neuron a step should have room for, to begin with."""
    if not isinstance(neuron, SLIF) or isinstance(neuron.escape, HardThreshold):
        return 1
    refractory = None if neuron.refractory is None else concrete(neuron.refractory)
    return 1 if refractory is not None and refractory >= h else 2


def _first_sample(sol: Solution) -> Solution:
    membrane = None if sol.membrane is None else sol.membrane[0]
    return Solution(sol.spikes[0], jax.tree.map(lambda x: x[0], sol.result), sol.times, membrane)


def _check_step(network: Population, h: float) -> None:
    """Static complaints about dt, where the rates are known."""
    _check_rates(network.neuron, h)


def _check_rates(neuron: Any, h: float) -> None:
    mu = concrete(neuron.mu)
    if mu is not None and mu.max() * h > 2.0:
        raise ValueError(
            f"dt={h:g} is too coarse for the fastest rate mu={mu.max():g} (time constant {1 / mu.max():g}): "
            f"pass dt={0.5 / mu.max():.2g} or less"
        )
    refractory = concrete(neuron.refractory) if isinstance(neuron, SLIF) and neuron.refractory is not None else None
    if refractory is not None and 0 < refractory < h:
        raise ValueError(
            f"dt={h:g} is too coarse for the refractory time {refractory:g}: pass dt={refractory:.2g} or less"
        )
