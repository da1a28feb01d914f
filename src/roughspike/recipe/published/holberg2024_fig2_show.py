"""Lines of the table of Fig. 2, weights against the truth, and error against CPU seconds."""

from __future__ import annotations

from typing import Any

import numpy as np

from roughspike.recipe.reproduce_context import Row
from roughspike.recipe.reproduce_outcome import Verdict, at_most, mean_and_error

SIGNATURE, LIKELIHOOD, SHRUNK = "signature", "likelihood", "shrunk"
_NAMES = {SIGNATURE: "expected signature", LIKELIHOOD: "likelihood", SHRUNK: "likelihood, shrunk"}
_COLOURS = {SIGNATURE: "tab:orange", LIKELIHOOD: "tab:blue", SHRUNK: "tab:green"}


def lines(settings: dict[str, Any], rows: dict[str, Row]) -> list[dict[str, Any]]:
    """One line per method and number of trials, means over seeds."""
    published, first = settings["published"], list({row["test_start"]: row for row in rows.values()}.values())
    table = [_line("before", max(settings["samples"]), first, published["start"], published["test_start"], start=True)]
    for method, name in _NAMES.items():
        for n in settings["samples"]:
            mine = _of(rows, method, n)
            k = published["samples"].index(n) if method == SIGNATURE and n in published["samples"] else None
            paper = (None, None) if k is None else (published["error"][k], published["test"][k])
            if mine:
                table.append(_line(name, n, mine, *paper))
    return table


def _line(
    name: str, n: int, rows: list[Row], error: float | None, test: float | None, *, start: bool = False
) -> dict[str, Any]:
    """Means over seeds; of a start the error and the test loss alone."""
    end = (lambda value: None) if start else (lambda value: value)
    mean = lambda of: float(np.mean([of(row) for row in rows]))  # noqa: E731
    return {
        "method": name,
        "trials": end(n),
        "seeds": len(rows),
        "error": mean_and_error([row["errors"][0 if start else -1] for row in rows], 3),
        "error, published": error,
        "hidden": end(f"{mean(lambda row: _off(row, 0)):.3f}"),
        "output": end(f"{mean(lambda row: _off(row, 1)):.3f}"),
        "r": end(f"{mean(_correlation):.2f}"),
        "flat": end(f"{mean(_flat):.3f}"),
        "test": f"{mean(lambda row: row['test_start' if start else 'test']):.2g}",
        "test, truth": f"{mean(lambda row: row['test_truth']):.2g}",
        "test, published": test,
        "CPU s": end(f"{mean(lambda row: row['seconds'][-1]):.0f}"),
        "MB": end(f"{mean(lambda row: row['megabytes']):.0f}"),
    }


def verdicts(settings: dict[str, Any], rows: dict[str, Row]) -> list[Verdict]:
    """Expected errors by method, one per number of trials."""
    found = []
    for method, most in settings["expected"].items():
        for n, bound in zip(settings["samples"], most, strict=True):
            if bound > 0:
                errors = [row["errors"][-1] for row in _of(rows, method, n)]
                found.append(at_most(f"{_NAMES[method]}, {n} trials: mean |w - w_true|", errors, bound))
    return found


def figure(settings: dict[str, Any], rows: dict[str, Row]) -> Any:
    """Left, middle: weights of the first seed against the truth. Right: error while fitting."""
    import matplotlib.pyplot as plt

    n = settings["signature"]["samples"][-1]
    drawing, axes = plt.subplots(1, 3, figsize=(11.5, 3.7), layout="constrained", num="fig2", clear=True)
    for k, (ax, layer) in enumerate(zip(axes, ("onto hidden neurons", "onto output neurons"), strict=False)):
        for method in _NAMES:
            for row in _of(rows, method, n)[:1]:
                ax.plot(_flattened(row["truth"][k]), _flattened(row["weights"][k]), "o", ms=4, alpha=0.8, mew=0,
                        color=_COLOURS[method], label=_NAMES[method])  # fmt: skip
                true = _flattened(row["truth"][k])
                ax.plot([0, true.max()], [0, true.max()], color="0.6", lw=1, zorder=0)
        ax.set(xlabel="true weight", ylabel="estimate" if k == 0 else None, title=layer)
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, -1.5), min(high, 1.5))
    axes[0].legend(frameon=False, fontsize=8)
    for method in _NAMES:
        for row in _of(rows, method, n):
            seconds = np.maximum(row["seconds"], 0.1)
            axes[2].plot(seconds, row["errors"], color=_COLOURS[method], marker=None if method == SIGNATURE else ".")
    axes[2].axhline(min(settings["published"]["error"]), color="0.5", ls=":", lw=1)
    last = max((row["seconds"][-1] for row in rows.values()), default=1.0)
    end = (last, min(settings["published"]["error"]))
    axes[2].annotate("published, end", end, ha="right", va="bottom", fontsize=8, color="0.4")
    axes[2].set(xscale="log", xlabel="CPU seconds", ylabel="mean |w - w_true|", title=f"{n} trials", ylim=(0, 0.8))
    return drawing


def _of(rows: dict[str, Row], method: str, n: int) -> list[Row]:
    return [row for row in rows.values() if row["method"] == method and row["n"] == n]


def _flattened(weights: Any) -> np.ndarray:
    return np.asarray(weights).ravel()


def _off(row: Row, layer: int) -> float:
    return float(np.mean(np.abs(_flattened(row["weights"][layer]) - _flattened(row["truth"][layer]))))


def _correlation(row: Row) -> float:
    return float(np.corrcoef(_flattened(row["weights"][0]), _flattened(row["truth"][0]))[0, 1])


def _flat(row: Row) -> float:
    """The error if every layer had the mean of its estimated weights."""
    off = [np.abs(np.mean(w) - _flattened(t)) for w, t in zip(row["weights"], row["truth"], strict=True)]
    return float(np.mean(np.concatenate(off)))
