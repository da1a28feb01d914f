"""One step of uncoupled stochastic neurons: exact flow, cubic hazard, spikes as implicitly differentiated roots.

Inside a step of length h, at the fraction r = (t - t_n) / h:

    path before spikes   v(r) = the quadratic through the exact flow at r = 0, 1/2, 1
    after a spike at r*  v(r) + e^{-mu1 (r - r*) h} dv + kappa((r - r*) h) di,  dv, di the jumps of v and i
    hazard               lambda = the quadratic through its values at both ends and the middle of a piece [begin, 1]
    threshold            s = s(begin) + a cubic; over the full piece this is Simpson's rule
    spike                the root of the cubic: Newton without an exponential

A step is cut at each of its spikes and at the end of each refractory period. A root is differentiated by equation (6),
d tau = -Ds / lambda(v-), never through the iterations. All arrays have the shape (neurons, samples).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike._types import NOT_FINITE, ROOT_NOT_CONVERGED, STEP_TOO_COARSE, TOO_MANY_SPIKES_IN_A_STEP
from roughspike.networks.cubic import Hazard, differentiate_root, first_root, through
from roughspike.neurons.escape import AbstractEscape
from roughspike.neurons.flow import convolve, kappa
from roughspike.neurons.lif import SLIF
from roughspike.paths.drivers import AbstractDriver


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
    iterations: int  # of Newton
    tolerance: float  # on the threshold variable at a root


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
    """The last spike of a neuron in this step: when, and what all its spikes so far add to v and i just after it."""

    at: jax.Array
    dv: jax.Array
    di: jax.Array | None
    begin: jax.Array  # where the hazard starts again
    s: jax.Array


def coefficients(neuron: SLIF, h: float, driver: AbstractDriver) -> Coefficients:
    """Step coefficients of a neuron: (v, i) answer a normal by the flow convolved with the driver's slope."""
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
        noise=noise,
        variance=sigma[0, 0] ** 2 + sigma[0, 1] ** 2,
        shift=neuron.reset.shift(neuron.v_reset),
        alpha=neuron.alpha,
        refractory=neuron.refractory,
        self_weight=neuron.self_weight,
    )


def driven(co: Coefficients, first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What an input current with these means over the two half steps adds to v at the middle and at the end."""
    gain = 1 - co.decay_half
    return gain * first, gain * (co.decay_half * first + second)


def step(
    co: Coefficients,
    static: Static,
    state: State,
    drive: tuple[jax.Array, jax.Array],
    normals: tuple[jax.Array, ...],
    log_u: tuple[jax.Array, ...],
    known: tuple[jax.Array, ...] | None = None,
) -> Step:
    """Advance every neuron by one step.

    **Arguments**

    - `drive`: what `driven` returns.
    - `normals`: one array per normal of the driver and Brownian motion.
    - `log_u`: log u of the next intervals, one array for each spike that a step may hold.
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
    x, flags = _spike(static, hazard, state.s, spiked, _slot(known, 0, begin))
    jump = _jump(co, static, path, None, begin + x * (1 - begin), log_u[0])
    after = _hazard_after(co, static, path, jump)
    s_end = jnp.where(spiked, jump.s + after.total, s_end)
    flags = flags | _flag(hazard.dips_below_zero | (spiked & after.dips_below_zero), STEP_TOO_COARSE)
    fractions = [jnp.where(spiked, jump.at, -1.0)]

    again = spiked & (s_end >= 0) if known is None else spiked
    for slot in range(1, static.max_spikes):
        again = again if known is None else known[slot] >= 0
        jump, s_end, more, fraction = _another(co, static, path, jump, s_end, again, log_u[slot], known, slot)
        flags, again = flags | more, again & (s_end >= 0)
        fractions.append(fraction)

    v = jnp.where(spiked, end + _later(co, static, jump, 1.0), end)
    i = end_i
    if jump.di is not None:
        i = jnp.where(spiked, end_i + jump.di * jnp.exp(-co.mu2 * (1 - jump.at) * static.h), end_i)
    flags = flags | _flag(again if known is None else jnp.zeros_like(again), TOO_MANY_SPIKES_IN_A_STEP)
    flags = flags | _flag(~jnp.isfinite(s_end + v + i), NOT_FINITE)
    return Step(State(v, i, s_end, _rest(co, static, state.rest, jump, spiked)), tuple(fractions), flags)


def _another(co, static, path, jump, s_end, again, log_u, known, slot):
    """One more spike inside the step for the neurons `again`. Rare: the branch costs nothing until one occurs."""

    def search(jump, s_end):
        hazard = _hazard_after(co, static, path, jump)
        x, flags = _spike(static, hazard, jump.s, again, _slot(known, slot, jump.begin))
        nxt = _jump(co, static, path, jump, jump.begin + x * (1 - jump.begin), log_u)
        after = _hazard_after(co, static, path, nxt)
        flags = flags | _flag(again & after.dips_below_zero, STEP_TOO_COARSE)
        chosen = jax.tree.map(lambda a, b: jnp.where(again, a, b), nxt, jump)
        return chosen, jnp.where(again, nxt.s + after.total, s_end), flags, jnp.where(again, nxt.at, -1.0)

    def skip(jump, s_end):
        return jump, s_end, jnp.zeros_like(again, jnp.int32), jnp.full_like(jump.at, -1.0)

    return jax.lax.cond(jnp.any(again), search, skip, jump, s_end)


def _hazard_before(co, static, path, middle, end, rest) -> tuple[Hazard, Any]:
    """Hazard from the start of the step, or from the end of the refractory period, to the end of the step."""
    if rest is None:
        rates = (_rate(co, static, path.v, 0.0), _rate(co, static, middle, 0.5), _rate(co, static, end, 1.0))
        return through(*rates, static.h), 0.0
    begin = jnp.minimum(rest / static.h, 1.0)
    half = 0.5 * (1 + begin)
    rates = (
        _rate(co, static, path(begin), begin),
        _rate(co, static, path(half), half),
        _rate(co, static, end, 1.0),
    )
    return through(*rates, (1 - begin) * static.h), begin


def _hazard_after(co, static, path, jump: _Jump) -> Hazard:
    """Hazard from `jump.begin` to the end of the step."""
    half = 0.5 * (1 + jump.begin)
    rates = (
        _rate(co, static, path(jump.begin) + _later(co, static, jump, jump.begin), jump.begin),
        _rate(co, static, path(half) + _later(co, static, jump, half), half),
        _rate(co, static, path(1.0) + _later(co, static, jump, 1.0), 1.0),
    )
    return through(*rates, (1 - jump.begin) * static.h)


def _rate(co: Coefficients, static: Static, v: jax.Array, r: Any) -> jax.Array:
    """Escape rate, averaged over the Brownian bridge that the driver leaves out."""
    return jnp.exp(co.escape.mean_log_rate(v, co.variance * static.driver.bridge_variance(r, static.h)))


def _later(co: Coefficients, static: Static, jump: _Jump, r: Any) -> jax.Array:
    """What the spikes of this step add to v at r >= jump.at."""
    elapsed = (r - jump.at) * static.h
    added = jump.dv * jnp.exp(-co.mu1 * elapsed)
    return added if jump.di is None else added + jump.di * kappa(co.mu1, co.mu2, elapsed)


def _spike(static: Static, hazard: Hazard, s: jax.Array, spiked: jax.Array, known: Any) -> tuple[jax.Array, jax.Array]:
    """Fraction of the piece at which s reaches 0, with its derivative; 1/2 where there is no spike."""
    flags = jnp.zeros_like(spiked, jnp.int32)
    if known is None:
        x = first_root(*jax.lax.stop_gradient((hazard, s)), static.iterations)
        missed = jnp.abs(s + hazard.integral(x)) > static.tolerance * (1 + jnp.abs(s))
        flags = _flag(spiked & missed, ROOT_NOT_CONVERGED)
    else:
        x = known
    return differentiate_root(hazard, s, jnp.where(spiked, x, 0.5), spiked), flags


def _slot(known: tuple[jax.Array, ...] | None, slot: int, begin: Any) -> Any:
    """A known fraction of the step as a fraction of the piece [begin, 1]."""
    if known is None:
        return None
    begin = jax.lax.stop_gradient(begin)
    return (known[slot] - begin) / jnp.maximum(1 - begin, jnp.finfo(known[slot].dtype).tiny)


def _jump(co: Coefficients, static: Static, path: _Path, last: _Jump | None, at: jax.Array, log_u: jax.Array) -> _Jump:
    """The transition at r = `at`: v+ = keep v- + shift, i+ = i- + self weight, s+ = log u - alpha, hazard off."""
    earlier = 0.0 if last is None else _later(co, static, last, at)
    before = path(at) + earlier
    dv = earlier + (static.keep - 1.0) * before + co.shift if static.keep != 1.0 else earlier + co.shift
    di = None
    if co.self_weight is not None:
        carried = 0.0 if last is None or last.di is None else last.di * jnp.exp(-co.mu2 * (at - last.at) * static.h)
        di = jnp.broadcast_to(carried + co.self_weight, at.shape)
    begin = at if co.refractory is None else jnp.minimum(at + co.refractory / static.h, 1.0)
    return _Jump(at, jnp.broadcast_to(dv, at.shape), di, begin, log_u - co.alpha)


def _rest(co: Coefficients, static: Static, rest: Any, jump: _Jump, spiked: jax.Array) -> Any:
    """Refractory time left at the end of the step."""
    if rest is None or co.refractory is None:
        return None
    after_spike = jnp.maximum(co.refractory - (1 - jump.at) * static.h, 0.0)
    return jnp.where(spiked, after_spike, jnp.maximum(rest - static.h, 0.0))


def _flag(where: jax.Array, flag: int) -> jax.Array:
    return jnp.where(where, flag, 0).astype(jnp.int32)
