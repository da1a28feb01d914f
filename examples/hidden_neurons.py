"""How many neurons were not recorded? Networks with 0, 1, 2 hidden neurons, judged by held-out likelihood.

Four neurons are recorded. A fifth, unseen, spikes now and then: two of them follow its spikes, two fall silent. Models
are fitted by expectation maximisation, each from the one with a hidden neuron less, and scored on other trials: the
number is the smallest whose score is within one standard error of the best (paired by trial). Then: couplings against
the truth, and time rescaling, hidden spikes drawn given the recorded ones.

Run it: python examples/hidden_neurons.py [figure.svg] [seed].
"""

from __future__ import annotations

import sys

import jax
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

import roughspike as rs
from roughspike.evaluation.network import with_hidden
from roughspike.fit.maximisation import expectation_maximisation
from roughspike.likelihood.score import time_rescaling

T1, TRIALS, RECORDED, MOST, PARTICLES = 40.0, 12, 4, 2, 60
ABSENT = -30.0  # the bias of a neuron that is not there: all models are networks of one size, and share a program
MODEL = {"basis": rs.AlphaBasis(tau=(1.0,)), "link": rs.SigmoidIntensity(amplitude=4.0)}


def truth() -> rs.PointProcessNetwork:
    """The hidden neuron spikes now and then; two recorded ones follow each of its spikes, two fall silent."""
    weights = -0.5 * np.eye(5)
    weights[1, 0] = 1.0
    weights[:, 4] = 3.0, 3.0, -3.0, -3.0, -1.0
    bias = np.array([-2.5, -2.5, 0.5, 0.5, -2.5])
    return rs.PointProcessNetwork(RECORDED, 1, weights=weights[None], bias=bias, **MODEL)


def recorded(net: rs.PointProcessNetwork, key: jax.Array) -> rs.SpikeTrain:
    """Trials of which the first four neurons are recorded."""
    spikes = rs.sample(net, t1=T1, key=key, num_samples=TRIALS)
    return rs.SpikeTrain(np.asarray(spikes.times)[:, :RECORDED], 0.0, T1)


def without_hidden(data: rs.SpikeTrain) -> rs.PointProcessNetwork:
    """The fit of a network of the recorded neurons alone: by exact likelihood."""
    start = rs.PointProcessNetwork(RECORDED, weights=np.zeros((1, 4, 4)), bias=np.full(RECORDED, -1.5), **MODEL)
    options = dict(steps=200, chunk=200, dt=0.25, key=jr.key(0), learning_rate=0.1, progress=False)
    return rs.fit(start, data, loss=rs.NegativeELBO(), **options).model


def padded(net: rs.PointProcessNetwork) -> rs.PointProcessNetwork:
    """The network with more hidden neurons, which are not there."""
    size, there = RECORDED + MOST, net.num_neurons
    weights, bias = np.zeros((1, size, size)), np.full(size, ABSENT)
    weights[:, :there, :there], bias[:there] = net.weights, net.bias
    return rs.PointProcessNetwork(RECORDED, MOST, weights=weights, bias=bias, **MODEL)


def with_one_more(net: rs.PointProcessNetwork, data: rs.SpikeTrain, number: int) -> rs.PointProcessNetwork:
    """A start: hidden neuron `number` spikes now and then, and acts along a principal component of spike counts in
    bins of width 2, in the direction in which it is skewed: rare events are positive.
    """
    counts = np.array([[np.histogram(row, 20, (0.0, T1))[0] for row in trial] for trial in data.to_lists()])
    counts = counts.transpose(0, 2, 1).reshape(-1, RECORDED).astype(float)
    z = (counts - counts.mean(0)) / counts.std(0)
    direction = np.linalg.eigh(z.T @ z)[1][:, -number]
    k, weights, bias = RECORDED + number - 1, np.array(net.weights), np.array(net.bias)
    weights[0, :RECORDED, k] = 4.0 * direction * np.sign(np.mean((z @ direction) ** 3))
    weights[0, k, k], bias[k] = -1.0, -2.5
    bias[:RECORDED] -= 0.5 * weights[0, :RECORDED, k]  # about its mean drive
    return rs.PointProcessNetwork(RECORDED, MOST, weights=weights, bias=bias, **MODEL)


def error_of(x: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x)))


def main() -> dict:
    """Fit, judge, draw."""
    seed, true = int(sys.argv[2]) if len(sys.argv) > 2 else 0, truth()
    data, test = recorded(true, jr.key(seed)), recorded(true, jr.key(1000 + seed))
    judged = {"key": jr.key(7), "num_particles": PARTICLES, "per_trial": True}
    score = lambda net: np.asarray(rs.log_likelihood(net, test, **judged))  # noqa: E731
    nets, best = [padded(without_hidden(data))], score(padded(true))
    for number in range(1, MOST + 1):
        start = with_one_more(nets[-1], data, number)
        nets.append(expectation_maximisation(start, data, dt=0.25, key=jr.key(seed), num_particles=PARTICLES))
    scores = [score(net) for net in nets]
    for number, found in enumerate(scores):
        print("{} hidden: {:.2f} +- {:.2f} nats a trial below the truth".format(number, *error_of(best - found)))
    lost = [error_of(max(scores, key=np.mean) - found) for found in scores]
    number = next(n for n, (mean, error) in enumerate(lost) if mean == 0 or mean <= error)
    wanted, found = (np.asarray(n.weights)[0, :5, :5] for n in (true, nets[1]))
    print(f"chosen: {number} hidden. Its couplings, true {wanted[:4, 4]}, fitted {found[:4, 4].round(1)}")
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.3), layout="constrained")
    gaps = np.array([error_of(found - best) for found in scores])
    axes[0].errorbar(range(MOST + 1), *gaps.T, fmt="o-", capsize=3)
    axes[0].axhline(0.0, color="k", ls="--", lw=0.8)
    axes[0].set(title="held-out log p", xlabel="hidden neurons", ylabel="nats per trial, less the truth's")
    for axis, weights, title in ((axes[1], wanted, "couplings, true"), (axes[2], found, "fitted, 1 hidden")):
        shown = axis.imshow(weights, cmap="RdBu_r", vmin=-3, vmax=3)
        axis.set(title=title, xlabel="from (4: hidden)", ylabel="to")
    figure.colorbar(shown, ax=axes[2])
    for n in (0, 1):  # intervals of all neurons by the model's clock
        z = time_rescaling(nets[n], with_hidden(nets[n], test, jr.key(3), num_particles=PARTICLES))
        print(f"{n} hidden: {len(z)} rescaled intervals, uniform with p = {stats.kstest(z, 'uniform').pvalue:.2g}")
        uniform = np.arange(1, len(z) + 1) / len(z)
        axes[3].plot(uniform, np.sort(z) - uniform, label=f"{n} hidden")
    axes[3].axhspan(-1.36 / np.sqrt(len(z)), 1.36 / np.sqrt(len(z)), color="0.9")
    axes[3].set(title="time rescaling, 95 % band", xlabel="uniform quantile", ylabel="interval less uniform")
    axes[3].legend(frameon=False)
    figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "hidden_neurons.svg")
    return {"number": number, "scores": scores, "true": wanted, "fitted": found}


if __name__ == "__main__":
    main()
