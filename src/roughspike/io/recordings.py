"""Real recordings that come with a Python package, so that everyone can fit them."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np

from roughspike.currents.signal import SampledSignal
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows

_CITATION = (
    "A. Rokem, S. Watzl, T. Gollisch, M. Stemmler, A. V. M. Herz, I. Samengo: Spike-timing precision underlies the "
    "coding efficiency of auditory receptor neurons. Journal of Neurophysiology 95 (2006) 2541-2552"
)
_CUT_OFF = {"grasshopper-1": 200, "grasshopper-2": 800}
_DURATION = 10.0
_STIMULUS_DT = 5e-5
_SPLITS = {"A": (2, 7, 12, 17), "B": (4, 9, 14, 19)}


@dataclasses.dataclass(frozen=True)
class Recording:
    """One neuron, its stimulus, and where they come from.

    **Attributes**

    - `spikes`: one trial of one neuron, seconds.
    - `stimulus`: what drove it, z-scored.
    - `name`, `description`, `citation`, `licence`: for the report.
    """

    spikes: SpikeTrain
    stimulus: SampledSignal
    name: str
    description: str
    citation: str
    licence: str


def load_recording(name: str) -> Recording:
    """Load a recording by name: an auditory receptor of the grasshopper Locusta migratoria, 10 s.

    The stimulus is the random amplitude of a tone, in dB (20 log10 of the amplitude) and z-scored: the receptor
    answers to the logarithm. The files ship with the package nitime, which is located and not imported.

    **Arguments**

    - `name`: "grasshopper-1" (amplitude cut-off 200 Hz, 929 spikes) or "grasshopper-2" (800 Hz, 868 spikes).

    **Raises** ValueError for another name; ModuleNotFoundError or FileNotFoundError, which says what to install, if
    nitime or its data is absent.

    >>> recording = load_recording("grasshopper-1")
    >>> recording.spikes.times.shape, recording.stimulus.dt
    ((1, 1, 929), 5e-05)
    """
    if name not in _CUT_OFF:
        raise ValueError(f"no recording {name!r}: the names are {', '.join(_CUT_OFF)}")
    folder = _data_folder()
    number = name[-1]
    times = np.loadtxt(_present(folder / f"grasshopper_spike_times{number}.txt")) / 1e6  # microseconds in the file
    amplitude = np.loadtxt(_present(folder / f"grasshopper_stimulus{number}.txt"), usecols=1)
    stimulus = SampledSignal(20.0 * np.log10(amplitude), _STIMULUS_DT).zscore()
    return Recording(
        spikes=SpikeTrain(np.sort(times)[None, None, :], 0.0, _DURATION),
        stimulus=stimulus,
        name=name,
        description=(
            "auditory receptor of the grasshopper Locusta migratoria, 10 s, driven by a tone whose amplitude is random "
            f"(cut-off {_CUT_OFF[name]} Hz, standard deviation 6 dB)"
        ),
        citation=_CITATION,
        licence="BSD-3-Clause (data files of the nitime package)",
    )


def split_windows(split: str, t0: float = 0.0, t1: float = _DURATION) -> tuple[Windows, Windows]:
    """The named split of a recording into training and test windows, fixed once for all figures.

    [t0, t1) is cut into 20 equal windows. Split A tests on numbers 2, 7, 12, 17 and split B on 4, 9, 14, 19; the
    others train. Interleaved windows share the slow drift of the rate.

    **Returns** (train, test).

    **Raises** ValueError for another name.

    >>> train, test = split_windows("A")
    >>> test.starts, train.duration
    ((1.0, 3.5, 6.0, 8.5), 8.0)
    """
    if split not in _SPLITS:
        raise ValueError(f"no split {split!r}: the names are {', '.join(_SPLITS)}")
    windows = Windows.tile(t0, t1, 20)
    return windows.drop(_SPLITS[split]), windows.select(_SPLITS[split])


def _data_folder() -> Path:
    spec = importlib.util.find_spec("nitime")  # finds the package without running it
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the grasshopper recordings ship with the package nitime, which is not installed: pip install nitime"
        )
    return Path(spec.origin).parent / "data"


def _present(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(
            f"nitime is installed but has no data file {file.name}: pip install --force-reinstall nitime"
        )
    return file
