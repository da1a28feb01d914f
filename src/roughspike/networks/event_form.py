"""A network written as an event SDE: the ground truth of the engines.

Neurons of all layers stand one after the other in one state. A spike that travels is a part of the state too: the time
at which it is due. Its arrival is an event of its own, so delays and input spikes keep the system one that depends on
its present state alone.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from roughspike.neurons.lif import SLIF
from roughspike.neurons.readout import Readout
from roughspike.neurons.threshold import HardThreshold
from roughspike.paths.brownian import BrownianPath
from roughspike.sde.hazard import HazardSDE, HazardState, hazard
from roughspike.sde.problem import EventSDE

_LONG_AGO = -1e30


class Cells(NamedTuple):
    """State of all neurons.

    - `v`, `i`: (neurons,).
    - `free`: 1 where the hazard is on; a refractory neuron has 0 and becomes free at the time `until`. Both (neurons,),
      or empty where no neuron is refractory.
    - `due`: of each connection with a delay, when spikes on their way arrive, (pre, 1 or post, room); past: none.
    """

    v: jax.Array
    i: jax.Array
    free: jax.Array
    until: jax.Array
    due: tuple[jax.Array, ...]


class Group(NamedTuple):
    """Neurons of one kind, with vectors of one entry for each."""

    neuron: Any  # SLIF or Readout
    current: jax.Array
    v0: jax.Array
    i0: jax.Array


class Link(NamedTuple):
    """Synapses from a group to another, `source` -1 for the inputs; delays as in `Recurrent` and `Layer`.

    `times`: of the spikes of inputs, (channels, capacity).
    """

    source: int
    target: int
    weights: jax.Array
    delays: jax.Array | None
    times: jax.Array | None = None


class EventForm(eqx.Module):
    """What `as_event_sde()` returns: the arguments of `rs.solve`.

    - `sde`: the system. Kinds of events: ends of refractory times; arrivals of spikes; spikes at a hard threshold;
      spikes at a rate.
    - `driver`: the Brownian motions, or None. Channels of a group of n neurons: c * n + k is the c-th motion of
      neuron k.
    - `spike_kinds`: for each neuron the kind that is its spike, -1 for a readout.
    - `num_kinds`: how many there are.
    - `start(key)`: the state at the start, with thresholds of its own.
    """

    sde: EventSDE
    driver: BrownianPath | None
    y0: Cells
    spike_kinds: tuple[int, ...] = eqx.field(static=True)
    num_kinds: int = eqx.field(static=True)

    def start(self, key: Any) -> HazardState | Cells:
        """Initial state with fresh thresholds."""
        return self.sde.start(self.y0, key) if isinstance(self.sde, HazardSDE) else self.y0


class _Network(eqx.Module):
    """The functions of the system, and the parameters they need."""

    groups: tuple[Group, ...]
    links: tuple[Link, ...]  # those that take time
    at_once: jax.Array  # (neurons, neurons), those that take none

    def starts(self) -> list[int]:
        """Where each group begins, and the end."""
        return np.cumsum([0, *(g.v0.shape[0] for g in self.groups)]).tolist()

    def each(self, of: Any) -> jax.Array:
        """A number of every group, one entry for each neuron."""
        return jnp.concatenate([jnp.broadcast_to(of(g.neuron), g.v0.shape) for g in self.groups])

    def soft(self) -> list[int]:
        """Groups that spike at a rate."""
        return [k for k, g in enumerate(self.groups) if isinstance(g.neuron, SLIF) and not _hard(g.neuron)]

    def hard(self) -> list[int]:
        """Groups that spike at a threshold."""
        return [k for k, g in enumerate(self.groups) if isinstance(g.neuron, SLIF) and _hard(g.neuron)]

    def members(self, groups: list[int]) -> np.ndarray:
        """Indices of the neurons of these groups."""
        starts = self.starts()
        return np.concatenate([np.zeros(0), *(np.arange(starts[k], starts[k + 1]) for k in groups)]).astype(np.int32)

    def drift(self, t: Any, y: Cells, args: Any) -> Cells:
        """dv = mu1 (i + c - v) dt, di = -mu2 i dt."""
        del t, args
        mu1, mu2 = self.each(lambda n: n.mu[0]), self.each(lambda n: n.mu[1])
        current = jnp.concatenate([g.current for g in self.groups])
        rest = jax.tree.map(jnp.zeros_like, (y.free, y.until, y.due))
        return Cells(mu1 * (y.i + current - y.v), -mu2 * y.i, *rest)

    def channels(self) -> int:
        """Brownian motions."""
        return sum(len(g.neuron.noise_channels) * g.v0.shape[0] for g in self.groups if isinstance(g.neuron, SLIF))

    def diffusion(self, t: Any, y: Cells, args: Any) -> Cells:
        """sigma, for each neuron on channels of its own."""
        del t, args
        rows = []
        for a in (0, 1):
            blocks = jnp.zeros((y.v.shape[0], 0), y.v.dtype)
            for g, begin in zip(self.groups, self.starts(), strict=False):
                own = jnp.eye(y.v.shape[0], dtype=y.v.dtype)[:, begin : begin + g.v0.shape[0]]
                for c in g.neuron.noise_channels if isinstance(g.neuron, SLIF) else ():
                    blocks = jnp.concatenate([blocks, g.neuron.sigma[a, c] * own], axis=1)
            rows.append(blocks)
        rest = jax.tree.map(lambda x: jnp.zeros((*x.shape, self.channels()), x.dtype), (y.free, y.until, y.due))
        return Cells(*rows, *rest)

    def rate(self, t: Any, y: Cells, args: Any) -> jax.Array:
        """lambda(v), and 0 while refractory."""
        del t, args
        starts, rates = self.starts(), []
        for k in self.soft():
            own = slice(starts[k], starts[k + 1])
            rate = self.groups[k].neuron.escape.rate(y.v[own])
            rates.append(rate * y.free[own] if y.free.size else rate)
        return jnp.concatenate(rates)

    def spike(self, t: Any, y: Cells, kind: jax.Array, u: jax.Array, args: Any) -> Cells:
        """A spike of the `kind`-th of the neurons that spike at a rate."""
        del u, args
        return self.fired(t, y, jnp.asarray(self.members(self.soft()))[kind])

    def fired(self, t: Any, y: Cells, neuron: jax.Array) -> Cells:
        """v_k <- keep v_k + shift; what it sends at once arrives, the rest is due a delay later. Nothing for k = -1."""
        own = jnp.arange(y.v.shape[0], dtype=jnp.int32) == neuron
        keep = self.each(lambda n: jnp.asarray(n.reset.keep if isinstance(n, SLIF) else 1.0, y.v.dtype))
        shift = self.each(lambda n: n.reset.shift(n.v_reset) if isinstance(n, SLIF) else jnp.zeros((), y.v.dtype))
        v = jnp.where(own, keep * y.v + shift, y.v)
        i = y.i + jnp.where(neuron >= 0, self.at_once[neuron], 0.0)
        i = i + jnp.where(own, self.each(lambda n: _or_zero(n, "self_weight", y.v.dtype)), 0.0)
        free, until = y.free, y.until
        if free.size:
            rest = self.each(lambda n: _or_zero(n, "refractory", y.v.dtype))
            free, until = jnp.where(own & (rest > 0), 0.0, free), jnp.where(own, t + rest, until)
        due = []
        for link, waiting in zip(self.links, y.due, strict=True):
            waiting, lost = self.sent(t, link, waiting, neuron)
            v = jnp.where(lost, jnp.nan, v)  # no room for one more spike on its way: the run is not finite
            due.append(waiting)
        return Cells(v, i, free, until, tuple(due))

    def sent(self, t: Any, link: Link, waiting: jax.Array, neuron: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The arrivals of a link with one more spike on its way; was there no room?"""
        if link.source < 0:
            return waiting, jnp.zeros((), bool)
        pre = link.weights.shape[0]
        local = neuron - self.starts()[link.source]
        mine = (local >= 0) & (local < pre)
        row = waiting[jnp.clip(local, 0, pre - 1)]
        idle = row <= t
        slot = jnp.arange(row.shape[1], dtype=jnp.int32)[None] == jnp.argmax(idle, axis=1).astype(jnp.int32)[:, None]
        delays = jnp.broadcast_to(_wide(link), waiting.shape[:2])[jnp.clip(local, 0, pre - 1)]
        new = jnp.where(slot & mine, t + delays[:, None], row)
        here = (jnp.arange(pre, dtype=jnp.int32) == local)[:, None, None]
        return jnp.where(here, new[None], waiting), mine & ~jnp.all(jnp.any(idle, axis=1))

    def events(self, t: Any, y: Cells, args: Any) -> jax.Array:
        """t - until, t - due, v - v_th."""
        del args
        arrivals = [(t - d).ravel() for d in y.due]
        starts = self.starts()
        above = [y.v[starts[k] : starts[k + 1]] - self.groups[k].neuron.escape.v_th for k in self.hard()]
        return jnp.concatenate([t - y.until, *arrivals, *above])

    def transition(self, t: Any, y: Cells, kind: jax.Array, u: jax.Array, args: Any) -> Cells:
        """The hazard is on again; a spike arrives; a neuron reaches its threshold."""
        del u, args
        kind = jnp.asarray(kind, jnp.int32)
        own = jnp.arange(y.free.shape[0], dtype=jnp.int32) == kind
        y = y._replace(free=jnp.where(own, 1.0, y.free))
        begin, starts = y.free.shape[0], self.starts()
        for link, waiting in zip(self.links, y.due, strict=True):
            local = kind - begin
            place = jnp.clip(local, 0, waiting.size - 1) // waiting.shape[2]
            a, p = place // waiting.shape[1], place % waiting.shape[1]
            row = link.weights[a]
            if waiting.shape[1] > 1:
                row = jnp.where(jnp.arange(row.shape[0], dtype=jnp.int32) == p, row, 0.0)
            row = jnp.where((local >= 0) & (local < waiting.size), row, 0.0)
            target = slice(starts[link.target], starts[link.target + 1])
            y = y._replace(i=y.i.at[target].add(row))
            begin += waiting.size
        hard = self.members(self.hard())
        if not hard.size:
            return y
        local = kind - begin
        neuron = jnp.where(local >= 0, jnp.asarray(hard)[jnp.maximum(local, 0)], -1)
        return self.fired(t, y, neuron)


def event_form(groups: list[Group], links: list[Link], room: int) -> EventForm:
    """Groups of neurons at constant currents, and what links them. `room`: spikes of a neuron on their way at once.

    The hazard is that of the path itself: without the average over the Brownian bridge that the engines add for what
    a grid leaves out (`AbstractDriver.bridge_variance`).
    """
    starts = np.cumsum([0, *(g.v0.shape[0] for g in groups)]).tolist()
    count, dtype = starts[-1], groups[0].v0.dtype
    at_once = jnp.zeros((count, count), dtype)
    for link in links:
        if link.delays is None and link.source >= 0:
            at = (slice(starts[k], starts[k + 1]) for k in (link.source, link.target))
            at_once = at_once.at[tuple(at)].add(link.weights)
    late = tuple(link for link in links if link.delays is not None or link.source < 0)
    network = _Network(tuple(groups), late, at_once)
    rests = count if any(getattr(g.neuron, "refractory", None) is not None for g in groups) else 0
    due = tuple(_due(link, room, dtype) for link in late)
    v0, i0 = (jnp.concatenate([getattr(g, name) for g in groups]) for name in ("v0", "i0"))
    y0 = Cells(v0, i0, jnp.ones(rests, dtype), jnp.zeros(rests, dtype), due)
    hard, soft = network.members(network.hard()), network.members(network.soft())
    own = rests + sum(math.prod(d.shape) for d in due)
    kinds = np.full(count, -1)
    kinds[hard], kinds[soft] = own + np.arange(hard.size), own + hard.size + np.arange(soft.size)
    events = own + hard.size > 0
    base = EventSDE(
        network.drift,
        network.diffusion if network.channels() else None,
        network.events if events else None,
        network.transition if events else None,
    )
    sde = base
    if soft.size:
        alpha = jnp.concatenate([jnp.broadcast_to(groups[k].neuron.alpha, groups[k].v0.shape) for k in network.soft()])
        sde = hazard(base, network.rate, alpha, network.spike)
    driver = BrownianPath(network.channels()) if network.channels() else None
    return EventForm(sde, driver, y0, tuple(kinds.tolist()), int(own + hard.size + soft.size))


def group_of(neuron: Any, current: Any, v0: Any, i0: Any, count: int) -> Group:
    """A group of `count` neurons.

    **Raises** ValueError for a neuron with dynamics of its own, or a current that changes in time.
    """
    if not isinstance(neuron, SLIF | Readout):
        raise ValueError(f"as_event_sde writes an rs.SLIF, got {type(neuron).__name__}: use rs.hazard with its drift")
    if not isinstance(current, jax.Array):
        raise ValueError("as_event_sde does not write a current that changes in time: pass a number per neuron")
    return Group(neuron, *(jnp.broadcast_to(x, (count,)) for x in (current, v0, i0)))


def _due(link: Link, room: int, dtype: Any) -> jax.Array:
    """When spikes on their way at the start arrive."""
    wide = jnp.zeros((1, 1), dtype) if link.delays is None else _wide(link)
    if link.times is None:
        return jnp.full((link.weights.shape[0], wide.shape[1], room), _LONG_AGO, dtype)
    there = jnp.isfinite(link.times)[:, None, :]
    return jnp.where(there, jnp.where(there, link.times[:, None, :], 0.0) + wide[:, :, None], _LONG_AGO)


def _wide(link: Link) -> jax.Array:
    """Delays as (1 or pre, 1 or post)."""
    assert link.delays is not None
    return link.delays.reshape(link.delays.shape + (1,) * (2 - link.delays.ndim))


def _or_zero(neuron: Any, name: str, dtype: Any) -> jax.Array:
    value = getattr(neuron, name, None)
    return jnp.zeros((), dtype) if value is None else value


def _hard(neuron: SLIF) -> bool:
    return isinstance(neuron.escape, HardThreshold)
