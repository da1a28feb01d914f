"""Training by the distance of whole laws of spike trains: the signature kernel beside the expected signature.

1. The input current of the noisy neuron of Holberg & Salvi (2024, arXiv 2405.13587), Fig. 1: 64 trains on [0, 2],
   driven at c = 1.5; a model that starts at 0.565 follows the gradient of the loss on 64 fresh simulations a step.
2. The weights of two layers, 3 inputs, 8 hidden and 2 seen neurons, from 32 trains of the two for a fixed input, in a
   plain loop of optax: `rs.fit` takes populations. The trained network is tested on held-out trains (`rs.mmd_test`).
Both losses jump where a spike enters the window, hence `with_horizon`; the kernel of filtered trains does not.

Run it: python examples/signature_mmd_training.py [figure.svg]. It takes some 40 CPU seconds, most of them to compile.
`benchmarks/mmd_training.py` takes more steps, and trains the network by the expected signature too.
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import roughspike as rs

TRUE, START, T1, DT, SAMPLES, STEPS = 1.5, 0.565, 2.0, 0.01, 64, 40
SIZES, NET_SAMPLES, NET_STEPS, NET_T1 = (3, 8, 2), 32, 40, 1.0
NEURON = rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4, alpha=0.03)
CELL = rs.SLIF(mu=(20.0, 10.0), v_reset=1.2, escape=rs.ExponentialEscape(beta=5.0, v_th=1.0, tau_s=0.2))
KERNEL = rs.SignatureKernel(orders=(5, 5, 1))  # of one neuron; fixed orders are one program to compile
FILTERED = rs.SignatureKernel(lift=rs.FilteredLift(tau=0.1))  # for several neurons
LOSSES = {"signature kernel": (rs.with_horizon(rs.SignatureMMD(KERNEL)), rs.SignatureMMD(FILTERED))}
LOSSES["expected signature"] = (rs.with_horizon(rs.ExpectedSignatureLoss(depth=3)),) * 2
NET_LOSSES = ("signature kernel",)  # that train the network
WEIGHTS = lambda net: [layer.synapses.free for layer in net.layers]  # noqa: E731


def train_current(loss: Any) -> tuple[np.ndarray, float]:
    """The current after every fifth step, and the CPU seconds of training."""
    data = rs.simulate(rs.Population(NEURON, TRUE), t1=T1, dt=DT, key=jr.key(1), num_samples=SAMPLES).spikes
    seen = [(0, START)]
    note = lambda now: seen.append((now.step, float(now.model.current)))  # noqa: E731
    options: Any = {"dt": DT, "num_samples": SAMPLES, "chunk": 5, "progress": False, "callback": note}
    model, current = rs.Population(NEURON, START), lambda m: m.current
    fit = rs.fit(model, data, loss=loss, trainable=current, steps=STEPS, key=jr.key(2), **options)
    return np.array(seen), float(fit.history["seconds"][-1])


def network(key: jax.Array, scale: float) -> rs.FeedForward:
    """Three inputs, two layers; weights around `scale`, those of the second layer smaller by the number of neurons."""
    pairs = zip(jr.split(key), (1.0, 1.2 / SIZES[1]), zip(SIZES, SIZES[1:], strict=False), strict=True)
    start = [scale * size * jr.uniform(k, shape, minval=0.5, maxval=1.5) for k, size, shape in pairs]
    return rs.FeedForward(SIZES, neuron=CELL, weights=start, current=0.4)


def trains(net: rs.FeedForward, key: jax.Array, num_samples: int = NET_SAMPLES) -> rs.SpikeTrain:
    """Of the last layer, for the one input."""
    inputs = rs.SpikeTrain(jnp.linspace(0.05, 0.9, 12).reshape(4, 3).T, 0.0, NET_T1)
    return rs.simulate(net, inputs=inputs, t1=NET_T1, dt=DT, key=key, num_samples=num_samples, max_spikes=32).spikes


def train_network(loss: Any) -> tuple[rs.FeedForward, float]:
    """The trained network, and the CPU seconds of training."""
    data = trains(network(jr.key(0), 1.0), jr.key(10))
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.02, NET_STEPS)))

    @eqx.filter_jit
    def step(net: rs.FeedForward, state: Any, key: jax.Array) -> tuple[rs.FeedForward, Any]:
        value = lambda w: loss(trains(eqx.tree_at(WEIGHTS, net, w), key), data)  # noqa: E731
        updates, state = optimiser.update(jax.grad(value)(WEIGHTS(net)), state)
        return eqx.tree_at(WEIGHTS, net, optax.apply_updates(WEIGHTS(net), updates)), state

    net = network(jr.key(5), 0.6)
    state, begin = optimiser.init(WEIGHTS(net)), 0.0
    for key in jr.split(jr.key(6), NET_STEPS):
        net, state = jax.block_until_ready(step(net, state, key))
        begin = begin or time.process_time()  # the first step compiles
    return net, time.process_time() - begin


def rate(spikes: rs.SpikeTrain) -> tuple[np.ndarray, np.ndarray]:
    """Times, and the mean number of spikes until then of both neurons, the second after the first."""
    times, grid = np.asarray(spikes.times)[..., None, :], np.linspace(0, NET_T1, 51)
    counts = (times <= grid[:, None]).sum(-1).mean(0)
    return np.concatenate([grid, grid + NET_T1]), counts.ravel()


def main() -> dict[str, dict[str, Any]]:
    """Train, print, draw; by loss: the current, from which step on it is near, the network's p-value, CPU s a step."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.5), layout="constrained")
    held_out = trains(network(jr.key(0), 1.0), jr.key(20), 64)
    nets, found = {"before training": network(jr.key(5), 0.6)}, {}
    for (name, (one, several)), colour in zip(LOSSES.items(), ("tab:blue", "tab:orange"), strict=True):
        steps, seconds = train_current(one)
        left.plot(*steps.T, color=colour, label=name)
        near = steps[np.abs(steps[:, 1] - TRUE) < 0.05, 0]
        row = {"current": steps[-1, 1], "near_from_step": min(near, default=None), "current_s": seconds / STEPS}
        if name in NET_LOSSES:
            nets[name], seconds = train_network(several)
            row["network_s"] = seconds / NET_STEPS
        print(name, row, flush=True)
        found[name] = row
    for (name, net), colour in zip(nets.items(), ("0.7", "tab:blue", "tab:orange"), strict=False):
        seen = trains(net, jr.key(21), 64)
        test = rs.mmd_test(seen, held_out, kernel=FILTERED)
        print(f"{name}: p = {test.p_value:.3f} against held-out trains, MMD {test.statistic:.2g}")
        found[name] = found.get(name, {"current": START}) | {"p_value": test.p_value, "mmd": test.statistic}
        right.plot(*rate(seen), color=colour, label=name)
    right.plot(*rate(held_out), "k:", label="data, held out")
    left.axhline(TRUE, color="0.5", ls=":")
    left.set(xlabel="optimiser step", ylabel="input current c", title="Fig. 1: the current is found")
    left.legend(frameon=False)
    right.set(xlabel="time (s): first neuron, then second", ylabel="spikes so far", title="two layers: the output")
    right.legend(frameon=False)
    fig.savefig(sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/signature_mmd_training.svg")
    return found


if __name__ == "__main__":
    main()
