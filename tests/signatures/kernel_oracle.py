"""Slow and plain solutions to compare with: one rectangle after the other, as bivariate polynomials in NumPy."""

from __future__ import annotations

import math

import numpy as np

import roughspike as rs


def solve(rho: np.ndarray, degree: int = 60) -> float:
    """k for a grid of rectangles: u_ab = rho u_{a-1,b-1} / (a b) for the coefficients of s^a t^b in each."""
    rows, columns = rho.shape
    right = [np.eye(1, degree)[0] for _ in range(columns)]  # edges along y, as powers of t
    inverse = 1 / np.arange(1, degree)
    bottom = right[0]
    for i in range(rows):
        bottom = np.eye(1, degree)[0]
        for j in range(columns):
            top, side = bottom.copy(), right[j].copy()
            along, across = bottom.copy(), right[j].copy()
            top[0], side[0] = right[j].sum(), bottom.sum()
            for n in range(1, degree):  # the diagonals: coefficients s^(a + n) t^n from s^a, and the other way round
                along[1:], along[0] = rho[i, j] * along[:-1] * inverse, 0.0
                across[1:], across[0] = rho[i, j] * across[:-1] * inverse, 0.0
                along[n:] /= n
                across[n:] /= n
                top += along
                side += across
                top[n] += across[n + 1 :].sum()
                side[n] += along[n + 1 :].sum()
                if max(np.abs(along).max(), np.abs(across).max()) <= 1e-18 * np.abs(top[0]):
                    break
            bottom, right[j] = top, side
    return float(bottom.sum())


def gram(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kernels of all pairs of piecewise linear paths (n, vertices, channels)."""
    return np.array([[solve(np.diff(a, axis=0) @ np.diff(b, axis=0).T) for b in y] for a in x])


def paths(train: rs.SpikeTrain, time_weight: float = 1.0, jump: float = 1.0) -> np.ndarray:
    """The Marcus lifts of a batch, without the repeated vertices at the end."""
    found = np.asarray(rs.marcus_lift(train, time_weight=time_weight, jump=jump))
    return found[:, : 2 * int(np.isfinite(train.times).sum((1, 2)).max()) + 2]


def trains(seed: int, n: int, spikes: int, neurons: int = 1, t1: float = 1.0, padding: int = 0) -> rs.SpikeTrain:
    """`spikes` uniform times per train, given to neurons at random."""
    random = np.random.default_rng(seed)
    times = np.full((n, neurons, spikes + padding + (spikes == 0)), np.inf)
    for row in times:
        owner = random.integers(0, neurons, spikes)
        for k in range(neurons):
            count = int((owner == k).sum())
            row[k, :count] = np.sort(random.uniform(0, t1, count))
    return rs.SpikeTrain(times, 0.0, t1)


def i0(x: float) -> float:
    """The modified Bessel function by its series."""
    return sum((x / 2) ** (2 * n) / math.factorial(n) ** 2 for n in range(60))
