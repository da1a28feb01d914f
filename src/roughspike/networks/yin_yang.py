"""The Yin-Yang task and its encoding in spike times: a small classification problem that no linear read-out solves."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from roughspike.paths.spikes import SpikeTrain

_R_SMALL, _R_BIG = 0.1, 0.5


def yin_yang(num_samples: int, seed: int = 42) -> tuple[Float[np.ndarray, "samples 4"], Int[np.ndarray, "samples"]]:
    """Points in the Yin-Yang disc of radius 1/2, balanced over its three classes: yin, yang, and the two dots.

    Seeds 42, 41 and 40 with 5000, 1000 and 1000 samples give the published training, validation and test sets.

    **Returns** features (x, y, 1 - x, 1 - y) and labels 0, 1, 2.

    **Raises** ValueError for less than one sample.

    **Reference**: Kriener, Goeltz & Petrovici (2022), The Yin-Yang dataset.

    >>> import roughspike as rs
    >>> features, labels = rs.yin_yang(100, seed=42)
    >>> features.shape, sorted({int(label) for label in labels})
    ((100, 4), [0, 1, 2])
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    random = np.random.RandomState(seed)
    features, labels = np.empty((num_samples, 4)), np.empty(num_samples, np.int64)
    for k in range(num_samples):
        labels[k] = random.randint(3)
        while True:
            x, y = random.rand(2) * 2.0 * _R_BIG
            if np.hypot(x - _R_BIG, y - _R_BIG) <= _R_BIG and class_of(x, y) == labels[k]:
                break
        features[k] = x, y, 1.0 - x, 1.0 - y
    return features, labels


def latency_code(features: np.ndarray, t1: float, latest: float, bias: bool = True) -> SpikeTrain:
    """One spike per feature, at `latest` times its value; with `bias` one more channel that spikes at 0.

    **Arguments**

    - `features`: shape (batch, channels), each in [0, 1].
    - `t1`: end of the window. `latest`: when a feature of 1 spikes, at most t1.

    **Raises** ValueError for features outside of [0, 1] or a spike after the end.

    >>> import roughspike as rs
    >>> features, _ = rs.yin_yang(10)
    >>> rs.latency_code(features, t1=48e-3, latest=30e-3).times.shape
    (10, 5, 1)
    """
    features = np.asarray(features)
    if features.ndim != 2 or not (features.min() >= 0 and features.max() <= 1):
        raise ValueError("features must have shape (batch, channels) and lie in [0, 1]: rescale them")
    if not 0 < latest <= t1:
        raise ValueError(f"latest must lie in (0, t1={t1}], got {latest}")
    if bias:
        features = np.concatenate([features, np.zeros((len(features), 1))], axis=1)
    times: Array = jnp.asarray(latest * features, dtype=float)
    return SpikeTrain(times[..., None], 0.0, t1)


def class_of(x: float, y: float) -> int:
    """2: one of the dots; 1 and 0: the halves, each with a bulge of the other's side."""
    right, left = np.hypot(x - 1.5 * _R_BIG, y - _R_BIG), np.hypot(x - 0.5 * _R_BIG, y - _R_BIG)
    if right < _R_SMALL or left < _R_SMALL:
        return 2
    inside = right <= _R_SMALL or _R_SMALL < left <= 0.5 * _R_BIG or (y > _R_BIG and right > 0.5 * _R_BIG)
    return 1 if inside else 0
