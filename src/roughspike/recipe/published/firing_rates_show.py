"""Lines of the table, verdicts and figure of the networks that were trained on rates."""

from __future__ import annotations

from typing import Any

import numpy as np

from roughspike.recipe.reproduce_context import Row
from roughspike.recipe.reproduce_outcome import Verdict, at_most, mean_and_error, near

CASES = {
    "rates-path": ("firing rates", "path"),
    "rates-horizon": ("firing rates", "path + horizon"),
    "signature-path": ("expected signature", "path"),
    "signature-horizon": ("expected signature", "path + horizon"),
}
_LINES = {"path": "--", "path + horizon": "-"}
_COLOURS = {"firing rates": "tab:blue", "expected signature": "tab:orange"}


def lines(settings: dict[str, Any], rows: dict[str, Row]) -> list[dict[str, Any]]:
    """One line per objective and gradient, means over seeds."""
    del settings
    table = []
    for case, (objective, gradient) in CASES.items():
        mine = _of(rows, case)
        if mine:
            table.append(
                {
                    "objective": objective,
                    "gradient": gradient,
                    "seeds": len(mine),
                    "rate error, start": f"{np.mean([row['error'][0] for row in mine]):.2f}",
                    "rate error, end": mean_and_error([_end(row) for row in mine]),
                    "gradient norm at the start": f"{np.mean([row['gradient'] for row in mine]):.3g}",
                    "steps": len(mine[0]["error"]),
                    "CPU s": f"{np.mean([row['seconds'] for row in mine]):.1f}",
                    "MB": f"{mine[0]['megabytes']:.0f}",
                    "flagged, %": f"{100 * np.mean([row['flagged'] for row in mine]):.2f}",
                }
            )
    return table or [{"objective": "slopes alone"}]


def verdicts(settings: dict[str, Any], rows: dict[str, Row]) -> list[Verdict]:
    """Slopes of the rate, and errors after training."""
    expected, slope = settings["expected"], rows.get("slope")
    still = [row["gradient"] for row in _of(rows, "rates-path")]
    off = []
    if slope is not None:
        off = np.abs(np.divide(slope["with"], slope["difference"]) - 1)
    without = [] if slope is None else np.abs(slope["without"])
    return [
        near("|slope of the rate|, path", without, expected["slope_without"], 1e-6),
        at_most("slope with the term, relative distance from difference of means", off, expected["slope_off"]),
        near("gradient of the rates along paths", still, 0.0, 1e-6),
        at_most(
            "rate error after training with the term",
            list(map(_end, _of(rows, "rates-horizon"))),
            expected["error_with"],
        ),
    ]


def figure(settings: dict[str, Any], rows: dict[str, Row]) -> Any:
    """Tangents on the curve of the rate; errors during training; rates of the output neurons."""
    import matplotlib.pyplot as plt

    drawing, (left, middle, right) = plt.subplots(
        1, 3, figsize=(11.5, 3.6), layout="constrained", num="rates", clear=True
    )
    if "slope" in rows:
        _tangents(left, rows["slope"])
    for case, (objective, gradient) in CASES.items():
        for k, row in enumerate(_of(rows, case)):
            error = np.convolve(row["error"], np.ones(5) / 5, "valid")
            label = f"{objective}, {gradient}" if k == 0 else None
            middle.plot(error, _LINES[gradient], color=_COLOURS[objective], lw=1.2, label=label, alpha=0.8)
    middle.set(xlabel="optimiser step", ylabel="rate error (1/s)", ylim=(0, None), title="training, all seeds")
    middle.legend(frameon=False, fontsize=7)
    for k, (case, mark) in enumerate({"rates-path": "x", "rates-horizon": "o", "signature-path": "+"}.items()):
        for row in _of(rows, case):
            right.plot(row["target"], row["rates"][1], mark, color=f"C{k}", mfc="none", ms=7)
        right.plot([], [], mark, color=f"C{k}", mfc="none", label=", ".join(CASES[case]))
    high = max([1.0, *(max(row["target"]) for row in rows.values() if "target" in row)])
    right.plot([0, high], [0, high], color="0.7", lw=1, zorder=0)
    right.set(xlabel="rate of the data (1/s)", ylabel="rate after training (1/s)", title="output neurons")
    right.legend(frameon=False, fontsize=7)
    del settings
    return drawing


def _tangents(ax: Any, slope: Row) -> None:
    scales, rate = np.asarray(slope["scales"]), np.asarray(slope["rate"])
    ends = np.array([-0.06, 0.06])
    ax.plot(scales, rate, "o-", color="0.6", lw=1, ms=4)
    for name, colour, label in (("without", "tab:red", "path"), ("with", "tab:blue", "path + horizon")):
        for k, (c, r, s) in enumerate(zip(scales, rate, slope[name], strict=True)):
            ax.plot(c + ends, r + s * ends, color=colour, lw=2.2, label=label if k == 0 else None)
    for k, (c, r, s) in enumerate(zip(scales, rate, slope["difference"], strict=True)):
        label = "difference of means" if k == 0 else None
        ax.plot(c + 1.4 * ends, r + 1.4 * s * ends, ":", color="black", lw=1, label=label)
    ax.set(xlabel="common scale of all weights", ylabel="mean output rate (1/s)", title="the rate, and its tangents")
    ax.legend(frameon=False, fontsize=7)


def _of(rows: dict[str, Row], case: str) -> list[Row]:
    return [row for row in rows.values() if row["case"] == case]


def _end(row: Row) -> float:
    """Over the last tenth of the steps."""
    return float(np.mean(row["error"][-max(1, len(row["error"]) // 10) :]))
