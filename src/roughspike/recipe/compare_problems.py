"""Named problems of `roughspike compare`, and problems of a user's own."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import equinox as eqx
import jax.random as jr
import numpy as np

from roughspike.neurons.escape import SigmoidEscape
from roughspike.neurons.lif import SLIF
from roughspike.paths.spikes import SpikeTrain
from roughspike.pointprocess.basis import AbstractBasis
from roughspike.pointprocess.compare import HiddenNeurons
from roughspike.pointprocess.decaying import AlphaBasis, ExponentialBasis
from roughspike.pointprocess.estimators import AbstractEstimator, Pathwise, StraightThrough
from roughspike.pointprocess.event_time import EventTime
from roughspike.pointprocess.links import SigmoidIntensity
from roughspike.pointprocess.network import PointProcessNetwork
from roughspike.pointprocess.sample import sample
from roughspike.pointprocess.score import LeaveOneOut, RunningMean, Score
from roughspike.pointprocess.windowed import EpanechnikovBasis

ESTIMATORS: dict[str, AbstractEstimator] = {
    "pathwise 1": Pathwise(1.0),
    "pathwise 0.3": Pathwise(0.3),
    "pathwise 0.1": Pathwise(0.1),
    "pathwise 0.03": Pathwise(0.03),
    "straight-through 1": StraightThrough(1.0),
    "straight-through 0.3": StraightThrough(0.3),
    "score": Score(),
    "score, running mean": Score(RunningMean()),
    "score, leave-one-out": Score(LeaveOneOut()),
    "score, reward-to-go": Score(LeaveOneOut(), bins=10),
    "event time": EventTime(),
    "event time, no crossings": EventTime(crossing=False),
    "event time, no horizon": EventTime(horizon=False),
}
"""All of them, with the one without bias that the others are measured against: `TRUTH`."""

TRUTH = "score, reward-to-go"


class Named(NamedTuple):
    """A problem that ships: what it is in a sentence, and how it is made from a seed."""

    title: str
    make: Callable[[int], HiddenNeurons]


def paper_problem(
    seed: int,
    *,
    t1: float = 10.0,
    scale: float = 1.0,
    floor: float = 0.0,
    basis: AbstractBasis | None = None,
    separate: bool = False,
    num_samples: int = 10,
) -> HiddenNeurons:
    """The setting of Kajino (2021): 2 + 4 neurons, a = 5, one sequence of a generator, at parameters of another draw.

    **Arguments**: `scale` multiplies all weights, which are drawn from U(-5, 5), `floor` is the least intensity,
    `separate` gives a posterior of its own, a third draw, in place of the model.
    """
    basis = EpanechnikovBasis(centres=(0.0, 10.0), width=1.0) if basis is None else basis
    draws = [drawn(2, 4, basis, SigmoidIntensity(5.0, floor), k, scale) for k in jr.split(jr.key(seed), 3)]
    return HiddenNeurons(
        draws[1], observed_of(draws[0], t1, seed), posterior=draws[2] if separate else None, num_samples=num_samples
    )


def drawn(
    observed: int, hidden: int, basis: AbstractBasis, link: SigmoidIntensity, key: Any, scale: float = 1.0
) -> PointProcessNetwork:
    """A network with parameters drawn as in the paper, weights scaled."""
    net = PointProcessNetwork(observed, hidden, basis=basis, link=link, key=key)
    return eqx.tree_at(lambda n: n.weights, net, scale * net.weights)


def observed_of(net: PointProcessNetwork, t1: float, seed: int, count: int | None = None) -> SpikeTrain:
    """What is seen of samples of the network: one trial, or `count` of them."""
    spikes = sample(net, t1=t1, key=jr.key(1000 + seed), num_samples=count)
    return SpikeTrain(np.asarray(spikes.times, float)[..., : net.num_observed, :], 0.0, t1)


def slif_problem(seed: int, *, jumps: bool = True, num_samples: int = 10) -> HiddenNeurons:
    """1 observed and 3 hidden SLIF neurons (time constant 50 ms, rate at most 100 / s), 0.4 s of one recording.

    The posterior is another SLIF network: the horizon term counts. With `jumps` a spike moves potentials at once:
    crossings count. Otherwise through a current of 10 ms.
    """
    neuron = SLIF(mu=(20.0, 100.0), v_reset=0.5, escape=SigmoidEscape(beta=2.0, v_th=1.0, tau_s=0.01))
    rng = np.random.default_rng(seed)

    def network(size: float) -> PointProcessNetwork:
        weights = rng.normal(0.0, size * (1.0 if jumps else 3.0), (4, 4)) * (1 - np.eye(4))
        return PointProcessNetwork.from_slif(neuron, weights, rng.uniform(0.6, 1.0, 4), 1, jumps=jumps)

    truth, model, posterior = network(0.5), network(0.3), network(0.3)
    return HiddenNeurons(model, observed_of(truth, 0.4, seed), posterior=posterior, num_samples=num_samples)


PROBLEMS = {
    "kajino": Named("Kajino (2021): 2 + 4 neurons, a = 5, T = 10", paper_problem),
    "kajino-50": Named("Kajino (2021), T = 50", lambda seed: paper_problem(seed, t1=50.0)),
    "kajino-moderate": Named("Kajino (2021), weights times 0.2", lambda seed: paper_problem(seed, scale=0.2)),
    "kajino-floor": Named("Kajino (2021), no intensity below 0.25", lambda seed: paper_problem(seed, floor=0.25)),
    "kajino-posterior": Named(
        "Kajino (2021), weights times 0.2, a separate posterior",
        lambda seed: paper_problem(seed, scale=0.2, separate=True),
    ),
    "kajino-alpha": Named(
        "Kajino (2021) with alpha filters, weights times 0.2",
        lambda seed: paper_problem(seed, scale=0.2, basis=AlphaBasis(tau=(0.5, 2.0))),
    ),
    "kajino-exponential": Named(
        "Kajino (2021) with exponential filters, weights times 0.2",
        lambda seed: paper_problem(seed, scale=0.2, basis=ExponentialBasis(tau=(0.5, 2.0))),
    ),
    "slif": Named("SLIF network, 3 of 4 neurons hidden, potentials jump at spikes", slif_problem),
    "slif-current": Named(
        "SLIF network, 3 of 4 neurons hidden, synaptic currents", lambda seed: slif_problem(seed, jumps=False)
    ),
}


class Found(NamedTuple):
    """What is compared: title, a function of (estimator, key), estimators by name."""

    title: str
    problem: Any
    estimators: Mapping[str, Any]


def problem_of(name: str, seed: int) -> Found:
    """A named problem, or what `module:function` or `file.py:function` returns.

    The function takes no argument and returns the problem, or a pair of it and a mapping of estimators by name.

    **Raises** ValueError for a name that leads nowhere.
    """
    if name in PROBLEMS:
        return Found(PROBLEMS[name].title, PROBLEMS[name].make(seed), ESTIMATORS)
    module, _, attribute = name.rpartition(":")
    if not module:
        raise ValueError(
            f"there is no problem named {name!r}; known: {', '.join(PROBLEMS)}; one of your own is module:function or "
            "file.py:function"
        )
    function = getattr(_module(module), attribute, None)
    if not callable(function):
        raise ValueError(f"{module} has no function {attribute!r} that makes a problem")
    made = function()
    problem, estimators = made if isinstance(made, tuple) and not callable(made) else (made, ESTIMATORS)
    if not callable(problem) or not isinstance(estimators, Mapping):
        raise ValueError(
            f"{name} returned {type(made).__name__}: it must return a problem, that is a function of (estimator, key), "
            "or a pair of it and a mapping of estimators by name"
        )
    return Found(attribute.replace("_", " "), problem, estimators)


def _module(name: str) -> ModuleType:
    if not name.endswith(".py"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ValueError(f"{name} cannot be imported ({error}): give a module on the path, or a file.py") from error
    if not Path(name).is_file():
        raise ValueError(f"there is no file {name}")
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
