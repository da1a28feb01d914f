"""Draws what a hard-threshold gradient misses, for docs/networks.md: python docs/threshold_pictures.py.

One neuron gets three input spikes through one weight; the loss is a readout's mean squared distance from 0.1. Where the
weight makes a spike, the loss of a hard threshold jumps, which no derivative of a spike time sees. With an escape rate
the spike is certain or not by chance, and the mean over that chance is smooth.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np

import roughspike as rs

WEIGHTS = np.linspace(0.2, 5.0, 193)
INPUT = rs.SpikeTrain(np.array([[2e-3, 10e-3, 18e-3]]), t1=48e-3)


def loss(weight: jax.Array, neuron: rs.SLIF, samples: int | None) -> jax.Array:
    """Of the readout, mean over time and samples."""
    weights = [weight[None, None], jnp.ones((1, 1))]
    net = rs.FeedForward([1, 1, 1], neuron, weights=weights, readout=rs.Readout(20e-3, 5e-3))
    sol = rs.simulate(net, inputs=INPUT, t1=48e-3, dt=5e-4, key=jr.key(0), num_samples=samples, max_spikes_per_step=1)
    return 1e3 * jnp.mean((sol.membrane - 0.1) ** 2)


def main() -> None:
    escape = rs.ExponentialEscape(beta=10.0, v_th=1.0, tau_s=2e-3)
    cases = {
        "hard threshold": (rs.LIF(), None),
        "escape rate, mean of 400 samples": (rs.SLIF(mu=(50.0, 200.0), escape=escape), 400),
    }
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    for ax, (title, (neuron, samples)) in zip(axes, cases.items(), strict=True):
        both = jax.jit(jax.vmap(jax.value_and_grad(lambda w: loss(w, neuron, samples))))  # noqa: B023
        value, slope = (np.asarray(x) for x in both(jnp.asarray(WEIGHTS, jnp.float32)))
        ax.plot(WEIGHTS, value, color="tab:blue", label="loss")
        for k in range(4, WEIGHTS.size, 14):
            reach = 0.12
            ends = np.array([-reach, reach])
            ax.plot(WEIGHTS[k] + ends, value[k] + slope[k] * ends, color="tab:red", lw=2.0, solid_capstyle="round")
        ax.plot([], [], color="tab:red", lw=2.0, label="slope that the gradient reports")
        ax.set(xlabel="input weight", title=title)
    axes[0].set_ylabel("loss")
    axes[1].legend(frameon=False)
    fig.savefig(Path(__file__).parent / "images" / "threshold.svg")


if __name__ == "__main__":
    main()
