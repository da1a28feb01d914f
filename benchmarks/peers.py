"""What does an exact gradient cost in libraries for event-based gradients?

5-120-3, hard thresholds, tau_mem = 2 tau_syn, one spike per neuron, mean squared error of the first output spikes; loss
and gradient in both weight matrices, batch of 150, float32, all in one process: roughspike with 150 steps; jaxsnn
(EventProp) with room for every event, and with the smaller budget that its examples use; eventax (EventProp, Euler, the
same step) for a batch of 50, times three. Weights and inputs are the same, so the losses must agree: they are printed.

Neither library is a dependency. In an environment of their own

    python -m venv peers && peers/bin/pip install jaxsnn eventax
    PYTHONPATH=src peers/bin/python benchmarks/peers.py

What is not installed is skipped, with this hint.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import measure

import roughspike as rs
from roughspike.paths.spikes import unchecked

SIZES, BATCH, STEPS, T1, TAU_MEM, TAU_SYN = (5, 120, 3), 150, 150, 4.0, 2.0, 1.0
NEVER_AGAIN = 1000.0  # a reset from which nobody recovers within T1
FULL, SHORT = (SIZES[0] + SIZES[1], SIZES[1] + SIZES[2]), (60, 60)
HINT = "skipped: pip install jaxsnn eventax (in an environment of their own)"
EVENTAX_SHARE = 3


def problem() -> tuple[list[jax.Array], jax.Array, jax.Array]:
    """Weights, times of input spikes (batch, channels), target times (batch, outputs)."""
    keys = jr.split(jr.key(0), 4)
    weights = [3.0 / 5 + 1.6 / 5 * jr.normal(keys[0], SIZES[:2]), 0.25 + 0.4 * jr.normal(keys[1], SIZES[1:])]
    times = 2.0 * jr.uniform(keys[2], (BATCH, SIZES[0]))
    target = jnp.where(jnp.arange(3) == jr.randint(keys[3], (BATCH, 1), 0, 3), 0.8, 1.2)
    return [2.0 * w for w in weights], times, target


def error(first: jax.Array, target: jax.Array) -> jax.Array:
    """Mean over the batch of the squared error in units of the membrane time constant."""
    return jnp.mean(jnp.sum(((jnp.minimum(first, 2 * TAU_MEM) - target) / TAU_MEM) ** 2, axis=-1))


def ours(weights: Any, times: jax.Array, target: jax.Array) -> jax.Array:
    neuron = rs.LIF(TAU_MEM, TAU_SYN, v_reset=NEVER_AGAIN)
    net = rs.FeedForward(SIZES, neuron, weights=[jnp.zeros(s) for s in (SIZES[:2], SIZES[1:])])
    net = eqx.tree_at(lambda n: [layer.synapses.free for layer in n.layers], net, weights)
    inputs = unchecked(times[..., None], 0.0, T1)
    sol = rs.simulate(net, inputs=inputs, t1=T1, dt=T1 / STEPS, max_spikes=2, max_spikes_per_step=1)
    return error(sol.spikes.times[..., 0], target)


def of_jaxsnn(budget: tuple[int, int]) -> Callable[..., Any]:
    from jaxsnn.event.loss import first_spike
    from jaxsnn.event.modules import LIF, Linear, Source
    from jaxsnn.event.modules.lif.lif import LIFParameters
    from jaxsnn.event.topology import Topology
    from jaxsnn.event.types import Spike

    settings = LIFParameters(v_reset=-NEVER_AGAIN, v_th=1.0, tau_syn=TAU_SYN, tau_mem=TAU_MEM)
    builder = Topology(t_max=T1, backprop_method="eventprop")
    cells = [LIF(size, room, settings) for size, room in zip(SIZES[1:], budget, strict=True)]
    synapses = {f"syn{k}": Linear(0.0, 1.0, 0.0) for k in (1, 2)}
    builder.add({"inp": Source(SIZES[0]), "lif1": cells[0], "lif2": cells[1], **synapses})
    builder.connect([("inp", "syn1"), ("syn1", "lif1"), ("lif1", "syn2"), ("syn2", "lif2")])
    init, apply = builder.done()
    empty = init(jr.PRNGKey(0))

    def loss(weights: Any, times: jax.Array, target: jax.Array) -> jax.Array:
        order = jnp.argsort(times, axis=1)
        sorted_times = jnp.take_along_axis(times, order, axis=1)
        zeros = jnp.zeros_like(times)
        spikes = Spike(sorted_times, order, zeros, zeros.astype(int), jnp.ones(times.shape, bool))
        found = apply({"inp": spikes}, {**empty, "syn1": weights[0], "syn2": weights[1]})["lif2"]
        return error(jax.vmap(lambda s: first_spike(s, SIZES[2]))(found), target)

    return loss


def of_eventax() -> Callable[..., Any]:
    import diffrax
    from eventax.adjoint import EventPropAdjoint
    from eventax.evnn import FFEvNN
    from eventax.neuron_models import LIF

    hidden, outputs = SIZES[1:]
    model = FFEvNN(
        [hidden, outputs],
        SIZES[0],
        LIF,
        T1,
        key=jr.PRNGKey(0),
        solver_stepsize=T1 / STEPS,
        adjoint=EventPropAdjoint(),
        solver=diffrax.Euler(),
        max_event_steps=sum(SIZES) + 8,
        output_no_spike_value=jnp.inf,
        thresh=1.0,
        tsyn=TAU_SYN,
        tmem=TAU_MEM,
        vreset=-NEVER_AGAIN,
        wlim=1.0,
        init_bias=0.0,
    )

    def loss(weights: Any, times: jax.Array, target: jax.Array) -> jax.Array:
        matrix = jnp.zeros((sum(SIZES), hidden + outputs))
        matrix = matrix.at[hidden + outputs :, :hidden].set(weights[0]).at[:hidden, hidden:].set(weights[1])
        moved = eqx.tree_at(lambda m: m.neuron_model.weights, model, matrix)
        return error(jax.vmap(lambda t: moved.ttfs(t[:, None]))(times), target)

    return loss


def row(loss: Callable[..., Any], repeats: int, share: int = 1) -> dict[str, float]:
    """CPU ms of loss and gradient for the whole batch, of compiling them, and what they are."""
    weights, times, target = problem()
    arguments = weights, times[: BATCH // share], target[: BATCH // share]
    begin = time.process_time()
    call = jax.jit(jax.value_and_grad(loss)).lower(*arguments).compile()
    spent = time.process_time() - begin
    value, slope = call(*arguments)
    spent_ms = share * 1e3 * measure.cpu_seconds(lambda: call(*arguments), repeats, 0.0)
    size = float(jnp.sqrt(sum(jnp.sum(x**2) for x in slope)))
    return {"ms": spent_ms, "compile_s": spent, "loss": float(value), "gradient_norm": size}


def main() -> None:
    found = {"roughspike": row(ours, 10)}
    if importlib.util.find_spec("jaxsnn") is None:
        print("jaxsnn", HINT)
    else:
        found["jaxsnn, room for every event"] = row(of_jaxsnn(FULL), 5)
        found["jaxsnn, 60 events"] = row(of_jaxsnn(SHORT), 5)
    found["roughspike, a third of the batch, times 3"] = row(ours, 10, EVENTAX_SHARE)
    if importlib.util.find_spec("eventax") is None:
        print("eventax", HINT)
    else:
        found["eventax, a third of the batch, times 3"] = row(of_eventax(), 2, EVENTAX_SHARE)
    for name, r in found.items():
        print(name, {k: round(x, 4) for k, x in r.items()}, flush=True)
    if len(found) == 5:
        measure.write("peers", {"machine": measure.machine(), "rows": found})


if __name__ == "__main__":
    main()
