"""Figures and tables of the page "What the noise does to the gradient", from noise.json: python docs/noise_pictures.py.

The tables stand in the page between comments that name them; this script replaces them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

FOLDER = Path(__file__).parent
PAGE, FILE, IMAGES = FOLDER / "noise.md", FOLDER / "noise.json", FOLDER / "images"
INK, RED, BLUE, GREEN = "#37474f", "#c62828", "#1565c0", "#2e7d32"
EXPLODED = 100
SLOT = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
KINDS = {"exact": BLUE, "escape": GREEN, "escape, reset detached": "#ef6c00", "fast sigmoid, reset detached": RED}


def main() -> None:
    """Draw the three figures and refresh the tables of the page."""
    result = json.loads(FILE.read_text())
    for name, draw in (("noise-spread", spread), ("noise-limits", limits), ("noise-surrogate", surrogate)):
        figure, panels = plt.subplots(1, 2, figsize=(9.4, 3.4), constrained_layout=True)
        draw(result, *panels)
        for axes in panels:
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(IMAGES / f"{name}.svg", facecolor="white", metadata={"Date": None})
        plt.close(figure)
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")


def spread(result: dict[str, Any], left: plt.Axes, right: plt.Axes) -> None:
    """Mean and spread of d tau_n / dc against sigma; relative spread against beta."""
    rows = result["by_sigma"]
    for n, colour in enumerate((BLUE, GREEN, RED)):
        x = np.array([row["sigma"] for row in rows]) + 0.012 * (n - 1)
        mean, sd = (np.array([row[k][n] for row in rows]) for k in ("mean", "sd"))
        left.errorbar(x, mean, sd, fmt="o-", color=colour, capsize=3, lw=1, ms=4, label=f"spike {n + 1}")
    left.set(xlabel=r"diffusion $\sigma$", ylabel=r"$d\tau_n/dc$", title=r"mean and standard deviation, $\beta$ = 5")
    left.set_ylim(None, 0.9)
    left.legend(frameon=False, loc="upper left", ncols=3)
    for key, colour, label in (("by_beta", INK, r"$\sigma$ = 0.25"), ("limit", BLUE, r"$\sigma$ = 0")):
        rows = [row for row in result[key] if row["beta"] <= 100]
        ratio = [row["sd"][2] / abs(row["mean"][2]) for row in rows]
        right.loglog([row["beta"] for row in rows], ratio, "o-", color=colour, lw=1, ms=4, label=label)
    log_ticks(right, [2, 5, 10, 20, 40, 80])
    right.set(xlabel=r"sharpness of the threshold $\beta$", title=r"$d\tau_3/dc$: standard deviation over mean")
    right.legend(frameon=False)


def limits(result: dict[str, Any], left: plt.Axes, right: plt.Axes) -> None:
    """The deterministic limit; the limit that does not exist."""
    rows, lif = result["limit"], result["lif"]["slope"]
    beta = np.array([row["beta"] for row in rows])
    for n, colour in enumerate((BLUE, GREEN, RED)):
        gap = [abs(row["mean"][n] - lif[n]) for row in rows]
        left.loglog(beta, gap, "o-", color=colour, lw=1, ms=4, label=f"distance to LIF, spike {n + 1}")
    left.loglog(beta, [row["sd"][2] for row in rows], "s:", color="0.5", lw=1, ms=4, label="spread, spike 3")
    left.set(xlabel=r"$\beta$", title=r"$\sigma$ = 0: $d\tau_n/dc$ goes to the LIF formula")
    left.legend(frameon=False)
    rows = result["hard"]
    dt = [row["dt"] for row in rows]
    for key, colour, label in (
        ("pathwise", RED, "mean of the pathwise derivative"),
        ("difference", INK, "difference of means"),
    ):
        y, bar = ([-row[key] for row in rows], [2 * row[f"{key}_sem"] for row in rows])
        right.errorbar(dt, y, bar, fmt="o-", color=colour, lw=1, ms=4, capsize=3, label=label)
    right.set_xscale("log")
    right.set(xlabel="time step", ylabel=r"$-d\,\mathbb{E}\,\tau_1/dc$", ylim=(0, None))
    right.set_title(r"hard threshold, $\sigma$ = 0.25")
    right.legend(frameon=False, loc="lower right")


def surrogate(result: dict[str, Any], left: plt.Axes, right: plt.Axes) -> None:
    """The gradients for one neuron; how long they are against beta."""
    rows = [row for row in result["surrogate"] if row["reset"] > 0]
    one = next(row for row in rows if row["beta"] == 5)
    at = np.arange(1, len(one["reference"]) + 1)
    left.plot(at, one["reference"], "o", mfc="none", color="black", ms=8, label="differences of means")
    for kind, colour in KINDS.items():
        left.plot(at, one["kinds"][kind]["mean"], color=colour, lw=1.4, label=kind)
        length = [row["kinds"][kind]["length"] for row in rows]
        length = [x if abs(x) < EXPLODED else np.nan for x in length]
        right.semilogx([row["beta"] for row in rows], length, "o-", color=colour, lw=1.4, ms=4, label=kind)
    left.set(xlabel="coefficient of the input current", title=r"gradient of the loss, $\beta$ = 5")
    right.axhline(1.0, color="0.6", lw=0.8, ls=":")
    log_ticks(right, [2, 5, 10, 20])
    right.set(xlabel=r"$\beta$", title="length along the true gradient", ylim=(0, 6))
    right.legend(*left.get_legend_handles_labels(), frameon=False, loc="upper left")


def log_ticks(axes: plt.Axes, at: list[int]) -> None:
    """Plain numbers on a logarithmic axis, and no others."""
    axes.minorticks_off()
    axes.set_xticks(at, [str(x) for x in at])


def with_tables(page: str, result: dict[str, Any]) -> str:
    """The page with its tables made from the result."""
    made = tables(result)
    return SLOT.sub(lambda m: f"{m[1]}{made[m[2]]}\n{m[3]}", page)


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables by name."""
    slopes = ("d tau_3 / dc, mean", "differences of means", "standard deviation")

    def third(row: dict[str, Any]) -> list[str]:
        mean, difference = (
            f"{row[k][2]:.3f} ± {row[s][2]:.3f}" for k, s in (("mean", "sem"), ("difference", "difference_sem"))
        )
        return [mean, difference, f"{row['sd'][2]:.3f}"]

    lif = result["lif"]["slope"]
    return {
        "sigma": table(["sigma", *slopes], [[f"{r['sigma']:g}", *third(r)] for r in result["by_sigma"]]),
        "beta": table(
            ["beta", *slopes, "over mean"],
            [[f"{r['beta']:g}", *third(r), f"{-r['sd'][2] / r['mean'][2]:.2f}"] for r in result["by_beta"]],
        ),
        "loss": table(
            ["sigma", "beta", "gradient, mean", "standard deviation", "over mean"],
            [
                [f"{r['sigma']:g}", f"{r['beta']:g}", f"{r['mean']:.3f} ± {r['sem']:.3f}", f"{r['sd']:.3f}",
                 f"{-r['sd'] / r['mean']:.2f}"]
                for r in result["loss"]
            ],
        ),
        "limit": table(
            ["beta", *(f"d tau_{n} / dc" for n in (1, 2, 3)), "standard deviation of the third"],
            [
                *([f"{r['beta']:g}", *(f"{x:.4f}" for x in r["mean"]), f"{r['sd'][2]:.4f}"] for r in result["limit"]),
                ["LIF formula", *(f"{x:.4f}" for x in lif), "0"],
            ],
        ),
        "hard": table(
            ["step", "mean of the pathwise derivative", "difference of means, same paths"],
            [
                [f"{r['dt']:.2g}", *(f"{r[k]:.4f} ± {r[k + '_sem']:.4f}" for k in ("pathwise", "difference"))]
                for r in result["hard"]
            ],
        ),
        "surrogate": table(
            ["neuron", *KINDS],
            [
                [f"beta {r['beta']:g}, reset {r['reset']:g}",
                 *(agreement(r["kinds"][kind]) for kind in KINDS)]
                for r in result["surrogate"]
            ],
        ),
    }  # fmt: skip


def agreement(row: dict[str, float]) -> str:
    """Cosine, length, noise of one kind of gradient."""
    if abs(row["length"]) > EXPLODED:
        return f"{row['cosine']:.3f}, explodes"
    return "{cosine:.3f}, {length:.2f} ± {length_sem:.2f}, {noise:.2f}".format(**row)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


if __name__ == "__main__":
    main()
