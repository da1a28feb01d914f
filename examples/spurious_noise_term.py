"""The spurious noise term of a solver that restarts at every spike, made visible.

How much of a shift of the first spike does the second one inherit? Along one path: (d tau_2 / d v0) / (d tau_1 / d v0).
Its spread over paths has a limit as the time step falls, since all noise terms cancel at a spike (Holberg & Salvi
2024, Theorem 3.1). Two ways to compute it:

- roughspike draws the noise on a grid once, so the discretised path is a differential equation with events: the noise
  terms cancel exactly. The spread that is left is real: the membrane at the second spike differs from path to path.
- A solver that stops at the spike and starts anew there asks a Brownian tree for B(tau). Its derivative in tau is
  stopped, while the interpolant on which tau was found has the slope sigma dB / dt: what remains is a term of mean 0
  and size sigma / sqrt(dt) in everything after the first spike. This is how the paper's public code works; written
  here on plain diffrax. Its noise after a spike moves along with the spike, which at a coarse step gives a smaller
  spread than a path that stays where it is; with the step the term grows over all bounds.

Run it: python examples/spurious_noise_term.py [figure.svg]. It takes about a minute.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optimistix

import roughspike as rs

T1, SIGMA, CURRENT, MU, RESET, BETA, ALPHA = 2.0, 0.25, 1.5, 15.0, 1.4, 5.0, 0.03
STEPS, SAMPLES = (1e-2, 4e-3, 1.6e-3, 6.4e-4), 500
NEURON = rs.SLIF(
    mu=(MU, 0.0), sigma=((SIGMA, 0.0), (0.0, 0.0)), v_reset=RESET, alpha=ALPHA, escape=rs.ExponentialEscape(beta=BETA)
)


def ours(v0: jax.Array, key: jax.Array, dt: float, samples: int) -> jax.Array:
    """The first two spike times of each sample, by roughspike."""
    cell = rs.Population(NEURON, current=CURRENT, v0=v0)
    sol = rs.simulate(cell, t1=T1, dt=dt, key=key, num_samples=samples, max_spikes=64, forward_mode=True)
    return sol.spikes.times[:, 0, :2]


class FrozenQueries(diffrax.AbstractPath):
    """A Brownian tree whose answers carry no derivative in the time that was asked for."""

    tree: diffrax.VirtualBrownianTree
    t0 = property(lambda self: self.tree.t0)
    t1 = property(lambda self: self.tree.t1)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        """The tree's increment."""
        return self.tree.evaluate(*jax.lax.stop_gradient((t0, t1)), left, use_levy)


def restarted(v0: jax.Array, key: jax.Array, dt: float, samples: int) -> jax.Array:
    """The first two spike times of each sample, by Euler steps and a new solve at every spike."""

    def drift(t, y, args):
        return jnp.stack([MU * (CURRENT - y[0]), jnp.exp(BETA * (y[0] - 1.0))])

    def one(key: jax.Array) -> jax.Array:
        path_key, threshold_key = jr.split(key)
        tree = diffrax.VirtualBrownianTree(0.0, T1 + dt, tol=dt / 2, shape=(1,), key=path_key)
        noise = diffrax.ControlTerm(lambda t, y, args: jnp.array([[SIGMA], [0.0]]), FrozenQueries(tree))
        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), noise)
        event = diffrax.Event(lambda t, y, args, **kwargs: y[1], optimistix.Newton(1e-5, 1e-5))
        how = {"event": event, "adjoint": diffrax.ForwardMode(), "max_steps": round(T1 / dt) + 2, "throw": False}
        t, v, times = jnp.zeros(()), v0, []
        for threshold in jnp.log(jr.uniform(threshold_key, (2,), minval=1e-30)) - ALPHA:
            start = jnp.minimum(t, T1 - dt)  # no spike was left: the solve runs all the same
            sol = diffrax.diffeqsolve(terms, diffrax.Euler(), start, T1, dt, jnp.stack([v, threshold]), **how)
            t, v = sol.ts[-1], sol.ys[-1, 0] - RESET
            times.append(t)
        return jnp.stack(times)

    return jax.vmap(one)(jr.split(key, samples))


def spread(times, dt: float, samples: int) -> float:
    """Standard deviation over paths of (d tau_2 / d v0) / (d tau_1 / d v0)."""
    run = jax.jit(lambda v0: jax.jvp(lambda v: times(v, jr.key(0), dt, samples), (v0,), (jnp.ones_like(v0),)))
    value, slope = (np.asarray(x) for x in run(jnp.zeros(())))
    there = value[:, 1] < T1 - dt  # the few paths with less than two spikes are left out
    return float(np.std(slope[there, 1] / slope[there, 0]))


def draw(figure: Path, steps: np.ndarray, found: dict[str, np.ndarray]) -> None:
    """Both spreads against the step, and the slope that the theory of the spurious term predicts."""
    fig, axes = plt.subplots(figsize=(5.2, 3.8), layout="constrained")
    axes.loglog(steps, found["restarted"], "o-", color="tab:red", label="restarted at every spike")
    axes.loglog(steps, found["ours"], "o-", color="tab:blue", label="roughspike")
    guide = found["restarted"][-1] * np.sqrt(steps[-1] / steps)
    axes.loglog(steps, guide, ":", color="0.4", label="proportional to $dt^{-1/2}$")
    axes.set(xlabel="time step dt", ylabel="standard deviation over paths", ylim=(0.05, 1.0))
    axes.set_yticks([0.05, 0.1, 0.2, 0.5, 1.0], ["0.05", "0.1", "0.2", "0.5", "1"])
    axes.set_title(r"spread of $(d\tau_2/dv_0)\,/\,(d\tau_1/dv_0)$")
    axes.legend(frameon=False)
    fig.savefig(figure)
    plt.close(fig)


def main() -> dict[str, np.ndarray]:
    """Measure, print, draw."""
    found = {f.__name__: np.array([spread(f, dt, SAMPLES) for dt in STEPS]) for f in (ours, restarted)}
    for k, dt in enumerate(STEPS):
        print(f"dt {dt:<8g} roughspike {found['ours'][k]:.3f}   restarted {found['restarted'][k]:.3f}")
    figure = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "spurious_noise_term.svg")
    draw(figure, np.array(STEPS), found)
    print(f"wrote {figure}")
    assert found["ours"][-1] < 1.25 * found["ours"][0], "the spread should not grow as the step falls"
    return found


if __name__ == "__main__":
    main()
