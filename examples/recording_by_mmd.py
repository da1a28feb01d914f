"""Can the fitted model be told from the recording? One neuron, repeated trials, a current that changes in time, by MMD.

The recording: a subthalamic neuron of a patient who moves a hand, 25 trials to the left and 25 to the right, two
seconds around the cue (Kramer & Eden, Case-Studies-Python, MIT). It is not part of this project: pass its path; without
it nothing is done. It has the columns trial, neuron, time_s, and beside it stn_trials_conditions.csv says which trial
went where.

Of each hand every other trial is trained on. The neuron's current (a cubic spline of 8 coefficients), its reset and its
self-weight start from the mean rate alone, and follow the gradient of `SignatureMMD` on 24 free-running simulations a
step. Training compares trains that are filtered by 0.1 s, which is cheap for a hundred spikes and whose gradient needs
no further term. `mmd_test` with the kernel of the trains themselves then compares simulations with the trials that were
not trained on. For scale, the same test is done for the model before training, for the trained half of the trials, and
for one hand against the other.

Run it: python examples/recording_by_mmd.py [stn_trials.csv [figure.svg]]. It takes a minute or two.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np

import roughspike as rs

WINDOW, DT, SAMPLES, STEPS, DRAWS = (-1.0, 1.0), 9e-4, 24, 60, 48
LOSS = rs.SignatureMMD(rs.SignatureKernel(lift=rs.FilteredLift(tau=0.1)))
KERNEL = rs.SignatureKernel(time_weight=3.0, normalise=True, orders=(5, 6, 1))  # of the test


def read(path: Path) -> dict[str, rs.SpikeTrain]:
    """Trials of each hand, t = 0 a second before the cue."""
    spikes = rs.read_spikes(path, window=WINDOW, num_trials=50)
    rows = path.with_name(f"{path.stem}_conditions.csv").read_text(encoding="utf-8").split()[1:]
    hand = np.array([row.split(",")[1] for row in rows])
    return {name: spikes[np.flatnonzero(hand == name)] for name in ("left", "right")}


def start(train: rs.SpikeTrain) -> rs.Population:
    """A neuron that fires at about the mean rate, whatever the time."""
    rate = float(np.mean(train.counts)) / train.duration
    escape = rs.ExponentialEscape(beta=1.0, v_th=1.0, tau_s=1 / rate)
    neuron = rs.SLIF(mu=(200.0, 100.0), v_reset=1.0, self_weight=0.1, refractory=9e-4, escape=escape)
    return rs.Population(neuron, rs.BSplineCurrent(1.4 * np.ones(8), 0.0, train.duration))


def draw(cell: rs.Population, key: int) -> rs.SpikeTrain:
    """Free-running simulations."""
    return rs.simulate(cell, t1=WINDOW[1] - WINDOW[0], dt=DT, key=jr.key(key), num_samples=DRAWS, max_spikes=256).spikes


def train_on(trials: rs.SpikeTrain) -> rs.FitResult:
    """The fit."""
    trained = lambda m: (m.current.coefficients, m.neuron.v_reset, m.neuron.self_weight)  # noqa: E731
    options: dict = {"steps": STEPS, "dt": DT, "num_samples": SAMPLES, "chunk": STEPS, "progress": False}
    return rs.fit(start(trials), trials, loss=LOSS, trainable=trained, key=jr.key(0), **options)


def test(x: rs.SpikeTrain, y: rs.SpikeTrain) -> float:
    """The p-value of equal laws."""
    return rs.mmd_test(x, y, kernel=KERNEL, num_permutations=999).p_value


def summary(spikes: rs.SpikeTrain) -> str:
    """Rate, spread of the counts, irregularity of the intervals."""
    intervals = np.concatenate([np.diff(trial[0]) for trial in spikes.to_lists()])
    counts, cv = np.asarray(spikes.counts), intervals.std() / intervals.mean()
    return f"{counts.mean() / spikes.duration:.1f} Hz, Fano {counts.var(ddof=1) / counts.mean():.2f}, CV {cv:.2f}"


def show(axes: np.ndarray, hand: str, held: rs.SpikeTrain, sets: dict[str, rs.SpikeTrain], fit: rs.FitResult) -> None:
    """Held-out trials over simulated ones; rates; the current."""
    model = sets["trained"][: len(held.times)]
    rows = [trial[0] + WINDOW[0] for trial in [*held.to_lists(), *model.to_lists()]]
    axes[0].eventplot(rows, colors=["tab:blue"] * len(model.times) + ["tab:orange"] * len(model.times), linewidths=0.6)
    axes[0].set(title=f"{hand}: held-out (blue), model (orange)", yticks=[], xlim=WINDOW)
    bins = np.linspace(0, held.duration, 21)
    for spikes, colour, width in ((held, "tab:blue", 1), (sets["trained"], "tab:orange", 2), (sets["start"], "0.7", 1)):
        times = np.concatenate([trial[0] for trial in spikes.to_lists()])
        rate = np.histogram(times, bins)[0] / np.diff(bins) / len(spikes.times)
        axes[1].stairs(rate, bins + WINDOW[0], color=colour, lw=width)
    axes[1].set(title="rate (Hz); grey: before training", xlim=WINDOW, ylim=(0, None))
    grid = np.linspace(0, held.duration, 201)
    current = fit.model.current
    axes[2].plot(grid[1:] + WINDOW[0], current.means(current.prepare(grid[:-1], np.diff(grid))), color="tab:orange")
    axes[2].set(title="fitted current", xlim=WINDOW)
    for panel in axes:
        panel.set_xlabel("time from the cue (s)")


def main() -> dict[str, float]:
    """Fit, test, draw; the p-values by name."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if path is None or not path.exists():
        print(f"there is no recording{'' if path is None else f' at {path}'}: pass its path. Nothing done")
        return {}
    hands = read(path)
    found = {"left against right": test(hands["left"], hands["right"])}
    print(f"left against right: p = {found['left against right']:.3f}")
    fig, panels = plt.subplots(2, 3, figsize=(11, 5.4), layout="constrained")
    for k, (hand, trials) in enumerate(hands.items()):
        held = trials[1::2]
        fit = train_on(trials[::2])
        sets = {"start": draw(start(trials[::2]), 1), "trained": draw(fit.model, 1)}
        print(f"{hand}: {fit.status}, {fit.history['seconds'][-1]:.0f} CPU s, data {summary(trials)}")
        for name, spikes in {**sets, "recorded half": trials[::2]}.items():
            p = found[f"{hand}, {name}"] = test(spikes, held)
            print(f"  {name} against the held-out half: p = {p:.3f}; {summary(spikes)}")
        show(panels[k], hand, held, sets, fit)
    fig.savefig(sys.argv[2] if len(sys.argv) > 2 else f"{tempfile.mkdtemp()}/recording_by_mmd.svg")
    return found


if __name__ == "__main__":
    main()
