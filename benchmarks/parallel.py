"""How much faster are two processes than one? Weak and strong scaling of a simulation and of a training step.

Two processes on this machine, one device each, over the loopback (gloo), against one process with one device. Wall time
of a call, least of several repeats, as ratios. Strong: the same samples. Weak: twice as many on two processes. Each
device is held to one thread, so that one process does not use the processor of the other.

    python benchmarks/parallel.py [--quick]
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
SAMPLES, STEPS = 2048, 250


def worker(process: int, processes: int, port: str, repeats: int) -> None:
    """Times of a forward run and of a gradient, for SAMPLES and for 2 SAMPLES."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[process % len(os.sched_getaffinity(0))]})
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import jax.random as jr

    import roughspike as rs

    if processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)
    mesh = rs.parallel.mesh()
    cell = rs.Population(rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4, alpha=0.03), 1.5)

    def loss(cell, samples):
        options = {"num_samples": samples, "max_spikes": 24, "mesh": mesh, "key": jr.key(0)}
        return jnp.mean(rs.simulate(cell, t1=STEPS * 0.01, dt=0.01, **options).spikes.times[:, 0, 0])

    found = {}
    for samples in (SAMPLES, 2 * SAMPLES) if processes == 1 else (2 * SAMPLES,):
        for name, function in (("simulate", loss), ("gradient", eqx.filter_grad(loss))):
            compiled = eqx.filter_jit(lambda cell, f=function, n=samples: f(cell, n))
            jax.block_until_ready(compiled(cell))
            least = float("inf")
            for _ in range(repeats):
                begin = time.perf_counter()
                jax.block_until_ready(compiled(cell))
                least = min(least, time.perf_counter() - begin)
            found[f"{name}:{samples}"] = least
    if process == 0:
        print(json.dumps(found))


def run(processes: int, repeats: int) -> dict[str, float]:
    """Times of that many processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"XLA_FLAGS": ONE_THREAD, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, "worker"]
    started = [
        subprocess.Popen(
            [*command, str(k), str(processes), port, str(repeats)], stdout=subprocess.PIPE, env=environment
        )
        for k in range(processes)
    ]
    said = [process.communicate()[0] for process in started]
    return json.loads(said[0].splitlines()[-1])


def main(quick: bool) -> None:
    """Measure and write."""
    import measure

    repeats = 3 if quick else 12
    one, two = run(1, repeats), run(2, repeats)
    rows, results = [("", "one process, ms", "strong: speed-up", "weak: time ratio")], {}
    for name in ("simulate", "gradient"):
        small, large = f"{name}:{SAMPLES}", f"{name}:{2 * SAMPLES}"
        strong, weak = one[large] / two[large], two[large] / one[small]
        results[name] = {"one_process_ms": 1e3 * one[large], "strong_speed_up": strong, "weak_time_ratio": weak}
        rows.append((name, f"{1e3 * one[large]:.1f}", f"{strong:.2f} (ideal 2)", f"{weak:.2f} (ideal 1)"))
    print(measure.table(rows))
    if not quick:
        about = {"samples": 2 * SAMPLES, "steps": STEPS, "processes": 2, "repeats": repeats}
        measure.write("parallel", {"machine": measure.machine(), "setup": about, "results": results})


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
    else:
        sys.path.insert(0, str(Path(__file__).parent))
        main("--quick" in sys.argv)
