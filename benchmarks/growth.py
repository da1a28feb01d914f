"""How does the cost of a gradient grow with neurons, synapses, spikes, steps and samples? The layered engine.

From one network, 64 input channels to 128 neurons to a readout of 4, one quantity is changed at a time. CPU time of the
loss and its gradient in all weights, float32, least of several repeats in turn; all in one process.

    python benchmarks/growth.py
"""

from __future__ import annotations

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import measure

import roughspike as rs
from roughspike.paths.spikes import unchecked

BASE = {"inputs": 64, "neurons": 128, "spikes": 2, "steps": 100, "samples": 32}
SWEEPS = {
    "neurons": (32, 128, 512),
    "inputs": (16, 64, 256),
    "spikes": (2, 8, 32),
    "steps": (50, 100, 400),
    "samples": (8, 32, 128),
}


def program(inputs: int, neurons: int, spikes: int, steps: int, samples: int) -> tuple[Any, tuple[Any, ...]]:
    """Compiled (loss, most spikes of a neuron in a sample, on average) with gradient, and its arguments."""
    t1 = 50e-3
    net = rs.FeedForward([inputs, neurons, 4], neuron=rs.LIF(20e-3, 5e-3), key=jr.key(0), readout=rs.Readout())
    weights = [layer.synapses.free for layer in net.layers]
    weights[0] = weights[0] / spikes  # the drive stays the same
    times = jnp.sort(0.8 * t1 * jr.uniform(jr.key(1), (samples, inputs, spikes)), axis=-1)

    def loss(weights, times):
        moved = eqx.tree_at(lambda n: [layer.synapses.free for layer in n.layers], net, weights)
        sol = rs.simulate(moved, inputs=unchecked(times, 0.0, t1), t1=t1, dt=t1 / steps, max_spikes=32)
        return jnp.mean(sol.membrane**2), sol.result.needed.mean()

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return gradient.lower(weights, times).compile(), (weights, times)


def main() -> None:
    """Every sweep, in turn."""
    settings = {(name, x): {**BASE, name: x} for name, xs in SWEEPS.items() for x in xs}
    unique = {tuple(s.values()): s for s in settings.values()}
    ready = {k: program(**s) for k, s in unique.items()}
    least = dict.fromkeys(unique, float("inf"))
    for _ in range(8):
        for k, (compiled, given) in ready.items():
            begin = time.process_time()
            jax.block_until_ready(compiled(*given))
            least[k] = min(least[k], time.process_time() - begin)
    rows = []
    for (name, x), s in settings.items():
        k = tuple(s.values())
        compiled, given = ready[k]
        memory = compiled.memory_analysis().temp_size_in_bytes / 1e6
        facts = {"engine": "layered", "factor": name, "value": x, "active": float(compiled(*given)[0][1])}
        rows.append({**facts, "gradient_ms": 1e3 * least[k], "temp_mb": memory})
    table = [("", "", "gradient, CPU ms", "MB", "most spikes of a neuron")]
    table += [
        (r["factor"], str(r["value"]), f"{r['gradient_ms']:.1f}", f"{r['temp_mb']:.1f}", f"{r['active']:.1f}")
        for r in rows
    ]
    print(measure.table(table))
    measure.write("growth", {"machine": measure.machine(), "base": BASE, "growth": rows})


if __name__ == "__main__":
    main()
