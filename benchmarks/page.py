"""Write docs/how-fast.md and its figure from the JSON files in benchmarks/results: the page has no other numbers.

python benchmarks/page.py
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "how-fast.md"
LAYERED_MEMORY = """\
`checkpoint=True` runs blocks of about sqrt(steps) steps again in the backward pass. 5-120-3, batch of 150:

{table}

"""
PEERS = """\
## Libraries of exact event-based gradients

5-120-3 with hard thresholds and one spike per neuron, loss and gradient for a batch of 150, on the same weights and
inputs, all in one process ({machine}; `benchmarks/peers.py`). jaxsnn runs EventProp from event to event; its room
for events is fixed, and one that is too small changes loss and gradient without a word. eventax integrates by Euler
with our step. Neither has noise.

{table}

"""
RECURRENT = """\
## Recurrent networks

Zero delay, every spike in its order, noise in v and i drawn in the run, float32, {samples} samples (4 of the largest),
{ordered_machine} (`benchmarks/ordered.py`); the first is the network of Fig. 2 of Holberg & Salvi as one recurrent
network. Compiling is of the gradient in the weights.

{ordered}

{training}

With delays of 1.5 ms, 100 synapses per neuron, steps of 0.1 ms, escape rate and noise, one sample, no spike lost,
{delayed_machine} (`benchmarks/delayed.py`). The gradient is that of a loss of all first spikes in all weights and the
delay.

{delayed}

{nest}

"""
_SHOWN = {
    "layered": ("inputs", "neurons", "spikes", "steps", "samples"),
    "ordered": ("neurons", "steps", "samples"),
    "delayed": ("neurons", "synapses", "steps", "samples"),
}
FIGURE = PAGE.parent / "images" / "growth.svg"

TEXT = """\
# How fast, and why

<!-- written by benchmarks/page.py from benchmarks/results/*.json: change those -->

Process CPU time, the least of several repeats after warm-up; what is compared was run in one process. The machine was
shared, so compare within a table, and take no single number to better than a third. Reproduce with
`python benchmarks/<name>.py`.

## One noisy neuron: the workload of Fig. 1

128 samples, 500 steps, float32, {fig1_machine}. roughspike draws its noise inside the measured call and simulates all
spikes, about 21 a sample. The *published algorithm*, written on plain diffrax, restarts the solver at every spike of
the batch with a virtual Brownian tree, and stops after three spikes. The *lean scan* is what a careful user would write
by hand: explicit Euler, one spike a step, biased by 5e-3 in the first spike time where roughspike has some 1e-5. First
calls are wall time{fig1_first}.

{fig1}

At the start of training, where samples spike rarely and the published algorithm has to integrate to the end, the
gradient of the signature loss costs it {early_published:.0f} ms and roughspike {early_ours:.1f} ms: {early_ratio:.0f}
times. At the parameters that generated the data the ratio is {late_ratio:.0f}.

## Many neurons

Nanoseconds per neuron and step, noise included. Many lanes run in blocks of samples, one block after the other: of at
most 4,096 lanes where nothing is differentiated, so that a block stays in the cache and a run of any size needs the
memory of one block; of at most 32,768 where the backward pass keeps something of every lane.

{lanes}

## Memory

Temporary memory of the gradient of 128 samples. `simulate(..., checkpoint=True)` keeps the state at about sqrt(steps)
times and runs the steps between them again; its numbers are the same.

{memory}

## Layers: a training step beside one with surrogate gradients

Forward, backward and Adam, float32, against the fastest of four ways of writing the same network with surrogate
gradients, {layered_machine}{wide_load}.
Memory is that of the compiled program.

{layered}

Exact input spikes take two numbers per spike, that is two products with the input weights where rounded ones take one.
Where they are few, each is delivered by itself in place of both products: the input layer of 700 channels then costs
less than the surrogate's.

{layered_memory}{peers}{recurrent}## How cost grows

One quantity is changed at a time, the others stay ({growth_base}).
CPU time of a loss and its gradient in all weights, {growth_machine}{growth_note}. Spikes are, for
layered, those of an input channel, else those of the network in a sample, moved by the input current; synapses those
of one neuron. The exponent is that of a power law through the first and the last row: 1 is proportional.

![Cost of a gradient as one quantity grows](images/growth.svg)

{growth}

## Event SDEs in general

`rs.solve` against a scan by hand on a system without events, and against the restart algorithm on the neuron of Fig. 1
written as an `EventSDE`, 500 steps, {events_machine}.

{events}

## The signature kernel

Gram matrix of 64 by 64 trains of 50 spikes, two neurons, {kernel_machine}.

{kernel}

## Why

- *Noise once, on a grid.* Inside a step the path of the noise is smooth. No Brownian tree is walked, and nothing is
  restarted at a spike.
- *No solver where the flow is known.* Potential and current have an exact flow; the hazard of a step is a quadratic
  through three values, so a spike is the root of a cubic, found without an exponential.
- *All lanes go on.* A spike is handled inside the step of its own lane; no sample waits for another's event.
- *The adjoint is written by hand.* It keeps the potential, the synaptic current and the place of each spike, and runs
  each step once more with its spikes known. It is the exact derivative of what was computed, not of a limit.
- *Few lanes.* Where one neuron in twenty spikes in a step, only those are searched for a root: they are found in words
  of 24 bits, advanced together, and put back.
- *Nothing as long as the run.* A recurrent run that nobody differentiates draws its noise, and writes its spike times
  down, a few steps at a time, in the processor's cache.
- *One kernel per exponential.* A compiled scan on a CPU pays for each kernel it launches. The step is arranged so that
  values with many users are exponentials or quotients, which the compiler computes once, and so that everything else
  melts into them.

## What is not fast

- A first call compiles: seconds, see the tables. A persistent compilation cache of JAX removes it from the second
  process on.
- `parabola` steps cost one more normal; float64 costs two to four times float32.
- Under `vmap` a step that would be skipped because no neuron spikes twice in it is run.
"""


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
    figure, panels = plt.subplots(1, len(engines), figsize=(4.5 * len(engines), 3.4), squeeze=False)
    for engine, axes in zip(engines, panels[0], strict=True):
        for (of, factor), rows in sweeps.items():
            if of == engine:
                x = [r["value"] / rows[0]["value"] for r in rows]
                axes.loglog(x, [r["gradient_ms"] for r in rows], "o-", label=factor)
        axes.set(xlabel="times the smallest value", ylabel="loss and gradient, CPU ms", title=engine)
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
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
