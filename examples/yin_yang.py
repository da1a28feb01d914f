"""Learn the Yin-Yang task with exact gradients: 5 inputs, 120 hidden neurons, a readout; one to three spikes a neuron.

Each feature is the time of one spike, a bias spikes at 0. The loss is the cross-entropy of 40 times the mean voltage of
the readout, the optimiser Adam with a cosine schedule. Steps of 1 ms: a spike lies off the grid, so they suffice.

Run it: python examples/yin_yang.py [epochs] [seed]. Five epochs take some ten seconds and reach 94 %, twenty 98 %.
"""

from __future__ import annotations

import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax

import roughspike as rs

T1, DT, BATCH = 48e-3, 1e-3, 50


def data(count: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """Spike times (count, 5, 1) and labels."""
    features, labels = rs.yin_yang(count, seed)
    return rs.latency_code(features, t1=T1, latest=30e-3).times, jnp.asarray(labels)


def logits(weights: list[jax.Array], net: rs.FeedForward, times: jax.Array) -> tuple[jax.Array, rs.Solution]:
    """40 times the mean voltage of the readout, (batch, 3)."""
    net = eqx.tree_at(lambda n: [layer.synapses.free for layer in n.layers], net, weights)
    spikes = rs.SpikeTrain(times, 0.0, T1)
    sol = rs.simulate(net, inputs=spikes, t1=T1, dt=DT, max_spikes=16, max_spikes_per_step=2)
    return 40.0 * sol.membrane.mean(axis=-1), sol


def main() -> None:
    """Train and report the accuracy on the published test set."""
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    (times, labels), (test_times, test_labels) = data(5000, 42), data(1000, 40)
    net = rs.FeedForward([5, 120, 3], neuron=rs.LIF(20e-3, 5e-3), key=jr.key(seed), readout=rs.Readout(20e-3, 5e-3))
    weights = [layer.synapses.free for layer in net.layers]
    batches = len(times) // BATCH
    optimiser = optax.adam(optax.cosine_decay_schedule(1e-2, epochs * batches))

    def loss(weights, times, labels):
        out, sol = logits(weights, net, times)
        return optax.softmax_cross_entropy_with_integer_labels(out, labels).mean(), sol.result

    @jax.jit
    def epoch(weights, state, key):
        order = jr.permutation(key, len(times))[: batches * BATCH].reshape(batches, BATCH)

        def step(carry, index):
            weights, state = carry
            (value, result), on = jax.value_and_grad(loss, has_aux=True)(weights, times[index], labels[index])
            updates, state = optimiser.update(on, state)
            return (optax.apply_updates(weights, updates), state), (value, result.flags)

        (weights, state), (values, flags) = jax.lax.scan(step, (weights, state), order)
        return weights, state, values.mean(), jnp.mean(flags != 0)

    accuracy = jax.jit(lambda w: jnp.mean(logits(w, net, test_times)[0].argmax(axis=1) == test_labels))
    state, begin = optimiser.init(weights), time.process_time()
    for n in range(epochs):
        weights, state, value, flagged = epoch(weights, state, jr.fold_in(jr.key(1000 + seed), n))
        if n % 5 == 4 or n == epochs - 1:
            spent = time.process_time() - begin
            right = accuracy(weights)
            print(f"epoch {n + 1:3d}  loss {value:.3f}  test {right:.3f}  {spent:.0f} CPU s, flagged {flagged:.4f}")
    assert accuracy(weights) > 0.8


if __name__ == "__main__":
    main()
