"""Networks with hidden neurons fitted by expectation maximisation, hidden spikes drawn by a particle filter."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax

from roughspike.evaluation.network import with_hidden
from roughspike.fit.loop import fit
from roughspike.likelihood.elbo import NegativeELBO
from roughspike.paths.spikes import SpikeTrain
from roughspike.pointprocess.network import PointProcessNetwork


def expectation_maximisation(
    net: PointProcessNetwork,
    data: SpikeTrain,
    *,
    dt: float,
    key: jax.Array,
    rounds: int = 12,
    draws: int = 2,
    steps: int = 40,
    num_particles: int = 60,
    learning_rate: float = 0.1,
) -> PointProcessNetwork:
    """Fit all neurons to trials of which the first ones are recorded.

    Each round draws the hidden spikes given all recorded ones, z ~ p(z | x; theta), by a particle filter, then climbs
    log p(x, z; theta), which is exact and concave for most links, by Adam. The last round does so for several draws
    at once: their scatter adds to that of the fit.

    Where `rs.fit(net, data, loss=rs.NegativeELBO(estimator=rs.Particles()))` follows a gradient of log p(x), which few
    particles bias towards silent hidden neurons, this uses the particles to draw only.

    **Arguments:** the network to start from; trials, shape (trials, recorded neurons, spikes); `dt` of the
    compensator's grid, in the time unit of the data; a key; rounds, draws in the last one, steps of Adam in each,
    particles, and Adam's first learning rate, which falls to 0 as a cosine in every round.

    **Returns:** the fitted network, as many hidden neurons as before.

    **Raises:** ValueError if the network has no hidden neuron, or a count is less than 1.

    **Reference:** Dempster, Laird and Rubin (1977); with draws in place of the expectation, Wei and Tanner (1990).
    """
    if not net.num_hidden:
        raise ValueError("net has no hidden neurons: fit it by exact likelihood, rs.fit(net, data, rs.NegativeELBO())")
    for name, count in {"rounds": rounds, "draws": draws, "steps": steps, "num_particles": num_particles}.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    keys = jr.split(key, rounds + draws)
    for one in keys[:rounds]:
        net = _maximised(net, with_hidden(net, data, one, num_particles), steps, dt, optimiser)
    trials = [with_hidden(net, data, one, num_particles) for one in keys[rounds:]]
    return _maximised(net, _together(trials), steps, dt, optimiser)


def _maximised(
    net: PointProcessNetwork, whole: SpikeTrain, steps: int, dt: float, optimiser: optax.GradientTransformation
) -> PointProcessNetwork:
    """The fit to spikes of all neurons, by exact likelihood."""
    every = PointProcessNetwork(net.num_neurons, basis=net.basis, link=net.link, weights=net.weights, bias=net.bias)
    options = {"steps": steps, "chunk": steps, "dt": dt, "key": jr.key(0), "progress": False, "optimiser": optimiser}
    fitted = fit(every, whole, loss=NegativeELBO(), **options).model
    return eqx.tree_at(lambda n: (n.weights, n.bias), net, (fitted.weights, fitted.bias))


def _together(trains: list[SpikeTrain]) -> SpikeTrain:
    """The trials of all of them."""
    room = max(train.capacity for train in trains)
    rows = [np.pad(x, [(0, 0), (0, 0), (0, room - x.shape[-1])], constant_values=np.inf) for x in map(_times, trains)]
    return SpikeTrain(np.concatenate(rows), trains[0].t0, trains[0].t1)


def _times(train: SpikeTrain) -> np.ndarray:
    return np.asarray(train.times)
