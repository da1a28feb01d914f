"""Kajino (2021), experiment 3: what a gradient costs, and how that grows."""

from __future__ import annotations

import time
from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from roughspike.pointprocess.basis import Span
from roughspike.pointprocess.elbo import bound_of, default_spacing
from roughspike.pointprocess.estimators import Pathwise, StraightThrough
from roughspike.pointprocess.events import events_of
from roughspike.pointprocess.links import SigmoidIntensity
from roughspike.pointprocess.score import Score
from roughspike.pointprocess.windowed import EpanechnikovBasis
from roughspike.recipe.compare_problems import drawn, observed_of
from roughspike.recipe.reproduce_context import Context, Row
from roughspike.recipe.reproduce_outcome import Outcome, at_most

ESTIMATORS = {"pathwise": lambda: Pathwise(0.3), "straight-through": lambda: StraightThrough(0.3), "score": Score}


def run(settings: dict[str, Any], context: Context) -> None:
    """One row for every estimator and setting: one number at a time leaves the first setting."""
    cases = [dict.fromkeys(("amplitude", "t1", "hidden", "sequences"), 0)]
    cases += [cases[0] | {key: k} for key in cases[0] for k in range(1, len(settings[key]))]
    bar = context.progress(len(cases) * len(settings["estimators"]), "gradients", "gradient")
    for name in settings["estimators"]:
        for case in cases:
            chosen = {key: settings[key][k] for key, k in case.items()}
            label = "-".join(f"{key}{value:g}" for key, value in chosen.items())
            context.row(f"{name}-{label}", lambda n=name, c=chosen: _row(settings, context, n, **c))
            bar.update()
    bar.close()


def _row(
    settings: dict[str, Any], context: Context, name: str, amplitude: float, t1: float, hidden: int, sequences: int
) -> Row:
    with jax.enable_x64(True):
        basis, link = EpanechnikovBasis(centres=(0.0, 10.0), width=1.0), SigmoidIntensity(amplitude)
        net = drawn(2, hidden, basis, link, jr.key(0))
        events = events_of(observed_of(net, t1, 0, sequences), net.bias.dtype)
        span, dt = Span(0.0, t1), default_spacing(net)

        @eqx.filter_jit
        def gradient(net, events, estimator, key):
            bound = lambda net: bound_of(net, None, events, span, dt, key, estimator, 1)  # noqa: E731
            return jax.value_and_grad(bound)(net)

        times = []
        for k in range(1 + context.length(settings["repeats"])):
            begin, calls = time.process_time(), 1 if k == 0 else max(1, round(0.05 / times[-1])) if k > 1 else 1
            for _ in range(calls):
                jax.block_until_ready(gradient(net, events, ESTIMATORS[name](), jr.key(2)))
            times.append((time.process_time() - begin) / calls)
    found = {"amplitude": amplitude, "t1": t1, "hidden": hidden, "sequences": sequences}
    return {"estimator": name, **found, "first_s": times[0], "cpu_ms": 1e3 * min(times[1:]) / sequences}


def show(settings: dict[str, Any], rows: dict[str, Row]) -> Outcome:
    """The table, beside the public code's time at its own setting, and a figure."""
    first = {key: settings[key][0] for key in ("amplitude", "t1", "hidden", "sequences")}
    table = [
        {
            "estimator": row["estimator"],
            "amplitude": row["amplitude"],
            "T": row["t1"],
            "hidden neurons": row["hidden"],
            "sequences": row["sequences"],
            "CPU ms per sequence": row["cpu_ms"],
            "first call, CPU s": row["first_s"],
            "public code, CPU ms": 1e3 * settings["published"][row["estimator"]]
            if all(row[key] == value for key, value in first.items()) and row["estimator"] in settings["published"]
            else None,
        }
        for row in rows.values()
    ]
    expected = settings["expected"]
    verdicts = []
    for name in settings["estimators"]:
        base = [r for r in rows.values() if r["estimator"] == name and all(r[k] == first[k] for k in list(first)[:3])]
        one = [r for r in base if r["sequences"] == 1]
        ten = [r["cpu_ms"] for r in base if r["sequences"] == 10]
        verdicts.append(at_most(f"{name}, one sequence, CPU ms", [r["cpu_ms"] for r in one], expected["one"]))
        verdicts.append(at_most(f"{name}, ten sequences, CPU ms each", ten, expected["ten"]))
        verdicts.append(at_most(f"{name}, first call, CPU s", [r["first_s"] for r in one], expected["compile"]))
    note = (
        "Least CPU time of several runs after the first, gradient in all parameters, one sample of the hidden neurons "
        "per sequence, float64. Our spikes follow the amplitude: so does the number of candidates, a (hidden) T. The "
        "first call traces, compiles and runs; a warm compilation cache makes it shorter."
    )
    return Outcome(table, {"figure": _figure(settings, rows, first)}, verdicts, note)


def _figure(settings: dict[str, Any], rows: dict[str, Row], first: dict[str, float]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained", label="kajino2021-time")
    labels = {"amplitude": "amplitude a", "t1": "T", "hidden": "hidden neurons"}
    for axes, (key, label) in zip(figure.subplots(1, 3, sharey=True), labels.items(), strict=True):
        for k, name in enumerate(settings["estimators"]):
            fixed = {other: value for other, value in first.items() if other != key}
            mine = [r for r in rows.values() if r["estimator"] == name and all(r[o] == v for o, v in fixed.items())]
            mine.sort(key=lambda r: r[key])
            axes.plot([r[key] for r in mine], [r["cpu_ms"] for r in mine], "o-", color=f"C{k}", label=name)
            if name in settings["published"]:
                axes.plot(
                    first[key], 1e3 * settings["published"][name], "x", color=f"C{k}", label=f"{name}, public code"
                )
        axes.set(xscale="log", yscale="log", xlabel=label)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("CPU ms per sequence")
    figure.axes[0].legend(fontsize=7, frameon=False)
    return figure
