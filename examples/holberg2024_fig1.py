"""A short Fig. 1 of Holberg & Salvi (2024, arXiv 2405.13587): the input current of a noisy neuron from its spikes.

A neuron is driven at c = 1.5; 64 samples of its first three spikes on [0, 5] are seen. A model starts at 0.565 and
follows the gradient of simulated spike times, with fresh noise at every step: 1500 steps of the paper's optimiser.
Two settings: the expected signature at noise 0.25, and the mean first spike times at noise 0.5. The error of a step is
the mean absolute difference of the mean first three times from those of 64 held-out samples. The whole figure, with
the published numbers beside ours: `roughspike reproduce holberg2024-fig1`.

Run it: python examples/holberg2024_fig1.py [figure.svg]. It takes about half a minute.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import roughspike as rs

TRUE, START, T1, DT, SAMPLES, STEPS = 1.5, 0.565, 5.0, 0.01, 64, 1500
SIGNATURE = rs.ExpectedSignatureLoss(depth=3)
FIRST_TIMES = rs.FirstSpikesLoss(n=3, rate=np.inf)  # a missing spike counts as one at T1
SETTINGS = {  # name: loss, size of the membrane noise, what the paper's public results say of c at 64 samples
    "expected signature, noise 0.25": (SIGNATURE, 0.25, 1.495),
    "first three spike times, noise 0.5": (FIRST_TIMES, 0.5, 1.491),
}


def simulate(c: jax.Array | float, sigma: float, key: jax.Array) -> rs.SpikeTrain:
    """The first three spikes of each sample."""
    escape = rs.ExponentialEscape(beta=5.0, v_th=1.0, tau_s=1.0)
    neuron = rs.SLIF(mu=(15.0, 0.0), sigma=((sigma, 0.0), (0.0, 0.0)), v_reset=1.4, alpha=0.03, escape=escape)
    sol = rs.simulate(rs.Population(neuron, current=c), t1=T1, dt=DT, key=key, num_samples=SAMPLES, max_spikes=3)
    return sol.spikes  # that there were more than three is as it should be


def capped(spikes: rs.SpikeTrain, other: rs.SpikeTrain) -> rs.SpikeTrain:
    """Each train without the spikes that its partner in the other batch lacks, as in the paper."""
    return rs.SpikeTrain(jnp.where(jnp.isfinite(other.times), spikes.times, jnp.inf), 0.0, T1)


def mean_times(spikes: rs.SpikeTrain) -> jax.Array:
    """Mean times of the first three spikes; a missing one counts as T1."""
    return jnp.minimum(spikes.times[:, 0], T1).mean(axis=0)


def train(loss: rs.ExpectedSignatureLoss | rs.FirstSpikesLoss, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """The current and the held-out error after each step."""
    recorded, held_out = (jax.jit(simulate)(TRUE, sigma, jr.key(k)) for k in (1, 2))
    optimiser = optax.rmsprop(1e-3, decay=0.7, momentum=0.3)

    def value(c: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        spikes = simulate(c, sigma, key)
        error = jnp.abs(mean_times(spikes) - mean_times(held_out)).mean()
        if loss is SIGNATURE:
            return loss(capped(spikes, recorded), capped(recorded, spikes)), error
        return loss(spikes, recorded), error

    def step(state: tuple, key: jax.Array) -> tuple:
        c, moments = state
        slope, error = jax.grad(value, has_aux=True)(c, key)
        update, moments = optimiser.update(slope, moments)
        return (c + update, moments), (c + update, error)

    start = jnp.asarray(START)
    run = jax.jit(partial(jax.lax.scan, step))
    _, (c, error) = run((start, optimiser.init(start)), jr.split(jr.key(3), STEPS))
    return np.asarray(c), np.asarray(error)


def draw(figure: Path, found: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """The current, and the held-out error, against the step."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.5), layout="constrained")
    for (name, (c, error)), colour, width in zip(found.items(), ("tab:blue", "tab:orange"), (4.0, 1.2), strict=True):
        left.plot(np.arange(1, len(c) + 1), c, color=colour, lw=width, label=name)
        right.semilogy(np.arange(1, len(c) + 1), error, color=colour, lw=0.8, alpha=0.7)
    left.axhline(TRUE, color="0.5", ls=":", label=f"truth, {TRUE}")
    left.set(xlabel="optimiser step", ylabel="input current c", title="the current is found")
    left.legend(frameon=False)
    right.set(xlabel="optimiser step", ylabel="error (s)", title="mean first three spike times, held out")
    fig.savefig(figure)
    plt.close(fig)


def main() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Train, print, draw."""
    found = {name: train(loss, sigma) for name, (loss, sigma, _) in SETTINGS.items()}
    for name, (c, error) in found.items():
        near = np.abs(c - TRUE) < 0.05
        first = f"first within 0.05 at step {np.argmax(near) + 1}" if near.any() else "not within 0.05"
        print(f"{name}: c = {c[-1]:.3f} (paper: {SETTINGS[name][2]}), {first}, error {error[-100:].mean():.3f}")
    figure = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "holberg2024_fig1.svg")
    draw(figure, found)
    print(f"wrote {figure}")
    return found


if __name__ == "__main__":
    main()
