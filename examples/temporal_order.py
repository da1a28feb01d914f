"""Delays that learn a temporal order: a neuron that answers to A, B, C and to no other order.

Three inputs spike once each, 8 ms apart, in one of six orders; all weights are equal, so the delays alone can tell the
orders apart. Gradient descent on the three delays, which start equal, makes the spikes of A, B, C arrive together
and those of the other orders apart. The membrane is trained as a readout; then it gets a threshold and must spike for
one order alone. The derivative of a voltage in a delay is exact, since spikes arrive off the grid.

Reference: conduction delays as memory of an order, Izhikevich, Neural Computation 18 (2006) 245-282; task and training
here are not his.

Run it: python examples/temporal_order.py [figure.svg]. It takes about 10 seconds.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import roughspike as rs

GAP, T1, DT, STEPS = 8.0, 60.0, 1.0, 200  # times in ms
ORDERS = list(itertools.permutations(range(3)))  # of the inputs A, B, C; the first one is the target
WEIGHT, TAU_MEM, TAU_SYN = 1.0, 6.0, 2.0
START = 16.0


def inputs() -> rs.SpikeTrain:
    """One spike per input and order, shape (orders, inputs, 1)."""
    return rs.SpikeTrain(2.0 + GAP * np.argsort(np.array(ORDERS), axis=1)[..., None].astype(float), t1=T1)


def network(delays: jax.Array, spikes: bool = False) -> rs.FeedForward:
    """Three synapses of one weight onto a membrane, which spikes or does not."""
    neuron = rs.LIF(TAU_MEM, TAU_SYN, v_th=0.45)
    readout = None if spikes else rs.Readout(TAU_MEM, TAU_SYN)
    return rs.FeedForward([3, 1], neuron, weights=[jnp.full((3, 1), WEIGHT)], delays=delays, readout=readout)


def voltage(delays: jax.Array) -> jax.Array:
    """Of each order on the grid."""
    return rs.simulate(network(delays), inputs=inputs(), t1=T1, dt=DT).membrane[:, 0]


def loss(log_delays: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross entropy of "which order has the highest peak", peaks smoothed over time; and the delays."""
    delays = jnp.exp(log_delays)
    peaks = jax.nn.logsumexp(20.0 * voltage(delays), axis=-1) / 20.0
    return optax.softmax_cross_entropy_with_integer_labels(10.0 * peaks, 0), delays


def train() -> tuple[np.ndarray, np.ndarray]:
    """Delays and loss at every step of Adam."""
    optimiser = optax.adam(0.03)

    @eqx.filter_jit
    def step(x, memory):
        (value, delays), slope = jax.value_and_grad(loss, has_aux=True)(x)
        move, memory = optimiser.update(slope, memory, x)
        return optax.apply_updates(x, move), memory, value, delays

    x = jnp.log(START + jnp.array([0.1, 0.0, -0.1]))
    memory, found = optimiser.init(x), []
    for _ in range(STEPS):
        x, memory, value, delays = step(x, memory)
        found.append((np.asarray(delays), float(value)))
    return np.stack([d for d, _ in found]), np.array([v for _, v in found])


def main() -> tuple[np.ndarray, list[int]]:
    """Train, put a threshold in, draw."""
    delays, losses = train()
    names = ["".join("ABC"[k] for k in order) for order in ORDERS]
    sol = rs.simulate(network(jnp.asarray(delays[-1]), spikes=True), inputs=inputs(), t1=T1, dt=DT)
    counts = [int(n) for n in np.asarray(sol.spikes.counts)[:, 0]]
    late = delays[-1][0] - delays[-1]
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.3f}; delays {np.round(delays[-1], 1)} ms")
    print(f"A waits {late[1]:.1f} ms more than B and {late[2]:.1f} ms more than C (the inputs come {GAP:g} ms apart)")
    print("spikes per order:", dict(zip(names, counts, strict=True)))
    assert counts[0] == 1 and sum(counts[1:]) == 0, counts
    fig, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    for k, name in enumerate("ABC"):
        axes[0].plot(delays[:, k], label=name)
    axes[0].set(xlabel="step", ylabel="delay (ms)", title="three delays learn")
    axes[0].legend(frameon=False, loc="center right")
    for ax, d, title in ((axes[1], delays[0], "before"), (axes[2], delays[-1], "after")):
        v, t = np.asarray(voltage(jnp.asarray(d))), np.arange(round(T1 / DT) + 1) * DT
        for k, name in enumerate(names):
            own = {"color": "tab:red", "lw": 1.6, "zorder": 3, "label": f"order {name}"}
            ax.plot(t, v[k], **(own if k == 0 else {"color": "0.6", "lw": 0.9, "label": "the others" * (k == 1)}))
        ax.axhline(0.45, color="black", ls=":", lw=0.8, label="threshold")
        ax.set(xlabel="time (ms)", title=title, ylim=(0.0, 0.75))
    axes[1].set_ylabel("membrane potential")
    axes[1].legend(frameon=False, loc="upper right", fontsize="small")
    figure = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "temporal_order.svg")
    fig.savefig(figure)
    print(f"wrote {figure}")
    return delays[-1], counts


if __name__ == "__main__":
    main()
