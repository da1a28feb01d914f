"""Draw the pictures of the documentation from real simulations: python docs/pictures.py."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib
import numpy as np

import roughspike as rs

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

FOLDER = Path(__file__).parent / "images"
INK, RED, BLUE = "#37474f", "#c62828", "#1565c0"


def neuron() -> rs.SLIF:
    """The neuron of the README: 15 / s, diffusion in the membrane, escape noise."""
    return rs.SLIF(
        mu=(15.0, 0.0),
        sigma=((0.25, 0.0), (0.0, 0.0)),
        v_reset=1.4,
        alpha=0.03,
        escape=rs.ExponentialEscape(beta=5.0, v_th=1.0, tau_s=1.0),
    )


def draw() -> Path:
    """Membrane, raster, and spike times as functions of the current with their exact tangents."""
    figure, (trace, raster, tangent) = plt.subplots(
        1, 3, figsize=(11, 3.1), constrained_layout=True, gridspec_kw={"width_ratios": [1.15, 1, 1]}
    )
    draw_trace(trace)
    draw_raster(raster)
    draw_tangents(tangent)
    for axes in (trace, raster, tangent):
        axes.spines[["top", "right"]].set_visible(False)
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "neuron.svg"
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    plt.close(figure)
    return path


def draw_trace(axes: plt.Axes) -> None:
    """One sample: membrane potential on the grid, spikes off the grid."""
    sol = rs.simulate(rs.Population(neuron(), current=1.5), t1=2.0, dt=0.002, key=jr.key(3), trace=True)
    assert sol.membrane is not None
    axes.plot(sol.times, sol.membrane[0], color=INK, linewidth=0.9)
    axes.axhline(1.0, color="#90a4ae", linestyle=":", linewidth=1)
    axes.eventplot(sol.spikes.to_lists()[0][0], lineoffsets=1.75, linelengths=0.3, colors=RED, linewidths=1.2)
    axes.set(xlabel="time (s)", ylabel="membrane potential (thresholds)", title="a noisy membrane, spikes, resets")


def draw_raster(axes: plt.Axes) -> None:
    """Forty samples."""
    cell = rs.Population(neuron(), current=1.5)
    sol = rs.simulate(cell, t1=2.0, dt=0.01, key=jr.key(0), num_samples=40)
    trains = [trial[0] for trial in sol.spikes.to_lists()]
    axes.eventplot(trains, colors=INK, linelengths=0.8, linewidths=0.9)
    axes.set(xlabel="time (s)", ylabel="sample", title="40 samples, same current")


def draw_tangents(axes: plt.Axes) -> None:
    """The first three spikes of one sample over the input current, and the derivative that JAX returns."""

    def first_times(current: jax.Array) -> jax.Array:
        cell = rs.Population(neuron(), current=current)
        return rs.simulate(cell, t1=3.0, dt=0.01, key=jr.key(8), max_spikes=64).spikes.times[0, :3]

    currents = jnp.linspace(1.3, 1.7, 81)
    times = jax.jit(jax.vmap(first_times))(currents)
    axes.plot(currents, times, color=INK, linewidth=1.2)
    at = jnp.asarray(1.5)
    value, slope = first_times(at), jax.jacrev(first_times)(at)
    reach = np.array([-0.08, 0.08])
    for v, d in zip(np.asarray(value), np.asarray(slope), strict=True):
        axes.plot(at + reach, v + d * reach, color=RED, linewidth=2)
        axes.plot(at, v, "o", color=RED, markersize=4)
    axes.set(xlabel="input current (thresholds)", ylabel="spike time (s)", title="exact derivatives (red)")
    axes.set_ylim(bottom=0)


if __name__ == "__main__":
    print(draw())
