"""Recover an input current from spike times, by the gradient of simulated spikes and by likelihood.

After an experiment of Holberg & Salvi (2024, arXiv 2405.13587): 128 recorded samples of one noisy neuron, driven at
1.5, and a model that starts at 1.2. Two ways to fit it:

1. simulate, compare the mean of the first three spike times with the recorded ones, follow the pathwise gradient
   through the simulation (with diffusion and random spike times);
2. maximise the likelihood of the recorded spikes.

Run it: python examples/recover_a_current.py. It takes about half a minute on two cores.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.random as jr
import optax

import roughspike as rs

TRUE_CURRENT, START, T1 = 1.5, 1.2, 3.0
NEURON = rs.SLIF(mu=(15.0, 0.0), sigma=((0.25, 0.0), (0.0, 0.0)), v_reset=1.4, alpha=0.03)


def first_times(current: jax.Array | float, key: jax.Array) -> jax.Array:
    """Mean times of the first three spikes over 128 samples; a spike that has not come by then counts as `T1`."""
    cell = rs.Population(NEURON, current=current)
    sol = rs.simulate(cell, t1=T1, dt=0.01, key=key, num_samples=128, max_spikes=32)
    return jnp.minimum(sol.spikes.times[:, 0, :3], T1).mean(axis=0)


def by_simulation(steps: int = 40) -> float:
    """Gradient descent on the squared difference of mean spike times, fresh noise at every step."""
    recorded = first_times(TRUE_CURRENT, jr.key(0))

    def loss(current: jax.Array, key: jax.Array) -> jax.Array:
        return ((first_times(current, key) - recorded) ** 2).sum()

    optimiser = optax.chain(optax.clip(2.0), optax.sgd(0.05))
    current = jnp.asarray(START)
    state = optimiser.init(current)
    gradient = jax.jit(jax.grad(loss))
    for key in jr.split(jr.key(1), steps):
        updates, state = optimiser.update(gradient(current, key), state)
        current = current + updates
    return float(current)


def by_likelihood() -> float:
    """Exact maximum likelihood. The data have no diffusion here, so that the likelihood is exact, and no alpha."""
    neuron = rs.SLIF(mu=(15.0, 0.0), v_reset=1.4)
    data = rs.simulate(rs.Population(neuron, current=TRUE_CURRENT), t1=T1, dt=0.01, key=jr.key(2), num_samples=128)
    fit = rs.fit(
        rs.Population(neuron, current=START),
        data.spikes,
        loss=rs.NegativeLogLikelihood(),
        trainable=lambda m: m.current,
        steps=150,
        dt=0.01,
        key=jr.key(3),
        progress=False,
    )
    return float(fit.model.current)


def main() -> None:
    """Print both estimates and check them."""
    for name, estimate in (("simulated spike times", by_simulation()), ("likelihood", by_likelihood())):
        print(f"{name}: {estimate:.3f}, recorded at {TRUE_CURRENT}, started at {START}")
        assert abs(estimate - TRUE_CURRENT) < 0.05, f"{name} did not find the current"


if __name__ == "__main__":
    main()
