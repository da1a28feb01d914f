"""log p of observed spikes where other neurons are hidden, by a particle filter: tighter than the bound of `elbo`.

Particles are histories of the hidden neurons, drawn by thinning from the model or from a posterior, window by window.
In each window a particle gains the weight p(observed, hidden) / q(hidden) of that window; then particles are drawn
anew in proportion (systematic resampling). The product of mean weights has the mean p(observed), for any number of
particles, so that its logarithm is below log p(observed) in mean, by less the more particles there are.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import concrete
from roughspike.paths.grid import num_steps
from roughspike.paths.spikes import SpikeTrain
from roughspike.pointprocess.basis import Span
from roughspike.pointprocess.estimators import AbstractEstimator, Problem
from roughspike.pointprocess.events import Events, by_trial, events_of, merged, train_of
from roughspike.pointprocess.likelihood import log_likelihood_of
from roughspike.pointprocess.network import PointProcessNetwork
from roughspike.pointprocess.thinning import check_bounded, draw_candidates, num_candidates


def filtered_log_likelihood(
    net: PointProcessNetwork,
    observed: SpikeTrain,
    key: jax.Array,
    *,
    posterior: PointProcessNetwork | None = None,
    num_particles: int = 400,
    dt: float | None = None,
) -> Float[Array, " trials"]:
    """An estimate of log p(observed) of each trial; see the top of the file.

    **Arguments**

    - `posterior`: what hidden spikes are drawn from; None is the model.
    - `dt`: longest piece of the trapezium rule, which is cut at all spikes; None for a sixteenth of the narrowest
      filter. A window is a filter's width.

    **Raises** ValueError for an intensity without bound.

    **Reference**: Gordon, Salmond & Smith (1993); Del Moral (2004), *Feynman-Kac Formulae*, section 7.4.2.
    """
    return _filtered(net, observed, key, posterior, num_particles, dt).log_p


def sample_hidden(
    net: PointProcessNetwork, observed: SpikeTrain, key: jax.Array, num_particles: int = 400, dt: float | None = None
) -> SpikeTrain:
    """Hidden spikes of each trial given all its observed ones, future ones included: what the filter leaves."""
    span = Span(observed.t0, observed.t1)
    train = train_of(_filtered(net, observed, key, None, num_particles, dt).hidden, span)
    most = int(np.isfinite(np.asarray(train.times)).sum(-1).max(initial=1))
    return SpikeTrain(np.asarray(train.times)[..., : max(most, 1)], span.start, span.stop)


def _filtered(
    net: PointProcessNetwork,
    observed: SpikeTrain,
    key: jax.Array,
    posterior: PointProcessNetwork | None,
    num_particles: int,
    dt: float | None,
) -> Filtered:
    if num_particles < 1:
        raise ValueError(f"num_particles must be at least 1, got {num_particles}")
    for one in (net, posterior):
        if one is not None:
            check_bounded(one.link, "hidden spikes are drawn by thinning")
    span = Span(observed.t0, observed.t1)
    windows = num_windows(net, span)
    most = fullest_window(np.asarray(observed.times, np.float64), windows, span)
    room = 1 << (most - 1).bit_length() if most else 1  # few different numbers, so that data share a program
    events = by_trial(events_of(observed, net.bias.dtype))
    dt = net.basis.scale / 16 if dt is None else dt
    return particle_filter(net, posterior, events, span, windows, room, dt, num_particles, key)


def num_windows(net: PointProcessNetwork, span: Span) -> int:
    """How often particles are drawn anew: once in the time scale of the fastest filter."""
    return num_steps(span.start, span.stop, net.basis.scale)


def fullest_window(times: np.ndarray, windows: int, span: Span) -> int:
    """The largest number of observed spikes, all neurons together, in a window of a trial."""
    edges = np.linspace(span.start, span.stop, windows + 1)
    trials = times.reshape(-1, times.shape[-2] * times.shape[-1])
    return max((int(np.histogram(row[np.isfinite(row)], edges)[0].max()) for row in trials), default=0)


class Filtered(NamedTuple):
    """What a particle filter finds in each trial: an estimate of p(observed), and hidden spikes given observed ones.

    The spikes are one particle's history at the end: in law those of the hidden neurons given all observed spikes, as
    the number of particles grows.
    """

    log_p: Float[Array, " trials"]
    hidden: Events


@eqx.filter_jit
def particle_filter(
    net: PointProcessNetwork,
    posterior: PointProcessNetwork | None,
    events: Events,
    span: Span,
    windows: int,
    room: int,
    dt: float,
    particles: int,
    key: jax.Array,
) -> Filtered:
    """Trial by trial; `room` is for the observed spikes of a window."""
    one = lambda now: filter_trial(net, posterior, now[0], span, windows, room, dt, particles, now[1])  # noqa: E731
    return Filtered(*jax.lax.map(one, (events, jr.split(key, len(events.times)))))


class _Pieces(NamedTuple):
    """Times of a window in order: candidates, observed spikes, grid."""

    times: Float[Array, " pieces"]
    noise: Float[Array, "pieces choices"]  # of candidates; what is none has an infinite one, and is rejected
    seen: Float[Array, "pieces observed"]  # marks of observed spikes
    given: Float[Array, "pieces basis observed"]  # what the basis sums over observed spikes


class _Carry(NamedTuple):
    """A particle on its way: what it remembers, time, intensities just after it, logarithm of its weight."""

    history: Any  # as the basis keeps it
    time: Float[Array, ""]
    rates: tuple[jax.Array, ...]  # of the model, and of the posterior
    weight: Float[Array, ""]


def filter_trial(
    net: PointProcessNetwork,
    posterior: PointProcessNetwork | None,
    given: Events,
    span: Span,
    windows: int,
    room: int,
    dt: float,
    particles: int,
    key: jax.Array,
) -> Filtered:
    """The particle filter of one trial."""
    sampler = net if posterior is None else posterior
    nets = (net,) if posterior is None else (net, posterior)
    observed, hidden, dtype = net.num_observed, net.num_hidden, net.bias.dtype
    width = (span.stop - span.start) / windows
    assert sampler.link.bound is not None
    rate = sampler.link.bound * hidden
    capacity, kind = num_candidates(rate, span), jnp.int8 if hidden < 127 else jnp.int32
    grid = jnp.asarray(np.linspace(0.0, width, max(1, math.ceil(width / dt)) + 1)[1:], dtype)

    def pieces(key: jax.Array, start: jax.Array) -> _Pieces:
        found = draw_candidates(key, rate, hidden + 1, Span(0.0, width), dtype)
        first = jnp.searchsorted(given.times, start, side="left")
        index = first + jnp.arange(room, dtype=first.dtype)
        at = given.times[jnp.minimum(index, len(given.times) - 1)]
        stop = start + width
        mine = (index < len(given.times)) & (at < stop)
        times = jnp.concatenate([start + found.times, jnp.where(mine, at, stop), start + grid])
        order = jnp.argsort(times)
        seen = given.marks[jnp.minimum(index, len(given.times) - 1)] * mine[:, None].astype(dtype)
        seen = jnp.concatenate(
            [jnp.zeros((len(found.times), observed), dtype), seen, jnp.zeros((len(grid), observed), dtype)]
        )
        noise = jnp.where(found.real[:, None], found.noise, jnp.inf).at[:, -1].set(found.noise[:, -1])
        never = jnp.full((room + len(grid), hidden + 1), jnp.inf, dtype).at[:, -1].set(1.0)
        times = times[order]
        features = net.basis.features(times, given.times, given.marks, span)
        return _Pieces(times, jnp.concatenate([noise, never])[order], seen[order], features)

    def step(carry: _Carry, piece: _Pieces) -> tuple[_Carry, jax.Array]:
        recurrent = net.basis.now(carry.history, piece.times, span)
        features = jnp.concatenate([piece.given, recurrent], -1)
        u = [n.bias + jnp.einsum("kij,kj->i", n.weights, features) for n in nets]
        before = [n.link.rate(x) for n, x in zip(nets, u, strict=True)]
        mean = [0.5 * (a + b) * (piece.times - carry.time) for a, b in zip(carry.rates, before, strict=True)]
        taken, rest = sampler.link.chances(u[-1][observed:])
        chosen = jnp.argmax(jnp.append(taken, jnp.sum(rest)) / piece.noise)
        mark = jax.nn.one_hot(chosen, hidden + 1, dtype=dtype)[:hidden]
        log_rates = [n.link.log_rate(x) for n, x in zip(nets, u, strict=True)]
        gain = jnp.sum(piece.seen * log_rates[0][:observed]) - jnp.sum(mean[0][:observed])
        if posterior is not None:
            gain = gain + jnp.sum(mark * (log_rates[0] - log_rates[1])[observed:])
            gain = gain - jnp.sum((mean[0] - mean[1])[observed:])
        onset = net.basis.values(jnp.full((), jnp.finfo(dtype).tiny, dtype))
        marks = jnp.concatenate([piece.seen, mark])
        after = tuple(
            n.link.rate(x + jnp.einsum("kij,k,j->i", n.weights, onset, marks)) for n, x in zip(nets, u, strict=True)
        )
        history = net.basis.add(carry.history, piece.times, mark, jnp.any(mark > 0), span)
        return _Carry(history, piece.times, after, carry.weight + gain), chosen.astype(kind)

    def window(
        carry: tuple[_Carry, jax.Array], now: tuple[jax.Array, jax.Array]
    ) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        """Also what each piece of each particle was, and which particle each one of the next window goes on from."""
        state, total = carry
        start, key = now
        draw_key, choice_key = jr.split(key)
        found = jax.vmap(lambda key: pieces(key, start))(jr.split(draw_key, particles))
        state = state._replace(weight=jnp.zeros(particles, dtype))
        state, chosen = jax.vmap(lambda s, p: jax.lax.scan(step, s, p))(state, found)
        gained = jax.nn.logsumexp(state.weight) - math.log(particles)
        share = jnp.cumsum(jax.nn.softmax(state.weight))
        comb = (jnp.arange(particles, dtype=dtype) + jr.uniform(choice_key, (), dtype)) / particles
        kept = jnp.minimum(jnp.searchsorted(share, comb), particles - 1)
        return (jax.tree.map(lambda x: x[kept], state), total + gained), (chosen, kept)

    def of_window(key: jax.Array, start: jax.Array, chosen: jax.Array, index: jax.Array) -> Events:
        """Hidden spikes of one particle in one window: its candidates are drawn once more."""
        own = jr.split(jr.split(key)[0], particles)[index]
        return Events(pieces(own, start).times, jax.nn.one_hot(chosen[index], hidden + 1, dtype=dtype)[:, :hidden])

    key, last = jr.split(key)
    start = _Carry(
        history=net.basis.empty(capacity, hidden, span, dtype),
        time=jnp.asarray(span.start, dtype),
        rates=tuple(n.link.rate(n.bias) for n in nets),
        weight=jnp.zeros((), dtype),
    )
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (particles, *x.shape)), start)
    starts, keys = span.start + width * jnp.arange(windows, dtype=dtype), jr.split(key, windows)
    (_, total), (chosen, kept) = jax.lax.scan(window, (start, jnp.zeros((), dtype)), (starts, keys))
    before = lambda index, kept: (kept[index], kept[index])  # noqa: E731
    first = jr.randint(last, (), 0, particles, kept.dtype)
    # one particle and its ancestors
    line = jax.lax.scan(before, first, kept, reverse=True)[1]
    return Filtered(total, _packed(jax.vmap(of_window)(keys, starts, chosen, line), capacity, span))


def _packed(events: Events, capacity: int, span: Span) -> Events:
    """Events of all windows in one row, without the many that are no spike."""
    times, marks = events.times.reshape(-1), events.marks.reshape(-1, events.marks.shape[-1])
    real = jnp.any(marks > 0, axis=1)
    kept = jnp.argsort(~real, stable=True)[:capacity]
    kept = jnp.pad(kept, (0, capacity - len(kept)))
    real = real[kept] & (jnp.arange(capacity) < len(times))
    return Events(jnp.where(real, times[kept], span.stop), marks[kept] * real[:, None].astype(marks.dtype))


class Particles(AbstractEstimator):
    """log p(observed) itself, by a particle filter of `num_samples` particles, in place of the bound.

    Its gradient is Fisher's identity, grad log p(o) = E[grad log p(o, h) | o], with hidden spikes h that the filter
    leaves at the end: right as the number of particles grows. It learns from what observed spikes tell about hidden
    ones before them, which the bound does not; a gradient costs as many samples as there are particles. The posterior,
    if there is one, only proposes and is not trained.

    **Arguments**

    - `room`: for observed spikes, all neurons together, in one time scale of the fastest filter. Too little of it is
      refused; NaN where the data are traced.

    **Reference**: Poyiadjis, Doucet & Singh (2011), Biometrika 98: 65-80.
    """

    room: int = eqx.field(static=True, default=32)

    def check_data(self, net: PointProcessNetwork, observed: SpikeTrain) -> None:
        """**Raises** ValueError if the spikes of a window need more room."""
        times = concrete(observed.times)
        if times is None or net.num_hidden == 0:
            return
        span = Span(observed.t0, observed.t1)
        most = fullest_window(times, num_windows(net, span), span)
        if most > self.room:
            raise ValueError(
                f"Particles has room for {self.room} observed spikes in a window of {net.basis.scale:g}, the time "
                f"scale of the fastest filter, and the data have up to {most}: pass rs.Particles(room={most})"
            )

    def bound(self, problem: Problem, key: jax.Array, num_samples: int) -> Float[Array, ""]:
        """The estimate of log p."""
        net, _, given, span, dt = problem
        windows = num_windows(net, span)
        room = min(self.room, len(given.times))
        fixed = jax.lax.stop_gradient(problem)
        found = filter_trial(*fixed[:3], span, windows, room, dt, num_samples, key)
        both = merged(given, found.hidden, jnp.zeros(0, found.log_p.dtype))
        joint = jnp.sum(log_likelihood_of(net, both, span, dt))
        edges = jnp.linspace(span.start, span.stop, windows + 1)
        real = jnp.where(given.real, given.times, jnp.inf)
        most = jnp.max(jnp.diff(jnp.searchsorted(jnp.sort(real), edges)))
        return (found.log_p + joint - jax.lax.stop_gradient(joint)) * jnp.where(most > room, jnp.nan, 1.0)
