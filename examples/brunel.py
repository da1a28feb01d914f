"""A sparse network of excitatory and inhibitory neurons: raster and rate (after Brunel 2000).

1000 stochastic neurons, 80 % excitatory, 10 % random connections, delay 1.5 ms, white noise in the potential. How much
stronger inhibition is than excitation, g, decides how the network fires: the example compares the rate and the
irregularity of the intervals between spikes at g = 3 and g = 5.

Reference: N. Brunel, Journal of Computational Neuroscience 8 (2000) 183-208; neurons and synapses here are not his.

Run it: python examples/brunel.py [figure.svg]. It takes about half a minute.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np

import roughspike as rs

NEURONS, EXCITATORY, CONNECTIONS, T1, DT = 1000, 800, 0.1, 300.0, 0.1  # times in ms


def network(g: float) -> rs.Recurrent:
    """Potentials in mV; a spike of an inhibitory neuron weighs -g times as much as one of an excitatory neuron."""
    rng = np.random.default_rng(0)
    pre, post = np.nonzero(rng.uniform(size=(NEURONS, NEURONS)) < CONNECTIONS)
    synapses = rs.Synapses.from_pairs(pre, post, np.where(pre < EXCITATORY, 1.0, -g), NEURONS, NEURONS, dale=True)
    neuron = rs.SLIF(
        mu=(1 / 20, 1 / 2),
        sigma=((0.63, 0.0), (0.0, 0.0)),
        v_reset=10.0,
        reset=rs.ResetToValue(),
        escape=rs.ExponentialEscape(beta=2.0, v_th=20.0, tau_s=1.0),
        refractory=2.0,
    )
    start = rng.uniform(0.0, 20.0, NEURONS)
    return rs.Recurrent(neuron, weights=synapses, delays=1.5, current=26.0, v0=start)


def irregularity(trains: list[np.ndarray]) -> float:
    """Mean coefficient of variation of the intervals between spikes, after the first 100 ms."""
    gaps = [np.diff(t[t > 100.0]) for t in trains]
    return float(np.mean([x.std() / x.mean() for x in gaps if x.size >= 4]))


def draw(axes: np.ndarray, g: float, sol: rs.Solution, trains: list[np.ndarray]) -> float:
    """Raster of every tenth neuron and the rate of all; the mean rate after 100 ms in Hz."""
    raster, rate = axes
    shown = [trains[k] for k in range(0, NEURONS, 10)]
    colours = ["tab:blue" if k < EXCITATORY else "tab:red" for k in range(0, NEURONS, 10)]
    raster.eventplot(shown, colors=colours, linewidths=1.0, linelengths=1.2)
    raster.set(title=f"g = {g:g}", ylim=(-1.0, len(shown)), yticks=(40, 90), yticklabels=("excitatory", "inhibitory"))
    raster.tick_params(axis="y", length=0, rotation=90)
    bins = np.arange(0.0, T1 + 1.0, 1.0)
    per_ms = np.histogram(np.concatenate(trains), bins)[0] / NEURONS
    rate.plot(bins[:-1], 1e3 * per_ms, color="black", lw=0.7)
    rate.set(xlabel="time (ms)", ylabel="rate (Hz)", xlim=(0.0, T1))
    return float(1e3 * per_ms[100:].mean())


def main() -> None:
    """Simulate both strengths, draw."""
    fig, axes = plt.subplots(2, 2, figsize=(9.5, 5), sharex=True, height_ratios=(2, 1), layout="constrained")
    found = []
    for column, g in enumerate((3.0, 5.0)):
        sol = rs.simulate(network(g), t1=T1, dt=DT, key=jr.key(1), max_spikes=256, max_spikes_per_step=1)
        trains = sol.spikes.to_lists()[0]
        hz, cv = draw(axes[:, column], g, sol, trains), irregularity(trains)
        found.append((hz, cv))
        print(f"g = {g:g}: {hz:6.1f} Hz, irregularity of the intervals {cv:.2f}, engine {sol.engine}")
    axes[1, 0].sharey(axes[1, 1])
    axes[1, 0].set_ylim(0.0, 110.0)
    (fast, regular), (slow, irregular) = found
    assert slow < 0.7 * fast and irregular > regular, found
    figure = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "brunel.svg")
    fig.savefig(figure)
    print(f"wrote {figure}")


if __name__ == "__main__":
    main()
