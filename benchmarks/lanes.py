"""How fast are many independent noisy neurons, forward and with gradient, and how does cost grow?

The neuron of Fig. 1 of Holberg & Salvi (2024), 500 steps, all spikes simulated, drawing the noise included; loss: mean
of the first three spike times, gradient in the input current. Beside it a lean explicit Euler scan (left-point hazard,
linear crossing, noise drawn too) with its autodiff, in the same process. CPU time, least of several repeats.

The memory of a gradient against the number of steps, with and without checkpointing, is that of the compiled program.

    python benchmarks/lanes.py [--quick]
"""

from __future__ import annotations

import functools
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import measure

import roughspike as rs

STEPS, DT = 500, 0.01


def neuron() -> rs.SLIF:
    return rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4, alpha=0.03)


def ours(samples: int, forward_mode: bool = False):
    def loss(current, key):
        options = {"num_samples": samples, "max_spikes": 40, "forward_mode": forward_mode}
        times = rs.simulate(rs.Population(neuron(), current), t1=STEPS * DT, dt=DT, key=key, **options).spikes.times
        return jnp.mean(times[:, 0, :3])

    return loss


def euler(samples: int):
    """What a careful user would write by hand: one scan, explicit Euler, first three spike times by interpolation."""
    mu, v_reset, alpha, sigma, beta = 15.0, 1.4, 0.03, 0.25, 5.0

    def loss(current, key):
        noise_key, u_key = jr.split(key)
        dtype = jnp.result_type(float)
        dw = jr.normal(noise_key, (STEPS, samples), dtype) * (sigma * DT**0.5)
        log_u = jnp.log(jr.uniform(u_key, (40, samples), dtype, minval=1e-30)) - alpha
        lane = jnp.arange(samples)

        def body(carry, inputs):
            v, s, count, times = carry
            dw, n = inputs
            hazard = DT * jnp.exp(beta * jnp.minimum(v - 1.0, 10.0))
            spike = s + hazard >= 0
            r = jnp.where(spike, -s / hazard, 0.0)
            v = v + mu * (current - v) * DT + dw - jnp.where(spike, v_reset, 0.0)
            count = count + spike
            times = [jnp.where(spike & (count == k + 1), (n + r) * DT, t) for k, t in enumerate(times)]
            s = jnp.where(spike, log_u[jnp.minimum(count, 39), lane], s + hazard)
            return (v, s, count, times), None

        start = jnp.zeros(samples, dtype), log_u[0], jnp.zeros(samples, jnp.int32), [jnp.full(samples, jnp.inf)] * 3
        start = (*start[:3], [t.astype(dtype) for t in start[3]])
        (_, _, _, times), _ = jax.lax.scan(body, start, (dw, jnp.arange(STEPS)))
        return jnp.mean(jnp.stack(times))

    return loss


def row(name: str, loss, samples: int, repeats: int) -> dict[str, float | str | int]:
    """Forward and gradient of a loss: CPU ms, ns per neuron and step, first call, temporary memory."""
    current, key = jnp.asarray(1.5, jnp.result_type(float)), jr.key(0)
    found: dict[str, float | str | int] = {"name": name, "samples": samples, "dtype": str(current.dtype)}
    for kind, function in (("forward", jax.jit(loss)), ("gradient", jax.jit(jax.value_and_grad(loss)))):
        call = functools.partial(function, current, key)
        first = measure.first_call_seconds(call)
        least = measure.cpu_seconds(call, repeats)
        found |= {
            f"{kind}_ms": 1e3 * least,
            f"{kind}_ns": 1e9 * least / samples / STEPS,
            f"{kind}_first_call_s": first,
            f"{kind}_temp_mb": temporary(function, current, key) / 1e6,
        }
    return found


def temporary(function, *arguments) -> int:
    """Bytes of temporary memory of a compiled function."""
    return function.lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def memory(steps: int, checkpoint: bool) -> float:
    """MB that the gradient of 128 samples needs beside its arguments and results."""

    def loss(current, key):
        options = {"num_samples": 128, "max_spikes": 40, "checkpoint": checkpoint}
        times = rs.simulate(rs.Population(neuron(), current), t1=steps * DT, dt=DT, key=key, **options).spikes.times
        return jnp.mean(times[:, 0, :3])

    return temporary(jax.jit(jax.grad(loss)), jnp.float32(1.5), jr.key(0)) / 1e6


def main() -> None:
    quick = "--quick" in sys.argv
    rows = []
    for samples in (128,) if quick else (128, 2816, 28160):
        repeats = 60 if samples == 128 else 12 if samples < 10000 else 5
        rows.append(row("Euler by hand", euler(samples), samples, repeats))
        rows.append(row("roughspike", ours(samples), samples, repeats))
        if samples < 10000:
            rows.append(row("roughspike, autodiff", ours(samples, True), samples, repeats))
    if not quick:
        with jax.enable_x64(True):
            rows += [row("roughspike", ours(samples), samples, 12) for samples in (128, 2816)]
    columns = " ms    ns first s    MB"
    print(f"{'':22s}{'samples':>8s}{'dtype':>9s} | forward{columns} | gradient{columns} | ratio")
    for r in rows:
        print(
            f"{r['name']:22s}{r['samples']:8d}{r['dtype']:>9s} |"
            + " |".join(
                f"{r[f'{k}_ms']:11.2f}{r[f'{k}_ns']:6.0f}{r[f'{k}_first_call_s']:8.1f}{r[f'{k}_temp_mb']:6.1f}"
                for k in ("forward", "gradient")
            )
            + f" |{r['gradient_ms'] / r['forward_ms']:5.1f}"
        )
    if not quick:
        kept = {steps: [memory(steps, False), memory(steps, True)] for steps in (500, 2000, 8000, 32000)}
        for steps, (plain, blocks) in kept.items():
            print(f"{steps:6d} steps: {plain:8.1f} MB, with checkpoint=True {blocks:6.1f} MB")
        measure.write("lanes", {"machine": measure.machine(), "steps": STEPS, "rows": rows, "memory_mb": kept})


if __name__ == "__main__":
    main()
