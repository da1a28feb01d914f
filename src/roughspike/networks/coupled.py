"""Run a recurrent network: lay out samples, currents, input spikes and noise, pick the engine, make the solution."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike._types import Result
from roughspike.networks.lanes import draw_noise
from roughspike.networks.means import half_means
from roughspike.networks.ordered import Fixed, Given, Ran, Sizes, run_plain
from roughspike.networks.ordered_adjoint import run_ordered
from roughspike.networks.piece import State, coefficients
from roughspike.networks.recurrent import Recurrent
from roughspike.networks.solution import Solution, undeclared_noise
from roughspike.networks.step import settings
from roughspike.paths.drivers import AbstractDriver
from roughspike.paths.spikes import Horizon, unchecked


class Options(NamedTuple):
    """What a run is compiled for. `samples`: None for none; `batch`: leading axes of the inputs."""

    t0: float
    t1: float
    steps: int
    samples: int | None
    batch: tuple[int, ...]
    driver: AbstractDriver
    trace: bool
    forward_mode: bool
    capacity: int
    per_step: int  # spikes of a neuron that a step of the delayed engine may hold

    @property
    def h(self) -> float:
        """Length of a step."""
        return (self.t1 - self.t0) / self.steps

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading axes of the solution."""
        return self.batch if self.samples is None else (self.samples, *self.batch)

    @property
    def lanes(self) -> int:
        """Samples times inputs."""
        return math.prod(self.shape)


class Noise(NamedTuple):
    """`normals`: (lanes, steps, normals, neurons). `log_u`: (lanes, capacity + 1, neurons), one per interval."""

    normals: jax.Array
    log_u: jax.Array


@eqx.filter_jit
def run_recurrent(
    net: Recurrent, prepared: Any, inputs: jax.Array | None, key: jax.Array, options: Options
) -> Solution:
    """Draw the noise and run.

    **Arguments**

    - `prepared`: what `prepare_means` returns for the current.
    - `inputs`: times of input spikes since t0, (*batch, channels, capacity), or None.
    """
    size = (options.steps, net.num_neurons, options.lanes, options.capacity)
    drawn = draw_noise(key, net.neuron, options.driver, *size, net.weights.dtype)
    noise = Noise(jnp.transpose(drawn.normals, (3, 0, 1, 2)), jnp.transpose(drawn.log_u, (2, 0, 1)))
    return solution(net, run_on(net, prepared, inputs, noise, options), noise, options)


def run_on(net: Recurrent, prepared: Any, inputs: jax.Array | None, noise: Noise, options: Options) -> Ran:
    """Run on given noise."""
    neuron, h, lanes, count = net.neuron, options.h, options.lanes, net.num_neurons
    static = settings(h, options.driver, neuron.reset.keep, 1, noise.log_u.dtype)
    times, ids = _flat_inputs(inputs, options)
    sizes = Sizes(options.steps, count, lanes, options.capacity, 0 if times is None else times.shape[1], options.trace)
    given = Given(
        co=coefficients(neuron, h, options.driver),
        drive=_drive(net, prepared, options.steps),
        start=_start(net, noise.log_u, lanes),
        weights=net.synapses.values,
        input_weights=None if times is None or net.inputs is None else net.inputs.values,
        input_times=times,
    )
    input_targets = None if net.inputs is None else net.inputs.targets
    fixed = Fixed(neuron.mu, noise.normals, noise.log_u, net.synapses.targets, input_targets, ids)
    return (run_plain if options.forward_mode else run_ordered)(static, sizes, given, fixed)


def _drive(net: Recurrent, prepared: Any, steps: int) -> tuple[jax.Array, jax.Array | None]:
    """mu1 times the current: straight in a step, with the right means over both halves."""
    means = net.neuron.mu[0] * half_means(net.current, prepared, steps, net.num_neurons)[..., 0]
    if means.ndim == 2:
        return means[0], None
    first, second = means[:, 0], means[:, 1]
    return 1.5 * first - 0.5 * second, 2 * (second - first)


def _start(net: Recurrent, log_u: jax.Array, lanes: int) -> State:
    full = lambda x: jnp.broadcast_to(x, (lanes, net.num_neurons))  # noqa: E731
    zero = jnp.zeros((), log_u.dtype)
    ready = None if net.neuron.refractory is None else full(zero)
    return State(full(net.v0), full(net.i0), log_u[:, 0] - net.neuron.alpha, ready, jnp.zeros(lanes, log_u.dtype))


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


def solution(net: Recurrent, ran: Ran, noise: Noise, options: Options) -> Solution:
    """Spikes with their horizon, flags, and the trace."""
    end, log_u = ran.end, noise.log_u
    last = jnp.minimum(ran.counts, options.capacity)[:, None]
    can_spike = end.s > jnp.take_along_axis(log_u, last, axis=1)[:, 0]
    if end.ready is not None:
        can_spike = can_spike & (end.ready <= end.r[:, None])
    lead = lambda x: x.reshape(*options.shape, *x.shape[1:])  # noqa: E731
    flags = lead(ran.flags) | undeclared_noise(net.neuron)
    grid = options.t0 + options.h * jnp.arange(options.steps + 1, dtype=log_u.dtype)
    horizon = Horizon(lead(end.s), lead(can_spike))
    return Solution(
        spikes=unchecked(lead(options.t0 + ran.times), options.t0, options.t1, horizon=horizon),
        result=Result(flags, lead(_needed(ran, options))),
        times=grid,
        membrane=None if ran.membrane is None else lead(jnp.swapaxes(ran.membrane, 1, 2)),
        engine="ordered" if net.delays is None else "delayed",
    )


def _needed(ran: Ran, options: Options) -> jax.Array:
    """The largest spike count of each sample; an estimate for one that ended early."""
    most = jnp.max(ran.counts, axis=1)
    early = ran.reached < options.steps
    share = jnp.maximum(ran.reached, 1).astype(ran.times.dtype) / options.steps
    estimate = jnp.ceil(jnp.minimum(most.astype(share.dtype) / share, 1e6)).astype(jnp.int32)
    return jnp.where(early, jnp.maximum(estimate, options.capacity + 1), most)
