"""Write docs/how-fast.md and its figure from the JSON files in benchmarks/results: the page has no other numbers.

python benchmarks/page.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from page_text import HUGE_PAGES, LAYERED_MEMORY, PEERS, RECURRENT, TEXT

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "how-fast.md"
_SHOWN = {
    "layered": ("inputs", "neurons", "spikes", "steps", "samples"),
    "ordered": ("neurons", "steps", "samples"),
    "delayed": ("neurons", "synapses", "steps", "samples"),
}
FIGURE = PAGE.parent / "images" / "growth.svg"


def main() -> None:
    """Fill the text, write the page, draw the figure."""
    PAGE.write_text(page())
    draw(_growth_rows())


def page() -> str:
    """The page as the results on disk give it."""
    fig1, lanes, events, kernel = (_read(name) for name in ("fig1_speed", "lanes", "event_sdes", "signature_kernel"))
    layered, growth = _read("layered"), _read("growth")
    ms, first, early = fig1["cpu_ms"], fig1["first_call_s"], fig1["cpu_ms_at_start_of_training"]
    published = early["published: signature of depth 3, gradient"]
    ours = early["ours: signature of depth 3, gradient"]
    return TEXT.format(
        fig1_machine=_machine(fig1["machine"]),
        fig1=_table(("", "CPU ms", "first call, s"), [(n, _number(x), _number(first[n])) for n, x in ms.items()]),
        fig1_first=_elsewhere(fig1),
        early_published=published,
        early_ours=ours,
        early_ratio=published / ours,
        late_ratio=ms["published: signature of depth 3, gradient"] / ms["ours: signature of depth 3, gradient"],
        lanes=_lanes(lanes),
        memory=_table(
            ("steps", "MB", "MB, `checkpoint=True`"),
            [(steps, _number(plain), _number(blocks)) for steps, (plain, blocks) in lanes["memory_mb"].items()],
        ),
        layered_machine=_machine(layered["machine"]),
        layered=_layered(layered["rows"]),
        wide_load=_wide_load(layered),
        growth_note=growth.get("note", "; all of an engine in one process"),
        layered_memory=_layered_memory(layered),
        peers=_peers(),
        recurrent=_recurrent(),
        huge_pages=_huge_pages(),
        growth_base="; ".join(
            f"{engine}: " + ", ".join(f"{x:g} {name}" for name, x in base.items() if x and name in _SHOWN[engine])
            for engine, base in growth["base"].items()
            if any(r["engine"] == engine for r in growth["growth"])
        ),
        growth_machine=_machine(growth["machine"]),
        growth=_growth(_growth_rows()),
        events_machine=_machine(events["sections"]["neuron"]["machine"]),
        events=_table(("", "found"), [(n, _number(x)) for n, x in events["summary"].items()]),
        kernel_machine=_machine(kernel["machine"]),
        kernel=_table(
            ("", "CPU s", "largest relative error"),
            [(r["name"], _number(r["cpu_s"]), _number(r.get("error"))) for r in kernel["rows"] if "cpu_s" in r],
        ),
    )


def _elsewhere(fig1: dict[str, Any]) -> str:
    """Where first calls are of another run than the rest."""
    machine = fig1.get("first_call_machine")
    return "" if machine is None else f", of an earlier run at load {machine['load']}"


def _lanes(lanes: dict[str, Any]) -> str:
    head = ("", "lanes", "type", "forward, ns", "gradient, ns", "gradient / forward", "first call of the gradient, s")
    rows = [
        (
            r["name"],
            f"{r['samples']:,}",
            r["dtype"],
            _number(r["forward_ns"]),
            _number(r["gradient_ns"]),
            _number(r["gradient_ms"] / r["forward_ms"]),
            _number(r["gradient_first_call_s"]),
        )
        for r in lanes["rows"]
    ]
    return _table(head, rows)


def _layered(tasks: dict[str, list[dict[str, Any]]]) -> str:
    """Exact ways, and the fastest surrogate."""
    lines = []
    for task, rows in tasks.items():
        fastest = min((r for r in rows if r["name"].startswith("surrogate")), key=lambda r: r["ms"])
        for r in [fastest, *(r for r in rows if r["name"].startswith("exact"))]:
            cells = (r["ms"], r["ratio"], r["temp_mb"], r["compile_s"])
            lines.append((task, r["name"].split(",")[0] if r is fastest else r["name"], *map(_number, cells)))
    return _table(("network", "", "CPU ms", "times", "MB", "compile, CPU s"), lines)


def _wide_load(layered: dict[str, Any]) -> str:
    """Where the second network was measured by itself: on what machine."""
    own = layered.get("machine_700-256-20")
    return "" if own is None else f"; one process for each network, the second one at load {own['load']}"


def _layered_memory(layered: dict[str, Any]) -> str:
    """Empty if it was not measured."""
    if "memory_mb" not in layered:
        return ""
    head = ("steps", "MB", "MB, `checkpoint=True`")
    rows = [(steps, _number(plain), _number(blocks)) for steps, (plain, blocks) in layered["memory_mb"].items()]
    return LAYERED_MEMORY.format(table=_table(head, rows))


def _peers() -> str:
    """Empty if it was not measured: the libraries are no dependency."""
    if not (RESULTS / "peers.json").exists():
        return ""
    found = _read("peers")
    rows = [(n, _number(r["ms"]), _number(r["compile_s"]), f"{r['loss']:.4f}") for n, r in found["rows"].items()]
    table = _table(("", "CPU ms", "compile, CPU s", "loss"), rows)
    return PEERS.format(table=table, machine=_machine(found["machine"]))


def _huge_pages() -> str:
    """The same programs with and without; empty if they were not measured."""
    lines = []
    for name, wanted in (("layered", ("surrogate, product inside, autodiff", "exact", "exact, noisy")), ("peers", ())):
        if not (RESULTS / f"{name}_huge_pages.json").exists():
            return ""
        without, others = _by_name(_read(name)), _by_name(_read(f"{name}_huge_pages"))
        for key in others:
            if not wanted or key.split(": ")[-1] in wanted:
                lines.append((key, _number(without[key]["ms"]), _number(others[key]["ms"])))
    return HUGE_PAGES.format(table=_table(("", "CPU ms", "with huge pages"), lines))


def _by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows by their name, those of several networks with the network in front."""
    rows = result["rows"]
    if all(isinstance(r, dict) for r in rows.values()):
        return rows
    return {f"{network}: {r['name']}": r for network, some in rows.items() for r in some}


def _recurrent() -> str:
    """Both engines for recurrent networks, the training of the largest, NEST."""
    ordered, delayed = _read("ordered"), _read("delayed")
    columns = ("spikes_mean", "forward_ms", "weights_ms", "all_ms", "weights_first_call_cpu_s")
    rows = [(r["name"], str(r["steps"]), *(_number(r[c]) for c in columns)) for r in ordered["rows"]]
    head = ("network", "steps", "spikes a sample", "forward, ms", "in weights, ms", "in all, ms", "compile, CPU s")
    trained = ordered["training"]
    training = (
        f"{trained['neurons']} neurons learn by Adam on all weights, noise anew in each of {trained['steps']} steps:\n"
        f"the mean first spike moves from {trained['before']:.3f} to {trained['after']:.3f}, asked "
        f"{trained['target']}; {trained['cpu_s_per_step']:.2f} CPU s a step."
    )
    lines, compared = [], []
    for r in delayed["rows"]:
        run = f"{r.get('t1', 1000.0) / 1000:g} s"
        numbers = (
            r["rate_hz"],
            r["forward_ms"],
            r["gradient_ms"],
            r["gradient_temp_mb"],
            r["gradient_first_call_cpu_s"],
        )
        lines.append((f"{r['neurons']:,}, {r['storage']}", run, f"{r['spikes']:,}", *map(_number, numbers)))
        if "nest_ms" in r:
            facts = f"{r['storage']} weights (NEST: {r['nest_ms']:.0f} ms, {r['nest_rate_hz']:.0f} Hz)"
            compared.append(f"{r['forward_ms'] / r['nest_ms']:.2f} of its time with {facts}")
    nest = (
        "NEST 3.10, one thread, in turn with ours on the same kind of network, with a hard threshold in place of the\n"
        f"escape rate: we take {', '.join(compared)}."
    )
    head_delayed = ("neurons", "run", "spikes", "Hz", "forward, ms", "gradient, ms", "MB", "compile, CPU s")
    return RECURRENT.format(
        samples=ordered["rows"][0]["samples"],
        ordered_machine=_machine(ordered["machine"]),
        ordered=_table(head, rows),
        training=training,
        delayed_machine=_machine(delayed["machine"]),
        delayed=_table(head_delayed, lines),
        nest=nest,
    )


def _growth_rows() -> dict[tuple[str, str], list[dict[str, Any]]]:
    """All sweeps on disk, by engine and what grows."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        for row in json.loads(path.read_text()).get("growth", []):
            found.setdefault((row["engine"], row["factor"]), []).append(row)
    return found


def _growth(sweeps: dict[tuple[str, str], list[dict[str, Any]]]) -> str:
    lines = []
    for (engine, factor), rows in sweeps.items():
        a, b = rows[0], rows[-1]
        exponent = math.log(b["gradient_ms"] / a["gradient_ms"]) / math.log(b["value"] / a["value"])
        each = [", ".join(_number(r[x]) for r in rows) for x in ("value", "gradient_ms", "temp_mb")]
        lines.append((engine, factor, *each, f"{exponent:.1f}"))
    return _table(("engine", "what grows", "from, to", "gradient, CPU ms", "MB", "exponent"), lines)


def draw(sweeps: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    """CPU time of a gradient against each quantity over its smallest value, both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "roughspike"
    engines = list(dict.fromkeys(engine for engine, _ in sweeps))
    colours = {
        factor: f"C{k}" for k, factor in enumerate(("neurons", "steps", "samples", "spikes", "synapses", "inputs"))
    }
    figure, panels = plt.subplots(
        1, len(engines), figsize=(3.6 * len(engines), 3.6), squeeze=False, sharey=True, layout="constrained"
    )
    for engine, axes in zip(engines, panels[0], strict=True):
        for (of, factor), rows in sweeps.items():
            if of == engine:
                x = [r["value"] / rows[0]["value"] for r in rows]
                axes.loglog(x, [r["gradient_ms"] for r in rows], "o-", ms=4, color=colours[factor], label=factor)
        start = min(r["gradient_ms"] for (of, _), rows in sweeps.items() if of == engine for r in rows[:1])
        axes.loglog((1, 16), (start, 16 * start), ":", color="0.5", label="proportional", zorder=0)
        axes.set(xlabel="times the smallest value", title=engine, xlim=(0.9, 18))
        axes.set_xticks((1, 2, 4, 8, 16), ("1", "2", "4", "8", "16"), minor=False)
        axes.set_xticks((), minor=True)
        axes.spines[["top", "right"]].set_visible(False)
    ticks = (5, 10, 20, 50, 100, 200, 500)
    panels[0, 0].set_yticks(ticks, [str(x) for x in ticks])
    panels[0, 0].set_yticks((), minor=True)
    panels[0, 0].set_ylabel("loss and gradient, CPU ms")
    lines = {line.get_label(): line for axes in panels[0] for line in axes.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside right center", frameon=False)
    figure.savefig(FIGURE, metadata={"Date": None})


def _read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _machine(facts: dict[str, Any]) -> str:
    return f"{facts['cores']} cores, jax {facts['jax']}, load {facts['load']}"


def _number(x: float | None) -> str:
    if x is None:
        return ""
    return f"{x:.2g}" if abs(x) < 10 else f"{x:.0f}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) + ("---:",) * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
