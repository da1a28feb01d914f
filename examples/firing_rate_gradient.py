"""The gradient of a firing rate, with and without the horizon term.

How does the expected firing rate of a noisy neuron change with its input current? The spike count is constant along
every simulated path until a spike enters or leaves the window, so the pathwise gradient of the rate is 0, whatever the
truth. With stochastic firing the missing part is known: `rs.with_horizon` adds it to the gradient of any loss, and
leaves the value as it is. Here the "loss" is the rate itself, beside a finite difference of means.

Left: the rate over the current, with tangents from both gradients. Right: the gradients over the current.
Run it: python examples/firing_rate_gradient.py [figure.svg]. It takes about twenty seconds.
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

import roughspike as rs
from roughspike.losses.base import AbstractLoss

T1, DT, SAMPLES = 3.0, 0.01, 4000
CURRENTS = np.linspace(0.6, 2.0, 8)
NEURON = rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4, alpha=0.03)
NO_DATA = rs.SpikeTrain(np.full((1, 1), np.inf), 0.0, T1)


class Rate(AbstractLoss):
    """Mean number of spikes per unit of time; needs no data."""

    def features(self, spikes: rs.SpikeTrain) -> jax.Array:
        """The rate of each sample."""
        return jnp.isfinite(spikes.times).sum(-1) / spikes.duration

    def compare(self, simulated: jax.Array, recorded: jax.Array) -> jax.Array:
        """The mean."""
        return simulated.mean()


def rate(current: jax.Array, key: jax.Array, samples: int, loss: AbstractLoss) -> jax.Array:
    """Mean firing rate of simulated samples."""
    cell = rs.Population(NEURON, current=current)
    sol = rs.simulate(cell, t1=T1, dt=DT, key=key, num_samples=samples, max_spikes=64)
    return loss(sol.spikes, NO_DATA)


def measure(samples: int) -> dict[str, np.ndarray]:
    """For every current: the rate, its gradient without and with the term, and the difference of two means."""
    key, found = jr.key(0), {}
    for name, loss in (("pathwise", Rate()), ("with horizon", rs.with_horizon(Rate()))):
        run = jax.jit(jax.value_and_grad(lambda c, k, loss=loss: rate(c, k, samples, loss)))
        found["rate"], found[name] = np.array([run(c, key) for c in CURRENTS]).T
    mean = jax.jit(lambda c, k: rate(c, k, samples, Rate()))
    reach, other = 0.05, jr.key(1)  # other random numbers than the gradient had, the same at both ends
    found["difference"] = np.array([mean(c + reach, other) - mean(c - reach, other) for c in CURRENTS]) / (2 * reach)
    return found


def draw(figure: Path, found: dict[str, np.ndarray]) -> None:
    """Tangents on the curve of the rate; gradients."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6), layout="constrained")
    left.plot(CURRENTS, found["rate"], color="0.6", lw=1.2)
    for c, value, *slopes in zip(CURRENTS, found["rate"], found["with horizon"], found["pathwise"], strict=True):
        for slope, colour in zip(slopes, ("tab:blue", "tab:red"), strict=True):
            ends = np.array([-0.06, 0.06])
            left.plot(c + ends, value + slope * ends, color=colour, lw=2.5)
    left.set(
        xlabel="input current c (thresholds)",
        ylabel="firing rate (1/s)",
        title="rate, and tangents",
    )
    right.plot(CURRENTS, found["difference"], "o", color="black", mfc="none", ms=8, label="finite difference of means")
    right.plot(CURRENTS, found["with horizon"], color="tab:blue", label="with the horizon term")
    right.plot(CURRENTS, found["pathwise"], color="tab:red", label="pathwise")
    right.set(xlabel="input current c (thresholds)", title="derivative of the rate in c", ylim=(-0.5, None))
    right.legend(frameon=False, loc="center right")
    fig.savefig(figure)
    plt.close(fig)


def main() -> dict[str, np.ndarray]:
    """Measure, print, draw."""
    found = measure(SAMPLES)
    print("current   rate   pathwise   with horizon   difference of means")
    for row in zip(CURRENTS, *(found[k] for k in ("rate", "pathwise", "with horizon", "difference")), strict=True):
        print("{:7.2f}{:7.2f}{:11.2f}{:15.2f}{:22.2f}".format(*row))
    figure = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "firing_rate_gradient.svg")
    draw(figure, found)
    print(f"wrote {figure}")
    return found


if __name__ == "__main__":
    main()
