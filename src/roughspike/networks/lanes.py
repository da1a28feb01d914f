"""The engine for uncoupled neurons: one scan over the grid, every neuron and sample a lane of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.networks.adjoint import scan_with_adjoint
from roughspike.networks.blocks import Blocked, Blocks, run_in_blocks
from roughspike.networks.light import light_unless_differentiated
from roughspike.networks.noise import (
    Key,
    LogUniforms,
    Part,
    draw_log_uniforms,
    draw_normals,
    is_threefry,
    log_u_at,
    normals_per_step,
    split,
)
from roughspike.networks.scan import Scanned, scan_steps
from roughspike.networks.step import Coefficients, State, Static, coefficients, driven
from roughspike.networks.times import gather_times
from roughspike.neurons.base import AbstractNeuron
from roughspike.neurons.lif import SLIF
from roughspike.paths.drivers import AbstractDriver

_LANES = 4096  # neurons times samples that are run at once if they are differentiated
_SMALL = 1536  # and if they are not


class Noise(NamedTuple):
    """Everything random in a run, drawn before it starts.

    `normals`: (steps, normals, neurons, samples). `log_u`: (capacity + 1, neurons, samples), one per interval. Layers
    draw both on their way: `Drawn`, `LogUniforms`.
    """

    normals: Any
    log_u: Any


class LaneStart(NamedTuple):
    """State at the start, each of shape (neurons, samples) or broadcast to it.

    - `v`, `i`: potential and synaptic current.
    - `rest`: refractory time left; None: none.
    - `owed`: hazard that must still accumulate before a spike is possible, (alpha - hazard since the last spike)^+.
    """

    v: jax.Array
    i: jax.Array
    rest: jax.Array | None
    owed: jax.Array


class Run(NamedTuple):
    """Per step spike fractions (steps, slots, neurons, samples) and running counts; flags, threshold, trace."""

    fractions: jax.Array
    counts: jax.Array
    flags: jax.Array
    threshold: jax.Array
    open: jax.Array  # can the neuron spike at the end?
    membrane: jax.Array | None


class Lanes(NamedTuple):
    """Simulated lanes; the last axis is the samples.

    `times`: (capacity, neurons, samples), +inf padded. `counts`, `flags`, `threshold`, `open`: (neurons, samples).
    `membrane`: (steps + 1, neurons, samples) or None.
    """

    times: jax.Array
    counts: jax.Array
    flags: jax.Array
    threshold: jax.Array
    open: jax.Array
    membrane: jax.Array | None


def draw_noise(
    key: Key,
    neuron: SLIF | AbstractNeuron,
    driver: AbstractDriver,
    steps: int,
    neurons: int,
    samples: int,
    capacity: int,
    dtype: Any,
) -> Noise:
    """Draw normals for the Brownian motions that the neuron has, and one uniform for each interval."""
    diffusion_key, threshold_key = split(key)
    normals = draw_normals(diffusion_key, 0, steps, (normals_per_step(neuron, driver), neurons, samples), dtype)
    return Noise(normals, draw_log_uniforms(threshold_key, (capacity + 1, neurons, samples), dtype))


def simulate_samples(
    neuron: SLIF,
    static: Static,
    current: jax.Array,
    start: LaneStart,
    key: Key,
    size: tuple[int, int, int, int],
    *,
    trace: bool,
    forward_mode: bool,
    checkpoint: bool,
) -> Lanes:
    """Draw the noise of some samples and run them; `size`: steps, neurons, samples, capacity.

    Many lanes are run in blocks of samples, one after the other, so that a forward run of any size needs the memory of
    one block and stays in the processor's cache. A run that is differentiated keeps something of every lane anyway, and
    copies it, so its blocks are larger.
    """
    modes = trace, forward_mode, checkpoint

    def run(given: tuple[SLIF, jax.Array, LaneStart], key: Key, most: int) -> Lanes:
        return _run_blocks(given, static, key, size, modes, most)

    given = neuron, current, start
    small = isinstance(key, Part) or is_threefry(key)  # the noise of a block does not depend on its size
    if forward_mode or checkpoint or not small or size[1] * size[2] <= _SMALL:
        return run(given, key, _LANES)
    light, whole = (lambda given, key, most=most: run(given, key, most) for most in (_SMALL, _LANES))
    return light_unless_differentiated(light, whole)(given, key)


def _run_blocks(
    given: tuple[SLIF, jax.Array, LaneStart],
    static: Static,
    key: Key,
    size: tuple[int, int, int, int],
    modes: tuple[bool, bool, bool],
    most: int,
) -> Lanes:
    """At most so many lanes at once."""
    neuron, current, start = given
    steps, neurons, samples, capacity = size
    trace, forward_mode, checkpoint = modes

    def some(key: Key, samples: int) -> Lanes:
        size = (steps, neurons, samples, capacity)
        if checkpoint:
            return _run_checkpointed(neuron, static, current, start, key, size)
        noise = draw_noise(key, neuron, static.driver, steps, neurons, samples, capacity, start.v.dtype)
        run = run_lanes(neuron, static, current, start, noise, trace, forward_mode)
        times, counts = gather_times(run.fractions, run.counts, capacity, 0.0, static.h)
        return Lanes(times, counts, run.flags, run.threshold, run.open, run.membrane)

    blocks = min(samples, -(-neurons * samples // most))
    if blocks == 1:
        return some(key, samples)
    each = -(-samples // blocks)
    if isinstance(key, Part) or is_threefry(key):
        # a block is a part of one draw, so the noise does not depend on how the samples are cut
        whole = key if isinstance(key, Part) else Part(key, jnp.arange(samples), samples)
        lanes = jnp.pad(whole.lanes, (0, blocks * each - samples), mode="edge").reshape(blocks, each)
        out = jax.lax.map(lambda b: some(Part(whole.key, b, whole.total), each), lanes)
    else:
        out = jax.lax.map(lambda b: some(jax.random.fold_in(key, b), each), jnp.arange(blocks))
    join = lambda x: jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], blocks * each)[..., :samples]  # noqa: E731
    return jax.tree.map(join, out)


def _run_checkpointed(
    neuron: SLIF,
    static: Static,
    current: jax.Array,
    start: LaneStart,
    key: Key,
    size: tuple[int, int, int, int],
) -> Lanes:
    """`run_lanes` on the same noise, in memory that grows with the square root of the steps."""
    steps, neurons, samples, capacity = size
    diffusion_key, threshold_key = split(key)
    log_u = draw_log_uniforms(threshold_key, (capacity + 1, neurons, samples), start.v.dtype)
    co, state, drive = _prepare(neuron, static, current, start, log_u)
    blocks = Blocks(steps, normals_per_step(neuron, static.driver), capacity)
    out: Blocked = run_in_blocks(static, blocks, co, state, drive, diffusion_key, log_u)
    return Lanes(out.times, out.counts, out.flags, out.end.s, can_spike(out.end, out.counts, log_u), None)


def run_lanes(
    neuron: SLIF,
    static: Static,
    current: jax.Array,
    start: LaneStart,
    noise: Noise,
    trace: bool,
    forward_mode: bool,
) -> Run:
    """Run every neuron and sample over the grid.

    `current`: half-step means, (2, neurons, 1) if constant, else (steps, 2, neurons, 1).
    `forward_mode`: leave the derivative to JAX, for `jax.jvp`.
    """
    co, state, drive = _prepare(neuron, static, current, start, noise.log_u)
    advance = scan_steps if forward_mode else scan_with_adjoint
    out: Scanned = advance(static, trace, co, state, drive, noise.normals, noise.log_u)
    membrane = None if out.membrane is None else jnp.concatenate([state.v[None], out.membrane])
    ready = can_spike(out.end, out.counts[-1], noise.log_u)
    return Run(out.fractions, out.counts, out.flags, out.end.s, ready, membrane)


def _prepare(
    neuron: SLIF, static: Static, current: jax.Array, start: LaneStart, log_u: jax.Array
) -> tuple[Coefficients, State, tuple[jax.Array, jax.Array]]:
    """Coefficients of the step, state at the start, and what the input adds in each step."""
    co = coefficients(neuron, static.h, static.driver)
    shape = log_u.shape[1:]
    own = any(neuron.noise[1]) or neuron.self_weight is not None or jnp.shape(start.i)[-1:] == shape[1:]
    state = State(
        v=jnp.broadcast_to(start.v, shape),
        i=jnp.broadcast_to(start.i, shape if own else (shape[0], 1)),  # else one current serves all samples
        s=log_u[0] - start.owed,
        rest=None
        if co.refractory is None
        else jnp.broadcast_to(jnp.zeros((), log_u.dtype) if start.rest is None else start.rest, shape),
    )
    means = jnp.moveaxis(current, 1, 0) if current.ndim == 4 else current
    return co, state, driven(co, means[0], means[1])


def can_spike(end: Any, counts: jax.Array, log_u: jax.Array | LogUniforms) -> jax.Array:
    """Past the soft refractory part the hazard since the last spike exceeds alpha, that is s > log u."""
    above = end.s > log_u_at(log_u, counts)
    return above if end.rest is None else above & (end.rest <= 0)
