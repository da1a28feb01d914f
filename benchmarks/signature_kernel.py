"""What the exact kernel of spike trains costs, beside pysiglib in the same process (pip install pysiglib).

64 x 64 trains of 50 spikes of 2 neurons, jump size 0.25; errors are largest relative ones against tol=1e-11. CPU
seconds, least of several repeats.

    python benchmarks/signature_kernel.py
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import measure
import numpy as np

import roughspike as rs


def trains(seed: int, n: int, spikes: int) -> rs.SpikeTrain:
    random = np.random.default_rng(seed)
    times = np.full((n, 2, spikes), np.inf)
    for row in times:
        owner = random.integers(0, 2, spikes)
        for k in range(2):
            count = int((owner == k).sum())
            row[k, :count] = np.sort(random.uniform(0, 1, count))
    return rs.SpikeTrain(times)


def main() -> None:
    rows: list[dict] = []

    def add(name: str, run, reference: np.ndarray | None) -> None:
        first = measure.first_call_seconds(run)
        value = run()
        error = None if reference is None else float(np.max(np.abs(np.asarray(value, float) / reference - 1)))
        rows.append({"name": name, "cpu_s": measure.cpu_seconds(run, 3), "first_call_s": first, "error": error})
        print(rows[-1], flush=True)

    try:
        import pysiglib
    except ImportError:
        pysiglib = None
    kernel = rs.SignatureKernel(jump_size=0.25)
    with jax.enable_x64(True):
        x, y = trains(0, 64, 50), trains(1, 64, 50)
        exact = np.asarray(rs.SignatureKernel(jump_size=0.25, tol=1e-11).gram(x, y))
        lifts = [np.array(np.asarray(rs.marcus_lift(t, jump=0.25))[:, :102], order="C") for t in (x, y)]
        add("roughspike float64", lambda: kernel.gram(x, y), exact)
        add("roughspike float64, one set", lambda: kernel.gram(x), None)
        y_times = jnp.asarray(y.times)
        loss = lambda t: rs.signature_mmd(rs.SpikeTrain(t), rs.SpikeTrain(y_times), kernel=fixed)  # noqa: E731
        fixed = rs.SignatureKernel(jump_size=0.25, orders=(4, 5, 1))
        slope = jax.jit(jax.value_and_grad(loss))
        first = measure.first_call_seconds(lambda: slope(jnp.asarray(x.times)))
        spent = measure.cpu_seconds(lambda: slope(jnp.asarray(x.times)), 3)
        rows.append({"name": "roughspike float64, MMD and gradient", "cpu_s": spent, "first_call_s": first})
        print(rows[-1], flush=True)
        if pysiglib is not None:
            gram = pysiglib.sig_kernel_gram
            add("pysiglib float64, order 0", lambda: gram(*lifts, dyadic_order=0), exact)
            add("pysiglib float64, polynomial 6", lambda: gram(*lifts, method="polynomial", order=6), exact)
        for spikes in (10, 25, 100):
            a, b = trains(2, 64, spikes), trains(3, 64, spikes)
            add(f"roughspike float64, {spikes} spikes", lambda a=a, b=b: kernel.gram(a, b), None)
    single = rs.SignatureKernel(jump_size=0.25, tol=1e-5)
    add("roughspike float32", lambda: single.gram(x, y), exact)
    if pysiglib is not None:
        small = [lift.astype(np.float32) for lift in lifts]
        add("pysiglib float32, order 0", lambda: pysiglib.sig_kernel_gram(*small, dyadic_order=0), exact)
    measure.write("signature_kernel", {"machine": measure.machine(), "rows": rows})


if __name__ == "__main__":
    main()
