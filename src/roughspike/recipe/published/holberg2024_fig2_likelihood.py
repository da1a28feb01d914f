"""Weights of a layer by the likelihood of its trains given those of the layer before, with Newton's method."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from roughspike.currents.recorded import RecordedInput
from roughspike.likelihood.exact import exact_terms
from roughspike.likelihood.segments import Segments, lay_out
from roughspike.networks.population import Population
from roughspike.paths.spikes import SpikeTrain
from roughspike.recipe.published.common import Compiled, compiled
from roughspike.recipe.published.holberg2024_fig2_model import plain_neuron

_PIECES = 32  # numbers of pieces are rounded up to multiples of this, so that seeds share a compiled function
_RIDGE = 1e-3  # keeps Newton's step finite where data say nothing
_programs: dict[Any, Compiled] = {}


class Layer(NamedTuple):
    """Trials laid out, presynaptic traces in each piece, and the neurons with weights to be replaced."""

    cell: Population
    segments: Segments
    traces: np.ndarray


class Curve(NamedTuple):
    """Weights (pre, post) after each step, and CPU seconds until then; temporary memory of a step, in MB."""

    weights: list[np.ndarray]
    seconds: list[float]
    megabytes: float


def layer_of(settings: dict[str, Any], pre: Any, post: Any) -> Layer:
    """Host work for spike times (trials, neurons, capacity) of two layers that follow each other."""
    trains = [SpikeTrain(np.asarray(times, np.float64), 0.0, settings["grid"]["t1"]) for times in (pre, post)]
    tau = 1 / settings["neuron"]["mu"][1]
    current = RecordedInput(trains[0], jnp.zeros((pre.shape[1], post.shape[1])), tau)
    laid = lay_out(trains[1], settings["likelihood"]["dt"])
    short = -laid.lengths.shape[-1] % _PIECES
    fill = Segments(*(x[..., -1:] for x in laid))._replace(lengths=np.zeros((1,)), spike=np.zeros((1,)))
    laid = Segments(*(_longer(x, short, end) for x, end in zip(laid, fill, strict=True)))
    cell = Population(plain_neuron(settings), current, settings["v0"], settings["i0"])
    return Layer(cell, laid, current.prepare(laid.starts, laid.lengths).astype(np.float32))


def newton(settings: dict[str, Any], layer: Layer, start: Any, count: int, *, shrink: bool) -> Curve:
    """Maximise the likelihood of the first `count` trials, or its product with a normal law of the layer's weights.

    The law of the weights, N(m, s^2), is found from the same trials (empirical Bayes: expectation maximisation with
    the curvature at hand). It says only that synapses of a layer are more or less alike.
    """
    weights = np.asarray(start, np.float64)
    law = (float(weights.mean()), max(float(weights.var()), 1e-2))
    blocks = _blocks(layer, count, settings["likelihood"]["block"])
    curve, begin = Curve([weights], [0.0], _program(layer.cell, *blocks[0], weights).megabytes), time.process_time()
    for _ in range(settings["likelihood"]["rounds"]):
        slope, curvature = _derivatives(layer, blocks, weights)
        if shrink:
            law, aim = _law(weights.T, slope, curvature, law)
        else:
            aim = weights.T + np.linalg.solve(curvature + _RIDGE * np.eye(len(weights)), slope[..., None])[..., 0]
        step = aim.T - weights
        weights = weights + step * min(1.0, 1.0 / np.abs(step).max())
        curve.weights.append(weights)
        curve.seconds.append(time.process_time() - begin)
    return curve


def _blocks(layer: Layer, count: int, size: int) -> list[tuple[Segments, np.ndarray]]:
    """The first `count` trials in parts."""
    parts = [slice(at, min(at + size, count)) for at in range(0, count, size)]
    return [(Segments(*(x[part] for x in layer.segments)), layer.traces[part]) for part in parts]


def _derivatives(layer: Layer, blocks: Any, weights: np.ndarray) -> tuple[Any, Any]:
    """Slope (post, pre) and negative curvature (post, pre, pre) of the log-likelihood of each neuron."""
    total = None
    for segments, traces in blocks:
        program = _program(layer.cell, segments, traces, weights)
        run = program.run(layer.cell, segments, traces, jnp.asarray(weights, jnp.float32))
        found = [np.asarray(x, np.float64) for x in run]
        total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
    assert total is not None
    return total[0].T, -np.moveaxis(total[1], -1, 0)


def _program(cell: Population, segments: Segments, traces: np.ndarray, weights: np.ndarray) -> Compiled:
    """`_block`, compiled once for all arguments of these shapes."""
    shapes = traces.shape, segments.lengths.shape, weights.shape
    if shapes not in _programs:
        _programs[shapes] = compiled(_block, cell, segments, traces, jnp.asarray(weights, jnp.float32))
    return _programs[shapes]


def _block(cell: Population, segments: Segments, traces: Any, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Derivatives from some trials. Neurons are independent: one direction for all of them at once."""

    def value(weights: jax.Array) -> jax.Array:
        moved = eqx.tree_at(lambda c: c.current.weights, cell, weights)
        terms = exact_terms(moved, segments, traces)
        return jnp.sum(terms.log_intensity - terms.compensator)

    slope = jax.grad(value)
    along = lambda one: jax.jvp(slope, (weights,), (jnp.broadcast_to(one[:, None], weights.shape),))[1]  # noqa: E731
    return slope(weights), jax.lax.map(along, jnp.eye(weights.shape[0], dtype=weights.dtype))


def _law(weights: np.ndarray, slope: np.ndarray, curvature: np.ndarray, law: tuple[float, float]) -> Any:
    """Mean and variance of a layer's weights, and the weights (post, pre) that are most probable under them."""
    pre, aim = weights.shape[1], weights
    for _ in range(200):
        mean, variance = law
        covariance = np.linalg.inv(curvature + np.eye(pre) / variance)
        aim = weights + np.einsum("kij,kj->ki", covariance, slope - (weights - mean) / variance)
        spread = np.mean((aim - aim.mean()) ** 2) + np.trace(covariance, axis1=1, axis2=2).mean() / pre
        law = (float(aim.mean()), max(float(spread), 1e-6))
    return law, aim


def _longer(x: np.ndarray, by: int, end: np.ndarray) -> np.ndarray:
    tail = np.broadcast_to(end, (*x.shape[:-1], by)).astype(x.dtype)
    return np.concatenate([x, tail], axis=-1)
