"""Measure what the page "What the noise does to the gradient" says, into noise.json: python docs/noise_runs.py [part].

The neuron is that of Holberg & Salvi's Fig. 1 at c = 1.5. It takes some minutes. The figures and tables are made from
the JSON by noise_pictures.py.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import noise_surrogate
import numpy as np

import roughspike as rs

FILE = Path(__file__).parent / "noise.json"
CURRENT, MU, RESET, ALPHA = 1.5, 15.0, 1.4, 0.03


def neuron(sigma: float, beta: float) -> rs.SLIF:
    """The neuron of Fig. 1 with other noises; sigma = 0 has no diffusion at all."""
    escape = rs.ExponentialEscape(beta=beta, v_th=1.0, tau_s=1.0)
    return rs.SLIF(mu=(MU, 0.0), sigma=((sigma, 0.0), (0.0, 0.0)), v_reset=RESET, alpha=ALPHA, escape=escape)


def step_for(sigma: float, beta: float) -> float:
    """A step that resolves the rate: beta times what v moves in it, by drift and by noise, stays small."""
    return min(0.01, 0.25 / (beta * MU * CURRENT), 0.06 / max(beta * sigma, 1e-9) ** 2)


def window_for(beta: float) -> float:
    """Long enough for three spikes of nearly every path."""
    return 12.0 if beta < 5 else 4.0 if beta < 10 else 2.0 if beta < 20 else 0.8


def spike_slopes(sigma: float, beta: float, samples: int) -> dict[str, Any]:
    """Mean and standard deviation over paths of d tau_n / dc, n = 1, 2, 3, beside differences of means (same paths)."""
    cell, t1, dt = neuron(sigma, beta), window_for(beta), step_for(sigma, beta)

    def times(c: jax.Array) -> jax.Array:
        how = {"key": jr.key(0), "num_samples": samples, "max_spikes": 3, "max_spikes_per_step": 1}
        return rs.simulate(rs.Population(cell, c), t1=t1, dt=dt, forward_mode=True, **how).spikes.times[:, 0]

    run = jax.jit(times)
    c, reach = jnp.asarray(CURRENT), 0.02
    value, slope = jax.jit(lambda c: jax.jvp(times, (c,), (jnp.ones_like(c),)))(c)
    low, high = run(c - reach), run(c + reach)
    there = np.isfinite(np.asarray(value + low + high)).all(axis=1)
    value, slope = np.asarray(value)[there], np.asarray(slope)[there]
    change = np.asarray(high - low)[there] / (2 * reach)
    return {
        "sigma": sigma,
        "beta": beta,
        "missing": float(1 - there.mean()),
        "time": value.mean(axis=0).tolist(),
        "mean": slope.mean(axis=0).tolist(),
        "sd": slope.std(axis=0).tolist(),
        "sem": (slope.std(axis=0) / np.sqrt(len(slope))).tolist(),
        "difference": change.mean(axis=0).tolist(),
        "difference_sem": (change.std(axis=0) / np.sqrt(len(change))).tolist(),
    }


def lif_limit() -> dict[str, list[float]]:
    """Spike times and their derivative in c of the leaky integrate-and-fire neuron with a hard threshold at 1."""

    def times(c: jax.Array) -> jax.Array:
        first = -jnp.log(1 - 1 / c) / MU
        between = jnp.log((c - 1 + RESET) / (c - 1)) / MU
        return first + between * jnp.arange(3.0)

    c = jnp.asarray(CURRENT)
    return {"time": times(c).tolist(), "slope": jax.jacfwd(times)(c).tolist()}


def loss_gradients(sigma: float, beta: float, keys: int = 64, samples: int = 128) -> dict[str, Any]:
    """Gradient in c at 1.2 of the first-spikes loss, data at 1.5: mean and standard deviation over keys."""
    cell, loss, t1 = neuron(sigma, beta), rs.FirstSpikesLoss(n=3, unbiased=True), max(4.0, window_for(beta))
    how = {"t1": t1, "dt": step_for(sigma, beta), "max_spikes": 64}
    data = rs.simulate(rs.Population(cell, CURRENT), key=jr.key(1), num_samples=4096, **how).spikes

    def value(c: jax.Array, key: jax.Array) -> jax.Array:
        return loss(rs.simulate(rs.Population(cell, c), key=key, num_samples=samples, **how).spikes, data)

    run = jax.jit(jax.value_and_grad(value))
    values, found = np.array([run(jnp.asarray(1.2), k) for k in jr.split(jr.key(2), keys)]).T
    return {
        "sigma": sigma,
        "beta": beta,
        "loss": float(values.mean()),
        "mean": float(found.mean()),
        "sd": float(found.std(ddof=1)),
        "sem": float(found.std(ddof=1) / np.sqrt(keys)),
    }


@partial(jax.jit, static_argnums=(1, 2, 3))
def hard_times(c: jax.Array, dt: float, samples: int, sigma: float) -> jax.Array:
    """First time at 1 of the diffusion itself, no escape noise: straight between grid points, samples as rows."""
    steps = round(2.0 / dt)
    keep = jnp.exp(-MU * dt)

    def step(carry: tuple, k: jax.Array) -> tuple:
        v, tau = carry
        noise = sigma * jnp.sqrt(dt) * jr.normal(jr.fold_in(jr.key(4), k), (samples,))
        new = keep * v + (1 - keep) * c + noise
        hits = jnp.isinf(tau) & (new >= 1.0)
        rise = jnp.where(hits, new - v, 1.0)
        return (new, jnp.where(hits, dt * (k + (1.0 - v) / rise), tau)), None

    start = jnp.zeros(samples), jnp.full(samples, jnp.inf)
    return jax.lax.scan(step, start, jnp.arange(steps))[0][1]


def hard_threshold(dt: float, sigma: float = 0.25, samples: int = 4000) -> dict[str, float]:
    """Mean of the pathwise derivative of the first passage in c, and the difference of means on the same paths."""
    c, reach = jnp.asarray(CURRENT), 0.02
    one = jnp.ones_like(c)
    value, slope = jax.jvp(lambda c: hard_times(c, dt, samples, sigma), (c,), (one,))
    change = (hard_times(c + reach, dt, samples, sigma) - hard_times(c - reach, dt, samples, sigma)) / (2 * reach)
    assert bool(jnp.isfinite(value).all())
    found = {"pathwise": slope, "difference": change}
    return {"dt": dt} | {
        f"{name}{what}": float(f(np.asarray(x)))
        for name, x in found.items()
        for what, f in (("", np.mean), ("_sd", np.std), ("_sem", lambda x: np.std(x) / np.sqrt(len(x))))
    }


LOSSES = ((0.0, 5.0), (0.25, 5.0), (0.5, 5.0), (1.0, 5.0), (0.25, 2.0), (0.25, 10.0), (0.25, 20.0), (0.25, 40.0))


PARTS = {
    "lif": lif_limit,
    "by_sigma": lambda: [spike_slopes(s, 5.0, 4000) for s in (0.0, 0.1, 0.25, 0.5, 1.0)],
    "by_beta": lambda: [spike_slopes(0.25, b, 2000) for b in (2.0, 5.0, 10.0, 20.0, 40.0, 80.0)],
    "limit": lambda: [spike_slopes(0.0, b, 400) for b in (5.0, 20.0, 80.0, 320.0, 1280.0)],
    "hard": lambda: [hard_threshold(dt) for dt in (1e-2, 2.5e-3, 6.25e-4, 1.5625e-4)],
    "loss": lambda: [loss_gradients(*setting) for setting in LOSSES],
    "surrogate": noise_surrogate.measure,
}
IN_FLOAT32 = ("loss", "surrogate")


def main() -> None:
    """The parts named on the command line, or all of them, into the JSON file."""
    result = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in sys.argv[1:] or PARTS:
        with jax.enable_x64(name not in IN_FLOAT32):
            result[name] = rounded(PARTS[name]())
        FILE.write_text(json.dumps({name: result[name] for name in PARTS if name in result}, indent=1) + "\n")
        print(f"{name}: written to {FILE}")


def rounded(x: Any) -> Any:
    """Five significant digits."""
    if isinstance(x, dict):
        return {key: rounded(value) for key, value in x.items()}
    if isinstance(x, list):
        return [rounded(value) for value in x]
    return float(f"{x:.5g}")


if __name__ == "__main__":
    main()
