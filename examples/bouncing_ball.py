"""A bouncing ball: impact times and their exact derivatives, against the closed form.

A ball falls from height 1 and every impact returns the fraction e of its velocity. With t_1 = sqrt(2 / g) the n-th
impact is at t_n = t_1 (1 + 2 (e + e^2 + ... + e^(n - 1))), so both the time and its derivative in e are known. The
solver finds each impact as a root along its own step, and `jax.jacobian` goes through all impacts before it.

Run it: python examples/bouncing_ball.py [figure.svg]. It takes about ten seconds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import roughspike as rs

GRAVITY, IMPACTS = 9.81, 8
BALL = rs.EventSDE(
    drift=lambda t, y, e: jnp.stack([y[1], jnp.full_like(y[1], -GRAVITY)]),
    event=lambda t, y, e: -y[:1],  # fires when the height falls to 0
    transition=lambda t, y, kind, u, e: jnp.stack([y[0], -e * y[1]]),
)


def bounce(e: jax.Array | float, save_at: jax.Array | None = None) -> rs.EventSolution:
    """Three seconds of a ball with restitution e."""
    return rs.solve(
        BALL, t0=0.0, t1=3.0, dt=0.01, y0=jnp.array([1.0, 0.0]), args=e, max_events=IMPACTS + 8, save_at=save_at
    )


def closed_form(e: float) -> tuple[np.ndarray, np.ndarray]:
    """The impact times, and their derivatives in e."""
    powers = np.arange(1, IMPACTS)
    first = np.sqrt(2 / GRAVITY)
    times = first * (1 + 2 * np.concatenate([[0.0], np.cumsum(e**powers)]))
    return times, first * 2 * np.concatenate([[0.0], np.cumsum(powers * e ** (powers - 1.0))])


def draw(e: float, times: np.ndarray, slopes: np.ndarray, figure: Path) -> None:
    """The height over time, and the impact times over e with the computed tangents."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    grid = jnp.linspace(0.0, 3.0, 601)
    left.plot(grid, bounce(e, grid).ys[:, 0], color="tab:blue")
    left.plot(times, np.zeros_like(times), "o", color="tab:red", ms=4, label="impacts")
    left.set(xlabel="time (s)", ylabel="height (m)", title=f"restitution {e}")
    left.legend(frameon=False)
    several = np.linspace(0.6, 0.85, 40)
    right.plot(several, [closed_form(x)[0] for x in several], color="0.7", lw=1.5)
    for time, slope in zip(times, slopes, strict=True):
        right.plot([e - 0.04, e + 0.04], [time - 0.04 * slope, time + 0.04 * slope], color="tab:red", lw=2)
    right.set(xlabel="restitution e", ylabel="impact time (s)", title="closed form (grey), computed derivative (red)")
    fig.savefig(figure)


def main() -> None:
    """Compare with the closed form and draw."""
    e = 0.75
    times = np.asarray(bounce(e).event_times[:IMPACTS])
    slopes = np.asarray(jax.jacobian(lambda e: bounce(e).event_times[:IMPACTS])(e))
    exact, exact_slopes = closed_form(e)
    print("impact   time      closed form   d time / d e   closed form")
    for row in zip(range(1, IMPACTS + 1), times, exact, slopes, exact_slopes, strict=True):
        print("{:6d}   {:.6f}  {:.6f}      {:8.5f}       {:8.5f}".format(*row))
    assert np.allclose(times, exact, rtol=1e-4) and np.allclose(slopes, exact_slopes, rtol=1e-3, atol=1e-4)
    figure = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "bouncing_ball.svg")
    draw(e, times, slopes, figure)
    print(f"wrote {figure}")


if __name__ == "__main__":
    main()
