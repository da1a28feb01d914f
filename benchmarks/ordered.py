"""What does a recurrent network without delay cost, forward and gradient, and how does cost grow with its size?

Zero delay, exact order of all spikes, noise in potential and current, float32, 16 samples, drawing the noise included;
loss: mean of the first spike times. "4-16-2": the network of Fig. 2 of Holberg & Salvi (2024), whose published code
restarts a solver at every spike, as one recurrent network of 22 neurons, 100 steps. The others: random weights, all to
all, 50 steps. CPU time, least of several repeats; the first call is tracing and compiling. At last 1000 neurons are
trained: Adam on all 10^6 weights, noise anew in every step, until the mean first spike comes as late as asked.

    python benchmarks/ordered.py [--quick]
"""

from __future__ import annotations

import functools
import sys
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import measure
import numpy as np
import optax

import roughspike as rs

SAMPLES, DT = 16, 0.01


def neuron() -> rs.SLIF:
    return rs.SLIF(mu=(6.0, 5.0), sigma=((0.25, 0.0), (0.0, 0.25)), v_reset=1.2, alpha=0.03)


def layers() -> tuple[rs.Recurrent, float]:
    """4-16-2, the input current into the first layer alone."""
    rng, weights, first = np.random.default_rng(0), np.zeros((22, 22), np.float32), 0
    for pre, post in ((4, 16), (16, 2)):
        block = rng.uniform(0.5, 1.5, (pre, post)) * 3 / pre
        weights[first : first + pre, first + pre : first + pre + post] = block
        first += pre
    current = np.concatenate([np.full(4, 1.5), np.zeros(18)]).astype(np.float32)
    return rs.Recurrent(neuron(), weights=weights, current=current, v0=1.1, i0=0.6), 1.0


def everyone(neurons: int) -> tuple[rs.Recurrent, float]:
    """All to all."""
    weights = np.random.default_rng(0).normal(0.0, 0.5 / neurons**0.5, (neurons, neurons)).astype(np.float32)
    return rs.Recurrent(neuron(), weights=weights, current=1.2, v0=0.6, i0=0.3), 0.5


def loss(net: rs.Recurrent, key: jax.Array, t1: float, samples: int) -> jax.Array:
    first = rs.simulate(net, t1=t1, dt=DT, key=key, num_samples=samples).spikes.times[..., 0]
    return jnp.mean(jnp.where(jnp.isfinite(first), first, t1))


def row(name: str, net: rs.Recurrent, t1: float, samples: int, repeats: int) -> dict[str, float | str]:
    """CPU ms forward, gradient in the weights, in everything; first calls and memory."""
    key = jr.key(1)
    value = functools.partial(loss, t1=t1, samples=samples)

    def in_weights(weights: jax.Array, net: rs.Recurrent, key: jax.Array) -> jax.Array:
        return value(eqx.tree_at(lambda n: n.synapses.free, net, weights), key)

    run = rs.simulate(net, t1=t1, dt=DT, key=key, num_samples=samples)
    assert not np.any(np.asarray(run.result.flags) & ~4), run.result
    spikes = np.asarray(run.spikes.counts).sum(axis=-1)
    found = {"name": name, "neurons": net.num_neurons, "samples": samples, "steps": round(t1 / DT)}
    found |= {"spikes_mean": float(spikes.mean()), "spikes_max": int(spikes.max())}
    calls = {
        "forward": (jax.jit(value), (net, key)),
        "weights": (jax.jit(jax.value_and_grad(in_weights)), (net.synapses.free, net, key)),
        "all": (jax.jit(jax.value_and_grad(value)), (net, key)),
    }
    for kind, (function, arguments) in calls.items():
        begin = time.process_time()
        first = measure.first_call_seconds(functools.partial(function, *arguments))
        found[f"{kind}_first_call_s"], found[f"{kind}_first_call_cpu_s"] = first, time.process_time() - begin
        found[f"{kind}_ms"] = 1e3 * measure.cpu_seconds(functools.partial(function, *arguments), repeats)
        memory = function.lower(*arguments).compile().memory_analysis()
        found[f"{kind}_temp_mb"] = memory.temp_size_in_bytes / 1e6
    return found


def train(neurons: int, steps: int, target: float) -> dict[str, float]:
    """Mean first spike times on noise not used in training, before and after; CPU seconds of a training step."""
    net, t1 = everyone(neurons)
    optimiser = optax.adam(1e-4)

    def mean(weights: jax.Array, key: jax.Array) -> jax.Array:
        return loss(eqx.tree_at(lambda n: n.synapses.free, net, weights), key, t1, 4)

    @jax.jit
    def step(weights: jax.Array, state: Any, key: jax.Array) -> tuple[jax.Array, Any]:
        on = jax.grad(lambda w: (mean(w, key) - target) ** 2)(weights)
        updates, state = optimiser.update(on, state)
        return optax.apply_updates(weights, updates), state

    weights = net.synapses.free
    state, held_out = optimiser.init(weights), jax.jit(lambda w: mean(w, jr.key(99)))
    before = float(held_out(weights))
    weights, state = step(weights, state, jr.key(100))
    begin = time.process_time()
    for k in range(1, steps):
        weights, state = step(weights, state, jr.key(100 + k))
    after = float(held_out(weights))
    spent = (time.process_time() - begin) / (steps - 1)
    found = {"neurons": neurons, "steps": steps, "target": target, "before": before, "after": after}
    return {**found, "cpu_s_per_step": spent}


def main() -> None:
    quick = "--quick" in sys.argv
    cases = [("4-16-2", *layers(), SAMPLES, 7)]
    cases += [(f"{n} all to all", *everyone(n), SAMPLES, 4) for n in ((30,) if quick else (100, 300))]
    if not quick:
        cases.append(("1000 all to all", *everyone(1000), 4, 2))
    rows = []
    for case in cases:
        rows.append(row(*case))
        print({k: round(v, 2) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    if not quick:
        trained = train(1000, 30, 0.3)
        print("training", trained)
        measure.write("ordered", {"machine": measure.machine(), "rows": rows, "training": trained})


if __name__ == "__main__":
    main()
