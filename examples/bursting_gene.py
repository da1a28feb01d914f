"""Bursting gene expression: a piecewise deterministic Markov process, fitted by gradient.

Protein decays at rate 1 and comes in bursts of exponential size (mean b). Bursts happen at the rate
k / (1 + protein / 8): the protein represses its own gene. `rs.hazard` turns the rate into events whose times and
sizes move smoothly with k and b, so the gradient runs through the whole history of a cell. Fitted are the time averages
of protein and protein^2: they change smoothly when a burst enters or leaves the window, so the gradient of a simulated
average is the gradient of its expectation (a count of bursts, or the protein at the end, would jump).

Run it: python examples/bursting_gene.py [figure.svg]. It takes about a minute.
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

T1, CELLS, HALF = 20.0, 256, 8.0
TRUTH, START = {"k": 3.0, "b": 2.0}, {"k": 1.5, "b": 4.0}

GENE = rs.hazard(
    lambda t, y, p: jnp.stack([-y[0], y[0], y[0] ** 2]),  # protein, and the integrals of protein and its square
    rate=lambda t, y, p: p["k"] / (1 + y[0] / HALF),
    transition=lambda t, y, kind, u, p: y.at[0].add(-p["b"] * jnp.log(u[0])),
    num_uniforms=1,
)


def cell(p: dict[str, jax.Array], key: jax.Array, save_at: jax.Array | None = None) -> rs.EventSolution:
    """One cell over T1 lifetimes of the protein."""
    start, run = jr.split(key)
    y0 = GENE.start(jnp.array([3.0, 0.0, 0.0]), start)
    return rs.solve(GENE, t0=0.0, t1=T1, dt=0.2, y0=y0, args=p, key=run, max_events=96, save_at=save_at)


def averages(p: dict[str, jax.Array], key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean over cells of the time averages of protein and protein^2, and whether all buffers held."""
    solutions = jax.vmap(lambda k: cell(p, k))(jr.split(key, CELLS))
    return solutions.y1.y[:, 1:].mean(0) / T1, solutions.result.ok


def fit(recorded: jax.Array, steps: int = 80) -> list[dict[str, float]]:
    """Adam on mean and relative spread, in log k and log b, with fresh noise at every step."""

    def features(average: jax.Array) -> jax.Array:
        return jnp.log(jnp.stack([average[0], average[1] / average[0] ** 2]))

    def loss(logs: dict[str, jax.Array], key: jax.Array) -> tuple[jax.Array, jax.Array]:
        model, ok = averages(jax.tree.map(jnp.exp, logs), key)
        return jnp.sum((features(model) - features(recorded)) ** 2), ok

    optimiser = optax.adam(optax.exponential_decay(0.1, 25, 0.5))
    logs = jax.tree.map(jnp.log, jax.tree.map(jnp.asarray, START))
    state, history, gradient = optimiser.init(logs), [dict(START)], jax.jit(jax.grad(loss, has_aux=True))
    for key in jr.split(jr.key(1), steps):
        slope, ok = gradient(logs, key)
        assert bool(ok), "a cell had more bursts than there is room for: raise max_events"
        updates, state = optimiser.update(slope, state)
        logs = optax.apply_updates(logs, updates)
        history.append({name: float(jnp.exp(x)) for name, x in logs.items()})
    return history


def draw(history: list[dict[str, float]], figure: Path) -> None:
    """Three cells; the distribution of protein at the end of the window before and after; the path of the fit."""
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    grid = jnp.linspace(0.0, T1, 1001)
    for k in range(3):
        left.plot(grid, cell(TRUTH, jr.key(10 + k), grid).ys.y[:, 0], lw=1)
    left.set(xlabel="time (protein lifetimes)", ylabel="protein", title="three cells")
    ends = jax.jit(lambda p: jax.vmap(lambda k: cell(p, k).y1.y[0])(jr.split(jr.key(3), 1000)))
    bins = np.linspace(0, 16, 33)
    middle.hist(ends(TRUTH), bins, density=True, color="0.8", label="truth")
    for p, colour, name in ((START, "tab:orange", "start"), (history[-1], "tab:blue", "fitted")):
        middle.hist(ends(p), bins, density=True, histtype="step", color=colour, lw=1.5, label=name)
    middle.set(xlabel="protein at the end", ylabel="density", title="not used by the fit")
    middle.legend(frameon=False)
    for name, colour in (("k", "tab:purple"), ("b", "tab:green")):
        right.plot([row[name] for row in history], color=colour, label=name)
        right.axhline(TRUTH[name], color=colour, ls=":", lw=1)
    right.set(xlabel="step", title="burst rate k and size b (dotted: truth)", ylim=(0, None))
    right.legend(frameon=False)
    fig.savefig(figure)


def main() -> None:
    """Record, fit, draw."""
    recorded, ok = averages(TRUTH, jr.key(0))
    assert bool(ok), "a cell had more bursts than there is room for"
    history = fit(recorded)
    found = history[-1]
    print(f"recorded averages of protein and protein^2: {recorded}")
    print(f"burst rate {found['k']:.3f} (truth {TRUTH['k']}), burst size {found['b']:.3f} (truth {TRUTH['b']})")
    assert abs(found["k"] - TRUTH["k"]) < 0.4 and abs(found["b"] - TRUTH["b"]) < 0.3
    figure = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "bursting_gene.svg")
    draw(history, figure)
    print(f"wrote {figure}")


if __name__ == "__main__":
    main()
