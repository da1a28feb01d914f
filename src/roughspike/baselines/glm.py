"""The generalised linear model of NeMoS: what a neuroscientist would try first, and the one to beat.

Poisson counts in bins, logarithmic link, unregularised maximum likelihood by L-BFGS. NeMoS (`pip install nemos`) is
imported when a model is fitted; without it, `recorded_glm` has figures measured earlier.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import time

import jax
import numpy as np

from roughspike.baselines.design import Design, build_design
from roughspike.baselines.poisson import bits_per_spike
from roughspike.currents.signal import SampledSignal
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows

BIN_SIZES = (1e-3, 0.5e-3, 0.25e-3)
MEASURED = "measured in this run"
RECORDED = "recorded figure (NeMoS 0.2.8)"

# (recording, split): (train, test bits per spike, CPU seconds) at 1, 0.5 and 0.25 ms
_RECORDED = {
    ("grasshopper-1", "A"): ((1.65, 1.653, 5.0), (2.01, 2.094, 11.0), (2.18, 2.257, 16.0)),
    ("grasshopper-1", "B"): ((1.65, 1.667, 4.0), (2.04, 1.973, 6.0), (2.22, 2.103, 20.0)),
    ("grasshopper-2", "A"): ((1.10, 0.980, 9.0), (1.34, 1.161, 11.0), (1.65, 1.390, 9.0)),
    ("grasshopper-2", "B"): ((1.10, 0.996, 4.0), (1.33, 1.210, 6.0), (1.62, 1.514, 15.0)),
}


@dataclasses.dataclass(frozen=True)
class GLMScore:
    """What a GLM reached.

    **Attributes**

    - `bin_size`: in seconds.
    - `bits_per_spike`: on the test windows, over a homogeneous Poisson process at the rate of the training windows.
    - `train_bits_per_spike`: the same on the training windows.
    - `seconds`: how long it took, compilation included.
    - `converged`: what the optimiser said; None if not recorded.
    - `source`: "measured in this run" or "recorded figure (NeMoS 0.2.8)".
    - `version`: of NeMoS.
    - `note`: why a recorded figure stands in for a measured one; empty otherwise.
    """

    bin_size: float
    bits_per_spike: float
    train_bits_per_spike: float
    seconds: float
    converged: bool | None
    source: str
    version: str
    note: str = ""


def nemos_is_installed() -> bool:
    """True if NeMoS can be imported; does not import it."""
    return importlib.util.find_spec("nemos") is not None


def fit_glm(
    recording_spikes: SpikeTrain, stimulus: SampledSignal | None, train: Windows, test: Windows, bin_size: float
) -> GLMScore:
    r"""Fit a NeMoS GLM on the training windows and score it on the test windows.

    The rate in bin n is \(\lambda_n = \exp(b + x_n \cdot w)\), constant inside the bin; \(x_n\) holds stimulus,
    spike history and drift (see `baselines.design`). The score is the density of spike times in continuous time,
    \(\sum_{spikes} \log \lambda - \sum_n \lambda_n \Delta\), so that bins of different size, and models without
    bins, can be compared.

    NeMoS runs in float64 on features that are whitened on the training bins. That changes the coordinates and not the
    model or its optimum, and lets L-BFGS converge in a hundred steps where it stalls otherwise.

    **Arguments**

    - `recording_spikes`: one neuron; leading axes are trials.
    - `stimulus`: in the clock of the spikes, covering their window; None: history and drift only.
    - `train`, `test`: windows in the clock of the spikes, the same for every trial. Nothing is chosen on `test`.
    - `bin_size`: in seconds; it must divide the window of the spikes.

    **Raises** ModuleNotFoundError if NeMoS is not installed; ValueError for several neurons, a bin that does not
    fit, a stimulus that does not cover the spikes, or windows without spikes.

    Reference: NeMoS, https://nemos.readthedocs.io; basis functions after Pillow et al., Nature 454 (2008) 995.
    """
    if not nemos_is_installed():
        raise ModuleNotFoundError("the GLM baseline needs NeMoS: pip install nemos (or use recorded_glm)")
    import nemos

    begin = time.perf_counter()
    with jax.enable_x64(True):
        design = build_design(recording_spikes, stimulus, train, test, bin_size, nemos.basis)
        _check_windows(design)
        features = _whitened(design)
        model = nemos.glm.GLM(
            regularizer="UnRegularized", solver_name="LBFGS", solver_kwargs={"maxiter": 2000, "tol": 1e-7}
        )
        model.fit(features[design.train], design.counts[design.train])
        weights = np.asarray(model.coef_, dtype=np.float64)
        intercept = float(np.asarray(model.intercept_).reshape(()))
    log_rate = intercept + features @ weights - np.log(design.bin_size)
    rate = design.counts[design.train].mean() / design.bin_size
    converged = getattr(getattr(model, "optim_info_", None), "converged", None)
    return GLMScore(
        bin_size=bin_size,
        bits_per_spike=_score(log_rate, design, design.test, rate),
        train_bits_per_spike=_score(log_rate, design, design.train, rate),
        seconds=time.perf_counter() - begin,
        converged=None if converged is None else bool(converged),
        source=MEASURED,
        version=importlib.metadata.version("nemos"),
    )


def recorded_glm(recording_name: str, split: str, bin_size: float, note: str = "") -> GLMScore:
    """The figure recorded earlier for a shipped recording, a named split and a bin size.

    `seconds` are CPU seconds on a shared 2-core machine.

    **Arguments**

    - `recording_name`: "grasshopper-1" or "grasshopper-2".
    - `split`: "A" or "B", see `split_windows`.
    - `bin_size`: 0.001, 0.0005 or 0.00025 s.
    - `note`: why this figure is used.

    **Raises** ValueError if no figure was recorded.

    >>> from roughspike.baselines.glm import recorded_glm
    >>> score = recorded_glm("grasshopper-1", "A", 0.0005)
    >>> score.bits_per_spike, score.source
    (2.094, 'recorded figure (NeMoS 0.2.8)')
    """
    rows = _RECORDED.get((recording_name, split))
    index = next((k for k, size in enumerate(BIN_SIZES) if abs(size - bin_size) < 1e-9), None)
    if rows is None or index is None:
        known = ", ".join(f"{name} {letter}" for name, letter in _RECORDED)
        raise ValueError(
            f"no GLM figure was recorded for {recording_name!r}, split {split!r}, bin_size {bin_size:g}: there are "
            f"{known} at 0.001, 0.0005 and 0.00025 s; for other data install NeMoS and use fit_glm"
        )
    train, test, seconds = rows[index]
    return GLMScore(bin_size, test, train, seconds, None, RECORDED, "0.2.8", note)


def _whitened(design: Design) -> np.ndarray:
    chosen = design.features[design.train]
    centred = design.features - chosen.mean(axis=0)
    _, scale, directions = np.linalg.svd(centred[design.train], full_matrices=False)
    keep = scale > 1e-9 * scale[0]  # directions that the training bins do not determine
    return centred @ (directions[keep].T * (np.sqrt(len(chosen)) / scale[keep]))


def _check_windows(design: Design) -> None:
    for name, bins in (("train", design.train), ("test", design.test)):
        if not design.counts[bins].sum():
            raise ValueError(f"no spike lies in the {name} windows: choose windows that hold spikes")
    if (design.train & design.test).any():
        raise ValueError("train and test windows overlap: keep them apart, for example Windows.select and .drop")


def _score(log_rate: np.ndarray, design: Design, bins: np.ndarray, rate: float) -> float:
    # only bins with spikes enter the first sum: where the rate is 0 its logarithm is -inf, and 0 * inf is not 0
    spiking = bins & (design.counts > 0)
    log_likelihood = np.sum(design.counts[spiking] * log_rate[spiking])
    log_likelihood -= np.sum(np.exp(log_rate[bins])) * design.bin_size
    duration = float(bins.sum()) * design.bin_size
    return bits_per_spike(float(log_likelihood), int(design.counts[bins].sum()), float(rate), duration)
