"""A program that the tests run on several devices or processes: python worker.py TASK OUT [PROCESS PORT]."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

TASK, OUT = sys.argv[1], Path(sys.argv[2])
DEVICES = 1 if len(sys.argv) > 3 else 4
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={DEVICES} --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import jax.random as jr  # noqa: E402
import numpy as np  # noqa: E402
from objectives import all_of_them  # noqa: E402

import roughspike as rs  # noqa: E402
from roughspike import parallel  # noqa: E402
from roughspike.fit.simulated import SimulatedObjective  # noqa: E402
from roughspike.likelihood.objective import AbstractObjective  # noqa: E402
from roughspike.losses.base import AbstractLoss  # noqa: E402
from roughspike.losses.shared_out import loss_on  # noqa: E402

WINDOW = {"t1": 1.0, "dt": 0.02}


class FirstTime(AbstractLoss):
    """Squared difference of mean first spike times: cheap to compile."""

    def features(self, spikes):
        return jnp.minimum(spikes.times[:, :, 0], spikes.t1)

    def compare(self, simulated, recorded):
        return jnp.sum((jnp.mean(simulated, 0) - jnp.mean(jnp.asarray(recorded, simulated.dtype), 0)) ** 2)


class Parabola(AbstractObjective):
    """Mean of (current - x)^2 over numbers x that devices share out."""

    mesh: Any = eqx.field(static=True, default=None)

    def prepare(self, cell, data, *, windows=None, dt, rate=None):
        return np.arange(8.0, dtype=np.float32)

    def __call__(self, cell, prepared, key):
        noise = jr.normal(key, prepared.shape)
        return jnp.mean((cell.current - parallel.along(prepared + noise, self.mesh, 0)) ** 2)

    def score(self, cell, prepared, key):
        return -self(cell, prepared, key)


class Line(eqx.Module):
    current: jax.Array


def cell(current: float, refractory: float | None = None) -> rs.Population:
    sigma = ((0.25, 0.0), (0.0, 0.0))
    return rs.Population(rs.SLIF(mu=(15.0, 0.0), sigma=sigma, v_reset=1.4, refractory=refractory), current)


def recorded() -> rs.SpikeTrain:
    return rs.SpikeTrain(np.linspace(0.1, 0.9, 9)[:, None, None], 0.0, 1.0)


def simulated_and_fitted(mesh: Any) -> dict[str, Any]:
    sol = rs.simulate(cell(1.5), **WINDOW, key=jr.key(0), num_samples=32, mesh=mesh)
    objective = SimulatedObjective(FirstTime(), 32, scored=False)
    fit = rs.fit(cell(1.2), recorded(), loss=objective, steps=4, chunk=2, dt=0.02, key=jr.key(1), progress=False,
                 trainable=lambda m: m.current, mesh=mesh)  # fmt: skip
    spikes = parallel.gather(sol.spikes)
    return {"times": spikes.times, "threshold": spikes.horizon.threshold, "flags": np.asarray(sol.result.flags),
            "current": np.asarray(fit.model.current), "loss": fit.history["loss"],
            "gradient": fit.history["gradient_norm"]}  # fmt: skip


def toy(mesh: Any, **options: Any) -> rs.FitResult:
    options = {"steps": 60, "chunk": 10, "dt": 0.1, "key": jr.key(1), "progress": False} | options
    return rs.fit(
        Line(jnp.array(0.5)), recorded(), loss=Parabola(), trainable=lambda m: m.current, mesh=mesh, **options
    )


def pairs(mesh: Any, times: jax.Array, crossing: jax.Array) -> tuple[jax.Array, Any]:
    """Value and gradient of the MMD with its horizon term, for trains that are given."""
    loss = rs.with_horizon(rs.SignatureMMD(rs.SignatureKernel(jump_size=0.5, orders=(4, 2, 1))))

    def value(times, crossing):
        from roughspike.paths.spikes import Horizon, unchecked

        spikes = unchecked(times, 0.0, 1.0, horizon=Horizon(crossing, crossing > -1.0))
        return loss_on(loss, spikes, recorded(), mesh)

    return jax.jit(jax.value_and_grad(value, (0, 1)))(times, crossing)


def windows(mesh: Any) -> np.ndarray:
    objective, model = SimulatedObjective(FirstTime(), 8, mesh=mesh), cell(1.5, refractory=0.05)
    prepared = objective.prepare(model, recorded()[:2], windows=rs.Windows.tile(0.0, 1.0, 2), dt=0.02)
    prepared = jax.tree.map(jnp.asarray, prepared)
    return np.asarray(eqx.filter_jit(lambda c, p: objective(c, p, jr.key(3)))(model, prepared))


def batch(mesh: Any) -> np.ndarray:
    """Spikes of a layer that a batch of inputs drives: the batch is shared out."""
    layer = rs.FeedForward((3, 2), rs.LIF(tau_mem=0.02, tau_syn=0.005), key=jr.key(2))
    inputs = rs.SpikeTrain(np.sort(np.random.default_rng(0).uniform(0.0, 0.1, (8, 3, 2))), 0.0, 0.1)
    return parallel.gather(rs.simulate(layer, inputs=inputs, t1=0.1, dt=0.005, max_spikes=8, mesh=mesh).spikes.times)


def message(mesh: Any) -> str:
    """What is said about a number of samples that four devices cannot share."""
    try:
        rs.simulate(cell(1.5), **WINDOW, key=jr.key(0), num_samples=6, mesh=mesh)
    except ValueError as error:
        return str(error)
    return ""


def on_devices() -> None:
    """Everything on four devices and on one, in one process."""
    explicit = jax.make_mesh((2, 2), ("a", "b"))  # explicit axes in newer versions of JAX
    found = {"message": message(explicit)}
    for name, given in (("one", None), ("four", explicit)):
        found |= {f"{name}:{key}": value for key, value in simulated_and_fitted(given).items()}
        mesh = None if given is None else parallel.checked(given)  # as simulate and fit do
        found[f"{name}:windows"], found[f"{name}:batch"] = windows(mesh), batch(given)
        random = np.random.default_rng(1)
        times = jnp.asarray(np.sort(random.uniform(0.0, 1.0, (8, 1, 3))), jnp.float32)
        value, gradients = pairs(mesh, times, jnp.asarray(random.uniform(-2.0, 0.0, (8, 1)), jnp.float32))
        found |= {f"{name}:mmd": value, f"{name}:mmd times": gradients[0], f"{name}:mmd horizon": gradients[1]}
        found |= {f"{name}:{what}": value for what, value in all_of_them(mesh).items()}
    np.savez(OUT, **found)


def resumed() -> None:
    """Go on with four devices from what two processes left, beside the same run on one device without a break."""
    steps: list[int] = []
    one = toy(rs.parallel.mesh(4), checkpoint=OUT, resume=True, callback=lambda s: steps.append(s.step))
    whole = toy(None)
    loss = {"resumed": one.history["loss"], "whole": whole.history["loss"]}
    np.savez(OUT / "resumed.npz", **loss, first=steps[0] - 10)


def on_processes(process: int, port: str) -> None:
    """One of two processes; the second kills itself in the middle if asked to."""
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, process, initialization_timeout=60,
                               heartbeat_timeout_seconds=10, shutdown_timeout_seconds=3)  # fmt: skip
    mesh = rs.parallel.mesh()
    assert mesh.size == 2 and jax.process_count() == 2
    if TASK == "simulate":
        found = simulated_and_fitted(mesh)
        if process == 0:
            np.savez(OUT, **found)
        return

    def killed(snapshot):
        if process == 1 and snapshot.step == 30:
            os.kill(os.getpid(), signal.SIGKILL)

    if TASK == "unlike":
        toy(mesh, steps=60 + process)
    toy(mesh, checkpoint=OUT, callback=killed if TASK == "killed" else None, patience=None)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        on_processes(int(sys.argv[3]), sys.argv[4])
    elif TASK == "devices":
        on_devices()
    else:
        resumed()
