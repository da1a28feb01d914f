"""Run a recurrent network: lay out samples, currents, input spikes and noise, pick the engine, make the solution."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike._types import SPIKE_BUFFER_FULL, Result
from roughspike.networks import delayed, ordered
from roughspike.networks.arrivals import input_pairs
from roughspike.networks.cells import cell, is_random
from roughspike.networks.delayed_adjoint import run_delayed
from roughspike.networks.delayed_forward import Listed, run_forward
from roughspike.networks.light import light_unless_differentiated
from roughspike.networks.means import half_means
from roughspike.networks.noise import draw_log_uniforms, draw_normals, normals_per_step, split
from roughspike.networks.options import Options
from roughspike.networks.ordered import Ran, Sizes
from roughspike.networks.ordered_adjoint import run_ordered
from roughspike.networks.piece import State, coefficients
from roughspike.networks.recurrent import Recurrent
from roughspike.networks.solution import Solution, undeclared_noise
from roughspike.networks.step import settings
from roughspike.networks.times import gather_times
from roughspike.paths.spikes import Horizon, unchecked


class Noise(NamedTuple):
    """`normals`: (steps, normals, lanes, neurons). `log_u`: (capacity + 1, lanes, neurons), one per interval."""

    normals: jax.Array
    log_u: jax.Array


class Later(NamedTuple):
    """Noise whose normals are drawn when they are needed. `key`: of them."""

    key: Any
    log_u: jax.Array


@eqx.filter_jit
def run_recurrent(net: Recurrent, prepared: Any, inputs: jax.Array | None, key: Any, options: Options) -> Solution:
    """Draw the noise and run.

    **Arguments**

    - `prepared`: what `prepare_means` returns for the current.
    - `inputs`: times of input spikes since t0, (*batch, channels, capacity), or None.
    """
    noise = None
    if is_random(net.neuron):
        normals_key, threshold_key = split(key)
        size = (options.capacity + 1, net.num_neurons, options.lanes)
        noise = Later(normals_key, jnp.swapaxes(draw_log_uniforms(threshold_key, size, net.weights.dtype), 1, 2))
        if net.delays is None or options.forward_mode:
            noise = Noise(_normals(net, noise.key, options), noise.log_u)
    return solution(net, run_on(net, prepared, inputs, noise, options), noise, options)


def _normals(net: Recurrent, key: Any, options: Options) -> jax.Array:
    shape = (normals_per_step(net.neuron, options.driver), net.num_neurons, options.lanes)
    return jnp.swapaxes(draw_normals(key, 0, options.steps, shape, net.weights.dtype), 2, 3)


def run_on(
    net: Recurrent, prepared: Any, inputs: jax.Array | None, noise: Noise | Later | None, options: Options
) -> Ran:
    """Run on given noise, by the engine for the wiring; no noise at a hard threshold."""
    means = half_means(net.current, prepared, options.steps, net.num_neurons)[..., 0]
    if net.delays is not None:
        return _delayed(net, net.delays, means, inputs, noise, options)
    assert isinstance(noise, Noise)
    return _ordered(net, means, inputs, noise, options)


def _ordered(net: Recurrent, means: jax.Array, inputs: jax.Array | None, noise: Noise, options: Options) -> Ran:
    neuron, lanes, count = net.neuron, options.lanes, net.num_neurons
    static = settings(options.h, options.driver, neuron.reset.keep, 1, noise.log_u.dtype)
    times, ids = _flat_inputs(inputs, options)
    sizes = Sizes(options.steps, count, lanes, options.capacity, 0 if times is None else times.shape[1], options.trace)
    # mu1 times the current: straight in a step, with the right means over both halves
    push, drive = neuron.mu[0] * means, (neuron.mu[0] * means[0], None)
    if means.ndim == 3:
        drive = 1.5 * push[:, 0] - 0.5 * push[:, 1], 2 * (push[:, 1] - push[:, 0])
    full = lambda x: jnp.broadcast_to(x, (lanes, count))  # noqa: E731
    zero = jnp.zeros((), noise.log_u.dtype)
    ready = None if neuron.refractory is None else full(zero)
    given = ordered.Given(
        co=coefficients(neuron, options.h, options.driver),
        drive=drive,
        start=State(full(net.v0), full(net.i0), noise.log_u[0] - neuron.alpha, ready, jnp.broadcast_to(zero, (lanes,))),
        weights=net.synapses.values,
        input_weights=None if times is None or net.inputs is None else net.inputs.values,
        input_times=times,
    )
    fixed = ordered.Fixed(
        mu=neuron.mu,
        normals=jnp.moveaxis(noise.normals, 2, 0),
        log_u=jnp.swapaxes(noise.log_u, 0, 1),
        targets=net.synapses.targets,
        input_targets=None if net.inputs is None else net.inputs.targets,
        input_ids=ids,
    )
    return (ordered.run_plain if options.forward_mode else run_ordered)(static, sizes, given, fixed)


def _flat_inputs(inputs: jax.Array | None, options: Options) -> tuple[jax.Array | None, jax.Array | None]:
    """All input spikes of a lane in the order of time, and the channel of each."""
    if inputs is None:
        return None, None
    channels, capacity = inputs.shape[-2:]
    flat = inputs.reshape(-1, channels * capacity)
    order = jnp.argsort(flat, axis=1)  # stable: at equal times the lower channel comes first
    times = jnp.take_along_axis(flat, order, axis=1)
    ids = (order // capacity).astype(jnp.int32)
    each = options.samples or 1
    return jnp.tile(times, (each, 1)), jnp.tile(ids, (each, 1))


def _delayed(
    net: Recurrent, delays: jax.Array, means: jax.Array, inputs: Any, noise: Noise | Later | None, options: Options
) -> Ran:
    neuron, h = net.neuron, options.h
    full = lambda x: jnp.broadcast_to(x, (options.lanes, net.num_neurons))  # noqa: E731
    halves = [jnp.take(means, k, axis=-2)[..., None, :] for k in (0, 1)]
    log_u = None if noise is None else noise.log_u[0]
    made = cell(neuron, options, options.per_step[0], (halves[0], halves[1]), full(net.v0), full(net.i0), log_u)
    assert net.max_delay is not None
    plan = delayed.Plan(made.kind, math.ceil(net.max_delay / h) + 2, options.trace)
    direct = None
    if inputs is not None and net.inputs is not None:
        lanes = jnp.tile(jnp.moveaxis(inputs.reshape(-1, *inputs.shape[-2:]), 0, -1), (1, 1, options.samples or 1))
        pairs = input_pairs(jnp.swapaxes(lanes, 0, 1), made.decay, h, options.steps)
        pairs = pairs.reshape(*pairs.shape[:2], made.decay.parts, options.lanes)
        direct = jnp.einsum("npal,pk->nalk", pairs, net.inputs.dense())
    given = delayed.Given(made.co, made.decay, net.synapses.values, delays / h, made.drive, direct, made.start)
    later = isinstance(noise, Later) or noise is None
    log_u, targets = None if noise is None else noise.log_u, net.synapses.targets

    def whole(given: delayed.Given, log_u: Any, targets: Any, drawn: Any) -> Listed:
        normals = drawn if drawn is None or not later else _normals(net, drawn, options)
        run = delayed.scan_all if options.forward_mode else run_delayed
        out: delayed.Scanned = run(plan, given, delayed.Fixed(normals, log_u, targets), options.steps)
        times, counts = gather_times(out.fractions, out.counts, options.capacity, 0.0, h)
        return Listed(times, counts, out.membrane, out.end, out.flags)

    def light(given: delayed.Given, log_u: Any, targets: Any, drawn: Any) -> Listed:
        fixed, count = delayed.Fixed(None, log_u, targets), normals_per_step(neuron, options.driver)
        return run_forward(plan, given, fixed, drawn, options.steps, count, options.capacity, h)

    run = light_unless_differentiated(light, whole) if later and not options.forward_mode else whole
    drawn = noise.key if isinstance(noise, Later) else (None if noise is None else noise.normals)
    times, counts, membrane, end, flags = run(given, log_u, targets, drawn)
    membrane = None if membrane is None else jnp.swapaxes(jnp.concatenate([made.start.v[None], membrane]), 0, 1)
    flags = jax.lax.reduce(jax.lax.stop_gradient(flags), jnp.int32(0), jax.lax.bitwise_or, (1,))
    flags = flags | jnp.where(jnp.max(counts, axis=1) > options.capacity, SPIKE_BUFFER_FULL, 0).astype(jnp.int32)
    reached = jnp.full(options.lanes, options.steps, jnp.int32)
    return Ran(jnp.moveaxis(times, 0, -1), counts, end, membrane, flags, reached)


def solution(net: Recurrent, ran: Ran, noise: Noise | Later | None, options: Options) -> Solution:
    """Spikes with their horizon, flags, and the trace."""
    lead = lambda x: x.reshape(*options.shape, *x.shape[1:])  # noqa: E731
    horizon = None if noise is None else Horizon(*(lead(x) for x in _horizon(ran, noise.log_u)))
    grid = options.t0 + options.h * jnp.arange(options.steps + 1, dtype=net.weights.dtype)
    return Solution(
        spikes=unchecked(lead(options.t0 + ran.times), options.t0, options.t1, horizon=horizon),
        result=Result(lead(ran.flags) | undeclared_noise(net.neuron), lead(_needed(ran, options))),
        times=grid,
        membrane=None if ran.membrane is None else lead(jnp.swapaxes(ran.membrane, 1, 2)),
        engine="ordered" if net.delays is None else "delayed",
    )


def _horizon(ran: Ran, log_u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Threshold variable at the end, and who can spike then: past the soft refractory part s exceeds log u."""
    last = jnp.minimum(ran.counts, log_u.shape[0] - 1)[None]
    can_spike = ran.end.s > jnp.take_along_axis(log_u, last, axis=0)[0]
    rest = ran.end.ready if isinstance(ran.end, State) else ran.end.rest  # either is 0 or less once it is over
    return ran.end.s, can_spike if rest is None else can_spike & (rest <= 0)


def _needed(ran: Ran, options: Options) -> jax.Array:
    """The largest spike count of each sample; an estimate for one that ended early."""
    most = jnp.max(ran.counts, axis=1)
    share = jnp.maximum(ran.reached, 1).astype(ran.times.dtype) / options.steps
    estimate = jnp.ceil(jnp.minimum(most.astype(share.dtype) / share, 1e6)).astype(jnp.int32)
    return jnp.where(ran.reached < options.steps, jnp.maximum(estimate, options.capacity + 1), most)
