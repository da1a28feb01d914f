"""What does the published way of differentiating a noisy spiking neuron cost? Holberg & Salvi (2024), on plain diffrax.

The algorithm, written from its description: a diffrax solve (Euler, fixed step, virtual Brownian tree) runs until the
threshold variable crosses 0, which diffrax's `Event` finds on the interpolant of the step; the state jumps; a new
solve starts at the spike. One such loop per sample, `vmap` over samples, at most three spikes. The query of the
Brownian path at a spike time carries no derivative: that is how the published gradient gets its spurious noise term
from the second spike on. Nothing of roughspike is used here.

The neuron is that of Fig. 1: dv = mu1 (i + c - v) dt + s dB, di = -mu2 i dt, ds = exp(beta (v - v_th)) / tau_s dt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optimistix


class Setting(NamedTuple):
    """Fig. 1 of the paper."""

    mu1: float = 15.0
    mu2: float = 0.0
    sigma: float = 0.25
    v_reset: float = 1.4
    v_th: float = 1.0
    beta: float = 5.0
    tau_s: float = 1.0
    alpha: float = 0.03
    t1: float = 5.0
    dt: float = 0.01
    max_spikes: int = 3


class _FrozenQueries(diffrax.AbstractPath):
    """A Brownian path whose values do not depend on the query times, as far as derivatives are concerned."""

    tree: diffrax.VirtualBrownianTree

    @property
    def t0(self):
        return self.tree.t0

    @property
    def t1(self):
        return self.tree.t1

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        stop = jax.lax.stop_gradient
        return self.tree.evaluate(stop(t0), None if t1 is None else stop(t1), left, use_levy)


def spike_times(c: jax.Array, key: jax.Array, setting: Setting, samples: int) -> jax.Array:
    """The first `max_spikes` times of each sample, t1 where a spike is missing, shape (samples, max_spikes)."""
    return jax.vmap(lambda k: _one_sample(c, k, setting))(jr.split(key, samples))


def _one_sample(c: jax.Array, key: jax.Array, p: Setting) -> jax.Array:
    path_key, threshold_key = jr.split(key)
    # one step longer than the window: a step that starts at a spike may pass t1 by a rounding error
    tree = diffrax.VirtualBrownianTree(0.0, p.t1 + p.dt, tol=p.dt / 2, shape=(2,), key=path_key)
    log_u = jnp.log(jr.uniform(threshold_key, (p.max_spikes + 1,), minval=jnp.finfo(jnp.float32).tiny))
    thresholds = log_u - p.alpha

    def drift(t, y, c):
        v, i, _ = y
        return jnp.stack([p.mu1 * (i + c - v), -p.mu2 * i, jnp.exp(p.beta * jnp.minimum(v - p.v_th, 10.0)) / p.tau_s])

    def diffusion(t, y, c):
        return jnp.array([[p.sigma, 0.0], [0.0, 0.0], [0.0, 0.0]])

    terms = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, _FrozenQueries(tree)))
    root_finder = optimistix.Newton(1e-5, 1e-5, optimistix.rms_norm)
    event = diffrax.Event(lambda t, y, args, **kwargs: y[2], root_finder)

    def until_next_spike(carry, threshold):
        t, y = carry
        over = t >= p.t1  # no spike was left: under vmap the solve runs all the same, on something harmless
        t = jnp.where(over, p.t1 - p.dt, t)
        y = jnp.where(over, jnp.array([0.0, 0.0, -1.0]), y)
        solution = diffrax.diffeqsolve(
            terms,
            diffrax.Euler(),
            t,
            p.t1,
            p.dt,
            y,
            c,
            event=event,
            max_steps=round(p.t1 / p.dt) + 2,
            throw=False,
        )
        assert solution.ts is not None and solution.ys is not None
        at, before = jnp.where(over, p.t1, solution.ts[-1]), solution.ys[-1]
        after = jnp.stack([before[0] - p.v_reset, before[1], threshold])
        return (at, after), at

    start = (jnp.zeros(()), jnp.stack([jnp.zeros(()), jnp.zeros(()), thresholds[0]]))
    return jax.lax.scan(until_next_spike, start, thresholds[1:])[1]


def restarted(args: jax.Array, key: jax.Array, y0: jax.Array, system: tuple, p: Setting) -> tuple[jax.Array, jax.Array]:
    """The same algorithm for any system: event times, at most `max_spikes`, and how many there are. Forward only.

    `system`: drift, diffusion, event functions (one, or a list with one per kind), the kind that fired, transition
    (y, kind, threshold, args).
    """
    drift, diffusion, heights, which, transition = system
    path_key, threshold_key = jr.split(key)
    channels = (y0.shape[-1],)
    tree = diffrax.VirtualBrownianTree(0.0, p.t1 + p.dt, tol=p.dt / 2, shape=channels, key=path_key)
    terms = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, tree))
    root_finder = optimistix.Newton(1e-5, 1e-5, optimistix.rms_norm)
    conditions = jax.tree.map(lambda height: lambda t, y, args, **kwargs: height(y), heights)
    event = diffrax.Event(conditions, root_finder)
    tiny = jnp.finfo(jnp.float32).tiny
    thresholds = jnp.log(jr.uniform(threshold_key, (p.max_spikes,), minval=tiny)) - p.alpha

    def until_next(carry):
        t, y, times, count = carry
        options = {"event": event, "max_steps": round(p.t1 / p.dt) + 2, "throw": False}
        solution = diffrax.diffeqsolve(terms, diffrax.Euler(), t, p.t1, p.dt, y, args, **options)
        assert solution.ts is not None and solution.ys is not None
        at, y = solution.ts[-1], solution.ys[-1]
        fired = at < p.t1
        times = times.at[count].set(jnp.where(fired, at, jnp.inf))
        after = transition(y, which(y), thresholds[count], args)
        return at, jnp.where(fired, after, y), times, count + fired.astype(jnp.int32)

    start = (jnp.zeros(()), y0, jnp.full(p.max_spikes, jnp.inf), jnp.zeros((), jnp.int32))
    going = lambda carry: (carry[0] < p.t1) & (carry[3] < p.max_spikes)  # noqa: E731
    _, _, times, count = jax.lax.while_loop(going, until_next, start)
    return times, count


def signature_depth_3(times: jax.Array, t1: float) -> jax.Array:
    """Levels 1 to 3 of the signature of (t, N_t) on [0, t1] for a single neuron; times of t1 are missing spikes.

    Chen's identity along the pieces: time runs, the count jumps, and so on. Shape (14,).
    """
    spiked = (times < t1).astype(times.dtype)
    rest = jnp.diff(jnp.concatenate([jnp.zeros(1), times, jnp.full(1, t1)]))
    jumps = jnp.concatenate([spiked, jnp.zeros(1)])
    one, two, three = jnp.zeros(2), jnp.zeros((2, 2)), jnp.zeros((2, 2, 2))
    for k in range(len(jumps)):
        for piece in (jnp.stack([rest[k], jnp.zeros(())]), jnp.stack([jnp.zeros(()), jumps[k]])):
            square = jnp.multiply.outer(piece, piece) / 2
            cube = jnp.multiply.outer(square, piece) / 3
            outer = jnp.multiply.outer
            three = three + outer(two, piece) + outer(one, square) + cube
            two = two + outer(one, piece) + square
            one = one + piece
    return jnp.concatenate([one, two.ravel(), three.ravel()])


def first_spikes_loss(times: jax.Array, recorded: jax.Array) -> jax.Array:
    """Mean squared difference of the mean first spike times."""
    return jnp.mean((jnp.mean(times, axis=0) - jnp.mean(recorded, axis=0)) ** 2)


def signature_loss(times: jax.Array, recorded: jax.Array, t1: float) -> jax.Array:
    """Mean squared difference of expected signatures of depth 3, each pair of trains capped at its smaller count."""
    both = (times < t1) & (recorded < t1)
    expected = [
        jnp.mean(jax.vmap(lambda x: signature_depth_3(x, t1))(jnp.where(both, x, t1)), axis=0)
        for x in (times, recorded)
    ]
    return jnp.mean((expected[0] - expected[1]) ** 2)


def forward(setting: Setting, samples: int) -> Callable:
    """Compiled (c, key) -> times."""
    return eqx.filter_jit(lambda c, key: spike_times(c, key, setting, samples))


def first_spikes_gradient(setting: Setting, samples: int) -> Callable:
    """Compiled (c, key, recorded) -> (loss, gradient in c) of the first-spikes loss."""
    return jax.jit(
        jax.value_and_grad(lambda c, key, recorded: first_spikes_loss(spike_times(c, key, setting, samples), recorded))
    )


def signature_gradient(setting: Setting, samples: int) -> Callable:
    """Compiled (c, key, recorded) -> (loss, gradient in c) of the signature loss."""
    return jax.jit(
        jax.value_and_grad(
            lambda c, key, recorded: signature_loss(spike_times(c, key, setting, samples), recorded, setting.t1)
        )
    )
