"""Training by the distance of whole laws of spike trains: the signature kernel beside the expected signature.

The input current of the noisy neuron of Holberg & Salvi (2024, arXiv 2405.13587), Fig. 1: trains on [0, 2], driven at
c = 1.5; a model that starts at 0.565 follows the gradient of the loss on fresh simulations at every step. Both losses
jump where a spike enters the window, hence `with_horizon`.

Run it: python examples/signature_mmd_training.py [figure.svg]. It takes 40 to 60 CPU seconds, most of them to compile.
`benchmarks/mmd_training.py` takes more samples and steps, and trains all weights of a network of two layers.
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import roughspike as rs

TRUE, START, T1, DT, SAMPLES, STEPS, RATE = 1.5, 0.565, 2.0, 0.01, 32, 60, 0.05
NEURON = rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4, alpha=0.03)
KERNEL = rs.SignatureKernel(orders=(3, 4, 1))  # fixed orders are one program to compile
LOSSES = {
    "signature kernel": rs.with_horizon(rs.SignatureMMD(KERNEL)),
    "expected signature": rs.with_horizon(rs.ExpectedSignatureLoss(depth=3)),
}


def train_current(loss: Any) -> tuple[np.ndarray, float]:
    """The current after every fifth step, and the CPU seconds of a step."""
    data = rs.simulate(rs.Population(NEURON, TRUE), t1=T1, dt=DT, key=jr.key(1), num_samples=SAMPLES).spikes
    seen = [(0, START)]
    note = lambda now: seen.append((now.step, float(now.model.current)))  # noqa: E731
    options: Any = {"dt": DT, "num_samples": SAMPLES, "chunk": 5, "progress": False, "callback": note}
    model, current = rs.Population(NEURON, START), lambda m: m.current
    # Adam without the default's bound on the norm, which both gradients exceed: both would take the same steps
    options["optimiser"] = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))
    fit = rs.fit(model, data, loss=loss, trainable=current, steps=STEPS, key=jr.key(2), **options)
    return np.array(seen), float(fit.history["seconds"][-1]) / STEPS


def main() -> dict[str, tuple[np.ndarray, float]]:
    """Train, print, draw; by loss the (step, current) and the CPU seconds of a step."""
    fig, axes = plt.subplots(figsize=(5.2, 3.5), layout="constrained")
    found = {}
    for (name, loss), style in zip(LOSSES.items(), ("-", "--"), strict=True):
        steps, seconds = found[name] = train_current(loss)
        axes.plot(*steps.T, style, label=name)
        print(f"{name}: c = {steps[-1, 1]:.3f}, {1e3 * seconds:.0f} CPU ms a step", flush=True)
    axes.axhline(TRUE, color="0.5", ls=":")
    axes.set(xlabel="optimiser step", ylabel="input current c", title="Fig. 1: the current is found")
    axes.legend(frameon=False)
    fig.savefig(sys.argv[1] if len(sys.argv) > 1 else f"{tempfile.mkdtemp()}/signature_mmd_training.svg")
    return found


if __name__ == "__main__":
    main()
