"""Online learning: a spiking network learns to draw a curve in one pass, with no backward pass and no stored run.

40 input channels repeat one frozen second of Poisson spikes; 60 neurons listen, one leaky readout must follow a sum of
sines. Every synapse carries two numbers forward in time (and those of the hidden layer one more for the readout);
the third factor is the error of the readout now. Their product is the exact gradient, the one of the adjoint, and Adam
moves the weights of both layers every 20 ms while the run goes on. At the end the network runs one period, frozen.

Reference: the derivative is that of Holberg & Salvi (2024), equations (6) and (7), moved forward as in Bellec et al.
(2020), without what they drop.

Run it: python examples/online_learning.py [figure.svg]. It takes about 20 CPU seconds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import roughspike as rs

PERIODS, DT, CHANNELS, HIDDEN = 25, 2e-3, 40, 60


def target(t: jax.Array) -> jax.Array:
    """A sum of sines of period 1 s."""
    return 0.6 * jnp.sin(2 * jnp.pi * t) + 0.4 * jnp.sin(4 * jnp.pi * t + 1.0)


def loss(t: jax.Array, now) -> jax.Array:
    """Squared error of the readout at the end of a step, times its length."""
    return DT * jnp.sum((now.membrane - target(t)) ** 2)


def network(key: jax.Array) -> rs.FeedForward:
    """Times in s."""
    neuron = rs.LIF(tau_mem=20e-3, tau_syn=10e-3)
    first, second = jr.split(key)
    weights = [0.7 * jr.normal(first, (CHANNELS, HIDDEN)), 0.1 * jr.normal(second, (HIDDEN, 1))]
    return rs.FeedForward([CHANNELS, HIDDEN, 1], neuron, weights=weights, current=0.8, readout=rs.Readout(40e-3, 20e-3))


def inputs(periods: int) -> rs.SpikeTrain:
    """The frozen second, again and again."""
    one = np.asarray(rs.poisson_spikes(jr.key(1), 20.0 * jnp.ones(CHANNELS), t1=1.0).times)
    times = np.concatenate([one + n for n in range(periods)], axis=1)
    return rs.SpikeTrain(np.sort(times, axis=1), t1=float(periods))


def drawn(net: rs.FeedForward) -> rs.Solution:
    """One period of a network with weights at rest."""
    return rs.simulate(net, inputs=inputs(1), t1=1.0, dt=DT)


def main() -> tuple[float, float]:
    """Learn, draw."""
    before = network(jr.key(0))
    every = round(20e-3 / DT)
    run = {"inputs": inputs(PERIODS), "t1": float(PERIODS), "dt": DT}
    found = rs.eligibility(before, loss, optimiser=optax.chain(optax.clip(0.05), optax.adam(1e-3)), every=every, **run)
    print(found.result, "; spikes of a hidden neuron per second:", float(found.counts[0].mean()) / PERIODS)
    errors = np.asarray(found.losses).reshape(PERIODS, -1).sum(axis=1)
    fig, (curve, course) = plt.subplots(1, 2, figsize=(9.5, 3.2), width_ratios=(2, 1), layout="constrained")
    t = np.arange(round(1 / DT) + 1) * DT
    for net, colour, name in ((before, "tab:grey", "before"), (found.network, "tab:blue", "after")):
        curve.plot(t, np.asarray(drawn(net).membrane)[0], color=colour, lw=1.1, label=name)
    curve.plot(t, target(t), color="black", lw=1.6, label="target")
    curve.set(xlabel="time (s)", ylabel="readout", title="one period, weights at rest")
    curve.legend(frameon=False, ncols=3, loc="lower left")
    course.semilogy(np.arange(1, PERIODS + 1), errors, color="tab:blue")
    course.set(xlabel="period of the one pass", ylabel="mean squared error", title="while learning")
    print(f"mean squared error: {errors[0]:.3f} in the first period, {errors[-5:].mean():.3f} in the last five")
    assert errors[-5:].mean() < 0.25 * errors[0], errors
    figure = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "online_learning.svg")
    fig.savefig(figure)
    print(f"wrote {figure}")
    return float(errors[0]), float(errors[-5:].mean())


if __name__ == "__main__":
    main()
