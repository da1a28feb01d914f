"""How fast is one noisy neuron? Fig. 1's workload: published algorithm, lean Euler scan, roughspike, in one process.

128 samples of 500 steps, float32. roughspike draws its noise inside the measured call and simulates all spikes (about
21 a sample); the published algorithm stops after three spikes; the lean scan gets its noise for nothing.
CPU time of the process, least of several repeats after warm-up. Run: python benchmarks/fig1_speed.py [--quick]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import lean
import measure
import published

import roughspike as rs

SAMPLES, TRUE_C, START_C = 128, 1.5, 0.565
CAPACITY = 32
TARGETS = {  # name: (figure, limit, is the limit an upper one?)
    "mean of the first three times, value and gradient, CPU ms": (5.0, True),
    "the same over a lean Euler scan that draws its noise": (1.3, True),
    "published over ours: signature loss, value and gradient": (200.0, False),
    "first call of value and gradient, s": (5.0, True),
}


def neuron(p: published.Setting) -> rs.SLIF:
    """The neuron of Fig. 1."""
    return rs.SLIF(
        mu=(p.mu1, p.mu2),
        sigma=((p.sigma, 0.0), (0.0, 0.0)),
        v_reset=p.v_reset,
        alpha=p.alpha,
        escape=rs.ExponentialEscape(beta=p.beta, v_th=p.v_th, tau_s=p.tau_s),
    )


def simulated(c: jax.Array, key: jax.Array, p: published.Setting, capacity: int = CAPACITY) -> rs.SpikeTrain:
    """All spikes of 128 samples, noise drawn here."""
    cell = rs.Population(neuron(p), current=c)
    return rs.simulate(cell, t1=p.t1, dt=p.dt, key=key, num_samples=SAMPLES, max_spikes=capacity).spikes


def first_three(spikes: rs.SpikeTrain, t1: float) -> jax.Array:
    """(samples, 3), t1 where a spike is missing."""
    times = spikes.times[:, 0, :3]
    return jnp.where(jnp.isfinite(times), times, t1)


def ours(p: published.Setting) -> dict[str, Callable]:
    """Compiled functions of roughspike."""
    signature = rs.ExpectedSignatureLoss(depth=3)
    squared = rs.FirstSpikesLoss(n=3, kind="squared")

    def of_first_three(spikes: rs.SpikeTrain) -> rs.SpikeTrain:
        return rs.SpikeTrain(spikes.times[..., :3], spikes.t0, spikes.t1, horizon=spikes.horizon)

    return {
        "forward": jax.jit(lambda c, key: simulated(c, key, p).times),
        "mean_gradient": jax.jit(jax.value_and_grad(lambda c, key: jnp.mean(first_three(simulated(c, key, p), p.t1)))),
        "squared_gradient": jax.jit(
            jax.value_and_grad(lambda c, key, recorded: squared(of_first_three(simulated(c, key, p)), recorded))
        ),
        "signature_gradient": jax.jit(
            jax.value_and_grad(lambda c, key, recorded: signature(of_first_three(simulated(c, key, p)), recorded))
        ),
    }


def measure_all(repeats: int) -> dict[str, Any]:
    """Every figure, in CPU milliseconds, first calls in seconds."""
    p, key, c = published.Setting(), jr.key(1), jnp.float32(TRUE_C)
    train = jax.jit(lambda key: simulated(c, key, p, 64))(jr.key(7))
    times = first_three(train, p.t1)
    recorded = rs.SpikeTrain(train.times[..., :3], 0.0, p.t1)
    noise = jax.jit(lambda key: lean.draw(key, p, SAMPLES))(key)
    compiled = ours(p)
    reference = {
        "forward": published.forward(p, SAMPLES),
        "squared_gradient": published.first_spikes_gradient(p, SAMPLES),
        "signature_gradient": published.signature_gradient(p, SAMPLES),
    }
    lean_forward = jax.jit(lambda c: lean.spike_times(c, noise, p))
    lean_gradient = jax.jit(jax.value_and_grad(lambda c: jnp.mean(lean.spike_times(c, noise, p))))
    lean_drawing = jax.jit(
        jax.value_and_grad(lambda c, key: jnp.mean(lean.spike_times(c, lean.draw(key, p, SAMPLES), p)))
    )
    calls = {
        "ours: forward": lambda: compiled["forward"](c, key),
        "ours: mean of the first three times, gradient": lambda: compiled["mean_gradient"](c, key),
        "ours: first 3 spikes, squared, gradient": lambda: compiled["squared_gradient"](c, key, recorded),
        "ours: signature of depth 3, gradient": lambda: compiled["signature_gradient"](c, key, recorded),
        "lean Euler scan: forward": lambda: lean_forward(c),
        "lean Euler scan: mean of the first three times, gradient": lambda: lean_gradient(c),
        "lean Euler scan drawing its noise too, gradient": lambda: lean_drawing(c, key),
        "published: forward": lambda: reference["forward"](c, key),
        "published: first 3 spikes, squared, gradient": lambda: reference["squared_gradient"](c, key, times),
        "published: signature of depth 3, gradient": lambda: reference["signature_gradient"](c, key, times),
    }
    first = {name: measure.first_call_seconds(call) for name, call in calls.items()}
    spent = {name: 1e3 * measure.cpu_seconds(call, repeats) for name, call in calls.items()}
    early = jnp.float32(START_C)  # where training starts: few spikes, so the published solve runs to the end
    far = {
        "ours: signature of depth 3, gradient": lambda: compiled["signature_gradient"](early, key, recorded),
        "published: signature of depth 3, gradient": lambda: reference["signature_gradient"](early, key, times),
    }
    return {
        "cpu_ms": spent,
        "cpu_ms_at_start_of_training": {n: 1e3 * measure.cpu_seconds(call, min(repeats, 3)) for n, call in far.items()},
        "first_call_s": first,
        "mean_spike_times": {
            "ours": [round(float(x), 4) for x in jnp.mean(times, 0)],
            "lean Euler scan": [round(float(x), 4) for x in jnp.mean(lean_forward(c), 1)],
            "published": [round(float(x), 4) for x in jnp.mean(reference["forward"](c, key), 0)],
        },
    }


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """What the figures say."""
    ms, early, first = found["cpu_ms"], found["cpu_ms_at_start_of_training"], found["first_call_s"]

    def over(what: str, table: dict[str, float], ours: str = "") -> float:
        return table[f"published: {what}"] / table[f"ours: {ours or what}"]

    return {
        "mean of the first three times, value and gradient, CPU ms": ms[
            "ours: mean of the first three times, gradient"
        ],
        "the same over a lean Euler scan's gradient": ms["ours: mean of the first three times, gradient"]
        / ms["lean Euler scan: mean of the first three times, gradient"],
        "the same over a lean Euler scan that draws its noise": ms["ours: mean of the first three times, gradient"]
        / ms["lean Euler scan drawing its noise too, gradient"],
        "forward over a lean Euler scan": ms["ours: forward"] / ms["lean Euler scan: forward"],
        "gradient over forward": ms["ours: mean of the first three times, gradient"] / ms["ours: forward"],
        "published over ours: forward": over("forward", ms),
        "published over ours: first 3 spikes, value and gradient": over("first 3 spikes, squared, gradient", ms),
        "published over ours: signature loss, value and gradient": over("signature of depth 3, gradient", ms),
        "published over ours: the same at the start of training": over("signature of depth 3, gradient", early),
        "first call of value and gradient, s": first["ours: mean of the first three times, gradient"],
        "first call of the signature loss, s": first["ours: signature of depth 3, gradient"],
        "published: first call of the signature loss, s": first["published: signature of depth 3, gradient"],
    }


def main(arguments: list[str]) -> None:
    """Measure, print, write."""
    quick = "--quick" in arguments
    found = measure_all(repeats=2 if quick else 9)
    summary = ratios(found)
    rows = [("figure", "CPU ms", "first call s")]
    rows += [(n, f"{ms:.3g}", f"{found['first_call_s'][n]:.2g}") for n, ms in found["cpu_ms"].items()]
    print(measure.table(rows), end="\n\n")
    verdicts = [("ratio", "found", "target", "")]
    for name, value in summary.items():
        limit, upper = TARGETS.get(name, (None, True))
        target = "" if limit is None else f"{'at most' if upper else 'at least'} {limit:g}"
        met = "" if limit is None else ("met" if (value <= limit) == upper else "NOT MET")
        verdicts.append((name, f"{value:.3g}", target, met))
    print(measure.table(verdicts))
    if not quick:
        facts = {"machine": measure.machine(), "samples": SAMPLES, "steps": 500, "dtype": "float32"}
        path = measure.write("fig1_speed", {**facts, **found, "summary": summary})
        print(f"\n{path}")


if __name__ == "__main__":
    main(sys.argv[1:])
