"""What does a gradient of the evidence lower bound of a network with hidden neurons cost?

The setting of Kajino (2021): 2 observed and 4 hidden neurons, amplitude 5, T = 50, Epanechnikov filters at lags 0 and
10, float64, one sample of the hidden neurons per sequence; sequences are drawn from the model.

python benchmarks/point_process.py
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from measure import cpu_seconds, first_call_seconds, machine, table, write

import roughspike as rs
from roughspike.pointprocess.basis import Span
from roughspike.pointprocess.elbo import bound_of, default_spacing
from roughspike.pointprocess.events import events_of

T1, SEQUENCES = 50.0, (1, 10)
ESTIMATORS = {"pathwise": rs.Pathwise(0.3), "straight-through": rs.StraightThrough(0.3), "score": rs.Score()}


def main() -> None:
    """Measure, print, write."""
    with jax.enable_x64(True):
        rows = [measure(name, count) for name in ESTIMATORS for count in SEQUENCES]
    head = ("estimator", "sequences", "CPU ms per sequence", "first call, s")
    cells = [(r["estimator"], str(r["sequences"]), f"{r['cpu_ms']:.3g}", f"{r['first_call_s']:.3g}") for r in rows]
    print(table([head, *cells]))
    write("point_process", {"machine": machine(), "rows": rows})


def measure(name: str, count: int) -> dict:
    """One estimator on so many sequences."""
    basis, link = rs.EpanechnikovBasis(centres=(0.0, 10.0)), rs.SigmoidIntensity(5.0)
    net = rs.PointProcessNetwork(2, 4, basis=basis, link=link, key=jr.key(0))
    spikes = rs.sample(net, t1=T1, key=jr.key(1), num_samples=count)
    data = events_of(rs.SpikeTrain(np.asarray(spikes.times)[:, :2], 0.0, T1), net.bias.dtype)
    span, dt = Span(0.0, T1), default_spacing(net)

    @eqx.filter_jit
    def gradient(net, events, estimator, key):
        bound = lambda net: bound_of(net, None, events, span, dt, key, estimator, 1)  # noqa: E731
        return jax.value_and_grad(bound)(net)

    run = lambda: gradient(net, data, ESTIMATORS[name], jr.key(2))  # noqa: E731
    first = first_call_seconds(run)
    return {
        "estimator": name,
        "sequences": count,
        "cpu_ms": 1e3 * cpu_seconds(run) / count,
        "first_call_s": first,
    }


if __name__ == "__main__":
    main()
