"""Segments: pieces of the time axis, laid out on the host in float64."""

from __future__ import annotations

import math

import numpy as np


def num_steps(t0: float, t1: float, dt: float) -> int:
    """Steps of a uniform grid on [t0, t1] that are at most dt long (to rounding).

    **Raises** ValueError if t1 <= t0 or dt <= 0 or not finite.
    """
    if not (t1 > t0 and math.isfinite(t1 - t0)):
        raise ValueError(f"t1 must lie after t0, both finite, got t0={t0}, t1={t1}")
    if not (dt > 0 and math.isfinite(dt)):
        raise ValueError(f"dt must be a positive time step, got {dt}")
    return max(1, math.ceil((t1 - t0) / dt - 1e-6))


def half_steps(t0: float, t1: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of the 2 * steps half steps of a uniform grid, float64."""
    length = (t1 - t0) / (2 * steps)
    return t0 + length * np.arange(2 * steps), np.full(2 * steps, length)
