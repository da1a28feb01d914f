"""One step of uncoupled stochastic neurons: exact flow, cubic hazard, spikes as implicitly differentiated roots.

Inside a step of length h, at the fraction r = (t - t_n) / h:

    path before spikes   v(r) = the quadratic through the exact flow at r = 0, 1/2, 1
    after a spike at r*  v(r) + e^{-mu1 (r - r*) h} dv + kappa((r - r*) h) di,  dv, di the jumps of v and i
    hazard               lambda = the quadratic through its values at both ends and the middle of a piece [begin, 1]
    threshold            s = s(begin) + a cubic; over the full piece this is Simpson's rule
    spike                the root of the cubic: no exponential

A step is cut at each of its spikes and at the end of each refractory period. A root is differentiated by equation (6),
d tau = -Ds / lambda(v-), never through the iterations. All arrays have the shape (neurons, samples); a current i that
neither noise nor spikes change is (neurons, 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike._types import ROOT_NOT_CONVERGED, STEP_TOO_COARSE, TOO_MANY_SPIKES_IN_A_STEP
from roughspike.networks.cubic import Hazard, differentiate_root, first_root, polish, through
from roughspike.neurons.escape import AbstractEscape
from roughspike.neurons.flow import convolve, kappa
from roughspike.neurons.lif import SLIF
from roughspike.paths.drivers import AbstractDriver, ExplicitEuler


class Coefficients(NamedTuple):
    """What a step needs of the parameters: computed once per run, each a smooth function of them."""

    escape: AbstractEscape
    mu1: jax.Array
    mu2: jax.Array
    decay_half: jax.Array  # e^{-mu1 h / 2}
    decay: jax.Array  # e^{-mu1 h}
    decay_i: jax.Array  # e^{-mu2 h}
    kappa_half: jax.Array
    kappa: jax.Array
    gain: jax.Array  # of v, over half a step, to the mean input of that half
    fade: jax.Array  # what is left at the end of the gain of the first half
    noise: tuple[tuple[Any, Any, Any], ...]  # response of v mid, v end, i end (None: none) to each normal
    variance: jax.Array  # |sigma_1|^2: times the driver's bridge variance, the noise of v that the grid leaves out
    shift: jax.Array  # v+ = keep v- + shift
    alpha: jax.Array
    refractory: jax.Array | None
    self_weight: jax.Array | None


class Static(NamedTuple):
    """What a step needs that is fixed at compile time."""

    h: float
    driver: AbstractDriver
    keep: float
    max_spikes: int  # per step
    iterations: int  # of the root search
    tolerance: float  # on the threshold variable at a root
    differentiate: bool = True  # the forward pass of the hand-written adjoint needs no derivative of a root


def settings(h: float, driver: AbstractDriver, keep: float, max_spikes: int, dtype: Any) -> Static:
    """The static part of a step, with the iterations and the tolerance of the root that suit the precision."""
    single = dtype == jnp.float32
    return Static(h, driver, keep, max_spikes, 1 if single else 2, 1e-4 if single else 1e-9)


class State(NamedTuple):
    """State at a grid point; `rest` is the refractory time left (None for neurons without refractoriness)."""

    v: jax.Array
    i: jax.Array
    s: jax.Array
    rest: jax.Array | None


class Step(NamedTuple):
    """What a step yields: the next state, the fraction r of each spike slot (-1 where empty), flags of `Result`."""

    state: State
    fractions: tuple[jax.Array, ...]
    flags: jax.Array


class _Path(NamedTuple):
    """v(r) = v + r (b + r c): the path without this step's spikes."""

    v: jax.Array
    b: jax.Array
    c: jax.Array

    def __call__(self, r: Any) -> jax.Array:
        return self.v + r * (self.b + r * self.c)


class _Jump(NamedTuple):
    """The last spike of a neuron in this step: when, what its spikes so far add to v and i, and what is left of it.

    `early`, `half` are the decays of v from the spike to `begin`, where the hazard starts again, and from there to the
    middle of what is left of the step (once more, to its end).
    """

    at: jax.Array
    dv: jax.Array
    di: jax.Array | None
    begin: jax.Array
    early: jax.Array | float
    half: jax.Array
    s: jax.Array


def coefficients(neuron: SLIF, h: float, driver: AbstractDriver) -> Coefficients:
    """Step coefficients of a neuron: (v, i) answer a normal by the flow convolved with the driver's slope."""
    if isinstance(driver, ExplicitEuler):
        return _euler(neuron, h)
    mu1, mu2, sigma = neuron.mu[0], neuron.mu[1], neuron.sigma

    def on_v(column: int, slope: Any, t: float) -> jax.Array | float:
        total = 0.0
        if neuron.noise[0][column]:
            total = total + sigma[0, column] * convolve(lambda s: jnp.exp(-mu1 * s), slope, t)
        if neuron.noise[1][column]:
            total = total + sigma[1, column] * convolve(lambda s: kappa(mu1, mu2, s), slope, t)
        return total

    def on_i(column: int, slope: Any, t: float) -> jax.Array | None:
        if not neuron.noise[1][column]:
            return None
        return sigma[1, column] * convolve(lambda s: jnp.exp(-mu2 * s), slope, t)

    noise = tuple(
        (on_v(j, slope, h / 2), on_v(j, slope, h), on_i(j, slope, h))
        for j in neuron.noise_channels
        for slope in driver.slopes(h)
    )
    return Coefficients(
        escape=neuron.escape,
        mu1=mu1,
        mu2=mu2,
        decay_half=jnp.exp(-mu1 * h / 2),
        decay=jnp.exp(-mu1 * h),
        decay_i=jnp.exp(-mu2 * h),
        kappa_half=kappa(mu1, mu2, h / 2),
        kappa=kappa(mu1, mu2, h),
        gain=1 - jnp.exp(-mu1 * h / 2),
        fade=jnp.exp(-mu1 * h / 2),
        noise=noise,
        **_of_a_spike(neuron),
    )


def _euler(neuron: SLIF, h: float) -> Coefficients:
    """Coefficients of the explicit Euler step; its path is straight, so the middle is half way."""
    mu1, mu2, root = neuron.mu[0], neuron.mu[1], math.sqrt(h)

    def response(column: int) -> tuple[Any, Any, Any]:
        on_v = neuron.sigma[0, column] * root if neuron.noise[0][column] else 0.0 * mu1
        return 0.5 * on_v, on_v, neuron.sigma[1, column] * root if neuron.noise[1][column] else None

    return Coefficients(
        escape=neuron.escape,
        mu1=mu1,
        mu2=mu2,
        decay_half=1 - mu1 * h / 2,
        decay=1 - mu1 * h,
        decay_i=1 - mu2 * h,
        kappa_half=mu1 * h / 2,
        kappa=mu1 * h,
        gain=mu1 * h / 2,
        fade=jnp.ones_like(mu1),
        noise=tuple(response(j) for j in neuron.noise_channels),
        **_of_a_spike(neuron),
    )


def _of_a_spike(neuron: SLIF) -> dict[str, Any]:
    """The coefficients that every scheme shares."""
    sigma = neuron.sigma
    return dict(
        variance=sigma[0, 0] ** 2 + sigma[0, 1] ** 2,
        shift=neuron.reset.shift(neuron.v_reset),
        alpha=neuron.alpha,
        refractory=neuron.refractory,
        self_weight=neuron.self_weight,
    )


def driven(co: Coefficients, first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What an input current with these means over the two half steps adds to v at the middle and at the end."""
    return co.gain * first, co.gain * (co.fade * first + second)


def step(
    co: Coefficients,
    static: Static,
    state: State,
    drive: tuple[jax.Array, jax.Array],
    normals: tuple[jax.Array, ...],
    log_u: Callable[[int], jax.Array | float],
    known: tuple[jax.Array, ...] | None = None,
) -> Step:
    """Advance every neuron by one step.

    **Arguments**

    - `drive`: what `driven` returns.
    - `normals`: one array per normal of the driver and Brownian motion.
    - `log_u`: log u of the interval after the spike in this slot of the step.
    - `known`: the fractions that an earlier call found, to differentiate a step without searching again.
    """
    middle = co.decay_half * state.v + co.kappa_half * state.i + drive[0]
    end = co.decay * state.v + co.kappa * state.i + drive[1]
    end_i = co.decay_i * state.i
    for (to_middle, to_end, to_i), z in zip(co.noise, normals, strict=True):
        middle, end = middle + to_middle * z, end + to_end * z
        end_i = end_i if to_i is None else end_i + to_i * z
    path = _Path(state.v, -3 * state.v + 4 * middle - end, 2 * state.v - 4 * middle + 2 * end)

    hazard, begin = _hazard_before(co, static, path, middle, end, state.rest)
    s_end = state.s + hazard.total
    spiked = s_end >= 0 if known is None else known[0] >= 0
    x, missed = _spike(static, hazard, state.s, spiked, _slot(known, 0, begin))
    jump = _jump(co, static, path, None, begin + x * (1 - begin), log_u(0) - co.alpha)
    v_end, after = _after(co, static, path, end, jump)
    s_end = jnp.where(spiked, jump.s + after.total, s_end)
    coarse = hazard.dips_below_zero | (spiked & after.dips_below_zero)
    fractions = [jnp.where(spiked, jump.at, -1.0)]

    carry = _Rest(jump, v_end, s_end, spiked & (s_end >= 0), coarse, missed)
    for slot in range(1, static.max_spikes):
        carry = carry._replace(again=carry.again if known is None else known[slot] >= 0)
        carry, fraction = _another(co, static, path, end, carry, log_u, known, slot)
        fractions.append(fraction)
    jump, v_end, s_end, again, coarse, missed = carry

    i = end_i
    if jump.di is not None:
        i = jnp.where(spiked, end_i + jump.di * jnp.exp(-co.mu2 * (1 - jump.at) * static.h), end_i)
    flags = _flag(coarse, STEP_TOO_COARSE) + _flag(missed, ROOT_NOT_CONVERGED)
    if known is None:
        flags = flags + _flag(again, TOO_MANY_SPIKES_IN_A_STEP)
    state = State(jnp.where(spiked, v_end, end), i, s_end, _rest(co, static, state.rest, jump, spiked))
    return Step(state, tuple(fractions), flags)


def step_without_spike(co: Coefficients, static: Static, state: State, drive: tuple[jax.Array, jax.Array]) -> Step:
    """`step` of neurons that do not spike in it, without noise; s >= 0 at its end shows those that do."""
    middle = co.decay_half * state.v + co.kappa_half * state.i + drive[0]
    end = co.decay * state.v + co.kappa * state.i + drive[1]
    path = _Path(state.v, -3 * state.v + 4 * middle - end, 2 * state.v - 4 * middle + 2 * end)
    hazard, _ = _hazard_before(co, static, path, middle, end, state.rest)
    rest = None if state.rest is None else jnp.maximum(state.rest - static.h, 0.0)
    after = State(end, co.decay_i * state.i, state.s + hazard.total, rest)
    return Step(after, (), _flag(hazard.dips_below_zero, STEP_TOO_COARSE))


class _Rest(NamedTuple):
    """What is known after some spikes of a step: v and s at its end, and which neurons spike once more before it."""

    jump: _Jump
    v_end: jax.Array
    s_end: jax.Array
    again: jax.Array
    coarse: jax.Array
    missed: jax.Array


def _another(co, static, path, end, carry: _Rest, log_u, known, slot) -> tuple[_Rest, jax.Array]:
    """One more spike inside the step for the neurons `again`. Rare: the branch costs nothing until one occurs."""

    def search(carry: _Rest):
        jump, again = carry.jump, carry.again
        hazard = _after(co, static, path, end, jump)[1]
        x, missed = _spike(static, hazard, jump.s, again, _slot(known, slot, jump.begin))
        nxt = _jump(co, static, path, jump, jump.begin + x * (1 - jump.begin), log_u(slot) - co.alpha)
        v_end, after = _after(co, static, path, end, nxt)
        s_end = nxt.s + after.total
        coarse = carry.coarse | (again & after.dips_below_zero)
        new = _Rest(nxt, v_end, s_end, again & (s_end >= 0), coarse, carry.missed | missed)
        chosen = jax.tree.map(lambda a, b: jnp.where(again, a, b), new, carry)
        return chosen._replace(again=new.again), jnp.where(again, nxt.at, -1.0)

    def skip(carry: _Rest):
        return carry, jnp.full_like(carry.jump.at, -1.0)

    return jax.lax.cond(jnp.any(carry.again), search, skip, carry)


def _hazard_before(co, static, path, middle, end, rest) -> tuple[Hazard, Any]:
    """Hazard from the start of the step, or from the end of the refractory period, to the end of the step."""
    if rest is None:
        rates = (_rate(co, static, path.v, 0.0), _rate(co, static, middle, 0.5), _rate(co, static, end, 1.0))
        return _quadratic(static, rates, static.h), 0.0
    begin = _at_most_one(rest / static.h)
    half = 0.5 * (1 + begin)
    rates = (
        _rate(co, static, path(begin), begin),
        _rate(co, static, path(half), half),
        _rate(co, static, end, 1.0),
    )
    return _quadratic(static, rates, (1 - begin) * static.h), begin


def _after(co, static, path, end, jump: _Jump) -> tuple[jax.Array, Hazard]:
    """v at the end of the step, and the hazard from `jump.begin` to there, after a spike."""
    rest = (1 - jump.begin) * static.h
    half = 0.5 * (1 + jump.begin)
    early, middle = jump.dv * jump.early, jump.dv * jump.early * jump.half
    late = middle * jump.half
    if jump.di is not None:
        since = (jump.begin - jump.at) * static.h
        early = early + jump.di * kappa(co.mu1, co.mu2, since)
        middle = middle + jump.di * kappa(co.mu1, co.mu2, since + 0.5 * rest)
        late = late + jump.di * kappa(co.mu1, co.mu2, since + rest)
    v_end = end + late
    rates = (
        _rate(co, static, path(jump.begin) + early, jump.begin),
        _rate(co, static, path(half) + middle, half),
        _rate(co, static, v_end, 1.0),
    )
    return v_end, _quadratic(static, rates, rest)


def _quadratic(static: Static, rates: tuple[jax.Array, jax.Array, jax.Array], width: Any) -> Hazard:
    """The hazard over a piece from its values at both ends and the middle; Euler's is that of the start."""
    start, middle, end = rates
    if isinstance(static.driver, ExplicitEuler):
        return Hazard(start, jnp.zeros_like(start), jnp.zeros_like(start), width)
    return through(start, middle, end, width)


def _rate(co: Coefficients, static: Static, v: jax.Array, r: Any) -> jax.Array:
    """Escape rate, averaged over the Brownian bridge that the driver leaves out."""
    return jnp.exp(co.escape.mean_log_rate(v, co.variance * static.driver.bridge_variance(r, static.h)))


def _spike(static: Static, hazard: Hazard, s: jax.Array, spiked: jax.Array, known: Any) -> tuple[jax.Array, jax.Array]:
    """Fraction of the piece at which s reaches 0, with its derivative (1/2 where there is no spike); is it missed?"""
    missed = jnp.zeros_like(spiked)
    if known is None:
        given = jax.lax.stop_gradient((hazard, s))
        known = polish(*given, jnp.where(spiked, first_root(*given, spiked, static.iterations), 0.5))
        missed = spiked & ~(jnp.abs(s + hazard.integral(known)) <= static.tolerance * (1 + jnp.abs(s)))
    known = jnp.where(spiked, known, 0.5)
    return differentiate_root(hazard, s, known, spiked) if static.differentiate else known, missed


def _slot(known: tuple[jax.Array, ...] | None, slot: int, begin: Any) -> Any:
    """A known fraction of the step as a fraction of the piece [begin, 1]."""
    if known is None:
        return None
    begin = jax.lax.stop_gradient(begin)
    return (known[slot] - begin) / jnp.maximum(1 - begin, jnp.finfo(known[slot].dtype).tiny)


def _jump(co: Coefficients, static: Static, path: _Path, last: _Jump | None, at: jax.Array, s: jax.Array) -> _Jump:
    """The transition at r = `at`: v+ = keep v- + shift, i+ = i- + self weight, s+ = log u - alpha, hazard off."""
    earlier, carried = 0.0, 0.0
    if last is not None:
        elapsed = (at - last.at) * static.h
        earlier = last.dv * jnp.exp(-co.mu1 * elapsed)
        if last.di is not None:
            earlier = earlier + last.di * kappa(co.mu1, co.mu2, elapsed)
            carried = last.di * jnp.exp(-co.mu2 * elapsed)
    dv = earlier + co.shift
    if static.keep != 1.0:
        dv = dv + (static.keep - 1.0) * (path(at) + earlier)
    di = None if co.self_weight is None else jnp.broadcast_to(carried + co.self_weight, at.shape)
    begin, early = at, jnp.ones_like(at)
    if co.refractory is not None:
        begin = _at_most_one(at + co.refractory / static.h)
        early = jnp.exp(-co.mu1 * (begin - at) * static.h)
    half = jnp.exp(-0.5 * co.mu1 * (1 - begin) * static.h)
    return _Jump(at, jnp.broadcast_to(dv, at.shape), di, begin, early, half, jnp.broadcast_to(s, at.shape))


def _rest(co: Coefficients, static: Static, rest: Any, jump: _Jump, spiked: jax.Array) -> Any:
    """Refractory time left at the end of the step."""
    if rest is None or co.refractory is None:
        return None
    after_spike = jnp.maximum(co.refractory - (1 - jump.at) * static.h, 0.0)
    return jnp.where(spiked, after_spike, jnp.maximum(rest - static.h, 0.0))


def _at_most_one(r: jax.Array) -> jax.Array:
    """min(r, 1), whose derivative jnp.minimum would get by a division."""
    return jnp.where(r < 1, r, 1.0)


def _flag(where: jax.Array, flag: int) -> jax.Array:
    return jnp.where(where, flag, 0).astype(jnp.int32)
