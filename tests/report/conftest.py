"""Made-up evaluations: a long recording driven by a stimulus, and many short trials without one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from roughspike.evaluation.compare import compare_intervals, compare_rates, compare_trains
from roughspike.evaluation.metrics import time_rescaling
from roughspike.evaluation.types import (
    Evaluation,
    Kernel,
    Membrane,
    Parameter,
    Score,
    Signal,
    Stage,
)


def driven(*, spikes: int = 930, samples: int = 40, t1: float = 10.0) -> Evaluation:
    """One long recording of one neuron with a stimulus, like a receptor cell; everything is filled."""
    rng = np.random.default_rng(0)
    time = np.arange(0, t1, 0.0005)
    noise = np.convolve(rng.standard_normal(len(time)), np.hanning(15), "same")
    drive = noise / noise.std()
    rate = np.exp(1.2 * drive + 0.5 * np.exp(-time / 2.5))
    rate *= spikes / (rate.sum() * 0.0005)
    recorded = ((_thinned(rng, time, rate),),)
    simulated = tuple(((_thinned(rng, time, 1.02 * rate),),) for _ in range(samples))
    edges = np.linspace(0, t1, 21)
    windows = tuple(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    held_out = tuple(windows[k] for k in (2, 7, 12, 17))
    shown = held_out[1]
    found = compare_intervals(recorded, simulated, held_out)
    return Evaluation(
        title="Grasshopper auditory receptor 1",
        subject="An auditory receptor of a locust heard ten seconds of noise of random loudness (929 spikes)",
        model="A stochastic integrate-and-fire neuron, driven by that loudness, was fitted by exact gradients",
        t0=0.0,
        t1=t1,
        recorded=recorded,
        simulated=simulated,
        train=tuple(w for w in windows if w not in held_out),
        held_out=held_out,
        shown=shown,
        metrics=compare_trains(recorded, simulated, held_out, found),
        intervals=found,
        rates=compare_rates(recorded, simulated, 0.0, t1),
        membrane=_membrane(rng, shown[0], simulated),
        input=Signal("Stimulus", "z-score", time, drive),
        stages=_stages(rng),
        rescaling=(
            time_rescaling(rng.beta(1.35, 1.0, 180), "SLIF, no diffusion"),
            time_rescaling(rng.uniform(size=180), "SLIF with diffusion"),
        ),
        parameters=_parameters(),
        scores=_scores(),
        kernels=_kernels(),
        configuration=(("roughspike", "0.1.0"), ("jax", "0.10.2"), ("seed", "0"), ("dt", "0.5 ms"), ("run", "gh1-A")),
    )


def trials(*, number: int = 50, neurons: int = 1) -> Evaluation:
    """Many trials without a stimulus; the last ones are held out. No traces, kernels or training."""
    rng = np.random.default_rng(1)
    time = np.arange(-1, 1, 0.001)
    rate = 45 + 25 * np.tanh(4 * time)
    recorded = tuple(tuple(_thinned(rng, time, rate) for _ in range(neurons)) for _ in range(number))
    simulated = tuple((tuple(_thinned(rng, time, rate) for _ in range(neurons)),) for _ in range(40))
    chosen = tuple(range(number - 10, number)) if number > 10 else None
    judging = recorded if chosen is None else tuple(recorded[k] for k in chosen)
    spans = ((-1.0, 1.0),)
    found = compare_intervals(judging, simulated, spans)
    return Evaluation(
        title="Subthalamic neuron, left hand",
        subject="A subthalamic neuron was recorded while a hand moved at a cue",
        model="A stochastic neuron with a smooth input was fitted to it",
        t0=-1.0,
        t1=1.0,
        recorded=recorded,
        simulated=simulated,
        train=spans,
        held_out=spans,
        held_out_trials=chosen,
        shown=(-1.0, 1.0),
        metrics=compare_trains(judging, simulated, spans, found),
        intervals=found,
        rates=compare_rates(recorded, simulated, -1.0, 1.0),
    )


def hostile() -> Evaluation:
    """Every string an attempt to break out of the page."""
    bad = '</script><script src="http://evil.example/x.js">&"\'</title>'
    base = driven(samples=3)
    return dataclasses.replace(
        base,
        title=bad,
        subject=bad,
        model=bad,
        parameters=(Parameter(bad, bad, 1.0, bad, 1.0, True, bad),),
        scores=(Score(bad, 1.0, 1.0, bad, 1.0, True),),
        kernels=(dataclasses.replace(base.kernels[0], name=bad, note=bad, unit=bad, compared=((bad, *_curve()),)),),
        input=Signal(bad, bad, base.input.time, base.input.values),
        configuration=((bad, bad),),
        warnings=(bad,),
    )


def _thinned(rng: np.random.Generator, time: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """Inhomogeneous Poisson spikes with a refractory time of 3 ms."""
    dt = time[1] - time[0]
    raw = time[rng.uniform(size=len(time)) < rate * dt] + rng.uniform(0, dt)
    kept: list[float] = []
    for spike in raw.tolist():
        if spike < time[-1] and (not kept or spike - kept[-1] > 0.003):
            kept.append(spike)
    return np.array(kept)


def _membrane(rng: np.random.Generator, start: float, simulated: tuple) -> Membrane:
    time = np.arange(start, start + 0.2, 0.0005)
    spikes = tuple(s[0][0][(s[0][0] >= time[0]) & (s[0][0] <= time[-1])] for s in simulated[:3])
    values = []
    for row in spikes:
        v, path = 0.0, []
        for t in time:
            v += 0.08 * (0.6 - v) + 0.09 * rng.standard_normal()
            v -= 2.0 * float(np.any((row > t - 0.0005) & (row <= t)))
            path.append(v)
        values.append(path)
    return Membrane(time, np.array(values), spikes, threshold=1.0)


def _stages(rng: np.random.Generator) -> tuple[Stage, ...]:
    step = np.arange(400.0)
    loss = -0.9 - 1.6 * (1 - np.exp(-step / 60)) + 0.01 * rng.standard_normal(400)
    at = np.arange(0, 400, 20.0)
    bits = 2.3 * (1 - np.exp(-at / 50))
    first = Stage(
        "exact likelihood without diffusion", step, loss, at, bits - 0.05, bits, 7.1, "negative log-likelihood"
    )
    step2 = np.arange(120.0)
    at2 = np.arange(0, 120, 20.0)
    noisy = -2.5 - 0.05 * (1 - np.exp(-step2 / 30)) + 0.06 * rng.standard_normal(120)
    climb = 2.3 + 0.07 * (1 - np.exp(-at2 / 30))
    second = Stage("diffusion by importance sampling", step2, noisy, at2, climb + 0.02, climb, 17.0, "sampled bound")
    return first, second


def _parameters() -> tuple[Parameter, ...]:
    return (
        Parameter("membrane rate", "μ₁", 1162.8, "1/s", 1000.0, True, "time constant 0.86 ms"),
        Parameter("current rate", "μ₂", 344.8, "1/s", 333.3, True, "time constant 2.9 ms"),
        Parameter("diffusion of v", "σ₁₁", 36.7, "1/√s", 15.0),
        Parameter("reset", "v_reset", 4.41, "", 2.0),
        Parameter("self-weight", "w", -5.4, "", -2.0, True, "negative: adaptation"),
        Parameter("stimulus delay", "δ", 0.00628, "s", 0.0063),
        Parameter(
            "absolute refractory time", "τ_ref", 0.00288, "s", None, False, "0.9 of the shortest training interval"
        ),
    )


def _scores() -> tuple[Score, ...]:
    recorded = "recorded figures, NeMoS 0.2.8"
    return (
        Score("Poisson, constant rate", 0.0, 0.0, "by definition"),
        Score("GLM, 1 ms bins", 1.653, 1.65, recorded, 5.0),
        Score("GLM, 0.5 ms bins", 2.094, 2.01, recorded, 11.0),
        Score("GLM, 0.25 ms bins", 2.257, 2.18, recorded, 16.0),
        Score("SLIF, no diffusion", 2.375, 2.265, "this run", 7.1, True),
        Score("SLIF with diffusion", 2.462, None, "this run, particle filter", 17.0, True),
    )


def _curve() -> tuple[np.ndarray, np.ndarray]:
    lag = np.linspace(0, 0.02, 200)
    return lag, np.where(lag > 0.006, np.exp(-(lag - 0.006) / 0.001), 0.0)


def _kernels() -> tuple[Kernel, ...]:
    lag, shape = _curve()
    average = np.exp(-0.5 * ((lag - 0.007) / 0.001) ** 2)
    return (
        Kernel(
            "Effect of the stimulus",
            "1/s per unit",
            lag,
            shape,
            compared=(("spike-triggered average, scaled", lag, average),),
            note="what a brief rise of the stimulus does to the membrane afterwards",
        ),
        Kernel(
            "Effect of a spike",
            "threshold units",
            lag,
            -4 * np.exp(-lag / 0.002) - np.exp(-lag / 0.006),
            "Time after the spike",
            note="what a spike does to the membrane afterwards; below zero it makes the next spike less likely",
        ),
    )


@pytest.fixture(scope="session")
def driven_evaluation() -> Evaluation:
    return driven()


@pytest.fixture(scope="session")
def trials_evaluation() -> Evaluation:
    return trials()


@pytest.fixture(scope="session")
def pages() -> dict[str, Evaluation]:
    """Every kind of evaluation a page must hold, by name."""
    return {
        "driven": driven(),
        "trials": trials(),
        "neurons": trials(number=20, neurons=3),
        "network": trials(number=1, neurons=6),
        "hostile": hostile(),
    }
