"""The layered engine: layer after layer, each one scan over the grid with one product per step.

The neurons of a layer are independent given the spikes that reach them, so all of them, for all samples and inputs of
a batch, are advanced at once: the cost of a network with surrogate gradients, with exact spike times and gradients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from roughspike._types import SPIKE_BUFFER_FULL, Result
from roughspike.networks.arrivals import delay_fractions, delayed_synapses, input_pairs, steps_of
from roughspike.networks.cells import Cell, cell, is_random
from roughspike.networks.feedforward import FeedForward, Layer
from roughspike.networks.inputs import as_lanes
from roughspike.networks.lanes import Noise, can_spike, draw_noise
from roughspike.networks.layer import Given, Plan, Scanned, run_layer, scan_layer
from roughspike.networks.layer_blocks import Blocked, Draws, Parts, Sizes, Wiring, run_layers_in_blocks
from roughspike.networks.listed import Spikes, deliver, worth_listing
from roughspike.networks.means import half_means
from roughspike.networks.noise import Drawn, LogUniforms, draw_log_uniforms, log_u_at, normals_per_step, split
from roughspike.networks.options import Options
from roughspike.networks.skips import skipped, with_skipped
from roughspike.networks.solution import Solution, undeclared_noise
from roughspike.networks.times import gather_times
from roughspike.neurons.readout import Readout
from roughspike.paths.spikes import Horizon, SpikeTrain, unchecked


class Ran(NamedTuple):
    """A layer that was run: its scan, v at the start, and for escape rates the threshold at t1 and is it open?

    `times`: its spike times (capacity, post, lanes), where the run has found them already.
    """

    scanned: Scanned
    start: jax.Array
    horizon: tuple[jax.Array, jax.Array] | None
    times: jax.Array | None = None


@eqx.filter_jit
def run_layered(network: FeedForward, prepared: Any, inputs: Any, key: Any, options: Options) -> Solution:
    """Run all layers. `inputs`: spike times from t0 on, (*batch, pre, capacity), or None."""
    inputs = None if inputs is None else as_lanes(inputs, options.samples or 1)
    keys = [None] * len(network.layers) if key is None else split(key, len(network.layers))
    if options.checkpoint:
        return assemble(network, _run_checkpointed(network, prepared, inputs, keys, options), options)
    noises = [_noise(k, layer, options) for k, layer in zip(keys, network.layers, strict=True)]
    return assemble(network, run_layers(network, prepared, inputs, noises, options), options)


def _run_checkpointed(network: FeedForward, prepared: Any, inputs: Any, keys: list[Any], options: Options) -> list[Ran]:
    """All layers together, block after block of steps, on the noise that `run_layers` would have."""
    parts, wiring, draws = [], [], []
    for k, layer in enumerate(network.layers):
        diffusion, log_u, normals = None, None, 0
        if _checked_random(layer, keys[k]):
            diffusion, threshold = split(keys[k])
            size = (options.capacity + 1, layer.num_neurons, options.lanes)
            log_u = draw_log_uniforms(threshold, size, layer.v0.dtype)
            normals = normals_per_step(layer.neuron, options.driver)  # pyright: ignore[reportArgumentType]
        made = prepare_layer(layer, prepared[k], log_u, options, options.per_step[k])
        weights = layer.synapses.dense()
        skips = tuple((s.synapses.dense(), s.delays) for s in layer.skips)
        parts.append(Parts(made.co, made.decay, made.drive, made.start, weights, layer.delays, skips))
        listed = k == 0 and inputs is not None and worth_listing(inputs.shape[0], weights, options.steps)
        wiring.append(Wiring(made.kind, layer.spikes, normals, listed, tuple(s.source for s in layer.skips)))
        draws.append(Draws(diffusion, log_u))
    size = Sizes(options.steps, options.capacity, options.h, options.lanes)
    out: Blocked = run_layers_in_blocks(tuple(wiring), size, tuple(parts), inputs, tuple(draws))
    ran = []
    for k, (layer, part, draw) in enumerate(zip(network.layers, parts, draws, strict=True)):
        scanned = Scanned((), out.counts[k], out.membranes[k], out.ends[k], out.flags[k])
        ran.append(_finished(layer, scanned, part.start.v, draw.log_u, out.times[k]))
    return ran


def run_layers(
    network: FeedForward, prepared: Any, inputs: Any, noises: list[Noise | None], options: Options
) -> list[Ran]:
    """Run each layer on given noise."""
    ran: list[Ran] = []
    for k, layer in enumerate(network.layers):
        ran.append(_run(layer, prepared[k], inputs, ran, noises[k], options, options.per_step[k]))
    return ran


def _noise(key: Any, layer: Layer, options: Options) -> Noise | None:
    if not _checked_random(layer, key):
        return None
    size = (options.steps, layer.num_neurons, options.lanes, options.capacity)
    neuron: Any = layer.neuron
    if options.forward_mode:
        return draw_noise(key, neuron, options.driver, *size, layer.v0.dtype)
    diffusion, threshold = split(key)  # as `draw_noise` does
    log_u = LogUniforms.of(threshold, (options.capacity + 1, layer.num_neurons, options.lanes), layer.v0.dtype)
    per_step = normals_per_step(neuron, options.driver)
    none = jnp.zeros((options.steps, 0, layer.num_neurons, options.lanes), layer.v0.dtype)
    return Noise(Drawn(diffusion, per_step) if per_step else none, log_u)


def _checked_random(layer: Layer, key: Any) -> bool:
    """Does the layer draw noise?"""
    random = not isinstance(layer.neuron, Readout) and is_random(layer.neuron)
    if random and key is None:
        raise ValueError("key is missing: a layer with an escape rate is random; pass key=jr.key(0)")
    return random


def prepare_layer(layer: Layer, prepared: Any, log_u: Any, options: Options, slots: int) -> Cell:
    """Coefficients, drive and state at the start of a layer. `log_u`: its thresholds."""
    shape = (layer.num_neurons, options.lanes)
    full = lambda x: jnp.broadcast_to(x[:, None] if x.ndim else x, shape)  # noqa: E731
    means = half_means(layer.current, prepared, options.steps, layer.num_neurons)
    means = jnp.moveaxis(means, 1, 0) if means.ndim == 4 else means
    first = None if log_u is None else log_u_at(log_u, jnp.zeros(shape, jnp.int32))
    return cell(layer.neuron, options, slots, (means[0], means[1]), full(layer.v0), full(layer.i0), first)


def _run(
    layer: Layer, prepared: Any, inputs: Any, ran: list[Ran], noise: Noise | None, options: Options, slots: int
) -> Ran:
    normals, log_u = (None, None) if noise is None else (noise.normals, noise.log_u)
    made = prepare_layer(layer, prepared, log_u, options, slots)
    plan = Plan(made.kind, options.trace or not layer.spikes)
    reached = _reach(layer, made.decay, inputs, ran[-1].scanned if ran else None, options)
    for skip in layer.skips:
        source = None if skip.source == 0 else ran[skip.source - 1].scanned
        fractions = None if source is None else source.fractions
        times = inputs if source is None else (None if skip.delays is None else _times(source, options))
        on_grid = options.h, options.steps
        reached = with_skipped(
            reached, skipped(skip.synapses.dense(), skip.delays, made.decay, times, fractions, on_grid)
        )
    given = Given(made.co, made.decay, drive=made.drive, start=made.start, normals=normals, log_u=log_u, **reached)
    scanned: Scanned = (scan_layer if options.forward_mode else run_layer)(plan, given)
    return _finished(layer, scanned, made.start.v, log_u)


def _finished(layer: Layer, scanned: Scanned, start: jax.Array, log_u: Any, times: jax.Array | None = None) -> Ran:
    """With what an escape rate leaves at t1."""
    if log_u is None:
        return Ran(scanned, start, None, times)
    horizon = scanned.end.s, can_spike(scanned.end, scanned.total, log_u)
    return Ran(scanned._replace(flags=scanned.flags | undeclared_noise(layer.neuron)), start, horizon, times)


def _reach(layer: Layer, decay: Any, inputs: Any, before: Scanned | None, options: Options) -> dict[str, Any]:
    """The weights, and the form in which presynaptic spikes reach the layer."""
    found = dict.fromkeys(("weights", "fractions", "pairs", "direct", "listed"))
    delays, weights = layer.delays, layer.synapses.dense()
    if before is None:
        if inputs is None:
            zeros = jnp.zeros((options.steps, layer.num_neurons, options.lanes), layer.v0.dtype)
            return {**found, "direct": (zeros,) * decay.parts}
        if delays is None or delays.ndim < 2:
            times = inputs if delays is None else inputs + jnp.broadcast_to(delays, inputs.shape[1])[None, :, None]
            if not options.forward_mode and worth_listing(times.shape[0], weights, options.steps):
                n, on = steps_of(times, decay, options.h, options.steps)
                return {**found, "listed": deliver(options.steps, weights, Spikes(on, n))}
            return {**found, "weights": weights, "pairs": input_pairs(times, decay, options.h, options.steps)}
        times = inputs
    elif delays is None:
        return {**found, "weights": weights, "fractions": before.fractions}
    elif delays.ndim < 2:
        return {**found, "weights": weights, "fractions": delay_fractions(before.fractions, delays, options.h)}
    else:
        times = _times(before, options)
    return {**found, "direct": delayed_synapses(times, weights, delays, decay, options.h, options.steps)}


def _times(out: Scanned, options: Options) -> jax.Array:
    """Spike times (capacity, neurons, lanes) from the start of the run."""
    return gather_times(jnp.stack(out.fractions, 1), out.counts, options.capacity, 0.0, options.h)[0]


def assemble(network: FeedForward, ran: list[Ran], options: Options) -> Solution:
    """Spike trains of the layers, flags of every sample, traces."""
    trains, traces = [], []
    flags, needed = jnp.zeros(options.lanes, jnp.int32), jnp.zeros(options.lanes, jnp.int32)
    for layer, (out, start, horizon, times) in zip(network.layers, ran, strict=True):
        flags = flags | jax.lax.reduce(jax.lax.stop_gradient(out.flags), jnp.int32(0), jax.lax.bitwise_or, (0,))
        if out.membrane is not None:
            traces.append(_lead(jnp.moveaxis(jnp.concatenate([start[None], out.membrane]), 0, -1), options))
        if not layer.spikes:
            continue
        if times is None:
            times = _times(out, options)
        most = jnp.max(out.total, axis=0)
        flags = flags | jnp.where(most > options.capacity, SPIKE_BUFFER_FULL, 0).astype(jnp.int32)
        needed = jnp.maximum(needed, most)
        end = None if horizon is None else Horizon(*(_lead(x, options) for x in horizon))
        train = _lead(jnp.moveaxis(options.t0 + times, 0, -1), options)
        trains.append(unchecked(train, options.t0, options.t1, horizon=end))
    result = Result(flags.reshape(options.shape), needed.reshape(options.shape))
    grid = options.t0 + options.h * jnp.arange(options.steps + 1, dtype=network.layers[0].v0.dtype)
    membrane = tuple(traces) if options.trace else (traces[-1] if traces else None)
    spikes = trains[-1] if trains else _nothing(options, grid.dtype)
    return Solution(spikes, result, grid, membrane, tuple(trains), "layered")


def _nothing(options: Options, dtype: Any) -> SpikeTrain:
    """The spikes of a network that is a readout alone."""
    return unchecked(jnp.full((*options.shape, 0, options.capacity), jnp.inf, dtype), options.t0, options.t1)


def _lead(x: jax.Array, options: Options) -> jax.Array:
    """(neurons, lanes, ...) -> (*samples, *batch, neurons, ...)."""
    x = jnp.moveaxis(x, 1, 0)
    return x.reshape(*options.shape, *x.shape[1:])
