"""Everything a report shows, as plain NumPy and strings: no model, no JAX. Times in seconds throughout.

Optional parts are empty tuples or None; a report leaves out the sections that have no data.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from roughspike.evaluation.metrics import IntervalStatistics, Rescaling, Spans

Trains = tuple[tuple[np.ndarray, ...], ...]
"""Spike times of trials (outer) and neurons (inner)."""


@dataclass(frozen=True, eq=False)
class Signal:
    """A sampled curve over time: a stimulus or an input current.

    `values` has the length of `time`; `unit` is empty for a dimensionless number.
    """

    name: str
    unit: str
    time: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Membrane:
    """Membrane potential of a few simulated samples of one neuron.

    `values`: (samples, times). `spikes`: spike times of each sample. `threshold`: the level at which the escape rate
    is centred, None to leave it out. `unit`: what one unit of the potential is.
    """

    time: np.ndarray
    values: np.ndarray
    spikes: tuple[np.ndarray, ...]
    threshold: float | None = None
    unit: str = "threshold units"
    neuron: int = 0


@dataclass(frozen=True, eq=False)
class Rate:
    """Smoothed firing rate of one neuron, recorded and simulated, in spikes per second.

    `low`, `high`: where 90 % of simulated recordings of the same number of trials lie. `width`: standard deviation of
    the Gaussian that smoothed all curves.
    """

    neuron: int
    time: np.ndarray
    recorded: np.ndarray
    simulated: np.ndarray
    low: np.ndarray
    high: np.ndarray
    width: float


@dataclass(frozen=True, eq=False)
class Intervals:
    """Held-out inter-spike intervals of one neuron: the raw values, and how they compare."""

    neuron: int
    recorded: np.ndarray
    simulated: np.ndarray
    statistics: IntervalStatistics


@dataclass(frozen=True, eq=False)
class Stage:
    """One stage of training: the loss at `step`, the score at `score_step` on training and held-out data.

    `score_unit`: what the score is, bits per spike for a likelihood; minus the loss for a loss that simulates.
    """

    name: str
    step: np.ndarray
    loss: np.ndarray
    score_step: np.ndarray = field(default_factory=lambda: np.empty(0))
    train_score: np.ndarray = field(default_factory=lambda: np.empty(0))
    held_out_score: np.ndarray = field(default_factory=lambda: np.empty(0))
    cpu_seconds: float | None = None
    loss_name: str = "loss"
    loss_unit: str = "nats per spike"
    score_unit: str = "bits per spike"


@dataclass(frozen=True)
class Parameter:
    """A row of the parameter table. `fitted` is False for a parameter that was held fixed."""

    name: str
    symbol: str
    value: float
    unit: str = ""
    start: float | None = None
    fitted: bool = True
    note: str = ""


@dataclass(frozen=True)
class Score:
    """A row of the comparison of models.

    `bits`: held-out bits per spike above a Poisson process of constant rate. `train_bits`: the same on training
    windows, None if unknown. `source`: where the figure comes from ("this run", "recorded figures of ..."). `ours`:
    is it the model of this report (drawn in colour) or a baseline (drawn in grey)?
    """

    model: str
    bits: float
    train_bits: float | None = None
    source: str = "this run"
    cpu_seconds: float | None = None
    ours: bool = False


@dataclass(frozen=True)
class Coincidence:
    """Coincidence factor at one precision, averaged over samples, trials and neurons.

    `value`: simulated against recorded. `between_models`: one simulation against another, the value a perfect model
    of this much noise would reach. `between_trials`: one recorded trial against another, None for a single trial.
    """

    precision: float
    value: float
    between_models: float | None = None
    between_trials: float | None = None


@dataclass(frozen=True)
class Metrics:
    """Figures of merit of free simulations on the held-out windows. Rates in spikes per second and neuron."""

    recorded_rate: float
    simulated_rate: float
    rate_error: float
    isi_ks: float
    isi_w1: float
    coincidence: tuple[Coincidence, ...] = ()

    def coincidence_at(self, precision: float) -> float:
        """Coincidence factor at this precision in seconds; NaN if it was not computed."""
        return next((c.value for c in self.coincidence if abs(c.precision - precision) < 1e-9), float("nan"))


@dataclass(frozen=True, eq=False)
class Kernel:
    """A fitted kernel against time lag, with other curves to compare it with: (name, lag, values)."""

    name: str
    unit: str
    lag: np.ndarray
    values: np.ndarray
    lag_name: str = "Time before now"
    compared: tuple[tuple[str, np.ndarray, np.ndarray], ...] = ()
    note: str = ""


@dataclass(frozen=True, eq=False)
class Connectivity:
    """Couplings of a network: `values[post, pre]`, and the names of its neurons. `unit` says what a value is."""

    names: tuple[str, ...]
    values: np.ndarray
    unit: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A fitted model held against its recording.

    **Attributes**

    - `title`: short name of the recording. `subject`: one sentence saying what was recorded. `model`: one sentence
      saying what was fitted to it.
    - `t0`, `t1`: the recorded window. `train`, `held_out`: the windows that trained and that judge the model.
    - `held_out_trials`: the trials that judge, when whole trials were held out; None when all do.
    - `recorded`: trials x neurons. `simulated`: samples x trials x neurons; one trial if all trials are alike.
    - `shown`: the short window of rasters and membrane traces.
    - `configuration`: (name, value) rows: versions, seeds, steps.
    - `warnings`: anything that went wrong on the way, in plain words.
    - `remarks`: what a reader must know to judge the figures fairly.
    """

    title: str
    subject: str
    model: str
    t0: float
    t1: float
    recorded: Trains
    simulated: tuple[Trains, ...]
    train: Spans
    held_out: Spans
    shown: tuple[float, float]
    metrics: Metrics
    held_out_trials: tuple[int, ...] | None = None
    intervals: tuple[Intervals, ...] = ()
    rates: tuple[Rate, ...] = ()
    membrane: Membrane | None = None
    input: Signal | None = None
    stages: tuple[Stage, ...] = ()
    rescaling: tuple[Rescaling, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    scores: tuple[Score, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    connectivity: Connectivity | None = None
    configuration: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.recorded or not self.recorded[0]:
            raise ValueError("recorded holds no trial or no neuron: pass at least one, silent if need be")
        trials, neurons = len(self.recorded), len(self.recorded[0])
        for sample in self.simulated:
            if len(sample) not in (1, trials) or any(len(trial) != neurons for trial in sample):
                raise ValueError(
                    f"every simulated sample must have 1 or {trials} trials of {neurons} neurons like the recording"
                )

    @property
    def num_neurons(self) -> int:
        """Number of recorded neurons."""
        return len(self.recorded[0])

    @property
    def num_spikes(self) -> int:
        """Number of recorded spikes."""
        return sum(len(row) for trial in self.recorded for row in trial)

    @property
    def judging_trials(self) -> Trains:
        """The recorded trials that judge the model."""
        chosen = range(len(self.recorded)) if self.held_out_trials is None else self.held_out_trials
        return tuple(self.recorded[k] for k in chosen)
