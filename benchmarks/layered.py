"""What does a training step with exact spike times cost, beside one with surrogate gradients?

One step = forward, backward and Adam, from input spike times to new weights, float32; leaky readout, cross-entropy of
its mean voltage. 5-120-3 with a batch of 150 and 150 steps of 0.3 ms; 700-256-20 with a batch of 64 and 200 steps of
0.5 ms. Exact: hard threshold; escape rate with diffusion (noise drawn in the step). The surrogate is the fastest
of the four ways in which `roughspike.recipe.published.surrogate` writes it. All in one process, least CPU time of
several repeats in turn; temporary memory and compile time are those of the compiled program. Then the memory of
5-120-3 as steps become more, without and with `checkpoint=True`.

    python benchmarks/layered.py [--quick]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import measure
import optax

import roughspike as rs
from roughspike.paths.spikes import unchecked
from roughspike.recipe.published import surrogate

TASKS = {
    "5-120-3": {"sizes": (5, 120, 3), "batch": 150, "steps": 150, "dt": 0.3e-3, "spikes": 1, "gain": 1.0},
    "700-256-20": {"sizes": (700, 256, 20), "batch": 64, "steps": 200, "dt": 0.5e-3, "spikes": 4, "gain": 0.25},
}
NOISY = {
    "mu": (50.0, 200.0),
    "sigma": ((1.0, 0.0), (0.0, 0.0)),
    "escape": rs.ExponentialEscape(beta=5.0, v_th=1.0, tau_s=1e-3),
    "alpha": 0.1,
}


def head(voltage: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of 40 times the mean voltage (batch, classes)."""
    return optax.softmax_cross_entropy_with_integer_labels(40.0 * voltage, labels).mean()


def exact(net: rs.FeedForward, task: dict[str, Any], slots: int, checkpoint: bool = False) -> Callable[..., Any]:
    """Loss of the weights by `rs.simulate`, and whether all ended well."""
    t1 = task["steps"] * task["dt"]

    def loss(weights, times, labels, key):
        moved = eqx.tree_at(lambda n: [layer.synapses.free for layer in n.layers], net, weights)
        options = {"max_spikes": 32, "max_spikes_per_step": slots, "checkpoint": checkpoint}
        sol = rs.simulate(moved, inputs=unchecked(times, 0.0, t1), t1=t1, dt=task["dt"], key=key, **options)
        return head(sol.membrane.mean(axis=-1), labels), (sol.result.ok, sol.result.needed.mean())

    return loss


def approximate(task: dict[str, Any], inside: bool, by_hand: bool) -> Callable[..., Any]:
    """The same with surrogate gradients."""
    c = surrogate.constants(20e-3, 5e-3, task["dt"])

    def loss(weights, times, labels, key):
        del key
        spikes = surrogate.layer(c, weights[0], surrogate.binned(times, task["dt"], task["steps"]), inside, by_hand)
        voltage = surrogate.readout(c, weights[1], spikes).mean(axis=0).T
        return head(voltage, labels), (jnp.array(True), spikes.sum(axis=0).max(axis=0).mean())

    return loss


def cases(task: dict[str, Any]) -> tuple[dict[str, Callable[..., Any]], tuple[Any, ...]]:
    """Losses by name, and their arguments."""
    sizes, batch = task["sizes"], task["batch"]
    make = lambda neuron: rs.FeedForward(sizes, neuron=neuron, key=jr.key(0), readout=rs.Readout())  # noqa: E731
    hard, noisy = make(rs.LIF(20e-3, 5e-3)), make(rs.SLIF(**NOISY))
    found = {
        "exact": exact(hard, task, 1),
        "exact, 2 spikes a step": exact(hard, task, 2),
        "exact, noisy": exact(noisy, task, 1),
        "exact, checkpoint": exact(hard, task, 1, True),
        "exact, noisy, checkpoint": exact(noisy, task, 1, True),
    }
    for inside in (True, False):
        for by_hand in (False, True):
            where, how = ("inside" if inside else "outside"), ("by hand" if by_hand else "autodiff")
            found[f"surrogate, product {where}, {how}"] = approximate(task, inside, by_hand)
    t1 = task["steps"] * task["dt"]
    times = jnp.sort(0.67 * t1 * jr.uniform(jr.key(1), (batch, sizes[0], task["spikes"])), axis=-1)
    labels = jr.randint(jr.key(2), (batch,), 0, sizes[-1])
    weights = [task["gain"] ** (k == 0) * layer.synapses.dense() for k, layer in enumerate(hard.layers)]
    return found, (weights, times, labels, jr.key(3))


def compare(task: dict[str, Any], repeats: int) -> list[dict[str, Any]]:
    """Compile every step, then run them in turn."""
    losses, (weights, times, labels, key) = cases(task)
    optimiser = optax.adam(1e-2)
    state = optimiser.init(weights)
    programs, rows = {}, []
    for name, loss in losses.items():

        def step(weights, state, times, labels, key, loss=loss):
            (value, facts), on = jax.value_and_grad(loss, has_aux=True)(weights, times, labels, key)
            updates, state = optimiser.update(on, state)
            return optax.apply_updates(weights, updates), state, value, facts

        begin = time.process_time()
        program = jax.jit(step).lower(weights, state, times, labels, key).compile()
        spent = time.process_time() - begin
        programs[name] = lambda program=program: program(weights, state, times, labels, key)
        _, _, value, (ok, rate) = programs[name]()
        memory = program.memory_analysis().temp_size_in_bytes / 1e6
        facts = {"compile_s": spent, "temp_mb": memory, "loss": float(value), "ok": bool(ok), "spikes": float(rate)}
        rows.append({"name": name, **facts, "ms": float("inf")})
    for _ in range(repeats):
        for row in rows:
            begin = time.process_time()
            jax.block_until_ready(programs[row["name"]]())
            row["ms"] = min(row["ms"], 1e3 * (time.process_time() - begin))
    fastest = min((row for row in rows if row["name"].startswith("surrogate")), key=lambda row: row["ms"])
    for row in rows:
        row["ratio"], row["memory_ratio"] = row["ms"] / fastest["ms"], row["temp_mb"] / fastest["temp_mb"]
    return rows


def memory() -> dict[str, list[float]]:
    """Temporary MB of the gradient of 5-120-3 by steps: without and with checkpoints."""
    found = {}
    for steps in (150, 600, 2400):
        task = TASKS["5-120-3"] | {"steps": steps, "dt": 45e-3 / steps}
        losses, (weights, times, labels, key) = cases(task)
        found[str(steps)] = []
        for name in ("exact", "exact, checkpoint"):
            program = jax.jit(jax.grad(losses[name], has_aux=True)).lower(weights, times, labels, key).compile()
            found[str(steps)].append(program.memory_analysis().temp_size_in_bytes / 1e6)
    return found


def main() -> None:
    quick = "--quick" in sys.argv
    found = {}
    for name, task in TASKS.items():
        if quick and name != "5-120-3":
            continue
        rows = found[name] = compare(task, 3 if quick else 12)
        print(name)
        table = [("", "ms", "ratio", "temp MB", "ratio", "compile s", "most spikes", "ok")]
        for r in rows:
            numbers = (r["ms"], r["ratio"], r["temp_mb"], r["memory_ratio"], r["compile_s"], r["spikes"])
            table.append((r["name"], *(f"{x:.2f}" for x in numbers), str(r["ok"])))
        print(measure.table(table))
    if not quick:
        by_steps = memory()
        print("MB by steps", by_steps)
        result = {"machine": measure.machine(), "tasks": TASKS, "rows": found, "memory_mb": by_steps}
        measure.write("layered", result)


if __name__ == "__main__":
    main()
