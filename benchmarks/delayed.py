"""What does a recurrent network with delays cost, forward and gradient, beside NEST, and how does cost grow?

1000 leaky neurons, 80 % excitatory, 10 % random connections, current synapses of 2 ms, delay 1.5 ms, white noise of
2 mV, refractory for 2 ms, about 40 Hz; 1 s in steps of 0.1 ms. Ours: escape rate of width 0.5 mV in place of the hard
threshold, spikes off the grid, float32, drawing the noise included. NEST (iaf_psc_exp and noise_generator, one thread),
where an interpreter that has it is given, is run in turn with ours; CPU time of the simulation alone, least of several
repeats.

    python benchmarks/delayed.py [--quick] [--nest /path/to/python]
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import measure
import numpy as np

import roughspike as rs

DT, T1, DELAY = 0.1, 1000.0, 1.5  # ms
NEST = """
import json, sys, time, numpy as np, nest
nest.set_verbosity("M_ERROR")
found = []
for repeat in range(int(sys.argv[1])):
    nest.ResetKernel()
    nest.SetKernelStatus({"resolution": 0.1, "local_num_threads": 1, "rng_seed": 1 + repeat})
    cells = nest.Create("iaf_psc_exp", 1000, dict(C_m=250.0, tau_m=20.0, E_L=0.0, V_th=20.0, V_reset=10.0, t_ref=2.0,
        tau_syn_ex=2.0, tau_syn_in=2.0, I_e=float(sys.argv[2]) * 12.5))
    cells.V_m = np.random.default_rng(0).uniform(0.0, 20.0, 1000)
    for group, weight in ((cells[:800], 12.5), (cells[800:], -62.5)):
        nest.Connect(group, cells, {"rule": "pairwise_bernoulli", "p": 0.1}, {"weight": weight, "delay": 1.5})
    noise = nest.Create("noise_generator", 1, {"std": 500.0, "dt": 0.1})
    nest.Connect(noise, cells)
    recorder = nest.Create("spike_recorder"); nest.Connect(cells, recorder)
    nest.Prepare(); begin = time.process_time(); nest.Run(1000.0); spent = time.process_time() - begin; nest.Cleanup()
    found.append((spent, recorder.n_events / 1000))
print(json.dumps([min(s for s, _ in found), found[0][1]]))
"""


def network(neurons: int, fan_out: float, dense: bool, seed: int = 0) -> rs.Recurrent:
    """Random connections; a spike of an excitatory neuron is worth a step of 0.1 mV."""
    rng = np.random.default_rng(seed)
    pre = np.repeat(np.arange(neurons), rng.binomial(neurons, fan_out / neurons, neurons))
    post = rng.integers(0, neurons, pre.size)
    weight = np.where(pre < 0.8 * neurons, 1.0, -5.0)
    synapses = rs.Synapses.from_pairs(pre, post, weight, neurons, neurons)
    neuron = rs.SLIF(
        mu=(1 / 20, 1 / 2),
        sigma=((2 / 10**0.5, 0.0), (0.0, 0.0)),
        v_reset=10.0,
        reset=rs.ResetToValue(),
        escape=rs.ExponentialEscape(beta=2.0, v_th=20.0, tau_s=1.0),
        refractory=2.0,
    )
    weights = synapses.dense() if dense else synapses
    return rs.Recurrent(neuron, weights=weights, delays=DELAY, current=CURRENT, v0=rng.uniform(0.0, 20.0, neurons))


CURRENT = 26.0


def run(net: rs.Recurrent, key: jax.Array, t1: float, samples: int | None = None) -> rs.Solution:
    return rs.simulate(net, t1=t1, dt=DT, key=key, num_samples=samples, max_spikes=128, max_spikes_per_step=1)


def loss(net: rs.Recurrent, key: jax.Array, t1: float) -> jax.Array:
    """Mean of the first spike times: it depends on all that is upstream."""
    times = run(net, key, t1).spikes.times
    return jnp.mean(jnp.where(jnp.isfinite(times), times, 0.0))


def row(net: rs.Recurrent, t1: float, repeats: int, gradient: bool) -> dict[str, float]:
    """CPU ms of a run and of the gradient in weights and delays; spikes, flags, first call, memory."""
    key = jr.key(1)
    forward = jax.jit(functools.partial(run, t1=t1))
    sol = forward(net, key)
    counts = np.asarray(sol.spikes.counts)
    assert not int(sol.result.flags) & ~4, sol.result
    found = {
        "neurons": net.num_neurons,
        "synapses": int((np.asarray(net.weights) != 0).sum()),
        "spikes": int(counts.sum()),
        "rate_hz": float(counts.mean() / t1 * 1000),
        "flags": int(sol.result.flags),
        "forward_ms": 1e3 * measure.cpu_seconds(lambda: forward(net, key), repeats, 0.0),
    }
    if gradient:
        of = lambda weights, delays, net, key: loss(_with(net, weights, delays), key, t1)  # noqa: E731
        pull = jax.jit(jax.value_and_grad(of, argnums=(0, 1)))
        call = functools.partial(pull, net.synapses.free, net.delays, net, key)
        begin = time.process_time()
        found["gradient_first_call_s"] = measure.first_call_seconds(call)
        found["gradient_first_call_cpu_s"] = time.process_time() - begin
        found["gradient_ms"] = 1e3 * measure.cpu_seconds(call, repeats, 0.0)
        memory = pull.lower(net.synapses.free, net.delays, net, key).compile().memory_analysis()
        found["gradient_temp_mb"] = memory.temp_size_in_bytes / 1e6
    return found


def _with(net: rs.Recurrent, weights: jax.Array, delays: jax.Array) -> rs.Recurrent:
    import equinox as eqx

    return eqx.tree_at(lambda n: (n.synapses.free, n.delays), net, (weights, delays))


def nest(python: str, repeats: int) -> tuple[float, float]:
    """CPU seconds and rate of NEST."""
    command = [python, "-c", NEST, str(repeats), str(CURRENT)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(json.loads(out.strip().splitlines()[-1]))


def show(name: str, r: dict[str, float]) -> None:
    print(name, {k: round(v, 2) if isinstance(v, float) else v for k, v in r.items()}, flush=True)


def main() -> None:
    quick = "--quick" in sys.argv
    result = {"machine": measure.machine(), "rows": []}
    for dense in (False, True):
        r = row(network(1000, 100.0, dense), 100.0 if quick else T1, 2, gradient=True)
        r["storage"] = "dense" if dense else "sparse"
        show(r["storage"], r)
        result["rows"].append(r)
        if "--nest" in sys.argv and not quick:
            cpu, rate = nest(sys.argv[sys.argv.index("--nest") + 1], 3)
            print(f"NEST {1e3 * cpu:.0f} ms at {rate:.1f} Hz: ours {r['forward_ms'] / 1e3 / cpu:.2f} of it", flush=True)
            r["nest_ms"], r["nest_rate_hz"] = 1e3 * cpu, rate
    if not quick:
        for neurons, fan_out in ((2000, 100.0), (10000, 100.0)):
            r = row(network(neurons, fan_out, False), 100.0, 2, gradient=True)
            show(f"{neurons} neurons", r)
            result["rows"].append(r | {"storage": "sparse", "t1": 100.0})
        measure.write("delayed", result)


if __name__ == "__main__":
    main()
