"""Holberg & Salvi (2024), Fig. 2: the weights of a network, by its expected signature and by the likelihood.

All trains are seen. The published loss compares the law of all trains with that of simulations. The likelihood
takes the trains of a layer given the recorded ones of the layer before: no simulation, and each neuron by itself.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from roughspike.recipe.published.common import compiled
from roughspike.recipe.published.holberg2024_fig2_likelihood import layer_of, newton
from roughspike.recipe.published.holberg2024_fig2_model import Problem, draw, mean_error, problem, signature_loss
from roughspike.recipe.published.holberg2024_fig2_show import LIKELIHOOD, SHRUNK, SIGNATURE, figure, lines, verdicts
from roughspike.recipe.reproduce_context import Context, Row
from roughspike.recipe.reproduce_outcome import Outcome

_CHUNK = 25


def run(settings: dict[str, Any], context: Context) -> None:
    """The likelihood for all seeds and numbers of trials, then the slow published loss."""
    slow, judge = settings["signature"], _test_loss(settings)
    found = {seed: problem(settings, seed) for seed in context.seeds}
    cases = [(m, n, seed) for seed in found for n in settings["samples"] for m in (LIKELIHOOD, SHRUNK)]
    bar = context.progress(len(cases), "likelihood", "row")
    for m, n, seed in cases:
        make = functools.partial(_by_likelihood, settings, found[seed], n, m, judge)
        context.row(f"{m}-n{n}-seed{seed}", make)
        bar.update()
    bar.close()
    steps = context.length(slow["steps"])
    cases = [(seed, n) for seed in context.seeds[: slow["seeds"]] for n in slow["samples"]]
    bar = context.progress(len(cases) * steps, "expected signature")
    for seed, n in cases:
        make = functools.partial(_by_signature, settings, found[seed], n, steps, judge, bar)
        context.row(f"{SIGNATURE}-n{n}-seed{seed}", make)
    bar.close()


def show(settings: dict[str, Any], rows: dict[str, Row]) -> Outcome:
    """The table beside the published one; weights against the truth, and error against CPU seconds."""
    note = (
        "Error: mean |w - w_true| over all 96 synapses; hidden, output: of the 64 and the 32 onto these. r: "
        "correlation of estimated and true weights onto the hidden neurons. Test: the published loss of simulations of "
        "the fitted network against held-out trials, and that of the truth itself (ours is the mean over coordinates; "
        "the scale of the published one is not known: compare ratios). CPU seconds without compiling; MB: temporary, "
        "of a step. All methods see the same trains of all 22 neurons, and begin at the same weights. 'expected "
        "signature': the published loss and optimiser. 'likelihood': of each layer's trains given those of the layer "
        "before, exact for the neuron without its diffusion and its soft refractory threshold, which are left out (a "
        "model error that the figures contain); nothing else is known. 'likelihood, shrunk': the same times a normal "
        "law of the weights of a layer, whose mean and variance are found from the same trains (empirical Bayes): it "
        "uses that synapses of a layer are alike. 'flat': its error if each layer had one weight, the mean of its "
        "estimates."
    )
    return Outcome(lines(settings, rows), {"weights": figure(settings, rows)}, verdicts(settings, rows), note)


def _by_likelihood(settings: dict[str, Any], data: Problem, n: int, method: str, judge: Any) -> Row:
    """Both layers by Newton's method."""
    edges = np.cumsum([0, *settings["sizes"]])
    groups = [np.asarray(data.seen)[:n, a:b] for a, b in zip(edges, edges[1:], strict=False)]
    curves = []
    for k in (0, 1):
        layer = layer_of(settings, groups[k], groups[k + 1])
        curves.append(newton(settings, layer, data.start[k], n, shrink=method == SHRUNK))
    errors = [mean_error(w, data.truth) for w in zip(*(c.weights for c in curves), strict=True)]
    seconds = [a + b for a, b in zip(*(c.seconds for c in curves), strict=True)]
    megabytes = max(c.megabytes for c in curves)
    return _row(method, n, data, [c.weights[-1] for c in curves], errors, seconds, judge, megabytes)


def _by_signature(settings: dict[str, Any], data: Problem, n: int, steps: int, judge: Any, bar: Any) -> Row:
    """The published training."""
    own, t1 = settings["signature"], settings["grid"]["t1"]
    rate = optax.join_schedules([optax.constant_schedule(r) for r in own["rates"]], [own["lower"]])
    optimiser = optax.rmsprop(rate, decay=own["decay"], momentum=own["momentum"])

    def loss(weights: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        choice, key = jr.split(key)
        recorded = data.seen[jr.choice(choice, n, (own["batch"],), replace=False)]
        times, flags = draw(settings, weights, key, own["batch"])
        return signature_loss(times, recorded, t1, own["events"]), flags

    def one(carry: Any, key: jax.Array) -> Any:
        weights, state = carry
        slope, flags = jax.grad(loss, has_aux=True)(weights, key)
        update, state = optimiser.update(slope, state)
        return (optax.apply_updates(weights, update), state), jnp.any(flags)

    carry = data.start, optimiser.init(data.start)
    chunk = max(k for k in range(1, _CHUNK + 1) if steps % k == 0)
    keys = jr.split(jr.key(7), (steps // chunk, chunk))
    advance, _, megabytes = compiled(lambda carry, keys: jax.lax.scan(one, carry, keys), carry, keys[0])
    begin = time.process_time()
    errors, seconds, bad = [mean_error(data.start, data.truth)], [0.0], 0
    for some in keys:
        carry, flagged = advance(carry, some)
        errors.append(mean_error(carry[0], data.truth))
        seconds.append(time.process_time() - begin)
        bad += int(np.sum(flagged))
        bar.update(chunk)
    return _row(SIGNATURE, n, data, carry[0], errors, seconds, judge, megabytes) | {"flagged_steps": bad}


def _row(
    method: str, n: int, data: Problem, weights: Any, errors: Any, seconds: Any, judge: Any, megabytes: float
) -> Row:
    weights = [np.asarray(w) for w in weights]
    as_found = tuple(jnp.asarray(w, jnp.float32) for w in weights)
    return {
        "method": method,
        "n": n,
        "weights": weights,
        "truth": data.truth,
        "errors": errors,
        "seconds": seconds,
        "megabytes": megabytes,
        "test": judge(as_found, data.held_out),
        "test_truth": judge(data.truth, data.held_out),
        "test_start": judge(data.start, data.held_out),
    }


def _test_loss(settings: dict[str, Any]) -> Any:
    """Compiled (weights, held-out trains) -> the published loss of fresh simulations."""
    own, count, t1 = settings["signature"], settings["held_out"], settings["grid"]["t1"]

    @jax.jit
    def judge(weights: Any, held_out: jax.Array) -> jax.Array:
        times, _ = draw(settings, weights, jr.key(11), count)
        return signature_loss(times, held_out, t1, own["events"])

    return lambda weights, held_out: float(judge(weights, held_out))
