"""The command line: thin commands over recipes. JAX is imported by a command that needs it, so --help is instant."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal

import tyro

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


@dataclasses.dataclass(frozen=True)
class _Recording:
    """Which recording, and which part of it."""

    data: tyro.conf.Positional[str] = "grasshopper-1"
    """A file of spikes, or a shipped recording: grasshopper-1, grasshopper-2."""
    stimulus: Path | None = None
    """File of the stimulus that drove the neuron (time_s,value), for a file of spikes."""
    stimulus_dt: float | None = None
    """Sampling interval of the stimulus in seconds, if its file has no times."""
    decibel: bool = False
    """Use the stimulus in dB (20 log10 of the amplitude)."""
    window: tuple[float, float] | None = None
    """Start and end in seconds of the part of the recording to use."""
    num_trials: int | None = None
    """Number of trials, silent ones included."""
    neuron: int | None = None
    """Which neuron of the file to fit."""
    unit: Literal["s", "ms", "us"] = "s"
    """Unit of the times in the file of spikes."""
    split: Literal["A", "B"] = "A"
    """Which fixed windows (or trials) are held out."""


@dataclasses.dataclass(frozen=True)
class Fit(_Recording):
    """Fit a stochastic integrate-and-fire neuron to recorded spikes, and write a report.

    Without arguments: the grasshopper auditory receptor that ships with nitime. A file of your own is CSV
    (trial,neuron,time_s), a single column of times, or NPZ.
    """

    start: Literal["good", "poor"] = "good"
    """Where the fit starts: from the data, or far away."""
    dt: float | None = None
    """Longest step of the likelihood in seconds (default: 0.0005 for the shipped recordings, else from the data)."""
    steps: int | None = None
    """Steps of the first stage (exact likelihood); the second stage scales with it."""
    diffusion: bool = True
    """Fit the diffusion in a second stage."""
    seed: int | None = None
    """Random seed."""
    glm: bool = True
    """Fit the NeMoS GLM baselines beside (needs nemos; otherwise recorded figures are shown)."""
    recipe: Path | None = None
    """A recipe file (TOML) with other settings."""
    out: Path | None = None
    """Folder for model, history, configuration and report [default: runs/<data>-<split>]."""
    resume: bool = False
    """Go on from the checkpoint in the folder."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print nothing but errors."""

    def run(self) -> int:
        """Fit; returns the exit code."""
        from roughspike.recipe import console

        return console.fit_command(self)


@dataclasses.dataclass(frozen=True)
class FitSim(_Recording):
    """Fit by simulation: compare losses on simulated spikes with the likelihood, all from the same poor start.

    Energy score of filtered spike trains, expected signature without and with its horizon term. For the fit of a
    recording itself use `roughspike fit`: the likelihood is better where there is one.
    """

    only: tuple[str, ...] = ()
    """Which losses of the recipe: likelihood, energy, signature, signature-horizon [default: all]."""
    steps: int | None = None
    """At most so many steps of each, to try it out."""
    seed: int | None = None
    """Random seed."""
    recipe: Path | None = None
    """A recipe file (TOML) with other settings."""
    out: Path | None = None
    """Folder for the fits, the table and the report [default: runs/fit-sim-<data>-<split>]."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print nothing but errors."""

    def run(self) -> int:
        """Fit and compare; returns the exit code."""
        from roughspike.recipe import simulation

        return simulation.fit_sim_command(self)


@dataclasses.dataclass(frozen=True)
class Simulate:
    """Simulate a fitted neuron freely and write its spikes."""

    run_folder: tyro.conf.Positional[Path]
    """Folder that `roughspike fit` or `fit.save` wrote."""
    out: Path = Path("simulated.csv")
    """File for the spikes: .csv or .npz; samples are its trials."""
    num_samples: int = 10
    """Independent samples."""
    t1: float | None = None
    """End of the simulation in seconds [default: of the recording]."""
    dt: float | None = None
    """Step in seconds [default: that of the fit]."""
    seed: int = 0
    """Random seed."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print nothing but errors."""

    def run(self) -> int:
        """Simulate; returns the exit code."""
        from roughspike.recipe import console

        return console.simulate_command(self)


@dataclasses.dataclass(frozen=True)
class Report:
    """Write the report of a run again, from what the run saved."""

    run_folder: tyro.conf.Positional[Path]
    """Folder that `roughspike fit` or `fit.save` wrote."""
    out: Path | None = None
    """The page [default: report.html in the folder]."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print nothing but errors."""

    def run(self) -> int:
        """Write the page; returns the exit code."""
        from roughspike.recipe import console

        return console.report_command(self)


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Repeat a published experiment and compare: exit code 1 if an expected number is not met.

    A run that was interrupted goes on where it was.
    """

    name: tyro.conf.Positional[str | None] = None
    """Which one, or a recipe file (.toml) of your own; without a name they are listed."""
    list: bool = False
    """Show what can be reproduced and how long it takes, and stop."""
    seeds: int | None = None
    """How many random seeds [default: as the recipe says]."""
    steps: int | None = None
    """At most so many steps (or epochs) of each training, to try it out; numbers are then not compared."""
    resume: bool = False
    """Also use the finished rows of a run that came to its end (for more seeds, say)."""
    out: Path | None = None
    """Folder for table, figure and results [default: runs/<name>]."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print nothing but errors."""

    def run(self) -> int:
        """Run it; returns the exit code."""
        from roughspike.recipe import reproduce

        return reproduce.reproduce_command(self)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Run a recipe over random seeds and settings, in parallel processes, with one table at the end.

    Finished runs are kept: after Ctrl-C, or a killed process, the same command goes on where it was. Exit code 1 if a
    run failed; the table says which and why.
    """

    recipe: tyro.conf.Positional[str]
    """A name that `roughspike reproduce --list` shows, or a recipe file (.toml) of a published result or of a fit."""
    seeds: int = 5
    """How many random seeds: 0, 1, .."""
    set: tuple[str, ...] = ()
    """Entries of the recipe with the values to try, as exact.learning_rate=0.1,0.05; of several, all combinations."""
    steps: int | None = None
    """At most so many steps (or epochs) of each training, to try it out."""
    workers: int | None = None
    """How many processes at a time [default: one per processor; choose 1 for one GPU]."""
    data: str = "grasshopper-1"
    """For a recipe of a fit: a file of spikes, or a shipped recording."""
    stimulus: Path | None = None
    """As in `roughspike fit`; so are the next ones."""
    stimulus_dt: float | None = None
    """Sampling interval of the stimulus in seconds."""
    decibel: bool = False
    """Use the stimulus in dB."""
    window: tuple[float, float] | None = None
    """Start and end in seconds."""
    num_trials: int | None = None
    """Number of trials, silent ones included."""
    neuron: int | None = None
    """Which neuron of the file to fit."""
    unit: Literal["s", "ms", "us"] = "s"
    """Unit of the times in the file of spikes."""
    split: Literal["A", "B"] = "A"
    """Which fixed windows (or trials) are held out."""
    glm: bool = False
    """Fit the GLM baselines beside, in every run."""
    out: Path | None = None
    """Folder for the runs and the table [default: runs/sweep-<recipe>]."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print nothing but errors."""

    def run(self) -> int:
        """Run all; returns the exit code."""
        from roughspike.recipe import sweep

        return sweep.sweep_command(self)


@dataclasses.dataclass(frozen=True)
class Compare:
    """Compare gradient estimators on one problem: bias, variance, CPU time, effective cost.

    Finished estimators are kept in the folder: an interrupted comparison goes on where it was.
    """

    problem: tyro.conf.Positional[str | None] = None
    """A named problem (without it they are listed), or module:function or file.py:function that returns one."""
    list: bool = False
    """Show the named problems, and stop."""
    only: tuple[str, ...] = ()
    """Some of the estimators, such as straight-through-0.3 [default: all]; the unbiased one is always there."""
    draws: int = 200
    """Draws of each estimator; one draw averages the samples of the problem (10 in a named one)."""
    truth: str | None = None
    """Estimator without bias that the others are measured against [default: score, reward-to-go]."""
    truth_draws: int | None = None
    """Draws of that one [default: four times as many]."""
    seed: int = 0
    """Of the problem and of the draws."""
    again: bool = False
    """Forget what the folder holds."""
    out: Path | None = None
    """Folder for table, figure and results [default: runs/compare-<problem>]."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Print nothing but errors."""

    def run(self) -> int:
        """Compare; returns the exit code."""
        from roughspike.recipe import compare

        return compare.compare_command(self)


Command = (
    Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[FitSim, tyro.conf.subcommand("fit-sim")]
    | Annotated[Simulate, tyro.conf.subcommand("simulate")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `roughspike`. Exits with 0, 1 (a figure to reproduce is missed), 2 (bad input), 130 (Ctrl-C)."""
    description = "roughspike: stochastic spiking neurons with exact gradients, fitted to recorded spikes."
    command = tyro.cli(Command, prog="roughspike", description=description, args=arguments)
    warnings.showwarning = _show_warning
    try:
        code = command.run()
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"roughspike: error: {error}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    except RuntimeError as error:
        from roughspike._types import SimulationError  # loads JAX, so not before a command has run

        if not isinstance(error, SimulationError):
            raise
        print(f"roughspike: error: {error}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("roughspike: interrupted", file=sys.stderr)
        code = EXIT_INTERRUPTED
    sys.exit(code)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    del category, filename, lineno, file, line
    print(f"roughspike: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
