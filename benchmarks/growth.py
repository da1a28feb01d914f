"""How does the cost of a gradient grow with neurons, synapses, spikes, steps and samples? All three engines.

From one network per engine one quantity is changed at a time. CPU time of a loss and its gradient in all weights,
float32, least of several repeats in turn; all of an engine in one process.

- layered: 64 input channels to 128 neurons with a hard threshold to a readout of 4.
- ordered: the noisy neurons of `ordered.py`, all to all or (synapses) sparse, no delay.
- delayed: the noisy neurons of `delayed.py`, 50 synapses each, delays of 1.5 ms.

    python benchmarks/growth.py [layered ordered delayed]
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import delayed
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import measure
import numpy as np
import ordered

import roughspike as rs
from roughspike.paths.spikes import unchecked

BASE = {
    "layered": {"inputs": 64, "neurons": 128, "spikes": 2, "steps": 100, "samples": 32},
    "ordered": {"neurons": 100, "synapses": 0, "spikes": 1.2, "steps": 50, "samples": 8},
    "delayed": {"neurons": 500, "synapses": 50, "spikes": 26.0, "steps": 500, "samples": 2},
}
SWEEPS = {  # "spikes" of ordered and delayed is the input current; "synapses" those of a neuron, 0 for all to all
    "layered": {
        "neurons": (32, 128, 512),
        "inputs": (16, 64, 256),
        "spikes": (2, 8, 32),
        "steps": (50, 100, 400),
        "samples": (8, 32, 128),
    },
    "ordered": {
        "neurons": (100, 300),
        "synapses": (10, 90),
        "spikes": (1.2, 2.4),
        "steps": (50, 200),
        "samples": (8, 32),
    },
    "delayed": {
        "neurons": (500, 2000),
        "synapses": (50, 250),
        "spikes": (26.0, 60.0),
        "steps": (500, 2000),
        "samples": (2, 8),
    },
}


def layers(inputs: int, neurons: int, spikes: int, steps: int, samples: int) -> tuple[Any, tuple[Any, ...]]:
    """(loss, most spikes of a neuron in a sample, on average) of the weights, and the arguments."""
    t1 = 50e-3
    net = rs.FeedForward([inputs, neurons, 4], neuron=rs.LIF(20e-3, 5e-3), key=jr.key(0), readout=rs.Readout())
    weights = [layer.synapses.free for layer in net.layers]
    weights[0] = weights[0] / spikes  # the drive stays the same
    times = jnp.sort(0.8 * t1 * jr.uniform(jr.key(1), (samples, inputs, spikes)), axis=-1)

    def loss(weights, times):
        moved = eqx.tree_at(lambda n: [layer.synapses.free for layer in n.layers], net, weights)
        sol = rs.simulate(moved, inputs=unchecked(times, 0.0, t1), t1=t1, dt=t1 / steps, max_spikes=32)
        return jnp.mean(sol.membrane**2), sol.result.needed.mean()

    return loss, (weights, times)


def _recurrent(net: rs.Recurrent, t1: float, steps: int, samples: int, room: int) -> tuple[Any, tuple[Any, ...]]:
    """Mean first spike time, and spikes of the network per sample."""

    def loss(weights, net, key):
        moved = eqx.tree_at(lambda n: n.synapses.free, net, weights)
        run = {"num_samples": samples, "max_spikes": room, "max_spikes_per_step": 1}
        spikes = rs.simulate(moved, t1=t1, dt=t1 / steps, key=key, **run).spikes
        first = spikes.times[..., 0]
        return jnp.mean(jnp.where(jnp.isfinite(first), first, t1)), spikes.counts.sum(axis=-1).mean()

    return loss, (net.synapses.free, net, jr.key(1))


def without_delay(neurons: int, synapses: int, spikes: float, steps: int, samples: int) -> tuple[Any, tuple[Any, ...]]:
    net, t1 = ordered.everyone(neurons)
    if synapses:
        pre = np.repeat(np.arange(neurons), synapses)
        post = np.random.default_rng(1).integers(0, neurons, pre.size)
        weight = np.random.default_rng(2).normal(0.0, 0.5 / synapses**0.5, pre.size)
        sparse = rs.Synapses.from_pairs(pre, post, weight, neurons, neurons)
        net = rs.Recurrent(net.neuron, weights=sparse, current=spikes, v0=0.6, i0=0.3)
    else:
        net = eqx.tree_at(lambda n: n.current, net, jnp.asarray(spikes, jnp.float32))
    return _recurrent(net, t1, steps, samples, 16)


def with_delay(neurons: int, synapses: int, spikes: float, steps: int, samples: int) -> tuple[Any, tuple[Any, ...]]:
    net = delayed.network(neurons, synapses, False)
    net = eqx.tree_at(lambda n: n.current, net, jnp.asarray(spikes, jnp.float32))
    return _recurrent(net, 50.0, steps, samples, 64)


PROBLEMS = {"layered": layers, "ordered": without_delay, "delayed": with_delay}


def sweep(engine: str) -> list[dict[str, Any]]:
    """Every sweep of an engine, in turn."""
    settings = {(name, x): {**BASE[engine], name: x} for name, xs in SWEEPS[engine].items() for x in xs}
    unique = {tuple(s.values()): s for s in settings.values()}
    ready = {}
    for k, s in unique.items():
        loss, given = PROBLEMS[engine](**s)
        ready[k] = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(*given).compile(), given
    least = dict.fromkeys(unique, float("inf"))
    for _ in range(6):
        for k, (compiled, given) in ready.items():
            begin = time.process_time()
            jax.block_until_ready(compiled(*given))
            least[k] = min(least[k], time.process_time() - begin)
    rows = []
    for (name, x), s in settings.items():
        k = tuple(s.values())
        compiled, given = ready[k]
        active = float(compiled(*given)[0][1])
        value = round(active, 1) if name == "spikes" and engine != "layered" else x
        memory = compiled.memory_analysis().temp_size_in_bytes / 1e6
        facts = {"engine": engine, "factor": name, "value": value, "active": active}
        rows.append({**facts, "gradient_ms": 1e3 * least[k], "temp_mb": memory})
    return rows


def main() -> None:
    """The engines that are asked for; the others keep their rows."""
    wanted = [name for name in sys.argv[1:] if name in PROBLEMS] or list(PROBLEMS)
    path = measure.RESULTS / "growth.json"
    before = json.loads(path.read_text())["growth"] if path.exists() else []
    found = {engine: sweep(engine) for engine in wanted}
    rows = []
    for engine in PROBLEMS:
        rows += found.get(engine, [r for r in before if r["engine"] == engine])
    table = [("", "", "", "gradient, CPU ms", "MB", "spikes")]
    table += [
        (r["engine"], r["factor"], str(r["value"]), *(f"{r[k]:.1f}" for k in ("gradient_ms", "temp_mb", "active")))
        for r in rows
    ]
    print(measure.table(table))
    measure.write("growth", {"machine": measure.machine(), "base": BASE, "growth": rows})


if __name__ == "__main__":
    main()
