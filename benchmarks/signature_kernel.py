"""What the exact kernel of spike trains costs, beside pysiglib in the same process (pip install pysiglib).

64 x 64 trains of 50 spikes of 2 neurons, jump size 0.25, and dense paths; errors are largest relative ones, for trains
against tol=1e-11, for paths against pysiglib's polynomials of order 12. Approximate losses for many samples: relative
error of the unbiased squared MMD of 256 and 256 trains of 20 spikes, exact against landmarks, random features (root
mean square of 8 draws) and truncated signatures.
CPU seconds, least of several repeats; `first_call_cpu_s` is tracing, compiling and running. Bias: the gradient of
the MMD of two Poisson neurons in the first one's rate, against differences of means. Parts that are not asked for keep
their rows in the file of results.

    python benchmarks/signature_kernel.py [grams wall losses memory dense many bias]
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import measure
import numpy as np

import roughspike as rs
from roughspike.losses.mmd import within_features
from roughspike.paths.spikes import Horizon, unchecked
from roughspike.signatures.cores import usable_cores

try:
    import pysiglib
    import pysiglib.jax_api as pysiglib_jax
except ImportError:
    pysiglib = None


def trains(seed: int, n: int, spikes: int, neurons: int = 2) -> rs.SpikeTrain:
    random = np.random.default_rng(seed)
    times = np.full((n, neurons, spikes), np.inf)
    for row in times:
        owner = random.integers(0, neurons, spikes)
        for k in range(neurons):
            count = int((owner == k).sum())
            row[k, :count] = np.sort(random.uniform(0, 1, count))
    return rs.SpikeTrain(times)


class Table:
    """Rows of results."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, name: str, run: Callable[[], Any], reference: Any = None, repeats: int = 3) -> Any:
        """Measure a call, and how far its value is from the reference."""
        begin = time.process_time()
        value = jax.block_until_ready(run())
        first = time.process_time() - begin
        error = None if reference is None else float(np.max(np.abs(np.asarray(value, float) / reference - 1)))
        spent = measure.cpu_seconds(run, repeats)
        self.rows.append({"name": name, "cpu_s": spent, "first_call_cpu_s": first, "error": error})
        print(self.rows[-1], flush=True)
        return value


def grams(table: Table) -> None:
    """Gram matrices in both precisions, and how the cost grows."""
    kernel = rs.SignatureKernel(jump_size=0.25)
    with jax.enable_x64(True):
        x, y = trains(0, 64, 50), trains(1, 64, 50)
        exact = np.asarray(rs.SignatureKernel(jump_size=0.25, tol=1e-11).gram(x, y))
        lifts = [np.array(np.asarray(rs.marcus_lift(t, jump=0.25))[:, :102], order="C") for t in (x, y)]
        table.add("roughspike float64", lambda: kernel.gram(x, y), exact, 7)
        if pysiglib is not None:
            gram = pysiglib.sig_kernel_gram
            table.add("pysiglib float64, order 0", lambda: gram(*lifts, dyadic_order=0), exact, 7)
            table.add("pysiglib float64, polynomial 6", lambda: gram(*lifts, method="polynomial", order=6), exact)
        table.add("roughspike float64, one set", lambda: kernel.gram(x))
        normalised = rs.SignatureKernel(jump_size=0.25, normalise=True)
        table.add("roughspike float64, one set, normalised", lambda: normalised.gram(x))
        for n, spikes, neurons in ((64, 10, 2), (64, 25, 2), (64, 100, 2), (64, 50, 20), (128, 50, 2)):
            a, b = trains(2, n, spikes, neurons), trains(3, n, spikes, neurons)
            name = f"roughspike float64, {n} x {n} trains, {spikes} spikes, {neurons} neurons"
            table.add(name, lambda a=a, b=b: kernel.gram(a, b))
    table.add("roughspike float32", lambda: kernel.gram(x, y), exact, 7)
    if pysiglib is not None:
        small = [lift.astype(np.float32) for lift in lifts]
        table.add("pysiglib float32, order 0", lambda: pysiglib.sig_kernel_gram(*small, dyadic_order=0), exact, 7)


def losses(table: Table) -> None:
    """MMD and its derivatives."""
    orders = (3, 5, 1)
    for x64 in (True, False):
        with jax.enable_x64(x64):
            kind = "float64" if x64 else "float32"
            x, y = trains(0, 64, 50), trains(1, 64, 50)
            times, size = jnp.asarray(x.times), jnp.asarray(0.25)

            def loss(times, size=0.25, y=y, orders=orders):
                kernel = rs.SignatureKernel(jump_size=size, orders=orders)
                return rs.signature_mmd(rs.SpikeTrain(times), y, kernel=kernel)

            value = jax.jit(loss)
            table.add(f"roughspike {kind}, MMD", lambda run=value, t=times: run(t))
            slope = jax.jit(jax.value_and_grad(loss))
            table.add(f"roughspike {kind}, MMD and gradient", lambda run=slope, t=times: run(t))
            slope = jax.jit(jax.value_and_grad(loss, (0, 1)))
            name = f"roughspike {kind}, MMD and gradient, jump size too"
            table.add(name, lambda run=slope, t=times, size=size: run(t, size))
    if pysiglib is not None:
        with jax.enable_x64(True):
            a, b = (jnp.asarray(rs.marcus_lift(t, jump=0.25))[:, :102] for t in (x, y))
            theirs = jax.jit(jax.value_and_grad(lambda a: pysiglib_jax.sig_mmd(a, b, dyadic_order=0)))
            table.add("pysiglib float64, order 0, MMD and gradient", lambda: theirs(a), repeats=1)


def wall(table: Table, repeats: int = 9) -> None:
    """Wall time of a Gram matrix with all cores that there are, this and pysiglib in turns."""
    kernel, least = rs.SignatureKernel(jump_size=0.25), {}
    with jax.enable_x64(True):
        x, y = trains(0, 64, 50), trains(1, 64, 50)
        lifts = [np.array(np.asarray(rs.marcus_lift(t, jump=0.25))[:, :102], order="C") for t in (x, y)]
        runs = {"roughspike float64": lambda: kernel.gram(x, y)}
        if pysiglib is not None:
            runs["pysiglib float64, order 0"] = lambda: pysiglib.sig_kernel_gram(*lifts, dyadic_order=0)
        for k in range(repeats + 1):
            for name, run in runs.items():
                begin = time.perf_counter()
                jax.block_until_ready(run())
                spent = time.perf_counter() - begin
                least[name] = min(least.get(name, np.inf), spent) if k else np.inf
    for name, spent in least.items():
        table.rows.append({"name": f"{name}, wall time on {usable_cores()} cores", "wall_s": spent})
        print(table.rows[-1], flush=True)


def memory(table: Table) -> None:
    """What the compiled gradient of the MMD asks for beside its arguments and results."""
    kernel = rs.SignatureKernel(jump_size=0.25, orders=(3, 5, 1))
    with jax.enable_x64(True):
        for n, spikes in ((32, 50), (64, 50), (64, 100)):
            x, y = trains(0, n, spikes), trains(1, n, spikes)
            value = lambda times, y=y: rs.signature_mmd(rs.SpikeTrain(times), y, kernel=kernel)  # noqa: E731
            compiled = jax.jit(jax.value_and_grad(value)).lower(jnp.asarray(x.times)).compile()
            room = compiled.memory_analysis().temp_size_in_bytes
            pairs = n * (n - 1) // 2 + n * n
            row = {"name": f"memory of the gradient, {n} + {n} trains, {spikes} spikes", "bytes": room}
            table.rows.append(row | {"pairs": pairs, "bytes_of_all_grids": 8 * pairs * (2 * spikes + 1) ** 2})
            print(table.rows[-1], flush=True)


def dense(table: Table) -> None:
    """Gram matrices of 32 and 32 random walks of 100 points in 5 channels, at 1e-6."""
    random = np.random.default_rng(0)
    x, y = (np.cumsum(random.normal(size=(32, 100, 5)) / np.sqrt(500), axis=1) for _ in range(2))
    if pysiglib is None:
        return
    exact = pysiglib.sig_kernel_gram(x, y, method="polynomial", order=12)
    with jax.enable_x64(True):
        table.add("roughspike float64, dense paths", lambda: rs.SignatureKernel(tol=1e-6).gram(x, y), exact)
    polynomial = lambda: pysiglib.sig_kernel_gram(x, y, method="polynomial", order=4)  # noqa: E731
    table.add("pysiglib float64, polynomial 4, dense paths", polynomial, exact)
    x, y = (np.cumsum(random.normal(size=(6, 1000, 3)) / np.sqrt(3000), axis=1) for _ in range(2))
    exact = pysiglib.sig_kernel_gram(x, y, method="polynomial", order=12)
    with jax.enable_x64(True):
        table.add("roughspike float64, long paths", lambda: rs.SignatureKernel(tol=1e-6).gram(x, y), exact)
    table.add("pysiglib float64, polynomial 4, long paths", polynomial, exact)


def many(table: Table) -> None:
    """Approximations of the MMD that cost as much as there are samples."""
    random = np.random.default_rng(1)
    draw = lambda law: rs.SpikeTrain(np.sort(law(random.uniform(0, 1, (256, 1, 20))), axis=-1))  # noqa: E731
    x, y = draw(lambda u: u), draw(lambda u: u**1.1)
    size = 20**-0.5
    with jax.enable_x64(True):
        kernel = rs.SignatureKernel(jump_size=size)
        exact = float(table.add("256 + 256 samples: all kernels", lambda: rs.SignatureMMD(kernel)(x, y)))
        for number in (8, 16, 32, 64):
            loss = rs.SignatureMMD(kernel, landmarks=number)
            table.add(f"256 + 256 samples: {number} landmarks", lambda loss=loss: loss(x, y), exact)

        @jax.jit(static_argnums=2)
        def truncated(x, y, depth):
            f, g = (rs.signature(rs.marcus_lift(rs.SpikeTrain(t), jump=size), depth) for t in (x, y))
            total, other = jnp.sum(f, axis=0), jnp.sum(g, axis=0)
            own = [(jnp.vdot(t, t) - jnp.vdot(z, z)) / (256 * 255) for t, z in ((total, f), (other, g))]
            return own[0] + own[1] - 2 * jnp.vdot(total, other) / 256**2

        @jax.jit(static_argnums=3)
        def randomised(x, y, key, width):
            """Z' = sum_c A_c Z dx^c with Gaussian matrices, whose products have the mean k for wide Z."""
            matrices = jax.random.normal(key, (2, width, width)) / width**0.5
            lifts = [jnp.diff(rs.marcus_lift(rs.SpikeTrain(t), jump=size), axis=1) for t in (x, y)]

            def segment(z, dx):
                term = z
                for n in range(1, 13):
                    term = jnp.einsum("sc,cij,sj->si", dx, matrices, term) / n
                    z = z + term
                return z, None

            start = jax.random.normal(jax.random.fold_in(key, 1), (width,)) / width**0.5
            begin = jnp.broadcast_to(start, (256, width))
            f, g = (jax.lax.scan(segment, begin, jnp.swapaxes(steps, 0, 1))[0] for steps in lifts)
            return within_features(f, True) + within_features(g, True) - 2 * jnp.vdot(f.mean(axis=0), g.mean(axis=0))

        for width in (64, 256):
            draw = lambda k, width=width: randomised(x.times, y.times, jax.random.key(k), width)  # noqa: E731
            table.add(f"256 + 256 samples: {width} random features", lambda draw=draw: draw(0))
            gaps = [float(draw(k)) / exact - 1 for k in range(8)]
            table.rows[-1]["error"] = float(np.sqrt(np.mean(np.square(gaps))))  # of a draw
            print(table.rows[-1], flush=True)
        for depth in (3, 5, 7):
            run = lambda depth=depth: truncated(jnp.asarray(x.times), jnp.asarray(y.times), depth)  # noqa: E731
            table.add(f"256 + 256 samples: signature of depth {depth}", run, exact)


def poisson(rates: jax.Array, key: jax.Array, n: int, capacity: int = 12) -> rs.SpikeTrain:
    """Trains on [0, 1], differentiable in the rates; the thresholds at 1 for the horizon term."""
    thresholds = jnp.cumsum(jax.random.exponential(key, (n, len(rates), capacity), rates.dtype), axis=-1)
    times = thresholds / rates[None, :, None]
    spent = rates[None] - jnp.max(jnp.where(times < 1, thresholds, 0), axis=-1)
    return unchecked(jnp.where(times < 1, times, jnp.inf), 0.0, 1.0, 0.0, Horizon(spent, jnp.ones(spent.shape, bool)))


def bias(table: Table, keys: int = 300, n: int = 64, e: float = 0.25, only: str = "") -> None:
    """d MMD / d (rate of the first neuron) at rates (2, 3), data of rates (3, 2): mean gradients, mean differences."""
    one, both = jnp.array([2.0]), jnp.array([2.0, 3.0])
    free = {"jump_size": 0.6, "orders": (4, 5, 1)}
    filtered = {"jump_size": 0.6, "lift": rs.FilteredLift(tau=0.1, points=20), "orders": (5,)}
    for name, rates, options in (
        ("Marcus, one neuron", one, free),
        ("Marcus, two neurons", both, free),
        ("PerNeuron, two neurons", both, free | {"lift": rs.PerNeuron()}),
        ("FilteredLift, two neurons", both, filtered),
    ):
        if not name.startswith(only):
            continue
        plain = rs.SignatureMMD(rs.SignatureKernel(**options))
        data = rs.SpikeTrain(np.asarray(poisson(rates[::-1] + (len(rates) == 1), jax.random.key(1), n).times))

        def value(rate, key, loss, rates=rates, data=data):
            return loss(poisson(rates.at[0].set(rate), key, n), data)

        whole = rs.with_horizon(plain)
        slope, path = (jax.jit(jax.grad(lambda r, k, f=f: value(r, k, f))) for f in (whole, plain))
        run = jax.jit(lambda r, k, f=plain: value(r, k, f))
        rows = [
            (slope(2.0, k), path(2.0, k), (run(2.0 + e, k) - run(2.0 - e, k)) / (2 * e))
            for k in jax.random.split(jax.random.key(2), keys)
        ]
        rows = np.array(rows, float)
        gap = rows[:, 0] - rows[:, 2]
        row = dict(zip(("gradient", "pathwise", "difference"), rows.mean(axis=0).tolist(), strict=True))
        row |= {"name": name, "bias": gap.mean(), "error_of_bias": gap.std(ddof=1) / np.sqrt(keys)}
        table.rows.append(row)
        print(row, flush=True)


def main() -> None:
    path = measure.RESULTS / "signature_kernel.json"
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    parts = {part.__name__: part for part in (grams, wall, losses, memory, dense, many, bias)}
    rows = {name: [row for row in before if row["part"] == name] for name in parts}
    for name in parts if len(sys.argv) < 2 else sys.argv[1:]:
        table = Table()
        parts[name](table)
        rows[name] = [row | {"part": name} for row in table.rows]
        listed = [row for some in rows.values() for row in some]
        measure.write("signature_kernel", {"machine": measure.machine(), "rows": listed})  # a finished part is kept


if __name__ == "__main__":
    main()
