"""One stochastic neuron, written twice: as an `rs.EventSDE` for the general solver, and as an `rs.Population`.

The general solver takes any drift, diffusion, event and transition; the engine behind `rs.simulate` knows the exact
flow of this neuron and is the one to use for it. Each draws its own noise, so they agree in law: the first five spike
times are compared by the two-sample Kolmogorov-Smirnov test, the derivative of the mean first spike time in the current
by its standard error.

Run it: python examples/slif_as_event_sde.py [figure.svg]. It takes about half a minute.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import ks_2samp

import roughspike as rs

T1, DT, SAMPLES, SPIKES, CURRENT = 4.0, 0.01, 1000, 5, 1.5
NEURON = rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4, alpha=0.03)


def membrane(t: jax.Array, v: jax.Array, current: jax.Array) -> jax.Array:
    """dv = mu1 (c - v) dt between spikes (the synaptic current is 0 here)."""
    return NEURON.mu[0] * (current - v)


DIFFUSING = rs.EventSDE(membrane, diffusion=lambda t, v, current: NEURON.sigma[:1, :1])
AS_SDE = rs.hazard(
    DIFFUSING,
    rate=lambda t, v, current: NEURON.escape.rate(v),
    alpha=NEURON.alpha,
    transition=lambda t, v, kind, u, current: v - NEURON.v_reset,
)


def general(current: jax.Array | float, key: jax.Array, save_at: jax.Array | None = None) -> rs.EventSolution:
    """One sample by the general solver."""
    start, run = jr.split(key)
    y0 = AS_SDE.start(jnp.zeros(1), start)
    options = {"driver": rs.BrownianPath(1), "key": run, "max_events": 32, "save_at": save_at}
    return rs.solve(AS_SDE, t0=0.0, t1=T1, dt=DT, y0=y0, args=current, **options)


def by_general_solver(current: jax.Array | float, key: jax.Array) -> jax.Array:
    """First spike times, shape (samples, spikes)."""
    return jax.vmap(lambda k: general(current, k).event_times[:SPIKES])(jr.split(key, SAMPLES))


def by_engine(current: jax.Array | float, key: jax.Array) -> jax.Array:
    """The same from the engine for this neuron."""
    cell = rs.Population(NEURON, current=current)
    sol = rs.simulate(cell, t1=T1, dt=DT, key=key, num_samples=SAMPLES, max_spikes=32)
    return sol.spikes.times[:, 0, :SPIKES]


def slope_of_first(times: Callable[..., jax.Array]) -> tuple[float, float]:
    """Derivative of the mean first spike time in the current, and its standard error, from ten batches."""
    slope = jax.jit(jax.grad(lambda current, key: times(current, key)[:, 0].mean()))
    values = np.array([slope(CURRENT, key) for key in jr.split(jr.key(2), 10)])
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(10))


def draw(one: np.ndarray, two: np.ndarray, figure: Path) -> None:
    """A membrane of the general solver with its spikes, and the distribution of spike times from both."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4), layout="constrained")
    grid = jnp.linspace(0.0, T1, 801)
    sol = general(CURRENT, jr.key(8), grid)
    left.plot(grid, sol.ys.y[:, 0], color="tab:blue", lw=1)
    left.vlines(sol.event_times[: int(sol.num_events)], 1.9, 2.1, color="tab:red")
    left.set(xlabel="time", ylabel="membrane potential", title="EventSDE: one sample, its spikes in red")
    bins = np.linspace(0.0, T1, 81)
    for k in range(SPIKES):
        right.hist(one[:, k], bins, color=f"C{k}", alpha=0.35)
        right.hist(two[:, k], bins, color=f"C{k}", histtype="step")
    right.set(xlabel="time", ylabel="samples", title="spikes 1 to 5: EventSDE (filled), Population (line)")
    fig.savefig(figure)


def main() -> None:
    """Compare laws and derivatives, draw."""
    one = np.asarray(jax.jit(by_general_solver)(CURRENT, jr.key(0)))
    two = np.asarray(by_engine(CURRENT, jr.key(1)))
    print("spike   mean EventSDE   mean Population   p (Kolmogorov-Smirnov)")
    for k in range(SPIKES):
        p = ks_2samp(one[:, k], two[:, k]).pvalue
        print(f"{k + 1:5d}   {one[:, k].mean():13.4f}   {two[:, k].mean():15.4f}   {p:.2f}")
        assert p > 1e-3
    (a, error_a), (b, error_b) = slope_of_first(by_general_solver), slope_of_first(by_engine)
    print(f"d mean first time / d current: EventSDE {a:.4f} +- {error_a:.4f}, Population {b:.4f} +- {error_b:.4f}")
    assert abs(a - b) < 4 * np.hypot(error_a, error_b)
    figure = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "slif_as_event_sde.svg")
    draw(one, two, figure)
    print(f"wrote {figure}")


if __name__ == "__main__":
    main()
