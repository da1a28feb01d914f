"""How many neurons were not recorded? Networks with 0, 1, 2 hidden neurons, judged by held-out likelihood.

Four neurons are recorded. A fifth one, unseen, spikes now and then: two of them follow its spikes, two fall silent.
Each model is fitted to the same trials by expectation maximisation: a particle filter draws the hidden spikes given
all recorded ones, and exact likelihood fits a network of all neurons to both. It starts from the fit with one hidden
neuron less; a new neuron starts along a principal component of the spike counts.
Models are scored on other trials: the number is the smallest whose score is within one standard error of the best one
(of the difference, paired by trial). A model without hidden neurons and with slower filters too shows that what the
hidden neuron explains is not just a longer memory. Then: couplings against the truth, and goodness of fit by time
rescaling, hidden spikes drawn given the recorded ones.

Run it: python examples/hidden_neurons.py [figure.svg] [seed].
"""

from __future__ import annotations

import sys

import jax
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax
from scipy import stats

import roughspike as rs
from roughspike.evaluation.network import with_hidden
from roughspike.likelihood.score import time_rescaling

T1, TRIALS, TEST = 40.0, 12, 12
ROUNDS, STEPS, LAST, PARTICLES = 12, 40, 2, 60
RECORDED, MOST = 4, 2
ABSENT = -30.0  # the bias of a neuron that is not there: all models are networks of one size, and share a program
BASIS, LINK = rs.AlphaBasis(tau=(1.0,)), rs.SigmoidIntensity(amplitude=4.0)
SLOW = rs.AlphaBasis(tau=(1.0, 3.0))
LOSS, OPTIMISER = rs.NegativeELBO(), optax.adam(optax.cosine_decay_schedule(0.1, STEPS))


def truth() -> rs.PointProcessNetwork:
    """The hidden neuron spikes now and then; two recorded ones follow each of its spikes, two fall silent."""
    weights = -0.5 * np.eye(5)
    weights[1, 0] = 1.0
    weights[:, 4] = 3.0, 3.0, -3.0, -3.0, -1.0
    bias = np.array([-2.5, -2.5, 0.5, 0.5, -2.5])
    return rs.PointProcessNetwork(4, 1, basis=BASIS, link=LINK, weights=weights[None], bias=bias)


def recorded(net: rs.PointProcessNetwork, count: int, key: jax.Array) -> rs.SpikeTrain:
    """Trials of which the first four neurons are recorded."""
    spikes = rs.sample(net, t1=T1, key=key, num_samples=count)
    return rs.SpikeTrain(np.asarray(spikes.times)[:, :RECORDED], 0.0, T1)


def without_hidden(data: rs.SpikeTrain, basis: rs.AlphaBasis) -> rs.PointProcessNetwork:
    """The fit of a network of the recorded neurons alone: by exact likelihood."""
    weights = np.zeros((basis.num_functions, RECORDED, RECORDED))
    start = rs.PointProcessNetwork(RECORDED, basis=basis, link=LINK, weights=weights, bias=np.full(RECORDED, -1.5))
    options = dict(steps=200, chunk=200, dt=0.25, key=jr.key(0), learning_rate=0.1, progress=False)
    return rs.fit(start, data, loss=rs.NegativeELBO(), **options).model


def padded(net: rs.PointProcessNetwork) -> rs.PointProcessNetwork:
    """The network with more hidden neurons, which are not there."""
    size = RECORDED + MOST
    weights, bias = np.zeros((BASIS.num_functions, size, size)), np.full(size, ABSENT)
    there = net.num_neurons
    weights[:, :there, :there], bias[:there] = net.weights, net.bias
    return rs.PointProcessNetwork(RECORDED, MOST, basis=BASIS, link=LINK, weights=weights, bias=bias)


def with_one_more(net: rs.PointProcessNetwork, data: rs.SpikeTrain, number: int) -> rs.PointProcessNetwork:
    """A start: hidden neuron `number` spikes now and then and acts along a principal component of spike counts."""
    k = RECORDED + number - 1
    weights, bias = np.array(net.weights), np.array(net.bias)
    weights[0, :RECORDED, k], weights[0, k, k], bias[k] = 4.0 * component(data, number), -1.0, -2.5
    bias[:RECORDED] -= 0.5 * weights[0, :RECORDED, k]  # about its mean drive
    return rs.PointProcessNetwork(RECORDED, MOST, basis=BASIS, link=LINK, weights=weights, bias=bias)


def component(data: rs.SpikeTrain, number: int) -> np.ndarray:
    """Of counts in bins of width 2, in the direction in which it is skewed: rare events are positive."""
    edges = np.arange(0.0, T1 + 1, 2.0)
    counts = np.array([[np.histogram(row, edges)[0] for row in trial] for trial in data.to_lists()])
    counts = counts.transpose(0, 2, 1).reshape(-1, RECORDED).astype(float)
    z = (counts - counts.mean(0)) / counts.std(0)
    direction = np.linalg.eigh(z.T @ z)[1][:, -number]
    return direction * np.sign(np.mean((z @ direction) ** 3))


def fitted(net: rs.PointProcessNetwork, data: rs.SpikeTrain, seed: int) -> rs.PointProcessNetwork:
    """Rounds of both steps; the last one maximises over several draws of the hidden spikes."""
    keys = jr.split(jr.key(seed), ROUNDS + LAST)
    for key in keys[:ROUNDS]:
        net = maximised(net, with_hidden(net, data, key, PARTICLES), STEPS)
    return maximised(net, together([with_hidden(net, data, key, PARTICLES) for key in keys[ROUNDS:]]), STEPS)


def maximised(net: rs.PointProcessNetwork, whole: rs.SpikeTrain, steps: int) -> rs.PointProcessNetwork:
    """The fit to spikes of all neurons. A neuron that is not there has no spikes, and no gradient."""
    every = rs.PointProcessNetwork(RECORDED + MOST, basis=BASIS, link=LINK, weights=net.weights, bias=net.bias)
    options = dict(steps=steps, chunk=steps, dt=0.25, key=jr.key(0), progress=False)
    fit = rs.fit(every, whole, loss=LOSS, optimiser=OPTIMISER, **options).model
    return rs.PointProcessNetwork(RECORDED, MOST, basis=BASIS, link=LINK, weights=fit.weights, bias=fit.bias)


def together(trains: list[rs.SpikeTrain]) -> rs.SpikeTrain:
    """The trials of all of them."""
    room = max(train.capacity for train in trains)
    pad = lambda x: np.pad(x, [(0, 0), (0, 0), (0, room - x.shape[-1])], constant_values=np.inf)  # noqa: E731
    return rs.SpikeTrain(np.concatenate([pad(np.asarray(train.times)) for train in trains]), 0.0, T1)


def chosen(scores: dict[int, np.ndarray]) -> int:
    """The smallest number of hidden neurons within one standard error of the best score."""
    best = max(scores, key=lambda n: scores[n].mean())
    lost = {n: error_of(scores[best] - scores[n]) for n in scores}
    return min(n for n, (mean, error) in lost.items() if mean <= error)


def error_of(x: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x)))


def main() -> dict:
    """Fit, judge, draw."""
    path = sys.argv[1] if len(sys.argv) > 1 else "hidden_neurons.svg"
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    true = truth()
    data, test = recorded(true, TRIALS, jr.key(seed)), recorded(true, TEST, jr.key(1000 + seed))
    options = dict(key=jr.key(7), num_particles=PARTICLES, per_trial=True)
    score = lambda net: np.asarray(rs.log_likelihood(net, test, **options))  # noqa: E731
    nets, best = {0: padded(without_hidden(data, BASIS))}, score(padded(true))
    for number in range(1, MOST + 1):
        nets[number] = fitted(with_one_more(nets[number - 1], data, number), data, seed)
    scores = {number: score(net) for number, net in nets.items()}
    slow = score(without_hidden(data, SLOW))
    for name, found in {**scores, "0, slow filters too,": slow}.items():
        gap, error = error_of(best - found)
        print(f"{name} hidden: log p per held-out trial below that of the truth by {gap:.2f} +- {error:.2f}")
    number = chosen(scores)
    print(f"chosen: {number} hidden")
    wanted, found = (np.asarray(n.weights)[0, : RECORDED + 1, : RECORDED + 1] for n in (true, nets[1]))
    print("couplings, true:\n", wanted, "\nfitted with 1 hidden:\n", found.round(1))
    z = {n: rescaled(nets[n], test) for n in (0, 1)}
    for n, intervals in z.items():
        test_of = stats.kstest(intervals, "uniform")
        print(f"{n} hidden, {len(intervals)} rescaled intervals: D = {test_of.statistic:.3f}, p = {test_of.pvalue:.2g}")
    draw(scores, best, wanted, found, z, path)
    return {"number": number, "scores": scores, "slow": slow, "best": best, "true": wanted, "fitted": found, "z": z}


def rescaled(net: rs.PointProcessNetwork, test: rs.SpikeTrain) -> np.ndarray:
    """Intervals of all neurons by the model's clock, hidden spikes drawn given the recorded ones."""
    return time_rescaling(net, with_hidden(net, test, jr.key(3), num_particles=PARTICLES))


def draw(
    scores: dict[int, np.ndarray],
    best: np.ndarray,
    wanted: np.ndarray,
    found: np.ndarray,
    z: dict[int, np.ndarray],
    path: str,
) -> None:
    """Held-out likelihood, couplings against the truth, time rescaling."""
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.3), layout="constrained")
    gaps = [error_of(score - best) for score in scores.values()]
    axes[0].errorbar(list(scores), [g[0] for g in gaps], [g[1] for g in gaps], fmt="o-", capsize=3)
    axes[0].axhline(0.0, color="k", ls="--", lw=0.8)
    axes[0].set(
        title="held-out log p", xlabel="hidden neurons", ylabel="nats per trial, less the truth's", xticks=list(scores)
    )
    high, labels = np.abs(wanted).max(), [*range(RECORDED), "hidden"]
    for axis, weights, title in ((axes[1], wanted, "couplings, true"), (axes[2], found, "fitted, 1 hidden")):
        shown = axis.imshow(weights, cmap="RdBu_r", vmin=-high, vmax=high)
        axis.set(title=title, xlabel="from", xticks=range(5), yticks=range(5), xticklabels=labels, yticklabels=labels)
        for (i, j), w in np.ndenumerate(weights):
            axis.text(j, i, f"{w:z.1f}", ha="center", va="center", fontsize=7, color="w" if abs(w) > 2 else "k")
    axes[1].set_ylabel("to")
    figure.colorbar(shown, ax=axes[2])
    for n, intervals in z.items():
        uniform = np.arange(1, len(intervals) + 1) / len(intervals)
        axes[3].plot(uniform, np.sort(intervals) - uniform, label=f"{n} hidden")
    band = 1.36 / np.sqrt(min(map(len, z.values())))
    axes[3].axhspan(-band, band, color="0.9")
    axes[3].set(xlabel="uniform quantile", ylabel="rescaled interval less uniform", title="time rescaling, 95 % band")
    axes[3].legend(frameon=False, fontsize=8)
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    main()
