"""Figures of "What a signature kernel sees in a spike train": python docs/kernel_pictures.py [name]...

Distances of Victor & Purpura and van Rossum come from kernel_distances.json (see kernel_distances.py).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import kernel_distances
import matplotlib
import numpy as np

import roughspike as rs

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

IMAGES = Path(__file__).parent / "images"
INK, RED, BLUE, GREEN, ORANGE = "#37474f", "#c62828", "#1565c0", "#2e7d32", "#ef6c00"
TRIALS, COUNT = 40, 8
ROOM = 24  # slots of every train, and one choice of orders: one program to compile
KERNEL = rs.SignatureKernel(normalise=True, jump_size=0.5, time_weight=2.0, orders=(4, 6, 1))


def main() -> None:
    """Draw the figures."""
    jax.config.update("jax_enable_x64", True)
    stored = json.loads(kernel_distances.FILE.read_text(encoding="utf-8"))
    IMAGES.mkdir(exist_ok=True)
    chosen = sys.argv[1:]
    for name, size, draw in (
        ("kernel-close", (10.0, 3.6), close),
        ("kernel-weights", (11.0, 3.4), weights),
        ("kernel-witness", (10.0, 5.4), witness),
    ):
        if chosen and name not in chosen:
            continue
        figure = plt.figure(figsize=size, constrained_layout=True)
        draw(figure, stored)
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(IMAGES / f"{name}.svg", dpi=160, facecolor="white", metadata={"Date": None})
        plt.close(figure)


def as_trains(rows: list[np.ndarray]) -> rs.SpikeTrain:
    """Trains of one neuron on [0, 1]."""
    times = np.full((len(rows), 1, ROOM), np.inf)
    for k, row in enumerate(rows):
        times[k, 0, : len(row)] = row
    return rs.SpikeTrain(times)


def distances(time_weight: float = 1.0, jump_size: float = 0.5) -> tuple[dict[str, float], np.ndarray]:
    """|S(x)/|S(x)| - S(y)/|S(y)|| of the reference from all variants, and from itself with one spike shifted."""
    kernel = rs.SignatureKernel(
        time_weight=time_weight, jump_size=jump_size, normalise=True, tol=1e-8, orders=(6, 9, 4)
    )
    variants = kernel_distances.variants()
    trains = as_trains([*variants.values(), *(kernel_distances.shifted(by) for by in kernel_distances.SHIFTS)])
    found = kernel.solve(trains)
    assert found.ok, f"error {found.error}"
    rows = np.sqrt(np.maximum(2 - 2 * np.asarray(found.values[0]), 0))
    return dict(zip(variants, rows.tolist(), strict=False)), rows[len(variants) :]


def close(figure: plt.Figure, stored: dict) -> None:
    """Which trains are close: a raster, and three distances in units of that of a missing spike."""
    raster, bars = figure.subplots(1, 2, width_ratios=[1, 1.15])
    trains = kernel_distances.variants()
    names, rows = list(trains), list(trains.values())
    raster.eventplot(rows, colors=[INK] + [BLUE] * (len(rows) - 1), linelengths=0.7, linewidths=1.6)
    for t in rows[0]:
        raster.axvline(t, color="0.85", lw=0.8, zorder=0)
    raster.set_yticks(range(len(rows)), names)
    raster.set(xlim=(0, 1), xlabel="time (s)", title="trains")
    raster.invert_yaxis()
    found, _ = distances()
    kinds = {
        "signature kernel": (found, BLUE),
        "van Rossum, 20 ms": (stored["van Rossum"]["variants"], ORANGE),
        "Victor-Purpura, 20 ms": (stored["Victor-Purpura"]["variants"], "#90a4ae"),
    }
    for k, (kind, (values, colour)) in enumerate(kinds.items()):
        heights = [values[name] / values["one spike missing"] for name in names[1:]]
        y = np.arange(1, len(names)) + 0.27 * (k - 1)
        bars.barh(y, heights, 0.25, color=colour, label=kind)
    bars.axvline(1, color="0.6", lw=0.8, ls=":")
    bars.set(ylim=raster.get_ylim(), yticks=[], xlabel="distance from the reference, one spike missing = 1")
    bars.set(xscale="log", xlim=(3e-3, 20))
    bars.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3, fontsize=7.5, columnspacing=1)
    print({name: round(float(x / found["one spike missing"]), 3) for name, x in found.items()})


def weights(figure: plt.Figure, stored: dict) -> None:
    """What a shift costs; what the two weights do."""
    left, right = figure.subplots(1, 2)
    shifts, grid, sizes = kernel_distances.SHIFTS, (0.5, 1.0, 2.0, 4.0, 8.0), (0.1, 0.2, 0.5, 1.0)
    for weight, colour in zip(grid, plt.get_cmap("Blues")(np.linspace(0.35, 1, len(grid))), strict=True):
        found, moved = distances(time_weight=weight)
        label = f"kernel, time_weight {weight:g}"
        left.plot(1e3 * shifts, moved / found["one spike missing"], color=colour, label=label)
    for kind, colour in (("van Rossum", ORANGE), ("Victor-Purpura", "#90a4ae")):
        label = f"{kind}, {1e3 * stored['tau']:g} ms"
        left.plot(1e3 * shifts, np.array(stored[kind]["shifts"]), "--", color=colour, label=label)
    left.axhline(1, color="0.6", lw=0.8, ls=":")
    left.set(xlabel="one spike of six later by (ms)", ylabel="distance, one spike missing = 1", ylim=(0, 2.1))
    left.set_title("the price of a shift")
    left.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for size, colour in zip(sizes, plt.get_cmap("Greens")(np.linspace(0.4, 1, len(sizes))), strict=True):
        found = [distances(weight, size)[0] for weight in grid]
        ratio = [of["all spikes 40 ms later"] / of["one spike missing"] for of in found]
        right.loglog(grid, ratio, "o-", ms=4, color=colour, label=f"jump_size {size:g}")
    right.axhline(1, color="0.6", lw=0.8, ls=":")
    right.set_xticks(grid, [f"{w:g}" for w in grid])
    right.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    right.set(xlabel="time_weight", ylabel="all 40 ms later, one missing = 1", title="timing against counts")
    right.legend(frameon=False)


def two_sets(kind: str, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Trains that differ in when they fire, or in how regularly at the same rate."""
    random = np.random.default_rng(seed)
    uniform = lambda n: np.sort(random.uniform(0, 1, n))  # noqa: E731
    poisson = [uniform(random.poisson(COUNT)) for _ in range(TRIALS)]
    if kind == "rate":
        more = [np.sort(np.append(uniform(random.poisson(COUNT - 3)), random.normal(0.6, 0.05, 3))) for _ in poisson]
        return poisson, more
    regular = [(np.arange(COUNT) + random.uniform() + random.uniform(-0.15, 0.15, COUNT)) for _ in poisson]
    return poisson, [np.sort(row[(row > 0) & (row < COUNT)]) / COUNT for row in regular]


def witness(figure: plt.Figure, stored: dict) -> None:
    """Where two sets of trains differ: rasters, what one more spike does to the witness, the witness itself."""
    del stored
    panels = figure.subplots(2, 3, width_ratios=[1, 1, 0.9])
    titles = {"rate": "more spikes around 0.6 s", "regular": "the same rate, more regular"}
    for row, (kind, title) in zip(panels, titles.items(), strict=True):
        seen, held_out = two_sets(kind, 0), two_sets(kind, 1)
        for k, (rows, colour) in enumerate(zip(seen, (ORANGE, BLUE), strict=True)):
            offsets = np.arange(TRIALS) + k * (TRIALS + 3)
            row[0].eventplot(rows, colors=colour, lineoffsets=offsets, linewidths=0.8, rasterized=True)
        row[0].set(xlim=(0, 1), yticks=[], xlabel="time (s)")
        row[0].set_title(f"blue: {title}", fontsize=10)
        grid, some = np.linspace(0.02, 0.98, 25), seen[0][:20]
        longer = [np.sort(np.append(row, t)) for t in grid for row in some]
        values = witness_values([*held_out[0], *held_out[1], *some, *longer], seen)
        parts = np.split(values, np.cumsum([TRIALS, TRIALS, len(some)]))
        draw_gain(row[1], grid, parts[3].reshape(grid.size, -1) - parts[2])
        bins = np.linspace(values[: 2 * TRIALS].min(), values[: 2 * TRIALS].max(), 25)
        for part, colour in zip(parts[:2], (ORANGE, BLUE), strict=True):
            row[2].hist(part, bins, color=colour, alpha=0.6)
        test = rs.mmd_test(*(as_trains(rows) for rows in held_out), kernel=KERNEL, num_permutations=999)
        print(kind, test.statistic, test.p_value)
        row[2].set(xlabel="witness", ylabel="trains not seen before")
        row[2].set_title(f"mmd_test: p = {test.p_value:.3f}", fontsize=10)


def witness_values(rows: list[np.ndarray], seen: tuple[list[np.ndarray], list[np.ndarray]]) -> np.ndarray:
    """w(z) = mean k(z, blue) - mean k(z, orange)."""
    gram = np.asarray(KERNEL.gram(as_trains(rows), as_trains([*seen[0], *seen[1]])))
    return gram[:, TRIALS:].mean(1) - gram[:, :TRIALS].mean(1)


def draw_gain(axes: plt.Axes, grid: np.ndarray, change: np.ndarray) -> None:
    """The mean change of the witness if a train of the orange set gets one more spike at t, and its standard error."""
    mean, error = change.mean(1), change.std(1, ddof=1) / np.sqrt(change.shape[1])
    axes.plot(grid, mean, color=INK)
    axes.fill_between(grid, mean - error, mean + error, color=INK, alpha=0.2, lw=0)
    axes.axhline(0, color="0.6", lw=0.8, ls=":")
    axes.set(xlim=(0, 1), xlabel="time of one more spike (s)", ylabel="change of the witness")
    axes.set_title("one more spike here: how much bluer", fontsize=10)


if __name__ == "__main__":
    main()
