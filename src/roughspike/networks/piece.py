"""One piece of a step of coupled neurons: to the end of the step, an input spike, or the network's first own spike.

Between its cuts a step is the exact flow (`series`), the hazard of a neuron is the quadratic through its values at the
start, middle and end of what is left, and its threshold variable a cubic whose root is its spike, as in `step`. The
first root of all neurons ends the piece; at equal times the lowest index comes first. All arrays are of ONE sample,
shape (neurons,); the engine maps over samples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike._types import ROOT_NOT_CONVERGED, STEP_TOO_COARSE
from roughspike.networks.cubic import Hazard, _quotient, polish, through
from roughspike.networks.series import Force, Series, flow, flow_series, velocity
from roughspike.networks.step import Static
from roughspike.neurons.escape import AbstractEscape
from roughspike.neurons.lif import SLIF
from roughspike.paths.drivers import AbstractDriver


class Coefficients(NamedTuple):
    """What a piece needs of the parameters, computed once per run; differentiated as a whole, but for `mu`."""

    escape: AbstractEscape
    series: Series
    noise: tuple[tuple[Any, Any, Any, Any], ...]  # force per normal: on v, its rise, on i, its rise (None: none)
    variance: jax.Array
    shift: jax.Array
    alpha: jax.Array
    refractory: jax.Array | None
    self_weight: jax.Array | None


class State(NamedTuple):
    """State at the part `r` of a step; `ready` is the part at which the refractory time ends (None: there is none)."""

    v: jax.Array
    i: jax.Array
    s: jax.Array
    ready: jax.Array | None
    r: jax.Array


class Found(NamedTuple):
    """What ends a piece: a spike (`hit`) of neuron k at the part `at` of the step, or its own end."""

    hit: jax.Array
    k: jax.Array
    at: jax.Array


def coefficients(neuron: SLIF, h: float, driver: AbstractDriver) -> Coefficients:
    """Coefficients of a neuron for steps of length h."""
    sigma = neuron.sigma

    def force(row: int, column: int, value: float) -> jax.Array | None:
        return sigma[row, column] * value if neuron.noise[row][column] and value else None

    def of_normal(column: int, slope: Any) -> tuple[Any, Any, Any, Any]:
        start, rise = float(slope(0.0)), float(slope(h) - slope(0.0))
        return tuple(force(row, column, value) for row in (0, 1) for value in (start, rise))  # pyright: ignore

    return Coefficients(
        escape=neuron.escape,
        series=flow_series(neuron.mu, h),
        noise=tuple(of_normal(j, slope) for j in neuron.noise_channels for slope in driver.slopes(h)),
        variance=sigma[0, 0] ** 2 + sigma[0, 1] ** 2,
        shift=neuron.reset.shift(neuron.v_reset),
        alpha=neuron.alpha,
        refractory=neuron.refractory,
        self_weight=neuron.self_weight,
    )


def force_of(co: Coefficients, drive: tuple[jax.Array, jax.Array | None], normals: jax.Array) -> Force:
    """Input and noise of a step together. `drive`: mu1 times the current at the start, and its rise over the step."""
    parts: list[Any] = [*drive, None, None]
    for z, response in zip(normals, co.noise, strict=True):
        for k, unit in enumerate(response):
            if unit is not None:
                parts[k] = unit * z if parts[k] is None else parts[k] + unit * z
    return Force(*parts)


def to_next(
    co: Coefficients, mu: jax.Array, static: Static, state: State, force: Force, stop: jax.Array, known: Found | None
) -> tuple[State, Found, jax.Array]:
    """The state just before what ends the piece [r, stop], what that is, and flags.

    `known`: what an earlier call found, to differentiate the piece without searching again.
    """
    v, i, s, ready, r = state
    v_mid, _ = _flow(co, mu, static, (v, i), force, r, 0.5 * (r + stop))
    v_end, _ = _flow(co, mu, static, (v, i), force, r, stop)
    hazard, begin = _hazard(co, static, state, v_mid, v_end, stop)
    found = _search(static, hazard, s, begin, stop) if known is None else known
    if static.differentiate:
        found = found._replace(at=_differentiate(static, hazard, s, begin, stop, found))
    to = jnp.where(found.hit, found.at, stop)
    v, i = _flow(co, mu, static, (v, i), force, r, to)
    after = s + hazard.integral(_share(to, begin, stop))
    flags = _flags(static, hazard, found, s, after) if known is None else jnp.zeros((), jnp.int32)
    return State(v, i, after, ready, to), found, flags


def flow_to(
    co: Coefficients, mu: jax.Array, static: Static, state: State, force: Force, to: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(v, i) at the part `to` of the step: what `to_next` gives for them, without the hazard."""
    return _flow(co, mu, static._replace(differentiate=False), (state.v, state.i), force, state.r, to)


def transition(
    co: Coefficients, static: Static, state: State, found: Found, row: jax.Array, log_u: jax.Array | float
) -> State:
    """The state after a spike (where `found.hit`): k's own transition, and its row of weights added to i."""
    own = found.hit & (jnp.arange(state.v.shape[0], dtype=jnp.int32) == found.k)
    v = jnp.where(own, static.keep * state.v + co.shift, state.v)
    i = state.i + row
    if co.self_weight is not None:
        i = i + jnp.where(own, co.self_weight, 0.0)
    s = jnp.where(own, log_u - co.alpha, state.s)
    ready = state.ready
    if ready is not None and co.refractory is not None:
        ready = jnp.where(own, state.r + co.refractory / static.h, ready)
    return State(v, i, s, ready, state.r)


def _flow(co: Coefficients, mu: jax.Array, static: Static, state, force: Force, a: jax.Array, b: jax.Array):
    """(v, i) from the part a of the step to the part b."""
    v, i = flow(co.series, state, force, a, jax.lax.stop_gradient(b - a))
    if not static.differentiate:
        return v, i
    # the derivative in b - a is the velocity at b: one product, not that of the series
    late = b - a - jax.lax.stop_gradient(b - a)
    rise_v, rise_i = jax.lax.stop_gradient(velocity(mu, static.h, (v, i), force, b))
    return v + rise_v * late, i + rise_i * late


def _hazard(co, static, state: State, v_mid, v_end, stop) -> tuple[Hazard, jax.Array]:
    """The hazard on [begin, stop], where `begin` is r or the end of the refractory time."""
    v, _, _, ready, r = state
    begin, half, v_begin, v_half = r, 0.5 * (r + stop), v, v_mid
    if ready is not None:
        begin = jnp.where(ready > r, jnp.where(ready < stop, ready, stop), r)
        half = 0.5 * (begin + stop)
        x_begin, x_half = (_share(to, r, stop) for to in (begin, half))
        b, c = -3 * v + 4 * v_mid - v_end, 2 * v - 4 * v_mid + 2 * v_end
        v_begin, v_half = (v + x * (b + x * c) for x in (x_begin, x_half))
    rates = [_rate(co, static, v, at) for v, at in ((v_begin, begin), (v_half, half), (v_end, stop))]
    return through(rates[0], rates[1], rates[2], (stop - begin) * static.h), begin


def _rate(co: Coefficients, static: Static, v: jax.Array, at: jax.Array) -> jax.Array:
    """Escape rate, averaged over the Brownian bridge that the driver leaves out."""
    return jnp.exp(co.escape.mean_log_rate(v, co.variance * static.driver.bridge_variance(at, static.h)))


def _share(to: jax.Array, begin: jax.Array, stop: jax.Array) -> jax.Array:
    """Where `to` lies in [begin, stop], in [0, 1]; 1 if the piece is empty."""
    inside, empty = to >= begin, stop <= begin
    share = jnp.where(inside, to - begin, 0.0) / jnp.where(empty, 1.0, stop - begin)
    return jnp.where(empty, 1.0, share)


def _search(static: Static, hazard: Hazard, s, begin, stop) -> Found:
    """The first spike."""
    hazard, s, begin, stop = jax.lax.stop_gradient((hazard, s, begin, stop))
    crossing = (s + hazard.total >= 0) & (stop > begin)
    # a threshold variable that rounding left at 0 or above is due at once
    x = jnp.where(s < 0, jnp.clip(polish(hazard, s, _near_root(hazard, s, static.iterations + 1)), 0.0, 1.0), 0.0)
    at = jnp.where(crossing, begin + x * (stop - begin), jnp.inf)
    k = jnp.argmin(at).astype(jnp.int32)
    hit = at[k] < jnp.inf
    return Found(hit, k, jnp.where(hit, at[k], stop))


def _near_root(hazard: Hazard, s: jax.Array, iterations: int) -> jax.Array:
    """`cubic.first_root` without its bisection, which would cost every iteration of the loop more than it is worth.

    A root that is missed, which takes a hazard that changes more than e^2-fold in a piece, is flagged.
    """
    rise, total = hazard.width * hazard.a, hazard.total
    x = _quotient(-s * total, rise * total - (total - rise) * s)
    for _ in range(iterations):
        value, rate = s + hazard.integral(x), hazard.rate(x)
        square = hazard.width * rate * rate
        below = jnp.maximum(2 * square - value * (hazard.b + 2 * x * hazard.c), square)
        x = _quotient(x * below - 2 * rate * value, below)
    return x


def _flags(static: Static, hazard: Hazard, found: Found, before: jax.Array, after: jax.Array) -> jax.Array:
    """Is the step too coarse for a hazard, or was the root missed? Threshold variables before and at the spike."""
    missed = found.hit & ~(jnp.abs(after[found.k]) <= static.tolerance * (1 + jnp.abs(before[found.k])))
    coarse = jnp.any(hazard.dips_below_zero)
    return (jnp.where(coarse, STEP_TOO_COARSE, 0) | jnp.where(missed, ROOT_NOT_CONVERGED, 0)).astype(jnp.int32)


def _differentiate(static: Static, hazard: Hazard, s, begin, stop, found: Found) -> jax.Array:
    """`found.at`, unchanged in value, with the derivative of the root, equation (6), at a fixed part of the step."""
    fixed = jax.lax.stop_gradient
    at = fixed(found.at)
    own = found.hit & (jnp.arange(s.shape[0], dtype=jnp.int32) == found.k)
    x = _share(at, begin, stop)
    value = jnp.sum(jnp.where(own, s + hazard.integral(x), 0.0))
    slope = fixed(static.h * jnp.sum(jnp.where(own, hazard.rate(x), 0.0)))
    return at - (value - fixed(value)) / jnp.where(found.hit, slope, 1.0)
