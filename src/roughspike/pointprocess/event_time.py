"""The exact event-time estimator: hidden spikes are hard, and move with the parameters.

However the hidden spikes were drawn, their law is that of unit-exponential thresholds: the n-th of them, of neuron k,
is where R_n(tau, theta) = Lambda_k(tau_n) - Lambda_k(spike of k before) reaches a threshold that no parameter moves. So

    d tau = -R_tau^{-1} R_theta d theta,     grad f(tau(theta), theta) = f_theta - (R_tau^{-T} f_tau) R_theta,

with R_tau lower triangular and known in closed form: the motion of the filters inside the integral, minus the jump of
the intensity at an earlier spike, plus the intensity at the spike itself. That is the derivative along a path. Of an
expectation it misses what jumps when a spike crosses another one, or the horizon: the next spike of k crosses time t
at the rate d s_k(t), s_k the compensator since the last spike of k, and f then changes by an amount that is explicit,
since f is a sum of log-intensities, and at a crossing only those of the two spikes that swap change:

    + sum over crossed events m, neurons k of (f with k just before m - f with k just after m) d s_k(t_m)
    + sum over neurons k of (f with one more spike of k at T - f) d s_k(T).

Two hidden spikes that swap are one crossing, seen from either of them: each of the two counts by half.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from roughspike.pointprocess.estimators import AbstractEstimator, Problem
from roughspike.pointprocess.events import Events
from roughspike.pointprocess.likelihood import gauss_panels, grid_times
from roughspike.pointprocess.network import PointProcessNetwork
from roughspike.pointprocess.sample import sample_marks
from roughspike.pointprocess.thinning import HARD


class EventTime(AbstractEstimator):
    """The exact gradient along hard spikes, with the terms for spikes that cross each other or the horizon.

    No temperature and no bias, at the variance of a score estimator with control variate; the variance is that of
    (d Lambda)^2 / lambda, so intensities near 0 make it useless: use it with weights of order 1, or with a floor
    (`SigmoidIntensity(floor=...)`), and as a check on others. It costs the square of the number of spikes.

    **Arguments**

    - `horizon`: with the term for spikes that enter or leave the window, which is 0 if the posterior is the model.
    - `crossing`: with the terms for spikes that cross each other, 0 for filters that are continuous at lag 0. Leave
      them out to see what they are worth.
    - `max_spikes`: room for hidden spikes; None is room for all candidates. A full room gives NaN.

    **Reference**: docs, "Hidden neurons, and which estimator".
    """

    horizon: bool = eqx.field(static=True, default=True)
    crossing: bool = eqx.field(static=True, default=True)
    max_spikes: int | None = eqx.field(static=True, default=None)

    def bound(self, problem: Problem, key: jax.Array, num_samples: int) -> Float[Array, ""]:
        """Bound of the hard process; its gradient is that of a surrogate."""
        return jnp.mean(jax.vmap(lambda key: self._sample(problem, key))(jr.split(key, num_samples)))

    def _sample(self, problem: Problem, key: jax.Array) -> jax.Array:
        path, full = _draw(problem, key, self.max_spikes)
        fixed = jax.lax.stop_gradient(problem)
        changes = _changes(fixed, path)

        def total(problem: Problem, times: jax.Array) -> jax.Array:
            """f and the terms of crossings, whose changes of f are constants."""
            found = _evaluate(problem, path, times)
            value = found.f
            if self.crossing:
                value = value + jnp.sum(changes.crossing * found.since)
            if self.horizon:
                value = value + jnp.sum(changes.horizon * found.since_end)
            return value

        pull = jax.grad(total, 1)(fixed, path.hidden.times)
        jacobian = _jacobian(fixed, path)
        weight = jax.scipy.linalg.solve_triangular(jacobian.T, jnp.where(path.real, pull, 0.0), lower=False)
        weight = jax.lax.stop_gradient(weight)
        surrogate = total(problem, path.hidden.times) - weight @ _evaluate(problem, path, path.hidden.times).thresholds
        value = _evaluate(fixed, path, path.hidden.times).f
        bound = -(value + surrogate - jax.lax.stop_gradient(surrogate))
        return bound * jnp.where(full, jnp.nan, 1.0)  # a factor, so that the gradient is NaN too


class _Path(NamedTuple):
    """A hard sample: hidden spikes (ascending, padded), and which comes when."""

    given: Events
    hidden: Events
    real: jax.Array  # (spikes,)
    order: jax.Array  # of the times of observed and hidden spikes and the grid
    rank: jax.Array  # its inverse
    last: jax.Array  # (events, hidden neurons): the last spike of each hidden neuron before each event, -1 for none
    grid: jax.Array


class _Found(NamedTuple):
    """Functions of parameters and spike times."""

    f: jax.Array  # log q(h) - log p(o, h)
    thresholds: jax.Array  # R, (spikes,)
    since: jax.Array  # s_k at every event, (events, hidden neurons)
    since_end: jax.Array  # s_k at the end of the window


class _Changes(NamedTuple):
    """What f changes by if a spike of k comes just before an event, not just after it; if there is one at the end."""

    crossing: jax.Array
    horizon: jax.Array


def _draw(problem: Problem, key: jax.Array, room: int | None) -> tuple[_Path, jax.Array]:
    _, _, given, span, dt = problem
    candidates, marks = jax.lax.stop_gradient(sample_marks(problem.sampler, key, span, given, 1.0, HARD))
    taken = jnp.any(marks > 0, axis=1)
    room = len(taken) if room is None else min(room, len(taken))
    chosen = jnp.argsort(~taken, stable=True)[:room]
    real = taken[chosen]
    times = jnp.where(real, candidates.times[chosen], span.stop)
    hidden = Events(times, marks[chosen] * real[:, None].astype(marks.dtype))
    full = jnp.sum(taken) > room
    grid = grid_times(span, 2 * dt, marks.dtype)
    order = jnp.argsort(jnp.concatenate([given.times, hidden.times, grid]), stable=True)
    times = jnp.concatenate([given.times, hidden.times])
    before = (hidden.times[None, :, None] < times[:, None, None]) & (hidden.marks > 0)[None]
    last = jnp.max(jnp.where(before, jnp.arange(room)[None, :, None], -1), axis=1)
    return _Path(given, hidden, real, order, jnp.argsort(order), last, grid), full


def _potentials(net: PointProcessNetwork, at: jax.Array, path: _Path, times: jax.Array) -> jax.Array:
    """u of all neurons, as a smooth function of the hidden spike times: the sum over all events written out."""
    groups = ((path.given.times, path.given.marks), (times, path.hidden.marks))
    features = [
        jnp.einsum("qek,ej->qkj", net.basis.values(at[:, None] - spikes[None]), marks) for spikes, marks in groups
    ]
    return net.potentials(jnp.concatenate(features, -1))


def _breaks(path: _Path, times: jax.Array) -> jax.Array:
    return jnp.concatenate([path.given.times, times, path.grid])[path.order]


def _evaluate(problem: Problem, path: _Path, times: jax.Array) -> _Found:
    net, posterior = problem.net, problem.posterior
    observed = net.num_observed
    nodes, weights = gauss_panels(_breaks(path, times))
    at_spikes = jnp.concatenate([path.given.times, times])
    marks = jax.scipy.linalg.block_diag(path.given.marks, path.hidden.marks)

    def parts(net: PointProcessNetwork) -> tuple[jax.Array, jax.Array]:
        """log p of each neuron's spikes, and the integrals of panels."""
        panels = (weights[:, None] * net.link.rate(_potentials(net, nodes, path, times))).reshape(
            -1, 2, net.num_neurons
        )
        panels = jnp.sum(panels, axis=1)
        log_rate = net.link.log_rate(_potentials(net, at_spikes, path, times))
        return jnp.sum(marks * log_rate, 0) - jnp.sum(panels, 0), panels

    log_p, panels = parts(net)
    f = -jnp.sum(log_p[:observed])
    if posterior is not None:
        log_q, panels = parts(posterior)
        f = f + jnp.sum(log_q[observed:] - log_p[observed:])
    hidden = panels[:, observed:]
    total = jnp.concatenate([jnp.zeros_like(hidden[:1]), jnp.cumsum(hidden, 0)])  # Lambda at every break
    at_events = total[path.rank[: len(at_spikes)]]
    of_spikes = at_events[len(path.given.times) :]
    since = at_events - _at_last(of_spikes, path.last)
    thresholds = jnp.sum(path.hidden.marks * since[len(path.given.times) :], axis=1)
    ever = jnp.max(jnp.where(path.hidden.marks > 0, jnp.arange(len(times))[:, None], -1), axis=0)
    return _Found(f, thresholds, since, total[-1] - _at_last(of_spikes, ever[None])[0])


def _at_last(of_spikes: jax.Array, last: jax.Array) -> jax.Array:
    """Lambda_k at the last spike of k, 0 if there was none."""
    found = jnp.take_along_axis(of_spikes, jnp.maximum(last, 0), axis=0)
    return jnp.where(last >= 0, found, 0.0)


def _changes(problem: Problem, path: _Path) -> _Changes:
    """Only the two spikes that swap change their intensity: that of the event gains the onset of k's filters, that of k
    the onset of the event's.
    """
    net, posterior = problem.net, problem.posterior
    observed, times = net.num_observed, path.hidden.times
    events = jnp.concatenate([path.given.times, times])
    marks = jax.scipy.linalg.block_diag(path.given.marks, path.hidden.marks)
    end = jnp.full(1, problem.span.stop, times.dtype)

    def gains(net: PointProcessNetwork) -> tuple[jax.Array, jax.Array, jax.Array]:
        """By k just before: log-intensity of the event; that of k, before less after; that of k at the end."""
        step = jnp.einsum("kij,k->ij", net.weights, _onset(net, times.dtype))  # jump of u_i at a spike of j
        u = _potentials(net, events, path, times)
        own = jnp.sum(marks * u, 1)[:, None]
        by_k = net.link.log_rate(own + (marks @ step)[:, observed:]) - net.link.log_rate(own)
        hidden = u[:, observed:]
        of_k = net.link.log_rate(hidden) - net.link.log_rate(hidden + (marks @ step.T)[:, observed:])
        return by_k, of_k, net.link.log_rate(_potentials(net, end, path, times))[0, observed:]

    p = gains(net)
    is_observed = jnp.arange(len(events))[:, None] < len(path.given.times)
    if posterior is None:
        crossing, horizon = jnp.where(is_observed, -p[0], 0.0), jnp.zeros_like(p[2])
    else:
        q = gains(posterior)
        crossing = jnp.where(is_observed, -p[0] + q[1] - p[1], 0.5 * (q[0] - p[0] + q[1] - p[1]))
        horizon = q[2] - p[2]
    real = jnp.any(marks > 0, axis=1, keepdims=True)
    others = real & (marks[:, observed:] == 0)  # a neuron does not cross itself
    return _Changes(jnp.where(others, crossing, 0.0), horizon)


def _onset(net: PointProcessNetwork, dtype: jnp.dtype) -> jax.Array:
    """kappa_k just after lag 0."""
    return net.basis.values(jnp.full((), jnp.finfo(dtype).tiny, dtype))


def _jacobian(problem: Problem, path: _Path) -> jax.Array:
    """d R_n / d tau_m: lower triangular, with the intensity at each spike on the diagonal; 1 for padding."""
    net, times, real = problem.sampler, path.hidden.times, path.real
    observed, count = net.num_observed, len(path.hidden.times)
    post = slice(observed, None)
    kinds = path.hidden.marks
    nodes, weights = gauss_panels(_breaks(path, times))
    lag = nodes[:, None] - times[None]
    slopes = jax.jvp(net.basis.values, (lag,), (jnp.ones_like(lag),))[1]  # (nodes, spikes, basis)
    onto = jnp.einsum("kij,mj->kim", net.weights[:, post, post], kinds)  # weight from spike m onto neuron i
    u = _potentials(net, nodes, path, times)[:, post]
    gain = weights[:, None] * jax.jvp(net.link.rate, (u,), (jnp.ones_like(u),))[1]
    moved = -gain[:, :, None] * jnp.einsum("qmk,kim->qim", slopes, onto)
    inside = jnp.cumsum(jnp.sum(moved.reshape(-1, 2, *moved.shape[1:]), axis=1), axis=0)  # after each panel
    at_spikes = _potentials(net, times, path, times)[:, post]
    onset = jnp.einsum("k,kim->mi", _onset(net, times.dtype), onto)
    jump = net.link.rate(at_spikes + onset) - net.link.rate(at_spikes)  # (m, i)
    rank = path.rank[len(path.given.times) : len(path.given.times) + count]
    own = jnp.argmax(kinds, axis=1)
    earlier = jnp.arange(count)[None] < jnp.arange(count)[:, None]
    rate = jnp.sum(kinds * net.link.rate(at_spikes), axis=1)
    compensator = inside[jnp.maximum(rank - 1, 0), own] - jnp.where(earlier, jump[:, own].T, 0.0) + jnp.diag(rate)
    before = jnp.take_along_axis(path.last[len(path.given.times) :], own[:, None], axis=1)
    found = compensator - jnp.where(before >= 0, compensator[jnp.maximum(before[:, 0], 0)], 0.0)
    return jnp.where(real[:, None] & real[None], found, jnp.eye(count, dtype=times.dtype))
