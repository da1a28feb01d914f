"""The kind for neurons with dynamics of their own: any `AbstractNeuron` in the engines that go by the grid.

Inside a step the input current and the noise are a constant force on v, and so is what arrives in the step: the current
whose effect on a leaky membrane at the end of the step is that of the spikes (second order in the step). The potential
at the start, middle and end of the step, or of what is left of it after a spike, gives the hazard as a quadratic, and a
spike is the root of a cubic, as in `step`. From a spike the flow starts again at its transition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike._types import ROOT_NOT_CONVERGED, STEP_TOO_COARSE, TOO_MANY_SPIKES_IN_A_STEP
from roughspike.networks.cubic import Hazard, differentiate_root, first_root, polish, through
from roughspike.networks.kinds import Pair, Parts, Pulled, Stepped
from roughspike.networks.step import Static
from roughspike.neurons.base import AbstractNeuron, Variables


class State(NamedTuple):
    """State at a grid point; `rest` is there for the engines and None: no refractory time."""

    v: jax.Array
    i: jax.Array
    s: jax.Array
    more: tuple[jax.Array, ...]
    rest: None = None


class _Part(NamedTuple):
    """What is left of a step: where it begins, the state there, s there, the state at its end, the hazard."""

    begin: jax.Array
    y: Variables
    s: jax.Array
    end: Variables
    hazard: Hazard


@dataclasses.dataclass(frozen=True)
class General:
    """The step of an `AbstractNeuron`, which is its own coefficients."""

    static: Static

    @property
    def slots(self) -> int:
        """Spikes of one neuron that a step may hold."""
        return self.static.max_spikes

    def step(self, co: Any, state: Any, arrived: Parts, drive: Pair, normals: Any, log_u: Any, lean: bool) -> Stepped:
        """Keep the state and what arrived."""
        del lean
        on_v = arrived[1] + jnp.zeros_like(state.v)
        out, fractions, flags = self._advance(co, state, (arrived[0], on_v), drive[0], normals, log_u, None)
        return Stepped(out, fractions, (state._replace(s=None), on_v), flags)

    def pull(
        self, co: Any, kept: Any, known: Any, p: Any, on_known: Any, drive: Pair, normals: Any, lean: bool
    ) -> Pulled:
        """Transpose of the step; s enters linearly, so its value is not needed."""
        state, on_v = kept
        state = state._replace(s=jnp.zeros_like(state.v))

        def replay(state: State, on_v: Any, current: Any, co: Any):
            nothing = lambda slot: 0.0  # noqa: E731  a new threshold is not differentiated
            out, fractions, _ = self._advance(co, state, (0.0, on_v), current, normals, nothing, tuple(known))
            return out, fractions

        current = drive[0] + jnp.zeros_like(state.v)
        if lean:
            _, back = jax.vjp(lambda a, b, c: replay(a, b, c, co), state, on_v, current)
            (on_state, on_arrived, on_current), on_co = back((p, tuple(on_known))), None
        else:
            # parameters as wide as the state, or each use of one would be a sum over all neurons of its own
            shape = state.v.shape
            wide = lambda x: jnp.broadcast_to(x.reshape(*x.shape, *(1 for _ in shape)), (*x.shape, *shape))  # noqa: E731
            _, back = jax.vjp(replay, state, on_v, current, jax.tree.map(wide, co))
            on_state, on_arrived, on_current, on_wide = back((p, tuple(on_known)))
            last = tuple(range(-len(shape), 0))
            on_co = jax.tree.map(lambda x: jnp.sum(x, axis=last), on_wide)
        return Pulled(on_state, (p.i, on_arrived), (on_current, None), on_co)

    def _advance(
        self,
        neuron: AbstractNeuron,
        state: State,
        arrived: Pair,
        current: Any,
        normals: Any,
        log_u: Callable[[int], Any],
        known: Any,
    ) -> tuple[State, tuple[jax.Array, ...], jax.Array]:
        h, mu1 = self.static.h, neuron.mu[0]
        # what arrives as a constant current: it leaves (1 - e^{-mu1 h}) times itself on a leaky membrane
        force = mu1 * (current + arrived[1] / -jnp.expm1(-mu1 * h))
        for z in tuple(normals):
            force = force + neuron.sigma * h**-0.5 * z
        part = self._part(neuron, force, jnp.zeros_like(state.v), Variables(state.v, state.i, state.more), state.s)
        flags = jnp.zeros(state.v.shape, jnp.int32)
        fractions = []
        for slot in range(self.slots):
            spiked = part.s + part.hazard.total >= 0 if known is None else known[slot] >= 0

            def spike(part: _Part, spiked: jax.Array = spiked, slot: int = slot):
                at, missed = self._root(part, spiked, None if known is None else known[slot])
                y = neuron.transition(neuron.flow(part.y, force, (at - part.begin) * h))
                new = self._part(neuron, force, at, y, jnp.broadcast_to(log_u(slot) - neuron.alpha, at.shape))
                flag = jnp.where(missed, ROOT_NOT_CONVERGED, 0).astype(jnp.int32)
                chosen = jax.tree.map(lambda a, b: jnp.where(spiked, a, b), new, part)
                return chosen, jnp.where(spiked, at, -1.0), flag

            def none(part: _Part):
                return part, jnp.full_like(part.begin, -1.0), jnp.zeros(part.begin.shape, jnp.int32)

            part, at, flag = jax.lax.cond(jnp.any(spiked), spike, none, part)
            fractions.append(at)
            flags = flags | flag
        s = part.s + part.hazard.total
        flags = flags | jnp.where(part.hazard.dips_below_zero, STEP_TOO_COARSE, 0).astype(jnp.int32)
        if known is None:
            flags = flags | jnp.where(s >= 0, TOO_MANY_SPIKES_IN_A_STEP, 0).astype(jnp.int32)
        return State(part.end.v, part.end.i + arrived[0], s, part.end.more), tuple(fractions), flags

    def _part(self, neuron: AbstractNeuron, force: Any, begin: jax.Array, y: Variables, s: jax.Array) -> _Part:
        """The rest of a step from `begin`: half of it, and once more half."""
        half = 0.5 * (1 - begin) * self.static.h
        # barriers, or XLA would compute the flow once more for each of its many users
        y = jax.lax.optimization_barrier(y)
        middle = jax.lax.optimization_barrier(neuron.flow(y, force, half))
        end = jax.lax.optimization_barrier(neuron.flow(middle, force, half))
        variance = neuron.sigma**2
        rates = [
            neuron.rate(v, variance * self.static.driver.bridge_variance(r, self.static.h))
            for v, r in ((y.v, begin), (middle.v, 0.5 * (1 + begin)), (end.v, jnp.ones_like(begin)))
        ]
        width = (1 - begin) * self.static.h
        return _Part(begin, y, s, end, through(rates[0], rates[1], rates[2], width))

    def _root(self, part: _Part, spiked: jax.Array, known: Any) -> tuple[jax.Array, jax.Array]:
        """The part of the step at which s reaches 0, with its derivative, equation (6); is it missed?"""
        hazard, s, begin = part.hazard, part.s, part.begin
        missed = jnp.zeros_like(spiked)
        if known is None:
            given = jax.lax.stop_gradient((hazard, s))
            x = polish(*given, jnp.where(spiked, first_root(*given, spiked, self.static.iterations), 0.5))
            missed = spiked & ~(jnp.abs(s + hazard.integral(x)) <= self.static.tolerance * (1 + jnp.abs(s)))
        else:
            x = (known - begin) / jnp.maximum(1 - begin, jnp.finfo(begin.dtype).tiny)
        x = differentiate_root(hazard, s, jnp.where(spiked, x, 0.5), spiked)
        return begin + x * (1 - begin), missed
