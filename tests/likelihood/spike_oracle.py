"""The likelihood of one spike train by brute force: an ODE solver of high order, in plain NumPy and SciPy."""

from __future__ import annotations

import math

import numpy as np
from scipy.integrate import solve_ivp

import roughspike as rs


def log_likelihood(cell, times, t0, t1, current, neuron=0):
    """log p of the sorted `times` of one neuron on [t0, t1], for a neuron without diffusion; `current` is c(t)."""
    n = cell.neuron
    mu1, mu2 = (float(x) for x in n.mu)
    alpha, v_reset = float(n.alpha), float(n.v_reset)
    refractory = 0.0 if n.refractory is None else float(n.refractory)
    weight = 0.0 if n.self_weight is None else float(n.self_weight)
    rate = hazard(n.escape)

    def flow(y, a, b, active):
        if not b > a:
            return y
        slope = lambda t, y: [mu1 * (y[1] + current(t) - y[0]), -mu2 * y[1], rate(y[0]) if active else 0.0]  # noqa: E731
        return solve_ivp(slope, (a, b), y, method="DOP853", rtol=1e-12, atol=1e-13, max_step=0.05).y[:, -1]

    def between(y, a, b, free):
        middle = min(max(free, a), b)
        return flow(flow(y, a, middle, False), middle, b, True)

    at = lambda x: float(np.broadcast_to(np.asarray(x), (cell.num_neurons,))[neuron])  # noqa: E731
    y, here, free, total = np.array([at(cell.v0), at(cell.i0), 0.0]), t0, -math.inf, 0.0
    for spike in times:
        y = between(y, here, spike, free)
        if y[2] < alpha or spike < free:
            return -math.inf
        total += math.log(rate(y[0])) - (y[2] - alpha)
        v = y[0] - v_reset if isinstance(n.reset, rs.SubtractiveReset) else v_reset
        y, here, free = np.array([v, y[1] + weight, 0.0]), spike, spike + refractory
    y = between(y, here, t1, free)
    return total - max(y[2] - alpha, 0.0)


def hazard(escape):
    """The escape rate as a plain function."""
    beta, v_th, tau_s = (float(x) for x in (escape.beta, escape.v_th, escape.tau_s))
    if isinstance(escape, rs.SoftplusEscape):
        return lambda v: math.log1p(math.exp(beta * (v - v_th))) / tau_s
    if isinstance(escape, rs.SigmoidEscape):
        return lambda v: 1 / (tau_s * (1 + math.exp(-beta * (v - v_th))))
    return lambda v: math.exp(beta * (v - v_th)) / tau_s
