"""The command line: what it writes, what it refuses, and how it exits."""

import json
import re
import subprocess
import sys

import jax.random as jr
import numpy as np
import pytest

import roughspike as rs
from roughspike import cli

pytestmark = pytest.mark.plain


def run(*arguments):
    """Run the command in this process; returns its exit code."""
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in arguments])
    return stop.value.code


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Six seconds of a neuron driven by a random stimulus: spikes and stimulus, as a user would have them."""
    folder = tmp_path_factory.mktemp("user")
    rng = np.random.default_rng(0)
    values = np.convolve(rng.standard_normal(6000), np.exp(-np.arange(30) / 5.0), mode="same")
    values /= values.std()
    signal = rs.SampledSignal(values, dt=1e-3)
    neuron = rs.SLIF(
        mu=(200.0, 50.0),
        v_reset=2.0,
        escape=rs.ExponentialEscape(beta=1.0, v_th=1.0, tau_s=0.02),
        refractory=0.004,
        self_weight=-1.0,
    )
    cell = rs.Population(neuron, rs.Stimulus(signal, gain=1.0, delay=0.005) + rs.Constant(0.8))
    spikes = rs.simulate(cell, t1=6.0, dt=1e-3, key=jr.key(3), num_samples=1).spikes
    times = np.asarray(spikes.times)[0, 0]
    times = times[np.isfinite(times)]
    (folder / "spikes.csv").write_text("time_s\n" + "\n".join(f"{100 + t:.6f}" for t in times) + "\n")
    rows = "\n".join(f"{100 + k * 1e-3:.3f},{v:.5f}" for k, v in enumerate(values))
    (folder / "stimulus.csv").write_text("time_s,value\n" + rows + "\n")
    return folder


@pytest.fixture(scope="module")
def fitted(files):
    out = files / "run"
    code = run(
        *("fit", files / "spikes.csv", "--stimulus", files / "stimulus.csv", "--window", 100, 106),
        *("--steps", 60, "--no-glm", "--no-diffusion", "--quiet", "--out", out),
    )
    assert code == 0
    return out


def test_a_users_own_recording(fitted):
    assert {"model.json", "arrays.npz", "history.csv", "config.json", "report.html", "run.json"} <= {
        p.name for p in fitted.iterdir()
    }
    scores = {row["model"]: row["bits"] for row in json.loads((fitted / "run.json").read_text())["scores"]}
    assert scores["SLIF, no diffusion"] > 0.1  # bits per spike over Poisson, held out
    config = json.loads((fitted / "config.json").read_text())
    assert config["versions"]["jax"] and config["recipe"]["seed"] == 1
    loaded = rs.load(fitted)
    assert loaded.data.onset == 100.0 and loaded.data.t1 == 6.0


def test_simulate_and_report_of_a_run(fitted, tmp_path, capsys):
    assert run("simulate", fitted, "--num-samples", 3, "--t1", 2.0, "--out", tmp_path / "sim.csv") == 0
    assert "3 samples of 2 s" in capsys.readouterr().out
    spikes = rs.read_spikes(tmp_path / "sim.csv")
    assert spikes.times.shape[:2] == (3, 1) and spikes.t1 == 2.0
    assert run("report", fitted, "--out", tmp_path / "again.html", "--quiet") == 0
    assert "</html>" in (tmp_path / "again.html").read_text()


def test_prints_parameters_scores_and_where_the_report_is(files, capsys):
    out = files / "loud"
    arguments = ("--steps", 60, "--no-glm", "--no-diffusion", "--out", out)
    window = ("--window", 100, 106)
    assert run("fit", files / "spikes.csv", "--stimulus", files / "stimulus.csv", *window, *arguments) == 0
    text = capsys.readouterr().out
    assert "stimulus delay" in text and "held-out bits/spike" in text and str(out / "report.html") in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "nowhere.csv"), "there is no file nowhere.csv, and no shipped recording .*grasshopper-1"),
        (("fit", "grasshopper-1", "--window", "0", "2"), "--window is for a file of spikes"),
        (("fit", "--steps", "0"), "--steps must be at least 1"),
        (("fit", "--dt", "-1"), "--dt must be a positive number of seconds"),
        (("fit", "--recipe", "nowhere.toml"), "nowhere.toml is no recipe file"),
        (("simulate", "nowhere"), "there is no folder nowhere"),
        (("report", "nowhere"), "there is no folder nowhere"),
    ],
)
def test_bad_input_exits_with_2_and_says_what_to_do(arguments, message, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error


def test_stimulus_that_does_not_cover_the_window(files, capsys):
    (files / "short.csv").write_text("time_s,value\n" + "\n".join(f"{100 + k * 1e-3},{k % 7}" for k in range(900)))
    code = run("fit", files / "spikes.csv", "--stimulus", files / "short.csv", "--window", 100, 106)
    assert code == 2 and "the stimulus must cover it (choose --window)" in capsys.readouterr().err


def test_too_few_spikes(tmp_path, capsys):
    (tmp_path / "few.csv").write_text("time_s\n0.1\n0.5\n1.5\n")
    assert run("fit", tmp_path / "few.csv", "--window", 0, 2) == 2
    assert "at least 10 are needed" in capsys.readouterr().err


def test_help_needs_no_jax():
    script = (
        "import sys, contextlib, io\n"
        "from roughspike import cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    cli.main([{!r}, '--help'])\n"
        "sys.exit(any(name in sys.modules for name in ('jax', 'numpy', 'matplotlib')))"
    )
    for command in ("fit", "simulate", "report"):
        subprocess.run([sys.executable, "-c", script.format(command)], check=True, timeout=60)
