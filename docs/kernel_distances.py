"""Distances of Victor & Purpura and of van Rossum for the trains of "What a signature kernel sees in a spike train".

They are computed by elephant, which is no dependency of this project. In an environment of its own:

    pip install elephant && python docs/kernel_distances.py

writes kernel_distances.json; kernel_pictures.py, which takes the trains from here, draws from that file.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".json")
REFERENCE = np.array([0.11, 0.24, 0.31, 0.52, 0.68, 0.83])
MOVED = 3  # which spike of the reference is shifted
SHIFTS = np.array([0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0, 140.0]) * 1e-3
TAU = 20e-3  # of the filter of van Rossum; Victor & Purpura's cost is 1 / TAU


def variants() -> dict[str, np.ndarray]:
    """The reference and trains to compare with it, on [0, 1]."""
    spikes = REFERENCE
    return {
        "reference": spikes,
        "one spike 5 ms later": shifted(5e-3),
        "one spike 40 ms later": shifted(40e-3),
        "one spike 120 ms later": shifted(120e-3),
        "all spikes 40 ms later": spikes + 40e-3,
        "one spike missing": np.delete(spikes, MOVED),
        "one spike more": np.sort(np.append(spikes, 0.42)),
        "mirrored in time": np.sort(1 - spikes),
        "six spikes, all late": np.linspace(0.55, 0.95, 6),
    }


def shifted(by: float) -> np.ndarray:
    """The reference with one spike moved."""
    return np.where(np.arange(REFERENCE.size) == MOVED, REFERENCE + by, REFERENCE)


def main() -> None:
    """Distances from the reference, written as JSON."""
    import elephant
    import quantities as pq
    from elephant.spike_train_dissimilarity import van_rossum_distance, victor_purpura_distance
    from neo import SpikeTrain

    trains = [*variants().values(), *(shifted(by) for by in SHIFTS)]
    data = [SpikeTrain(train * pq.s, t_start=0 * pq.s, t_stop=1 * pq.s) for train in trains]
    found = {
        "Victor-Purpura": victor_purpura_distance(data, cost_factor=1 / (TAU * pq.s))[0],
        "van Rossum": van_rossum_distance(data, time_constant=TAU * pq.s)[0],
    }
    names = list(variants())
    result = {"elephant": elephant.__version__, "tau": TAU}
    for name, row in found.items():
        row = [round(float(x), 6) for x in row]
        result[name] = {"variants": dict(zip(names, row, strict=False)), "shifts": row[len(names) :]}
    FILE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
