"""A thermostat in a draughty room: a hybrid system with noise, and what one degree more costs, by its derivative.

The room loses heat and is shaken by Brownian gusts; the sensor follows the room with a lag; the heater goes off when
the sensor reaches the upper mark and on when it falls to the lower one. The noise shakes the room, and the events read
the sensor, so noise does not move the event functions (assumption 3.4), and switching leaves what the noise acts on
alone (3.5): the switching times have derivatives. A thermostat that read the room itself would fail.

Run it: python examples/thermostat.py [figure.svg]. It takes about half a minute.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np

import roughspike as rs

HOURS, ROOMS = 14.0, 256
SETTINGS = {"upper": 21.0, "lower": 19.0, "outside": 5.0, "leak": 0.3, "heater": 8.0, "lag": 0.2, "gusts": 0.3}


def drift(t: jax.Array, y: jax.Array, p: dict[str, Any]) -> jax.Array:
    """State: room and sensor (degrees), heater (0 or 1), hours of heating so far."""
    room, sensor, heater, _ = y
    cooling = p["leak"] * (p["outside"] - room)
    return jnp.stack([cooling + p["heater"] * heater, (room - sensor) / p["lag"], jnp.zeros_like(t), heater])


def events(t: jax.Array, y: jax.Array, p: dict[str, Any]) -> jax.Array:
    """Kind 0 switches off at the upper mark, kind 1 on at the lower one."""
    _, sensor, heater, _ = y
    return jnp.stack(
        [jnp.where(heater > 0.5, sensor - p["upper"], -1.0), jnp.where(heater > 0.5, -1.0, p["lower"] - sensor)]
    )


def thermostat(noise_in_room: bool = True) -> rs.EventSDE:
    """The noise is in the room; or, for comparison, in the sensor that the events read."""
    gusts = jnp.array([[1.0], [0.0], [0.0], [0.0]]) if noise_in_room else jnp.array([[0.0], [1.0], [0.0], [0.0]])
    return rs.EventSDE(
        drift=drift,
        diffusion=lambda t, y, p: p["gusts"] * gusts,
        event=events,
        transition=lambda t, y, kind, u, p: y.at[2].set(jnp.where(kind == 0, 0.0, 1.0)),
    )


START = {"t0": 0.0, "t1": HOURS, "dt": 0.02, "y0": jnp.array([20.0, 20.0, 1.0, 0.0]), "driver": rs.BrownianPath(1)}


def run(p: dict[str, Any], key: jax.Array, save_at: jax.Array | None = None) -> rs.EventSolution:
    """One room."""
    return rs.solve(thermostat(), **START, args=p, key=key, max_events=48, save_at=save_at)


def share(upper: jax.Array | float, keys: jax.Array) -> jax.Array:
    """Share of the time with the heater on, over the first five whole cycles, mean over rooms.

    From one switching to another, so that it is smooth: in a fixed window the phase at its end would matter.
    """

    def one(key: jax.Array) -> jax.Array:
        sol = run(SETTINGS | {"upper": upper}, key)
        return (sol.event_states[10, 0, 3] - sol.event_states[0, 0, 3]) / (sol.event_times[10] - sol.event_times[0])

    return jax.vmap(one)(keys).mean()


def draw(figure: Path, value: float, slope: float, keys: jax.Array) -> None:
    """One room, and the share of heating over the upper mark with the computed tangent."""
    grid = jnp.linspace(0.0, HOURS, 701)
    sol = run(SETTINGS, jr.key(2), grid)
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(2, 1), layout="constrained")
    left.plot(grid, sol.ys[:, 0], color="0.6", lw=0.8, label="room")
    left.plot(grid, sol.ys[:, 1], color="tab:blue", label="sensor")
    left.fill_between(grid, 17.0, 17.5, where=np.asarray(sol.ys[:, 2]) > 0.5, color="tab:red", label="heater on", lw=0)
    left.hlines([SETTINGS["lower"], SETTINGS["upper"]], 0, HOURS, color="k", lw=0.6)
    left.set(xlabel="hour", ylabel="degrees", xlim=(0, HOURS))
    left.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.15))
    marks = np.linspace(20.4, 21.6, 5)
    compiled = jax.jit(share)
    right.plot(marks, [float(compiled(m, keys)) for m in marks], "o", color="0.5", label=f"mean of {ROOMS} rooms")
    ends = np.array([20.5, 21.5])
    right.plot(ends, value + slope * (ends - SETTINGS["upper"]), color="tab:red", label="computed derivative")
    right.set(xlabel="upper mark (degrees)", ylabel="share of time heating")
    right.legend(frameon=False)
    fig.savefig(figure)


def main() -> None:
    """Check the assumptions, differentiate, compare with differences, draw."""
    keys = jr.split(jr.key(0), ROOMS)
    for name, system in (("noise in the room", thermostat()), ("noise in the sensor", thermostat(False))):
        report = rs.check_assumptions(system, **START, args=SETTINGS, key=jr.key(1), max_events=512)
        print(f"{name}: {'all hold' if report.ok else report.messages()[0]}")
    compiled = jax.jit(share)
    value, slope = jax.jit(jax.value_and_grad(share))(SETTINGS["upper"], keys)
    difference = (compiled(21.02, keys) - compiled(20.98, keys)) / 0.04
    print(f"the heater is on {value:.2%} of the time; one degree more: {slope:+.3%}, by differences {difference:+.3%}")
    assert abs(slope - difference) < 0.003
    figure = Path(sys.argv[1] if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "thermostat.svg")
    draw(figure, float(value), float(slope), keys)
    print(f"wrote {figure}")


if __name__ == "__main__":
    main()
