"""One step of leaky integrate-and-fire neurons with a hard threshold: a spike is an implicitly differentiated root.

Inside a step of length h, at the fraction x = (t - t_n) / h, with constant mean current c and no spike yet

    v(x) = c + (v - c) e^{-mu1 h x} + i kappa(h x) + a_v x^2        a_v: what arrives in this step adds to v at its end

exact at the end of the step, and everywhere if nothing arrives. Input that arrives in the step acts as if it came
evenly over it; at the end of the step it is exact again. After spikes at x_1 < x_2 < ...

    v(x) - R sum_l e^{-mu1 h (x - x_l)},        R = v_th - (keep v_th + shift)

and spike m is the root of g_m(x) = v(x) - v_th - R sum_{l<m} e^{-mu1 h (x - x_l)}, found by Newton's iteration and
differentiated by d x = -d g_m / g_m'. A neuron that is above threshold at the start of a step spikes there at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike._types import GRAZE, ROOT_NOT_CONVERGED, TOO_MANY_SPIKES_IN_A_STEP
from roughspike.networks.decay import Decay, decay_polynomials, horner, slope
from roughspike.neurons.lif import SLIF

Slots = tuple[jax.Array, ...]


class Coefficients(NamedTuple):
    """What a step needs of the parameters."""

    decay: Decay
    keep_v: jax.Array  # e^{-mu1 h}
    keep_i: jax.Array  # e^{-mu2 h}
    on_v: jax.Array  # kappa(h)
    v_th: jax.Array
    jump: jax.Array  # R


class Membrane(NamedTuple):
    """State at a grid point."""

    v: jax.Array
    i: jax.Array


class Crossings(NamedTuple):
    """A step's end, its spikes (fractions, -1 where empty), the steepness 1 / g' of each (0: none), and flags."""

    state: Membrane
    fractions: Slots
    steepness: Slots
    flags: jax.Array


class _Path(NamedTuple):
    """v(x) without this step's spikes as a polynomial in x - 1/2."""

    coefficients: Slots

    def __call__(self, x: Any) -> jax.Array:
        return horner(self.coefficients, x - 0.5)

    def slope(self, x: Any) -> jax.Array:
        return slope(self.coefficients, x - 0.5)


def threshold_coefficients(neuron: SLIF, h: float) -> Coefficients:
    """Step coefficients of a neuron with a hard threshold."""
    decay = decay_polynomials(neuron.mu, h)
    end = jnp.asarray(0.5, neuron.mu.dtype)
    v_th = neuron.escape.v_th  # pyright: ignore[reportAttributeAccessIssue]
    jump = v_th - (neuron.reset.keep * v_th + neuron.reset.shift(neuron.v_reset))
    ends = (horner(p, end) for p in (decay.membrane, decay.synapse, decay.response))
    return Coefficients(decay, *ends, v_th=v_th, jump=jump)


def advance(
    co: Coefficients,
    state: Membrane,
    arrived: tuple[Any, ...],
    current: Any,
    slots: int,
    known: Slots | None = None,
) -> Crossings:
    """Advance every neuron by one step.

    **Arguments**

    - `arrived`: what arrives in this step adds to i and v at its end.
    - `current`: mean current of the step.
    - `slots`: how many spikes of one neuron the step may hold.
    - `known`: fractions found before; then nothing is searched for, and the fractions have their derivative.
    """
    on_i, on_v = arrived
    v, i = state
    end = quiet(co, state, arrived, current).v
    path = _path(co, state, on_v, current)
    spiked = end >= co.v_th if known is None else known[0] >= 0
    fractions, steep = [], []
    flags = jnp.zeros(v.shape, jnp.int32)

    first = _first_guess(co, state, end, current) if known is None else known[0]
    x, s, bad = _crossing(co, path, state, spiked, first, (), known is None)
    fractions.append(jnp.where(spiked, x, -1.0))
    steep.append(s)
    end = end - jnp.where(spiked, co.jump * horner(co.decay.membrane, 0.5 - x), 0.0)
    flags = flags | bad

    for slot in range(1, slots):
        spiked = end >= co.v_th if known is None else known[slot] >= 0
        operands = (state, on_v, current, end, tuple(fractions), None if known is None else known[slot])

        def again(operands: Any, spiked: jax.Array = spiked) -> Any:
            state, on_v, current, end, earlier, given = operands
            path = _path(co, state, on_v, current)  # once more, so that it need not be handed over where it is not used
            guess = _next_guess(co, earlier[-1], end) if given is None else given
            x, s, bad = _crossing(co, path, state, spiked, guess, earlier, given is None)
            end = end - jnp.where(spiked, co.jump * horner(co.decay.membrane, 0.5 - x), 0.0)
            return jnp.where(spiked, x, -1.0), s, end, bad

        def none(operands: Any) -> Any:
            end = operands[3]
            return jnp.full_like(end, -1.0), jnp.zeros_like(end), end, jnp.zeros(end.shape, jnp.int32)

        x, s, end, bad = jax.lax.cond(jnp.any(spiked), again, none, operands)
        fractions.append(x)
        steep.append(s)
        flags = flags | bad

    if known is None:
        flags = flags | _flag(end >= co.v_th, TOO_MANY_SPIKES_IN_A_STEP)
    state = Membrane(end, co.keep_i * i + on_i)
    return Crossings(state, tuple(fractions), tuple(steep), flags)


def quiet(co: Coefficients, state: Membrane, arrived: tuple[Any, ...], current: Any) -> Membrane:
    """The end of a step without spikes."""
    v, i = state
    return Membrane(current + co.keep_v * (v - current) + co.on_v * i + arrived[1], co.keep_i * i + arrived[0])


def _path(co: Coefficients, state: Membrane, on_v: Any, current: Any) -> _Path:
    v, i = state
    above = v - current
    pairs = zip(co.decay.membrane, co.decay.response, strict=True)
    c = [above * m + i * r for m, r in pairs]
    c[0] = c[0] + (current + 0.25 * on_v)
    c[1] = c[1] + on_v
    c[2] = c[2] + on_v
    return _Path(tuple(c))


def _first_guess(co: Coefficients, state: Membrane, end: jax.Array, current: Any) -> jax.Array:
    """Root of the quadratic with the right start, slope at the start, and end."""
    v, i = state
    height, rise = co.v_th - v, co.decay.rate1 * (current - v + i)
    bend = end - v - rise
    root = rise + jnp.sqrt(jnp.maximum(rise * rise + 4 * bend * height, 0.0))
    return _quotient(2 * height, root)


def _next_guess(co: Coefficients, last: jax.Array, end: jax.Array) -> jax.Array:
    """Straight from the value after the last spike to that at the end."""
    low = co.v_th - co.jump
    share = _quotient(co.jump + 0.0 * end, end - low)
    return last + share * (1 - last)


def _quotient(above: jax.Array, below: jax.Array) -> jax.Array:
    """above / below cut to [0, 1]; 1 where below is not positive. XLA computes a quotient with many users once."""
    below = jnp.where(below > 0, below, 1.0)
    return jnp.clip(above, 0.0, below) / below


def _crossing(
    co: Coefficients,
    path: _Path,
    state: Membrane,
    spiked: jax.Array,
    x: jax.Array,
    earlier: Slots,
    search: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The root with its derivative (1/2 where there is no spike), 1 / g' (0 where it is not differentiated), flags."""
    stop = jax.lax.stop_gradient
    single = x.dtype == jnp.float32
    low = stop(earlier[-1]) if earlier else 0.0

    def g(path: _Path, co: Coefficients, earlier: Slots, x: Any) -> jax.Array:
        back = sum((horner(co.decay.membrane, x - e - 0.5) for e in earlier), 0.0)
        return path(x) - co.v_th - co.jump * back

    fixed, constants, before = stop(path), stop(co), stop(earlier)

    def rise(x: Any) -> jax.Array:
        back = sum((slope(constants.decay.membrane, x - e - 0.5) for e in before), 0.0)
        return fixed.slope(x) - constants.jump * back

    x = stop(x)
    if search:
        for _ in range(2 if single else 3):
            below = rise(x)
            below = jnp.where(below > 0, below, 1.0)
            above = x * below - g(fixed, constants, before, x)
            x = jnp.clip(above, low * below, below) / below
    x = jnp.where(spiked, x, 0.5)
    overdue = spiked & (x <= 0.0) & (state.v >= co.v_th) if not earlier else jnp.zeros_like(spiked)
    missed = jnp.zeros_like(spiked)
    value = stop(g(fixed, constants, before, x))
    if search:
        tolerance = 1e-4 if single else 1e-9
        missed = (
            spiked & ~overdue & ~(jnp.abs(value) <= tolerance * jnp.maximum(jnp.abs(constants.v_th), constants.jump))
        )
    below = rise(x)
    graze = spiked & ~overdue & ~(below > (1e-6 if single else 1e-12) * constants.jump)
    steep = jnp.where(spiked & ~overdue & ~graze, 1.0, 0.0) / jnp.where(below > 0, below, 1.0)
    x = x - (g(path, co, earlier, x) - value) * steep
    return x, steep, _flag(missed, ROOT_NOT_CONVERGED) | _flag(graze, GRAZE)


def _flag(where: jax.Array, flag: int) -> jax.Array:
    return jnp.where(where, flag, 0).astype(jnp.int32)
