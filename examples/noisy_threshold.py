"""Why a hard threshold with noise has no pathwise gradient, as a picture; and why a hazard has one.

Brownian motion with drift c starts at 0; the event is the first time at 1. Hold the Brownian path and move c: just
before a peak of the path touches the threshold the event is late, just after it is early. The event time jumps, at
every peak. Its derivative between the jumps misses them: its mean has nothing to do with the derivative of the mean,
which is known, d E T / dc = -1 / c^2. With a rate in place of the threshold the event time is smooth in c, and the
mean of its derivative is the derivative of its mean.

Run it: python examples/noisy_threshold.py [figure.svg]. It takes about half a minute.
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

T1, STEPS, DRIFT, PATHS = 6.0, 1200, 2.0, 1000
NOISE = rs.BrownianPath(1)


def away(t: jax.Array, y: jax.Array, kind: jax.Array, u: jax.Array, c: jax.Array) -> jax.Array:
    """After the event: far below, so that there is no second one."""
    return y - 100.0


WALK = rs.EventSDE(lambda t, y, c: c + jnp.zeros_like(y), lambda t, y, c: jnp.ones((1, 1), y.dtype))
HARD = rs.EventSDE(WALK.drift, WALK.diffusion, event=lambda t, y, c: y - 1.0, transition=away)
SOFT = rs.hazard(WALK, lambda t, y, c: jnp.exp(jnp.minimum(5.0 * (y[0] - 1.0), 10.0)), transition=away)


def first(hard: bool, c: jax.Array, key: jax.Array, save_at: jax.Array | None = None) -> rs.EventSolution:
    """One path, the same for every c, up to its first event."""
    start, run = jr.split(key)
    y0 = jnp.zeros(1) if hard else SOFT.start(jnp.zeros(1), start)
    return rs.solve(
        HARD if hard else SOFT,
        **{"t0": 0.0, "t1": T1, "num_steps": STEPS, "y0": y0, "args": c, "driver": NOISE, "key": run},
        max_events=1,
        save_at=save_at,
    )


def event_time(hard: bool, c: jax.Array, key: jax.Array) -> jax.Array:
    """The time of the first event; the end of the window if there is none (rare)."""
    return jnp.minimum(first(hard, c, key).event_times[0], T1)


def derivative_of_mean(hard: bool) -> tuple[float, float, float]:
    """Mean of the pathwise derivative, its standard error, and the difference of means on common paths, at DRIFT."""
    keys = jr.split(jr.key(1), PATHS)
    slope = jax.jit(jax.vmap(jax.grad(lambda c, k: event_time(hard, c, k)), in_axes=(None, 0)))
    mean = jax.jit(lambda c: jax.vmap(lambda k: event_time(hard, c, k))(keys).mean())
    slopes = slope(DRIFT, keys)
    error = float(slopes.std()) / PATHS**0.5
    return float(slopes.mean()), error, float((mean(DRIFT + 0.1) - mean(DRIFT - 0.1)) / 0.2)


def draw(figure: Path) -> None:
    """Left: one path at two drifts on either side of a jump. Right: event times over the drift, hard and as a rate."""
    drifts, keys = jnp.linspace(1.0, 3.0, 401), jr.split(jr.key(16), 4)
    times = {
        hard: np.asarray(jax.jit(jax.vmap(lambda k, h=hard: jax.vmap(lambda c: event_time(h, c, k))(drifts)))(keys))
        for hard in (True, False)
    }
    lane, at = np.unravel_index(np.argmax(-np.diff(times[True], axis=1)), (len(keys), len(drifts) - 1))
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    grid = jnp.linspace(0.0, 3.0, 601)
    for k, colour in ((at, "tab:blue"), (at + 1, "tab:orange")):
        y = np.asarray(first(True, drifts[k], keys[lane], grid).ys[:, 0])
        hit = times[True][lane, k]
        left.plot(grid[y > -50], y[y > -50], color=colour, lw=1, label=f"drift {float(drifts[k]):.3f}: {hit:.2f}")
        left.plot(hit, 1.0, "o", color=colour)
    left.axhline(1.0, color="0.5", lw=0.8)
    left.set(xlabel="time", ylabel="state", title="two almost equal drifts, one Brownian path")
    left.legend(frameon=False, loc="lower right", title="first time at 1")
    for k in range(len(keys)):
        right.plot(drifts, times[True][k], color="tab:red", lw=1, label="hard threshold" if k == 0 else None)
        right.plot(drifts, times[False][k], color="tab:green", lw=1.5, label="hazard" if k == 0 else None)
    right.set(xlabel="drift c", ylabel="event time", title="four Brownian paths", ylim=(0, None))
    right.legend(frameon=False)
    fig.savefig(figure)


def main() -> None:
    """Ask the library, measure, draw."""
    y0 = jnp.zeros(1)
    report = rs.check_assumptions(HARD, y0=y0, t1=T1, num_steps=STEPS, args=DRIFT, driver=NOISE, key=jr.key(0))
    print(report.messages()[0])
    hard, soft = derivative_of_mean(True), derivative_of_mean(False)
    shown = [f"mean of the derivative {m:.3f} +- {error:.3f}, differences {d:.3f}" for m, error, d in (hard, soft)]
    print(f"threshold: {shown[0]}, exact {-1 / DRIFT**2:.3f}")
    print(f"hazard:    {shown[1]}")
    assert not report.ok and abs(soft[0] - soft[2]) < 4 * soft[1] and abs(hard[0] - hard[2]) > 4 * hard[1]
    figure = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "noisy_threshold.svg")
    draw(figure)
    print(f"wrote {figure}")


if __name__ == "__main__":
    main()
