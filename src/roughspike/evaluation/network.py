"""Evaluate a fitted network of intensities: scores, free samples, time rescaling, all that a report shows of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from roughspike.evaluation.compare import compare_intervals, compare_rates, compare_trains
from roughspike.evaluation.evaluate import own_configuration, poisson_score
from roughspike.evaluation.judge import Judge, bits_above_poisson, shown_window, subject_of
from roughspike.evaluation.metrics import time_rescaling
from roughspike.evaluation.types import Connectivity, Evaluation, Parameter, Score, Stage
from roughspike.likelihood import score as likelihood
from roughspike.likelihood.elbo import WithPosterior
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows
from roughspike.pointprocess.likelihood import rescaled_intervals
from roughspike.pointprocess.network import PointProcessNetwork
from roughspike.pointprocess.particle import sample_hidden
from roughspike.pointprocess.sample import sample


def network_of(model: Any) -> PointProcessNetwork:
    """The network of a fitted model. **Raises** ValueError for a model that is none."""
    if isinstance(model, WithPosterior):
        return model.net
    if not isinstance(model, PointProcessNetwork):
        raise ValueError(f"there is no report of a {type(model).__name__}: fit a Population or a PointProcessNetwork")
    return model


def with_hidden(net: PointProcessNetwork, observed: SpikeTrain, key: jax.Array, num_particles: int = 200) -> SpikeTrain:
    """The observed spikes with hidden ones drawn given all of them, by a particle filter: complete trials.

    If the model is right, complete trials are its samples: time rescaling holds for every neuron.
    """
    hidden = np.asarray(sample_hidden(net, observed, key, num_particles).times)
    seen = np.asarray(observed.times, hidden.dtype).reshape(-1, *observed.times.shape[-2:])
    room = max(seen.shape[-1], hidden.shape[-1])
    parts = [np.pad(x, [(0, 0), (0, 0), (0, room - x.shape[-1])], constant_values=np.inf) for x in (seen, hidden)]
    return SpikeTrain(np.concatenate(parts, 1), observed.t0, observed.t1)


def evaluate_network(
    net: PointProcessNetwork,
    data: SpikeTrain,
    *,
    dt: float,
    key: jax.Array,
    windows: Windows | None = None,
    held_out: SpikeTrain | None = None,
    num_samples: int = 40,
    num_particles: int = 200,
    title: str = "Fitted network of point processes",
    subject: str = "",
    model: str = "",
    name: str | None = None,
    trainable: Collection[str] = (),
    stages: Sequence[Stage] = (),
    configuration: Sequence[tuple[str, str]] = (),
    remarks: Sequence[str] = (),
) -> Evaluation:
    """Sample the network freely, score it on held-out trials, and collect all that a report shows.

    **Arguments** as for `evaluate`; `dt` is the step of a sampler by time rescaling where the intensity has no bound.
    """
    name = name or (f"network, {net.num_hidden} hidden" if net.num_hidden else "network, all neurons observed")
    data = data if data.batch_shape else data[None]
    judge = Judge(data, windows, held_out)
    free_key, score_key, test_key = jr.split(key, 3)
    step = None if net.link.bound is not None else dt
    free = sample(net, t0=data.t0, t1=data.t1, key=free_key, num_samples=num_samples, dt=step)
    simulated = tuple((tuple(trial[: net.num_observed]),) for trial in free.to_lists())
    found = compare_intervals(judge.judging, simulated, judge.spans)
    bits = bits_above_poisson(judge, lambda spikes, _: _log_p(net, spikes, score_key, num_particles))
    source = "this run, particle filter" if net.num_hidden else "this run, exact likelihood"
    complete = with_hidden(net, judge.on, test_key, num_particles) if net.num_hidden else judge.on
    z = -np.expm1(-np.concatenate(rescaled_intervals(net, complete)[: net.num_observed]))
    remark = "Time rescaling is of the recorded neurons, with hidden spikes drawn given all recorded ones."
    return Evaluation(
        title=title,
        subject=subject or subject_of(judge),
        model=model or _model(net),
        t0=data.t0,
        t1=data.t1,
        recorded=judge.recorded,
        simulated=simulated,
        train=judge.train,
        held_out=judge.spans,
        held_out_trials=judge.trials,
        shown=shown_window(judge),
        metrics=compare_trains(judge.judging, simulated, judge.spans, found),
        intervals=found,
        rates=compare_rates(judge.recorded, simulated, data.t0, data.t1),
        stages=tuple(stages),
        rescaling=(time_rescaling(np.clip(z, 0.0, 1.0), name),),
        parameters=tuple(
            Parameter(f"bias of {label}", "b", float(b), "", None, any(t.endswith("bias") for t in trainable))
            for label, b in zip(_names(net), np.asarray(net.bias), strict=True)
        ),
        scores=(poisson_score(), Score(name, bits[0], bits[1], source, None, ours=True)),
        connectivity=Connectivity(_names(net), couplings(net), "weights times the areas of their filters"),
        configuration=(*configuration, *own_configuration(dt, num_samples, num_particles, key)),
        remarks=(*remarks, remark) if net.num_hidden else tuple(remarks),
    )


def couplings(net: PointProcessNetwork) -> np.ndarray:
    """(post, pre): weights times the areas of their filters, which a filter's shape does not change."""
    longest = 20 * max((*getattr(net.basis, "tau", ()), *getattr(net.basis, "centres", ()), net.basis.scale))
    lags = (jnp.arange(4000) + 0.5) * (longest / 4000)
    areas = np.asarray(net.basis.values(lags), np.float64).sum(0) * longest / 4000
    return np.einsum("kij,k->ij", np.asarray(net.weights, np.float64), areas)


def _log_p(net: PointProcessNetwork, spikes: SpikeTrain, key: jax.Array, num_particles: int) -> float:
    return float(likelihood.log_likelihood(net, spikes, key=key, num_particles=num_particles))


def _names(net: PointProcessNetwork) -> tuple[str, ...]:
    return tuple(f"{k}" for k in range(net.num_observed)) + tuple(f"hidden {k}" for k in range(net.num_hidden))


def _model(net: PointProcessNetwork) -> str:
    hidden = f" and {net.num_hidden} hidden" if net.num_hidden else ""
    return f"A network of {net.num_observed} recorded{hidden} neurons, each an intensity of filtered earlier spikes"
