"""What do events cost in the general solver? Against a bare scan, the restart algorithm, and itself in memory.

Four questions, ratios in one process, float32, process CPU time, least of several repeats after warm-up:
1. without events: a hand-written `lax.scan` Euler loop with its noise drawn beforehand (128 lanes, 500 steps);
2. the neuron of Fig. 1 as an event SDE against the restart algorithm of `published.py`, both simulating all spikes on
   [0, 5], one lane and 128 lanes, forward and gradient;
3. a recurrent network of 100 neurons, 0.5 s: first call, forward, against the restart algorithm with an event function
   per neuron, as in the published code, and with a single one, the largest of them;
4. memory of the gradient methods against the number of steps, from the compiler's own analysis;
5. the time to compile against the number of neurons, which are kinds of events, and the room for events.

Run: python benchmarks/event_sdes.py [--quick] [no_events] [network] [memory] [compiling] [neuron]
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import measure
import published

import roughspike as rs

SETTING = published.Setting(max_spikes=24)
LANES, STEPS, ROOM = 128, 500, 32
TARGETS = {
    "no events, forward: over a lean scan": (2.0, True),
    "no events, gradient: over a lean scan's gradient": (2.0, True),
    "restart over ours, 128 lanes: forward": (50.0, False),
    "restart over ours, 128 lanes: gradient": (50.0, False),
    "restart over ours, 1 lane: forward": (50.0, False),
    "restart over ours, 1 lane: gradient": (50.0, False),
    "restart over ours, 100 neurons: forward": (20.0, False),
    "100 neurons: first call, CPU s": (5.0, True),
    "compiling, 1000 neurons, room for 512 over 10 neurons, room for 512 events": (1.25, True),
    "compiling, 100 neurons, room for 8192 over 100 neurons, room for 32 events": (1.25, True),
}


def drift(t: jax.Array, y: jax.Array, c: jax.Array) -> jax.Array:
    p = SETTING
    v, i, _ = y
    return jnp.stack([p.mu1 * (i + c - v), -p.mu2 * i, jnp.exp(p.beta * jnp.minimum(v - p.v_th, 10.0)) / p.tau_s])


def diffusion(t: jax.Array, y: jax.Array, c: jax.Array) -> jax.Array:
    return jnp.array([[SETTING.sigma, 0.0], [0.0, 0.0], [0.0, 0.0]])


def neuron() -> rs.EventSDE:
    """Fig. 1 as an event SDE."""
    p = SETTING
    return rs.EventSDE(
        drift,
        diffusion,
        event=lambda t, y, c: y[2:],
        transition=lambda t, y, kind, u, c: jnp.stack([y[0] - p.v_reset, y[1], jnp.log(u[0]) - p.alpha]),
        num_uniforms=1,
    )


def times(
    cell: rs.EventSDE, c: jax.Array, keys: jax.Array, gradient: Any, steps: int = STEPS, driver: Any = None
) -> jax.Array:
    """Event times of every lane, all noise drawn here."""
    driver = rs.BrownianPath(2) if driver is None else driver
    y0 = jnp.array([0.0, 0.0, -1.0])

    def one(key):
        options = {"driver": driver, "solver": diffrax.Euler(), "gradient": gradient, "max_events": ROOM}
        return rs.solve(cell, t0=0.0, t1=SETTING.t1, num_steps=steps, y0=y0, args=c, key=key, **options).event_times

    return jax.vmap(one)(keys)


def without_events(repeats: int) -> dict[str, float]:
    """CPU ms of a lean scan and of ours, the same drawing of noise in both."""
    plain = rs.EventSDE(drift, diffusion)
    h, keys, c = SETTING.t1 / STEPS, jr.split(jr.key(0), LANES), jnp.float32(0.5)
    noise = jax.vmap(lambda k: rs.BrownianPath(2).realise(k, 0.0, SETTING.t1, STEPS, jnp.float32).increments)(keys)
    knots = jnp.linspace(0.0, SETTING.t1, STEPS + 1)

    def lean(c, x):
        dx = jnp.diff(x, axis=0)
        return jax.lax.scan(lambda y, d: (y + h * drift(0.0, y, c) + diffusion(0.0, y, c) @ d, None), jnp.zeros(3), dx)[
            0
        ]

    def ours(c, x, gradient):
        driver = rs.PiecewisePath(knots, x)
        options = {"driver": driver, "solver": diffrax.Euler(), "gradient": gradient}
        return rs.solve(plain, t0=0.0, t1=SETTING.t1, num_steps=STEPS, y0=jnp.zeros(3), args=c, **options).y1

    found = {}
    drivers = {"lean scan": lean, "ours": lambda c, x: ours(c, x, rs.Direct())}
    for name, run in drivers.items():
        batch = jax.jit(lambda c, x, run=run: jax.vmap(lambda w: run(c, w))(x))
        slope = jax.jit(jax.grad(lambda c, x, run=run: jnp.sum(jax.vmap(lambda w: run(c, w))(x)[:, 0])))
        x = jnp.concatenate([jnp.zeros((LANES, 1, 2)), jnp.cumsum(noise, 1)], 1)
        found[f"no events, {name}: forward"] = 1e3 * measure.cpu_seconds(lambda f=batch, x=x: f(c, x), repeats)
        found[f"no events, {name}: gradient"] = 1e3 * measure.cpu_seconds(lambda f=slope, x=x: f(c, x), repeats)
    return found


def one_neuron(repeats: int) -> dict[str, float]:
    """CPU ms of the restart algorithm and of ours, all spikes on [0, 5]."""
    found, c, cell = {}, jnp.float32(1.5), neuron()
    for lanes in (1, LANES):
        keys = jr.split(jr.key(1), lanes)
        runs: dict[str, Callable] = {
            "restart": lambda c, lanes=lanes: published.spike_times(c, jr.key(1), SETTING, lanes)
        }
        for name, method in (("direct", rs.Direct()), ("adjoint", rs.Adjoint())):
            runs[name] = lambda c, keys=keys, method=method: times(cell, c, keys, method)
        lazy = rs.BrownianPath(2, lazy=True)
        runs["direct, lazy path"] = lambda c, keys=keys, lazy=lazy: times(cell, c, keys, rs.Direct(), driver=lazy)
        for name, run in runs.items():
            forward = jax.jit(run)
            slope = jax.jit(jax.value_and_grad(lambda c, run=run: jnp.mean(run(c)[:, :3])))
            few = 2 if name == "restart" else repeats
            found[f"{lanes} lanes, {name}: forward"] = 1e3 * measure.cpu_seconds(lambda f=forward: f(c), few)
            found[f"{lanes} lanes, {name}: gradient"] = 1e3 * measure.cpu_seconds(lambda f=slope: f(c), few)
    return found


def flow_of_network(t: jax.Array, y: jax.Array, w: jax.Array) -> jax.Array:
    p = SETTING
    return jnp.stack([p.mu1 * (y[1] + 1.5 - y[0]), -5.0 * y[1], jnp.exp(p.beta * (y[0] - p.v_th))])


def reset_of_network(y: jax.Array, kind: jax.Array, threshold: jax.Array, w: jax.Array) -> jax.Array:
    mine = jnp.arange(w.shape[0]) == kind
    v = y[0] - jnp.where(mine, SETTING.v_reset, 0.0)
    return jnp.stack([v, y[1] + w[kind], jnp.where(mine, threshold, y[2])])


def run_of_network(k: int, max_events: int = 512) -> tuple[Callable, jax.Array, jax.Array]:
    """Spike times and number of spikes of k neurons for 0.5 s as a function of the weights; weights; initial state."""
    sde = rs.EventSDE(
        flow_of_network,
        lambda t, y, w: lineax_rows(k),
        event=lambda t, y, w: y[2],
        transition=lambda t, y, kind, u, w: reset_of_network(y, kind, jnp.log(u[0]) - SETTING.alpha, w),
        num_uniforms=1,
    )
    y0 = jnp.stack([jnp.zeros(k), jnp.zeros(k), jnp.log(jr.uniform(jr.key(3), (k,), minval=1e-3))])
    options = {"driver": rs.BrownianPath(k), "solver": diffrax.Euler(), "max_events": max_events, "key": jr.key(4)}

    def run(w):
        sol = rs.solve(sde, t0=0.0, t1=0.5, num_steps=50, y0=y0, args=w, **options)
        return sol.event_times, sol.num_events

    return run, 0.3 / k * jr.normal(jr.key(2), (k, k)), y0


def network(repeats: int) -> dict[str, float]:
    """100 recurrent neurons for 0.5 s: first call in s, forward in CPU ms, number of spikes; the same by restarts."""
    k = 100
    ours, w, y0 = run_of_network(k)

    def restarts(w, heights):
        system = (
            flow_of_network,
            lambda t, y, w: lineax_rows(k),
            heights,
            lambda y: jnp.argmax(y[2]),
            reset_of_network,
        )
        return published.restarted(w, jr.key(4), y0, system, SETTING._replace(t1=0.5, max_spikes=512))

    each = [lambda y, j=j: y[2, j] for j in range(k)]
    found = {}
    for name, run in (
        ("", jax.jit(ours)),
        (", restart, one event function", jax.jit(lambda w: restarts(w, lambda y: jnp.max(y[2])))),
        (", restart", jax.jit(lambda w: restarts(w, each))),
    ):
        begin = time.process_time()
        found[f"100 neurons{name}: first call, s"] = measure.first_call_seconds(lambda run=run: run(w))
        found[f"100 neurons{name}: first call, CPU s"] = time.process_time() - begin
        found[f"100 neurons{name}: forward, CPU ms"] = 1e3 * measure.cpu_seconds(lambda run=run: run(w), repeats)
        found[f"100 neurons{name}: spikes"] = int(run(w)[1])
    return found


def lineax_rows(k: int) -> Any:
    """Noise on the potentials only, without a dense (3, k, k) array."""
    import lineax

    shape = jax.ShapeDtypeStruct((k,), jnp.float32)
    return lineax.FunctionLinearOperator(
        lambda dx: jnp.stack([SETTING.sigma * dx, jnp.zeros_like(dx), jnp.zeros_like(dx)]), shape
    )


def compiling() -> dict[str, float]:
    """CPU seconds to trace and compile a gradient, by neurons (each a kind of event) and by room for events."""
    found = {}
    for k, room in ((10, 512), (100, 512), (1000, 512), (100, 32), (100, 8192)):
        run, w, _ = run_of_network(k, room)
        slope = jax.jit(jax.grad(lambda w, run=run: jnp.mean(run(w)[0][:5])))
        begin = time.process_time()
        slope.lower(w).compile()
        found[f"{k} neurons, room for {room} events"] = time.process_time() - begin
    return found


def memory() -> dict[str, dict[str, int]]:
    """Temporary bytes of a gradient (one lane), by method and number of steps."""
    cell, keys, found = neuron(), jr.split(jr.key(1), 1), {}
    kept, lazy = rs.BrownianPath(2), rs.BrownianPath(2, lazy=True)
    methods = {
        "Direct()": (lambda n: rs.Direct(), kept),
        "Adjoint()": (lambda n: rs.Adjoint(), kept),
        "Forward()": (lambda n: rs.Forward(), kept),
        "Direct(checkpoints=sqrt)": (lambda n: rs.Direct(checkpoints=math.isqrt(n // 11)), kept),
        "Direct(checkpoints=sqrt), lazy path": (lambda n: rs.Direct(checkpoints=math.isqrt(n // 11)), lazy),
        "Forward(), lazy path": (lambda n: rs.Forward(), lazy),
    }
    for name, (method, driver) in methods.items():
        row = {}
        for steps in (500, 8000):
            chosen = method(steps)
            run = lambda c, m=chosen, n=steps, x=driver: times(cell, c, keys, m, n, x)  # noqa: E731
            slope = jax.jit(jax.grad(lambda c, run=run: jnp.mean(run(c)[:, :3])))
            row[str(steps)] = int(slope.lower(jnp.float32(1.5)).compile().memory_analysis().temp_size_in_bytes)
        found[name] = row
    return found


_ROOMS = ("100 neurons, room for 32", "100 neurons, room for 8192")


def ratios(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """What the figures say, of the sections that have been measured."""
    ms = found.get("no_events", {}) | found.get("neuron", {})
    summary = {}
    if "no_events" in found:
        for what, word in (("forward", "scan"), ("gradient", "scan's gradient")):
            over = ms[f"no events, ours: {what}"] / ms[f"no events, lean scan: {what}"]
            summary[f"no events, {what}: over a lean {word}"] = over
    if "compiling" in found:
        row = found["compiling"]
        for few, many in (("10 neurons, room for 512", "1000 neurons, room for 512"), _ROOMS):
            summary[f"compiling, {many} over {few} events"] = row[f"{many} events"] / row[f"{few} events"]
    if "neuron" in found:
        for lanes, word in ((LANES, "lanes"), (1, "lane")):
            for what in ("forward", "gradient"):
                best = min(ms[f"{lanes} lanes, {name}: {what}"] for name in ("direct", "adjoint"))
                summary[f"restart over ours, {lanes} {word}: {what}"] = ms[f"{lanes} lanes, restart: {what}"] / best
    if "network" in found:
        row = found["network"]
        summary["restart over ours, 100 neurons: forward"] = (
            row["100 neurons, restart: forward, CPU ms"] / row["100 neurons: forward, CPU ms"]
        )
        summary["restart with one event function over ours, 100 neurons: forward"] = (
            row["100 neurons, restart, one event function: forward, CPU ms"] / row["100 neurons: forward, CPU ms"]
        )
        for name in ("", ", restart"):
            summary[f"100 neurons{name}: first call, CPU s"] = row[f"100 neurons{name}: first call, CPU s"]
    return summary


def main(arguments: list[str]) -> None:
    """Measure the sections that are named (all of them by default), print, and write beside earlier ones."""
    quick = "--quick" in arguments
    repeats = 2 if quick else 7
    sections: dict[str, Callable[[], Any]] = {
        "no_events": lambda: without_events(repeats),
        "network": lambda: network(repeats),
        "memory": memory,
        "compiling": compiling,
        "neuron": lambda: one_neuron(repeats),
    }
    wanted = [name for name in arguments if name in sections] or list(sections)
    found = {name: sections[name]() for name in wanted}
    for name, rows in found.items():
        print(
            measure.table([(name, "found"), *((n, x if isinstance(x, dict) else f"{x:.3g}") for n, x in rows.items())])
            if name != "memory"
            else f"{name}, temporary bytes by steps: {rows}",
            end="\n\n",
        )
    verdicts = [("ratio", "found", "target", "")]
    for name, value in ratios(found).items():
        if name not in TARGETS:
            verdicts.append((name, f"{value:.3g}", "", ""))
            continue
        limit, upper = TARGETS[name]
        met = "met" if (value <= limit) == upper else "NOT MET"
        verdicts.append((name, f"{value:.3g}", f"{'at most' if upper else 'at least'} {limit:g}", met))
    print(measure.table(verdicts))
    if not quick:
        path = measure.RESULTS / "event_sdes.json"
        before = json.loads(path.read_text()) if path.exists() else {"sections": {}}
        merged = before["sections"] | {name: {"machine": measure.machine(), "found": x} for name, x in found.items()}
        summary = ratios({name: section["found"] for name, section in merged.items()})
        facts = {"steps": STEPS, "dtype": "float32", "lanes": LANES}
        print(f"\n{measure.write('event_sdes', {**facts, 'sections': merged, 'summary': summary})}")


if __name__ == "__main__":
    main(sys.argv[1:])
