"""The kinds of layer: hard threshold, escape rate, no spikes. Each knows its step, and how to pull a cotangent back.

A kind is a static object. `step` advances all neurons of a layer and says what its own backward pass must keep; `pull`
takes the cotangent of a step's end, p, to that of its start, with the spikes known. It has two ways: `lean`, where no
coefficient of the step is differentiated (training weights, currents, delays, initial states), and full. Arrays have
the shape (neurons, lanes), lanes = samples x batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike.networks import threshold
from roughspike.networks.decay import horner
from roughspike.networks.few import Some, over_few
from roughspike.networks.step import Coefficients, State, Static, Step, step_without_spike
from roughspike.networks.step import step as escape_step
from roughspike.networks.threshold import Membrane
from roughspike.neurons.flow import kappa
from roughspike.neurons.readout import Readout

Pair = tuple[Any, Any]
Parts = tuple[Any, ...]  # what arrives, as `left_of_step`: to i, to v at the end, to v in the middle


class Stepped(NamedTuple):
    """End of a step, its fractions (-1 where empty), what to keep for `pull`, flags."""

    state: Any
    fractions: tuple[jax.Array, ...]
    kept: Any
    flags: jax.Array


class Pulled(NamedTuple):
    """Cotangents of the state at the start of a step, of what arrived in it, of its drive and of the coefficients."""

    p: Any
    arrived: Parts
    drive: Pair
    co: Any


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Hard threshold. The adjoint jumps at a spike are those of EventProp, for the path of a step.

    `room`: how many of the neurons that spike are advanced at a time (`few`); 0 for all neurons at once.
    """

    slots: int
    room: int = 0

    def step(self, co: Any, state: Any, arrived: Parts, drive: Pair, normals: Any, log_u: Any, lean: bool) -> Stepped:
        """Keep 1 / g' of each spike; in full also the state and what arrived."""
        del normals, log_u
        out = (self._few_spikes if self.room else self._spikes)(co, state, arrived, drive[0])
        kept = out.steepness if lean else (state, arrived[1])
        return Stepped(out.state, out.fractions, kept, out.flags)

    def _spikes(self, co: Any, state: Any, arrived: Parts, current: Any) -> threshold.Crossings:
        return threshold.advance(co, state, arrived, current, self.slots)

    def _few_spikes(self, co: Any, state: Any, arrived: Parts, current: Any) -> threshold.Crossings:
        """`_spikes`, where those that spike are advanced once more, by themselves."""
        zero = jnp.zeros_like(state.v)
        given = state, arrived[1] + zero, current + zero
        quiet = threshold.quiet(co, state, arrived, current)
        none = tuple(zero - 1.0 for _ in range(self.slots)), (zero,) * self.slots, jnp.zeros(zero.shape, jnp.int32)

        def act(some: Some, out: Any) -> Any:
            one, on_v, now = some.take(given)
            found = self._spikes(co, one, (0.0, on_v), now)
            return some.put(out, (found.state.v, found.fractions, found.steepness, found.flags))

        end, *rest = over_few(quiet.v >= co.v_th, self.room, act, (quiet.v, *none))
        return threshold.Crossings(quiet._replace(v=end), *rest)

    def pull(
        self, co: Any, kept: Any, known: Any, p: Any, on_known: Any, drive: Pair, normals: Any, lean: bool
    ) -> Pulled:
        """Transpose of the step."""
        del normals
        if lean:
            return self._by_hand(co, kept, known, p, on_known)
        state, on_v = kept

        def replay(co, state, on_v, current):
            out = threshold.advance(co, state, (0.0, on_v), current, self.slots, known)
            return out.state, out.fractions

        _, back = jax.vjp(replay, co, state, on_v, drive[0] + jnp.zeros_like(state.v))
        on_co, on_state, on_arrived, on_current = back((p, tuple(on_known)))
        return Pulled(on_state, (p.i, on_arrived), (on_current, None), on_co)

    def _by_hand(self, co: Any, steepness: Any, known: Any, p: Any, on_known: Any) -> Pulled:
        """Without the spikes the step is linear; they add what `_through_spikes` finds."""
        quiet = co.keep_v * p.v, co.on_v * p.v + co.keep_i * p.i, (1.0 - co.keep_v) * p.v, p.v
        given = tuple(steepness), tuple(known), p.v, tuple(on_known)
        if self.room:

            def act(some: Some, found: Any) -> Any:
                steep, x, on_v, on_x = some.take(given)
                return some.add(found, self._through_spikes(co, steep, x, on_v, on_x))

            total = over_few(known[0] >= 0, self.room, act, quiet)
        else:
            total = map(jnp.add, quiet, self._through_spikes(co, *given))
        on_v, on_i, on_current, on_arrived = total
        return Pulled(Membrane(on_v, on_i), (p.i, on_arrived), (on_current, None), None)

    def _through_spikes(self, co: Any, steepness: Any, known: Any, on_end: Any, on_known: Any) -> tuple[jax.Array, ...]:
        """What the spikes of a step pass on to v, i, the current and what arrived, from v at its end and from x.

        With q = dL/dx of a spike in all, -q / g' is the cotangent of v(x) (theory, section 5: EventProp).
        A spike at x acts on the end by -R e^{-mu1 h (1 - x)}, and on a later root at y by -R e^{-mu1 h (y - x)} in g.
        """
        membrane, response, rise = co.decay.membrane, co.decay.response, co.jump * co.decay.rate1

        def shapes(g: jax.Array, x: jax.Array) -> tuple[jax.Array, ...]:
            """g times the four shapes whose sum v(x) is."""
            return g, g * horner(membrane, x - 0.5), g * horner(response, x - 0.5), g * x * x

        def later_spikes() -> tuple[jax.Array, ...]:
            """Those of the other slots, and what they do through the earlier spikes of the step."""
            on = [jnp.zeros_like(on_end), *on_known[1:]]
            total = (jnp.zeros_like(on_end),) * 4
            for slot in reversed(range(self.slots)):
                x = known[slot]
                q = on[slot] - (on_end * rise * horner(membrane, 0.5 - x) if slot else 0.0)
                g = -q * steepness[slot]
                for e in range(slot):
                    on[e] = on[e] - g * rise * horner(membrane, x - known[e] - 0.5)
                total = tuple(map(jnp.add, total, shapes(g, x)))
            return total

        x = known[0]
        q = on_known[0] - on_end * rise * horner(membrane, 0.5 - x)
        total = shapes(-q * steepness[0], x)
        if self.slots > 1:
            several = sum(jnp.any(x >= 0).astype(jnp.int32) for x in known[1:]) > 0
            none = (jnp.zeros_like(on_end),) * 4
            total = tuple(map(jnp.add, total, jax.lax.cond(several, later_spikes, lambda: none)))
        unit, on_membrane, on_response, on_square = total
        return on_membrane, on_response, unit - on_membrane, on_square


class LeakyCoefficients(NamedTuple):
    """Step coefficients of a readout: e^{-mu1 h}, e^{-mu2 h}, kappa(h)."""

    keep_v: jax.Array
    keep_i: jax.Array
    on_v: jax.Array

    @staticmethod
    def of(neuron: Readout, h: float) -> LeakyCoefficients:
        """Those of a neuron for steps of length h."""
        mu1, mu2 = neuron.mu[0], neuron.mu[1]
        return LeakyCoefficients(jnp.exp(-mu1 * h), jnp.exp(-mu2 * h), kappa(mu1, mu2, h))


@dataclasses.dataclass(frozen=True)
class Leaky:
    """No spikes: a linear filter of what arrives."""

    slots: int = 0

    def step(self, co: Any, state: Any, arrived: Parts, drive: Pair, normals: Any, log_u: Any, lean: bool) -> Stepped:
        """Nothing to keep but, in full, the state."""
        del normals, log_u
        (v, i), c = state, drive[0]
        end = Membrane(c + co.keep_v * (v - c) + co.on_v * i + arrived[1], co.keep_i * i + arrived[0])
        return Stepped(end, (), None if lean else state, jnp.zeros(v.shape, jnp.int32))

    def pull(
        self, co: Any, kept: Any, known: Any, p: Any, on_known: Any, drive: Pair, normals: Any, lean: bool
    ) -> Pulled:
        """Transpose of the step."""
        del known, on_known, normals
        on_co = None
        if not lean:
            _, back = jax.vjp(lambda co: self.step(co, kept, (0.0, 0.0), drive, None, None, lean).state, co)
            (on_co,) = back(p)
        on_state = Membrane(co.keep_v * p.v, co.on_v * p.v + co.keep_i * p.i)
        return Pulled(on_state, (p.i, p.v), ((1.0 - co.keep_v) * p.v, None), on_co)


@dataclasses.dataclass(frozen=True)
class Escape:
    """Escape rate, with or without diffusion: the step of a population, with what arrives in it added to its drive.

    Of what arrives in a step, the middle gets as much as gives its hazard the right integral, to first order in it.
    `room`: how many of the neurons that spike are advanced at a time (`few`); 0 for all neurons at once.
    """

    static: Static
    room: int = 0

    @property
    def slots(self) -> int:
        """Spikes of one neuron that a step may hold."""
        return self.static.max_spikes

    def step(self, co: Any, state: Any, arrived: Parts, drive: Pair, normals: Any, log_u: Any, lean: bool) -> Stepped:
        """Keep v, and what the middle and end of the step have beside it; in full the state and what arrived."""
        middle, end, current = self._linear(co, state, arrived, drive, normals)
        out = (self._few_spikes if self.room else self._spikes)(co, state, middle, end, log_u)
        kept = (state.v, state.rest, middle, end) if lean else (state._replace(s=None), arrived[1:])
        return Stepped(out.state._replace(i=out.state.i + current), out.fractions, kept, out.flags)

    def pull(
        self, co: Any, kept: Any, known: Any, p: Any, on_known: Any, drive: Pair, normals: Any, lean: bool
    ) -> Pulled:
        """Transpose of the step; s enters linearly, so its value is not needed."""
        nothing = lambda slot: 0.0  # noqa: E731  a new threshold is not differentiated
        if lean:

            def replay(of: tuple[Any, ...], known: Any) -> Any:
                state, middle, end = of
                if known is None:
                    return step_without_spike(co, self.static, state, (middle, end)).state
                out = self._spikes(co, state, middle, end, nothing, known)
                return out.state, out.fractions

            v, rest, middle, end = kept
            zero = jnp.zeros_like(v)
            lanes = (State(v, zero, zero, rest), middle, end)
            on, on_middle, on_end = self._pull_lanes(replay, lanes, known, p, on_known)
            on_i = co.decay_i * p.i + co.kappa_half * on_middle + co.kappa * on_end
            return Pulled(on._replace(i=on_i), (p.i, on_end, on_middle), (on_middle, on_end), None)
        state, on_parts = kept
        zero = jnp.zeros_like(state.v)
        drive = (drive[0] + zero, drive[1] + zero)

        def whole(of: tuple[Any, ...], known: Any) -> Any:
            co, state, on_parts, drive, normals = of
            middle, end, current = self._linear(co, state, (0.0, *on_parts), drive, normals)
            if known is None:
                quiet = state._replace(i=jnp.zeros_like(state.v))
                out = step_without_spike(co, self.static, quiet, (middle, end)).state
                return out._replace(i=current)
            out = self._spikes(co, state, middle, end, nothing, known)
            return out.state._replace(i=out.state.i + current), out.fractions

        lanes = (state._replace(s=zero), tuple(x + zero for x in on_parts), drive, tuple(normals))
        on_co, (on_state, on_arrived, on_drive, _) = self._pull_all(whole, co, lanes, known, p, on_known)
        return Pulled(on_state, (p.i, *on_arrived), on_drive, on_co)

    def _pull_lanes(self, run: Any, lanes: Any, known: Any, p: Any, on_known: Any) -> Any:
        """Cotangents of what `run` gets of each lane."""
        return self._pull_all(lambda of, known: run(of[1:], known), None, lanes, known, p, on_known)[1]

    def _pull_all(self, run: Any, shared: Any, lanes: Any, known: Any, p: Any, on_known: Any) -> tuple[Any, Any]:
        """Cotangents of what `run` gets for all lanes and of each lane, from those of the state and the spikes."""
        if not self.room:
            _, back = jax.vjp(lambda a, b: run((a, *b), known), shared, lanes)
            return back((p, tuple(on_known)))
        spiked = known[0] >= 0
        _, back = jax.vjp(lambda a, b: run((a, *b), None), shared, lanes)
        found = back(jax.tree.map(lambda x: jnp.where(spiked, 0.0, x), p))

        def act(some: Some, found: Any) -> Any:
            here, on, on_x = some.take((lanes, p, tuple(on_known)))
            mine = tuple(jnp.where(some.there, x, -1.0) for x in some.take(tuple(known)))
            on, on_x = jax.tree.map(lambda x: jnp.where(some.there, x, 0.0), (on, on_x))
            _, back = jax.vjp(lambda a, b: run((a, *b), mine), shared, here)
            on_shared, on_lanes = back((on, on_x))
            return jax.tree.map(jnp.add, found[0], on_shared), some.add(found[1], on_lanes)

        return over_few(spiked, self.room, act, found)

    def _linear(
        self, co: Coefficients, state: State, arrived: Parts, drive: Pair, normals: Any
    ) -> tuple[Any, Any, Any]:
        """What the middle and end of the step have beside the decayed v; i at the end without its own spikes."""
        middle = co.kappa_half * state.i + drive[0] + arrived[2]
        end = co.kappa * state.i + drive[1] + arrived[1]
        current = co.decay_i * state.i + arrived[0]
        for (to_middle, to_end, to_i), z in zip(co.noise, tuple(normals), strict=True):
            middle, end = middle + to_middle * z, end + to_end * z
            current = current if to_i is None else current + to_i * z
        return middle, end, current

    def _few_spikes(self, co: Coefficients, state: State, middle: Any, end: Any, log_u: Callable) -> Any:
        """`_spikes`, where those that spike are advanced once more, by themselves."""
        zero = jnp.zeros_like(state.v)
        quiet = step_without_spike(co, self.static, state._replace(i=zero), (middle, end))
        none = tuple(jnp.full_like(state.v, -1.0) for _ in range(self.slots))
        given = (state, middle, end)

        def act(some: Some, out: Step) -> Step:
            one, mid, late = some.take(given)
            found = self._spikes(co, one, mid, late, lambda slot: log_u(slot, some.inside))
            return some.put(out, found)

        return over_few(quiet.state.s >= 0, self.room, act, quiet._replace(fractions=none))

    def _spikes(self, co: Coefficients, state: State, middle: Any, end: Any, log_u: Callable, known: Any = None) -> Any:
        state = state._replace(i=jnp.zeros_like(state.v))
        return escape_step(co._replace(noise=()), self.static, state, (middle, end), (), log_u, known)


Kind = Threshold | Leaky | Escape
