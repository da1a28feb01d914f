"""The scan of `step` over a grid of time, and its plain autodiff."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from roughspike._types import NOT_FINITE
from roughspike.networks.step import Coefficients, State, Static, step


class Scanned(NamedTuple):
    """What a scan leaves: per step the spike fractions (steps, slots, neurons, samples), running counts
    (steps, neurons, samples) and, if asked for, v at its end; the final state and the flags of each sample.
    """

    fractions: jax.Array
    counts: jax.Array
    membrane: jax.Array | None
    end: State
    flags: jax.Array


def scan_steps(
    static: Static,
    trace: bool,
    co: Coefficients,
    start: State,
    drive: tuple[jax.Array, jax.Array],
    normals: jax.Array,
    log_u: jax.Array,
) -> Scanned:
    """Scan `step`, differentiable by JAX in either mode; each step is recomputed in the backward pass.

    `drive`: two arrays (neurons, 1), or (steps, neurons, 1) if the input changes in time.
    """
    body = jax.checkpoint(step_body(static, co, drive, log_u, keep=()), prevent_cse=False)
    return run_scan(body, trace, start, drive, normals)[0]


def run_scan(
    body: Callable[..., Any],
    trace: bool,
    start: State,
    drive: tuple[jax.Array, jax.Array],
    normals: jax.Array,
    count: jax.Array | None = None,
) -> tuple[Scanned, dict[str, jax.Array]]:
    """Run a body made by `step_body`; also returns what it kept of the states at the start of every step.

    `count`: how many spikes there were before.
    """
    zero = jnp.zeros(start.v.shape, jnp.int32)
    inputs = (normals, drive if drive[0].ndim == 3 else None)
    (end, _, flags), (fractions, counts, membrane, kept) = jax.lax.scan(
        body, (start, zero if count is None else count, zero), inputs
    )
    flags = flags | jnp.where(jnp.isfinite(end.v + end.i + end.s), 0, NOT_FINITE).astype(jnp.int32)  # it stays so
    return Scanned(fractions, counts, membrane if trace else None, end, flags), kept


def step_body(
    static: Static,
    co: Coefficients,
    drive: tuple[jax.Array, jax.Array],
    log_u: jax.Array,
    keep: tuple[str, ...],
) -> Callable[..., Any]:
    """The body of the scan. `keep`: names of the states whose value at the start of each step is returned."""
    last = log_u.shape[0] - 1

    def body(carry, inputs):
        state, count, flags = carry
        normal, changing = inputs

        def upcoming(slot: int) -> jax.Array:
            interval = jnp.minimum(count + slot + 1, last)[None]
            return jnp.take_along_axis(log_u, interval, axis=0, mode="promise_in_bounds")[0]

        out = step(co, static, state, drive if changing is None else changing, tuple(normal), upcoming)
        count = count + sum((r >= 0).astype(jnp.int32) for r in out.fractions)
        kept = {name: getattr(state, name) for name in keep}
        return (out.state, count, flags | out.flags), (jnp.stack(out.fractions), count, out.state.v, kept)

    return body
