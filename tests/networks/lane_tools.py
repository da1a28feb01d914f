"""What the tests of the engine share: runs on given noise, an independent oracle, and derivatives by differences."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import brentq

import roughspike as rs
from roughspike.networks.lanes import LaneStart, Noise, run_lanes
from roughspike.networks.step import settings
from roughspike.networks.times import gather_times
from roughspike.paths.drivers import LinearDriver


class PlainDriver(LinearDriver):
    """The linear driver without the bridge correction: the random ODE that an oracle can integrate."""

    def bridge_variance(self, r, h):
        return 0.0 * r * h


def fig1(**changes):
    """The neuron of Holberg & Salvi's first figure (made inside a test, where float64 is on)."""
    return rs.SLIF(**{"mu": (15.0, 0.0), "sigma": ((0.25, 0.0), (0.0, 0.0)), "v_reset": 1.4, "alpha": 0.03, **changes})


QUICK = {"xla_backend_optimization_level": "0"}  # for programs that run a few times: compiled in two thirds of the time


def run_given(cell, noise, h, *, driver=None, capacity=24, per_step=2):
    """Spike times (capacity, neurons, samples), counts and flags of the engine on given noise, at constant current."""
    driver = PlainDriver() if driver is None else driver
    static = settings(h, driver, cell.neuron.reset.keep, per_step, jnp.float64)
    current = jnp.broadcast_to(jnp.atleast_1d(cell.current)[None, :, None], (2, cell.num_neurons, 1))
    v0, i0 = (jnp.broadcast_to(jnp.atleast_1d(x), (cell.num_neurons,))[:, None] for x in (cell.v0, cell.i0))
    start = LaneStart(v0, i0, None, cell.neuron.alpha)
    out = run_lanes(cell.neuron, static, current, start, noise, False, False)
    times, counts = gather_times(out.fractions, out.counts, capacity, 0.0, h)
    return times, counts, out.flags


run = eqx.filter_jit(run_given, compiler_options=QUICK)


def refine(noise, k):
    """The same piecewise linear driver on a grid that is k times finer."""
    return Noise(jnp.repeat(noise.normals, k, axis=0) / math.sqrt(k), noise.log_u)


def oracle(cell, normals, log_u, h, substeps):
    """Spike times of one lane by RK4 on the random ODE, with events located by root finding. Plain Python.

    `normals`: (steps, channels); `log_u`: (intervals,).
    """
    neuron = cell.neuron
    (mu1, mu2), sigma = (float(x) for x in neuron.mu), np.asarray(neuron.sigma)
    rate = _rate(neuron.escape)
    alpha, v_reset, c = float(neuron.alpha), float(neuron.v_reset), float(cell.current)
    refractory = 0.0 if neuron.refractory is None else float(neuron.refractory)
    weight = 0.0 if neuron.self_weight is None else float(neuron.self_weight)
    channels = list(neuron.noise_channels)
    y = (float(cell.v0), float(cell.i0), float(log_u[0]) - alpha)
    found, free = [], 0.0  # the hazard is 0 before `free`

    def rk4(y, length, push, active):
        def slope(v, i):
            return mu1 * (i + c - v) + push[0], -mu2 * i + push[1], rate(v) if active else 0.0

        v, i, _ = y
        k1 = slope(v, i)
        k2 = slope(v + 0.5 * length * k1[0], i + 0.5 * length * k1[1])
        k3 = slope(v + 0.5 * length * k2[0], i + 0.5 * length * k2[1])
        k4 = slope(v + length * k3[0], i + length * k3[1])
        return tuple(x + length / 6 * (a + 2 * b + 2 * c + d) for x, a, b, c, d in zip(y, k1, k2, k3, k4, strict=True))

    for n, z in enumerate(normals):
        push = [float(x) for x in sigma[:, channels] @ z / math.sqrt(h)]
        edges = [h * (n + k / substeps) for k in range(substeps + 1)]
        t = edges[0]
        for stop in edges[1:]:
            while t < stop:
                to = free if t < free < stop else stop
                active = t >= free
                after = rk4(y, to - t, push, active)
                if active and after[2] >= 0:
                    s_at = lambda x, y=y, push=push: rk4(y, x, push, True)[2]  # noqa: E731
                    length = brentq(s_at, 0.0, to - t, xtol=1e-15, rtol=1e-14)
                    v, i, _ = rk4(y, length, push, True)
                    t = t + length
                    found.append(t)
                    v = neuron.reset.keep * v + (-v_reset if neuron.reset.keep else v_reset)
                    y, free = (v, i + weight, float(log_u[len(found)]) - alpha), t + refractory
                else:
                    y, t = after, to
    return np.array(found)


def _rate(escape):
    beta, v_th, tau_s = (float(x) for x in (escape.beta, escape.v_th, escape.tau_s))
    if isinstance(escape, rs.SoftplusEscape):
        return lambda v: math.log1p(math.exp(beta * (v - v_th))) / tau_s
    if isinstance(escape, rs.SigmoidEscape):
        return lambda v: 1 / (tau_s * (1 + math.exp(-beta * (v - v_th))))
    return lambda v: math.exp(beta * (v - v_th)) / tau_s


def parameters(cell):
    """Names and flat values of every numeric field that takes part, and the way back to a cell."""
    flat, back = ravel_pytree(cell)
    names = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(cell):
        names += [f"{jax.tree_util.keystr(path)}[{k}]" for k in range(leaf.size)]
    absent = {f".neuron.sigma[{2 * j + k}]" for j in (0, 1) for k in (0, 1) if not cell.neuron.noise[j][k]}
    index = np.array([k for k, name in enumerate(names) if name not in absent])
    return [names[k] for k in index], flat, index, back


def worst_gradient_error(cell, simulate, h, refractory=0.0):
    """Largest relative error of the derivative of any spike time in any parameter, against central differences.

    `simulate` maps a cell to times (samples, capacity). The error of an entry is relative to its size plus the median
    size for this parameter (where it is not 0); of three step sizes the best counts. Paths whose spikes change their
    number or cross a grid point between the two sides are left out: there the discretised time is not differentiable.
    Returns the error per parameter, the share of entries that were compared, and the times.
    """
    names, flat, index, back = parameters(cell)
    tangents = jnp.eye(flat.size)[index]
    value = lambda x: simulate(back(x))  # noqa: E731
    push = jax.jit(lambda x: jax.vmap(lambda d: jax.jvp(value, (x,), (d,)))(tangents), compiler_options=QUICK)
    times, slopes = push(flat)
    times, slopes = np.asarray(times[0]), np.asarray(slopes)
    many = jax.jit(jax.vmap(value), compiler_options=QUICK)
    steps = np.array([1e-6, 3e-7, 1e-7])
    moved = np.asarray(many(flat[None] + _moves(steps, tangents)))
    moved = moved.reshape(2, len(steps), len(index), *times.shape)
    worst, compared = {}, []
    for p, name in enumerate(names):
        best = np.full(times.shape, np.inf)
        for e, eps in enumerate(steps):
            plus, minus = moved[0, e, p], moved[1, e, p]
            with np.errstate(invalid="ignore"):
                difference = (plus - minus) / (2 * eps)
                same = np.isfinite(difference)
                for lag in (0.0, refractory):
                    same &= np.floor((plus + lag) / h) == np.floor((minus + lag) / h)
            same = np.logical_and.accumulate(same, axis=-1)
            touched = same & (np.abs(difference) > 1e-7)  # other neurons' spikes do not feel this parameter
            size = np.abs(difference) + (np.median(np.abs(difference[touched])) if touched.any() else 1.0)
            error = np.abs(slopes[p] - difference) / size
            best = np.where(same, np.minimum(best, error), best)
        usable = np.isfinite(best)
        worst[name] = best[usable].max()
        compared.append(usable.sum() / np.isfinite(times).sum())
    return worst, min(compared), times


def _moves(steps, tangents):
    signed = np.concatenate([steps, -steps])
    return jnp.asarray((signed[:, None, None] * np.asarray(tangents)).reshape(-1, tangents.shape[-1]))
