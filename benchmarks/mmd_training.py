"""Training by the MMD of the signature kernel and by the expected signature: how far, in how many steps, at what cost.

1. The current of `examples/signature_mmd_training.py`, 64 trains and 64 samples, 100 steps.
2. The weights of two layers, 3 inputs, 8 hidden and 2 seen neurons, from 32 trains of the two for a fixed input, in a
   plain loop of optax: `rs.fit` takes populations. Four trainings from different weights, each tested on 64 held-out
   trains (`rs.mmd_test`). The kernel is that of filtered trains, whose gradient needs no horizon term, as it is and
   normalised.

    python benchmarks/mmd_training.py [figure.svg]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import measure
import numpy as np
import optax

import roughspike as rs

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import signature_mmd_training as example

SIZES, NET_SAMPLES, NET_STEPS, NET_T1 = (3, 8, 2), 32, 100, 1.0
CELL = rs.SLIF(mu=(20.0, 10.0), v_reset=1.2, escape=rs.ExponentialEscape(beta=5.0, v_th=1.0, tau_s=0.2))
TRAININGS, HELD_OUT = 4, 64
LIFT = rs.FilteredLift(tau=0.1)
FILTERED, NORMALISED = (rs.SignatureKernel(lift=LIFT, normalise=on) for on in (False, True))
NET_LOSSES = example.LOSSES | {
    "signature kernel": rs.SignatureMMD(FILTERED),
    "normalised kernel": rs.SignatureMMD(NORMALISED),
}
WEIGHTS = lambda net: [layer.synapses.free for layer in net.layers]  # noqa: E731


def network(key: jax.Array, scale: float) -> rs.FeedForward:
    """Three inputs, two layers; weights around `scale`, those of the second layer smaller by the number of neurons."""
    pairs = zip(jr.split(key), (1.0, 1.2 / SIZES[1]), zip(SIZES, SIZES[1:], strict=False), strict=True)
    start = [scale * size * jr.uniform(k, shape, minval=0.5, maxval=1.5) for k, size, shape in pairs]
    return rs.FeedForward(SIZES, neuron=CELL, weights=start, current=0.4)


def trains(net: rs.FeedForward, key: jax.Array, num_samples: int = NET_SAMPLES) -> rs.SpikeTrain:
    """Of the last layer, for the one input."""
    inputs = rs.SpikeTrain(jnp.linspace(0.05, 0.9, 12).reshape(4, 3).T, 0.0, NET_T1)
    return rs.simulate(
        net, inputs=inputs, t1=NET_T1, dt=example.DT, key=key, num_samples=num_samples, max_spikes=32
    ).spikes


def start_of(training: int) -> rs.FeedForward:
    """Weights that a training starts from: its two neurons spike about once."""
    return network(jr.key(5 + 100 * training), 0.6)


def train_network(loss: Any) -> tuple[list[rs.FeedForward], float]:
    """The trained networks, and the CPU seconds of a step."""
    data = trains(network(jr.key(0), 1.0), jr.key(10))
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.02, NET_STEPS)))

    @eqx.filter_jit
    def step(net: rs.FeedForward, state: Any, key: jax.Array) -> tuple[rs.FeedForward, Any]:
        value = lambda w: loss(trains(eqx.tree_at(WEIGHTS, net, w), key), data)  # noqa: E731
        updates, state = optimiser.update(jax.grad(value)(WEIGHTS(net)), state)
        return eqx.tree_at(WEIGHTS, net, optax.apply_updates(WEIGHTS(net), updates)), state

    found, seconds = [], 0.0
    for training in range(TRAININGS):
        net = start_of(training)
        state = optimiser.init(WEIGHTS(net))
        if not training:
            jax.block_until_ready(step(net, state, jr.key(0)))  # compiles
        begin = time.process_time()
        for key in jr.split(jr.key(6 + training), NET_STEPS):
            net, state = jax.block_until_ready(step(net, state, key))
        seconds += time.process_time() - begin
        found.append(net)
    return found, seconds / (TRAININGS * NET_STEPS)


def rate(spikes: rs.SpikeTrain) -> tuple[np.ndarray, np.ndarray]:
    """Times, and the mean number of spikes until then of both neurons, the second after the first."""
    times, grid = np.asarray(spikes.times)[..., None, :], np.linspace(0, NET_T1, 51)
    counts = (times <= grid[:, None]).sum(-1).mean(0)
    return np.concatenate([grid, grid + NET_T1]), counts.ravel()


def row_of(name: str, nets: list[rs.FeedForward], held_out: rs.SpikeTrain) -> dict[str, Any]:
    """Whether the networks of a row can be told from the held-out trains, and what the first of them fires."""
    seen = [trains(net, jr.key(21), HELD_OUT) for net in nets]
    p_values = [rs.mmd_test(x, held_out, kernel=FILTERED).p_value for x in seen]
    return {"name": name, "p_values": p_values, "output": rate(seen[0])[1].tolist()}


def trained_row(name: str, held_out: rs.SpikeTrain) -> dict[str, Any]:
    """Both trainings by one loss; the current by those of the example alone."""
    nets, seconds = train_network(NET_LOSSES[name])
    row = row_of(name, nets, held_out) | {"network_cpu_s": seconds}
    if name not in example.LOSSES:
        return row
    steps, seconds = example.train_current(example.LOSSES[name])
    near = steps[np.abs(steps[:, 1] - example.TRUE) < 0.05, 0]
    found = {"current": steps[-1, 1], "near_at_step": min(near, default=None), "current_cpu_s": seconds}
    return row | found | {"steps": steps.tolist()}


def main() -> None:
    """Train, print, draw, write; rows that the file of results has are kept: delete it to measure anew."""
    example.SAMPLES, example.STEPS = 64, 100
    path = measure.RESULTS / "mmd_training.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    data = trains(network(jr.key(0), 1.0), jr.key(20), HELD_OUT)
    for name in ("before training", *NET_LOSSES):
        if all(row["name"] != name for row in rows):
            start = {"current": example.START}
            first = name == "before training"
            nets = [start_of(k) for k in range(TRAININGS)]
            rows.append(row_of(name, nets, data) | start if first else trained_row(name, data))
            measure.write("mmd_training", {"machine": measure.machine(), "rows": rows})
            print({key: value for key, value in rows[-1].items() if key not in ("output", "steps")}, flush=True)
    draw(rows, data)


def draw(rows: list[dict[str, Any]], data: rs.SpikeTrain) -> None:
    """The current at each step, and the mean output of the networks."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.5), layout="constrained")
    for row, colour in zip(rows, ("0.7", "tab:blue", "tab:orange", "tab:green"), strict=True):
        if "steps" in row:
            left.plot(*np.array(row["steps"]).T, color=colour, label=row["name"])
        right.plot(rate(data)[0], row["output"], color=colour, label=row["name"])
    right.plot(*rate(data), "k:", label="data, held out")
    left.axhline(example.TRUE, color="0.5", ls=":")
    left.set(xlabel="optimiser step", ylabel="input current c", title="Fig. 1: the current is found")
    right.set(xlabel="time (s): first neuron, then second", ylabel="spikes so far", title="two layers: the output")
    for axes in (left, right):
        axes.legend(frameon=False)
    fig.savefig(sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/mmd_training.svg")


if __name__ == "__main__":
    main()
