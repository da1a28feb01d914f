"""Neurons that spike, taken by themselves: the step and its transpose are those of all neurons at once."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from coupled_tools import relative_gap
from lane_tools import QUICK

import roughspike as rs
from roughspike.networks.few import over_few
from roughspike.networks.kinds import Escape, Threshold
from roughspike.networks.step import State, coefficients, settings
from roughspike.networks.threshold import Membrane, threshold_coefficients

SHAPE, H = (30, 20), 0.05


@pytest.mark.parametrize(("shape", "room"), [((7, 30), 16), ((50, 61), 200)])
def test_every_lane_is_taken_once(shape, room):
    """Both ways to find the words; many lanes, one, none, all."""
    where = np.random.default_rng(0).random(shape) < 0.3

    @jax.jit
    def count(where):
        return over_few(where, room, lambda some, n: some.add(n, some.place + 1), jnp.zeros(where.shape, jnp.int32))

    numbers = np.arange(where.size).reshape(shape) + 1
    for some in (where, numbers == 33, np.zeros_like(where), np.ones_like(where), where & (numbers > where.size // 2)):
        np.testing.assert_array_equal(count(some), np.where(some, numbers, 0))
    assert where.sum() > 3 * room


@pytest.mark.parametrize("lean", [True, False])
def test_step_and_pull(lean):
    rng = np.random.default_rng(1)
    draw = lambda low, high: jnp.asarray(rng.uniform(low, high, SHAPE))  # noqa: E731
    neuron = rs.SLIF(
        (6.0, 5.0), ((0.25, 0.05), (0.1, 0.25)), v_reset=1.2, alpha=0.03, refractory=0.08, self_weight=-0.2
    )
    slots = 2 if lean else 1
    static = settings(H, rs.LinearDriver(), neuron.reset.keep, slots, jnp.float64)
    rest = jnp.maximum(draw(-0.3, 0.06), 0.0)
    state = State(draw(0.2, 1.3), draw(0.0, 2.0), draw(-1.0, -1e-3), rest)
    arrived, drive = tuple(draw(-0.1, 0.1) for _ in range(3)), (draw(0.0, 0.3), draw(0.0, 0.5))
    normals = jnp.asarray(rng.standard_normal((2, *SHAPE)))
    log_u, p = draw(-1.0, -0.01), State(*(draw(-1.0, 1.0) for _ in range(4)))
    on_known = tuple(draw(-1.0, 1.0) for _ in range(slots))

    @functools.partial(jax.jit, compiler_options=QUICK)
    def both(co):
        found = []
        for room in (0, 24):
            kind = Escape(static, room)
            upcoming = lambda slot, some=None: log_u if some is None else log_u.reshape(-1)[some]  # noqa: E731
            out = kind.step(co, state, arrived, drive, normals, upcoming, lean)
            on = [jnp.where(x >= 0, g, 0.0) for x, g in zip(out.fractions, on_known, strict=True)]
            found.append((out, kind.pull(co, out.kept, out.fractions, p, on, drive, normals, lean)))
        return found

    one, few = both(coefficients(neuron, H, rs.LinearDriver()))
    assert (one[0].fractions[0] >= 0).sum() > 2 * 24
    assert relative_gap(few[0], one[0]) < 1e-12
    assert relative_gap(few[1], one[1]) < 1e-11


def test_hard_threshold():
    """Two slots, neurons with one spike, two, none, and others overdue."""
    rng = np.random.default_rng(2)
    draw = lambda low, high: jnp.asarray(rng.uniform(low, high, SHAPE))  # noqa: E731
    state, arrived, current = (
        Membrane(draw(-0.5, 1.02), draw(0.0, 8.0)),
        (draw(0.0, 0.2), draw(0.0, 0.2)),
        draw(0.0, 1.0),
    )
    p, on_known = Membrane(draw(-1.0, 1.0), draw(-1.0, 1.0)), (draw(-1.0, 1.0), draw(-1.0, 1.0))

    @functools.partial(jax.jit, compiler_options=QUICK)
    def both(co):
        found = []
        for room in (0, 24):
            kind = Threshold(2, room)
            out = kind.step(co, state, arrived, (current, None), None, None, True)
            on = [jnp.where(x >= 0, g, 0.0) for x, g in zip(out.fractions, on_known, strict=True)]
            found.append((out, kind.pull(co, out.kept, out.fractions, p, on, (current, None), None, True)))
        return found

    one, few = both(threshold_coefficients(rs.LIF(1 / 6, 1 / 5, v_reset=0.7), 0.1))
    spikes = [int((x >= 0).sum()) for x in one[0].fractions]
    assert spikes[0] > 3 * 24 and spikes[1] > 10 and spikes[0] < 500
    assert relative_gap(few, one) < 1e-12
