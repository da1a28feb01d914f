"""How far kernels of spike trains are from the truth, over counts, neurons, jump sizes and time weights, and by oracle.

The grid: 1 to 200 spikes, 1 to 20 neurons, jump size 0.1 to 1, time weight 0.1 to 10. In each place two sets of trains
with five empty slots more than they need: all spikes, all spikes with a third of them tied to spikes of another neuron,
none; all spikes, half of them, one. Largest relative error of the nine kernels, normalised in float32 (plain ones
overflow there; of the normalised ones those above 1e-36), against pysiglib's polynomials of order 12 on lifts whose
jumps are cut (pip install pysiglib), with the estimate and whether the result calls itself right. Then the other
oracles, each where it applies: silent trains I0(2 alpha T), straight lines I0(2 sqrt <x, y>), truncated signatures of
depth 12 to 18, marks against pysiglib.

Places that the file of results has are kept: delete it to measure anew.

    python benchmarks/kernel_accuracy.py
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import jax
import measure
import numpy as np
import pysiglib
from scipy.special import i0

import roughspike as rs
from roughspike.signatures.orders import strip_error

SPIKES, NEURONS = (1, 20, 200), (1, 20)
SIZES = (0.1, 0.1), (0.1, 10.0), (0.3, 1.0), (1.0, 0.1), (1.0, 10.0)  # jump size, time weight
KINDS: dict[str, tuple[bool, dict[str, Any]]] = {  # float64?, options of the kernel
    "float64": (True, {}),
    "float64, tol=1e-10": (True, {"tol": 1e-10}),
    "float32, normalised": (False, {"normalise": True}),
}
TARGETS = {"float64": 1e-7, "float64, tol=1e-10": 1e-10, "float32, normalised": 1e-5}


def single(value: float) -> float:
    """As float32 has it."""
    return float(np.float32(value))


def train(random: np.random.Generator, spikes: int, neurons: int, room: int, tied: bool = False) -> np.ndarray:
    """Times (neurons, room) that float32 has too; of tied spikes every third has the time of another neuron's."""
    times = np.sort(random.uniform(0, 1, spikes)).astype(np.float32).astype(float)
    owner = random.integers(0, neurons, spikes)
    for k in range(2, spikes, 3) if tied and neurons > 1 else ():
        times[k], owner[k] = times[k - 1], (owner[k - 1] + 1) % neurons
    rows = np.full((neurons, room), np.inf)
    for k in range(neurons):
        mine = times[owner == k]
        rows[k, : len(mine)] = mine
    return rows


def sets(spikes: int, neurons: int) -> tuple[rs.SpikeTrain, rs.SpikeTrain]:
    """The nine pairs of a place in the grid."""
    random = np.random.default_rng(spikes + 1000 * neurons)
    draw = lambda count, tied=False: train(random, count, neurons, spikes + 5, tied)  # noqa: E731
    x = np.stack([draw(spikes), draw(spikes, True), draw(0)])
    return rs.SpikeTrain(x), rs.SpikeTrain(np.stack([draw(spikes), draw(max(1, spikes // 2)), draw(1)]))


def polynomials(x: rs.SpikeTrain, y: rs.SpikeTrain, weight: float, jump: float, cut: float = 1e-12) -> np.ndarray:
    """pysiglib's kernels, segments cut into as many pieces as order 12 needs for an error of `cut`."""
    paths = [[np.asarray(p) for p in rs.marcus_lift(t, time_weight=weight, jump=jump)] for t in (x, y)]
    return np.array([[polynomial(a, b, cut) for b in paths[1]] for a in paths[0]])


def polynomial(a: np.ndarray, b: np.ndarray, cut: float = 1e-12) -> float:
    """One kernel."""
    a, b = (p[np.r_[True, np.any(np.diff(p, axis=0) != 0, axis=1)]] for p in (a, b))
    rho = np.diff(a, axis=0) @ np.diff(b, axis=0).T
    whole, paths = np.abs(rho.sum()), []
    for path, other in ((a, 1), (b, 0)):
        z, pieces = np.abs(rho).sum(axis=other).max(initial=0.0), 1
        while len(path) * pieces * strip_error(np, z / pieces, max(whole, z), 12) > cut and pieces < 64:
            pieces += 1
        at = np.linspace(0, len(path) - 1, pieces * (len(path) - 1) + 1)
        found = np.stack([np.interp(at, np.arange(len(path)), c) for c in path.T], axis=1)
        paths.append(np.array(found[None], order="C"))
    return float(pysiglib.sig_kernel_gram(*paths, method="polynomial", order=12)[0, 0])


def worst(values: Any, expected: Any) -> float:
    return float(np.max(np.abs(np.asarray(values, float) / np.asarray(expected, float) - 1)))


def place_rows(spikes: int, neurons: int, jump: float, weight: float) -> list[dict[str, Any]]:
    """A row per kind for one place."""
    place = {"spikes": spikes, "neurons": neurons, "jump_size": jump, "time_weight": weight}
    size, scale, rows = single(jump), single(weight), []
    x, y = sets(spikes, neurons)
    with jax.enable_x64(True):
        exact = polynomials(x, y, scale, size)
        own = [np.array([polynomials(z[k : k + 1], z[k : k + 1], scale, size)[0, 0] for k in range(3)]) for z in (x, y)]
    for kind, (x64, options) in KINDS.items():
        with jax.enable_x64(x64):
            kernel = rs.SignatureKernel(jump_size=size, time_weight=scale, **options)
            found = kernel.solve(*(rs.SpikeTrain(z.times.astype(float if x64 else np.float32)) for z in (x, y)))
            expected = exact if x64 else exact / np.sqrt(own[0])[:, None] / np.sqrt(own[1])
            fits = x64 | (expected > 1e-36)  # float32 has no smaller numbers to that accuracy
            row = place | {"kind": kind, "error": worst(np.asarray(found.values)[fits], expected[fits])}
            rows.append(row | {"estimate": float(found.error), "ok": bool(found.ok)})
            print(rows[-1], flush=True)
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The worst place of each kind and count."""
    table = []
    for kind, spikes in itertools.product(KINDS, SPIKES):
        some = [row for row in rows if row["kind"] == kind and row["spikes"] == spikes]
        row = {"kind": kind, "target": TARGETS[kind], "spikes": spikes, "places": len(some)}
        row["error"] = max((r["error"] for r in some), default=None)
        table.append(row | {"called_right": sum(r["ok"] for r in some)})
    return table


def oracles() -> list[dict[str, Any]]:
    """The other oracles, each over its own range, at every tolerance of float64."""
    rows, random = [], np.random.default_rng(0)
    silent = rs.SpikeTrain(np.full((1, 2, 3), np.inf), 0.5, 2.0)
    lines = [np.stack([np.zeros(4), v])[None] for v in random.normal(size=(8, 4))]
    few = [[rs.SpikeTrain(train(random, n, 1, 4)[None]) for _ in range(2)] for n in (1, 2, 3)]
    marked = [rs.SpikeTrain(np.stack([train(random, 50, 3, 50, True) for _ in range(2)])) for _ in range(2)]
    for kind, (x64, options) in KINDS.items():
        if not x64:
            continue
        with jax.enable_x64(True):
            kernel = lambda options=options, **more: rs.SignatureKernel(**options, **more)  # noqa: E731
            errors = [worst(kernel(time_weight=a).gram(silent), i0(2 * a * 1.5)) for a in (0.1, 0.3, 1.0, 3.0, 10.0)]
            rows.append({"oracle": "silent trains: I0(2 alpha T), alpha 0.1 to 10", "kind": kind, "error": max(errors)})
            errors = []
            for a, b in itertools.pairwise(lines):
                z = float(a[0, 1] @ b[0, 1])
                errors.append(worst(kernel().gram(a, b if z > 0 else -b), i0(2 * np.sqrt(abs(z)))))
            rows.append({"oracle": "straight lines: I0(2 sqrt <x, y>)", "kind": kind, "error": max(errors)})
            errors = []
            for (x, y), jump, weight in itertools.product(few, (0.1, 0.5, 1.0), (0.1, 1.0)):
                s, t = (rs.signature(rs.marcus_lift(z, time_weight=weight, jump=jump), 18) for z in (x, y))
                errors.append(worst(kernel(jump_size=jump, time_weight=weight).gram(x, y), 1 + s @ t.T))
            rows.append(
                {"oracle": "truncated signatures of depth 18, 1 to 3 spikes", "kind": kind, "error": max(errors)}
            )
            errors = []
            for most in (0.1, 0.3, 1.0):
                marks = [random.uniform(-most, most, t.times.shape) for t in marked]
                paths = [np.asarray(rs.marcus_lift(t, marks=m)) for t, m in zip(marked, marks, strict=True)]
                exact = [[polynomial(a, b) for b in paths[1]] for a in paths[0]]
                errors.append(worst(kernel().gram(*paths), exact))
            rows.append(
                {"oracle": "marks of both signs with ties: pysiglib, order 12", "kind": kind, "error": max(errors)}
            )
        print(*rows[-4:], sep="\n", flush=True)
    return rows


def main() -> None:
    path = measure.RESULTS / "kernel_accuracy.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"grid": [], "oracles": []}
    rows, others = result["grid"], result["oracles"] or oracles()
    for spikes, neurons, (jump, weight) in itertools.product(SPIKES, NEURONS, SIZES):
        place = {"spikes": spikes, "neurons": neurons, "jump_size": jump, "time_weight": weight}
        if sum(place.items() <= row.items() for row in rows) < len(KINDS):
            rows = [row for row in rows if not place.items() <= row.items()]
            rows += place_rows(**{"jump": jump, "weight": weight, "spikes": spikes, "neurons": neurons})
        new = {"machine": measure.machine(), "table": summary(rows), "oracles": others, "grid": rows}
        measure.write("kernel_accuracy", new)
    print(*summary(rows), sep="\n")


if __name__ == "__main__":
    main()
