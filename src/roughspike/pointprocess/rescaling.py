"""Sampling by time rescaling: for intensities without an upper bound.

Between spikes the intensities are known functions of time. The next spike comes when their integral since the last one
reaches a unit exponential; it is of neuron i with probability lambda_i / sum lambda. The integral runs over pieces of a
grid, cut at spikes: on a piece the total intensity is the quadratic through its values at start, middle and end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from roughspike.paths.grid import num_steps
from roughspike.pointprocess.basis import Span
from roughspike.pointprocess.events import Events
from roughspike.pointprocess.network import PointProcessNetwork

_HALVINGS = 40


class Run(NamedTuple):
    """Events in the order of time, padded with the end of the window and marks 0; was there room for all of them?"""

    events: Events
    full: Bool[Array, "*samples"]


class _State(NamedTuple):
    time: Float[Array, ""]
    wanted: Float[Array, ""]  # what is left of the unit exponential
    found: Int[Array, ""]
    history: Any
    events: Events


def rescaled_sample(net: PointProcessNetwork, key: jax.Array, span: Span, dt: float, room: int, given: Events) -> Run:
    """One sample of all neurons, or of the hidden ones if the events `given` of the observed neurons are not empty."""
    given_observed = given.marks.shape[1] > 0
    post = slice(net.num_observed if given_observed else 0, None)
    size = net.num_neurons - (net.num_observed if given_observed else 0)
    own = net.weights[:, post, post]
    steps = num_steps(span.start, span.stop, dt)
    dtype = net.bias.dtype
    h = jnp.asarray((span.stop - span.start) / steps, dtype)

    def rates(history: Any, times: jax.Array) -> jax.Array:
        """Intensities at the start, middle and end of a piece; what is given acts just after the start too."""
        recurrent = jax.vmap(lambda t: net.basis.now(history, t, span))(times)
        u = net.bias[None, post] + jnp.einsum("kij,qkj->qi", own, recurrent)
        if given_observed:
            features = net.basis.features(times, given.times, given.marks, span)
            u = u + jnp.einsum("kij,qkj->qi", net.weights[:, post, : net.num_observed], features)
        return net.link.rate(u)

    def next_stop(time: jax.Array) -> jax.Array:
        """The next grid point or given event."""
        step = jnp.floor((time - span.start) / h * (1 + 8 * jnp.finfo(dtype).eps)) + 1
        stop = jnp.minimum(span.start + step * h, span.stop)
        if not given_observed:
            return stop
        at = jnp.searchsorted(given.times, time, side="right")
        return jnp.minimum(stop, jnp.append(given.times, span.stop)[at])

    def go_on(state: _State) -> jax.Array:
        return (state.time < span.stop) & (state.found < room)

    def advance(state: _State) -> _State:
        stop = next_stop(state.time)
        width = stop - state.time
        just_after = jnp.nextafter(state.time, jnp.asarray(jnp.inf, dtype))
        each = rates(state.history, jnp.stack([just_after, state.time + 0.5 * width, stop]))
        start, middle, end = jnp.sum(each, 1)
        rise, bend = -3 * start + 4 * middle - end, 2 * start - 4 * middle + 2 * end
        integral = lambda x: width * x * (start + x * (rise / 2 + x * (bend / 3)))  # noqa: E731
        total = jnp.maximum(integral(1.0), 0.0)
        spikes = state.wanted < total
        x = _root(integral, state.wanted)
        x = jnp.where(spikes, x, 1.0)
        at = jnp.where(spikes, jnp.minimum(state.time + x * width, stop), stop)
        # the quadratic of each neuron, at x
        share = each[0] + x * ((-3 * each[0] + 4 * each[1] - each[2]) + x * (2 * each[0] - 4 * each[1] + 2 * each[2]))
        threshold_key, mark_key = jr.split(jr.fold_in(key, state.found + 1))
        chosen = jr.categorical(mark_key, jnp.log(jnp.maximum(share, 0.0)))
        mark = jax.nn.one_hot(chosen, size, dtype=dtype)
        history = net.basis.add(state.history, at, mark, spikes, span)
        index = jnp.where(spikes, state.found, room)  # out of bounds: dropped
        events = Events(
            state.events.times.at[index].set(at, mode="drop"), state.events.marks.at[index].set(mark, mode="drop")
        )
        fresh = jr.exponential(threshold_key, (), dtype)
        wanted = jnp.where(spikes, fresh, state.wanted - total)
        return _State(at, wanted, jnp.where(spikes, state.found + 1, state.found), history, events)

    start = _State(
        time=jnp.asarray(span.start, dtype),
        wanted=jr.exponential(jr.fold_in(key, 0), (), dtype),
        found=jnp.asarray(0),
        history=net.basis.empty(room, size, span, dtype),
        events=Events(jnp.full(room, span.stop, dtype), jnp.zeros((room, size), dtype)),
    )
    end = jax.lax.while_loop(go_on, advance, start)
    return Run(end.events, end.time < span.stop)


def _root(integral: Any, wanted: jax.Array) -> jax.Array:
    """x in [0, 1] with integral(x) = wanted, by bisection: safe whatever the shape of the quadratic."""

    def halve(_: Any, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = 0.5 * (low + high)
        below = integral(middle) < wanted
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    zero = jnp.zeros_like(wanted)
    return jax.lax.fori_loop(0, _HALVINGS, halve, (zero, zero + 1))[1]
