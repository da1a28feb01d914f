"""A Brownian path that is drawn step by step: the same run and derivative as with the path kept, and memory."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats as st
from event_systems import relative_error

import roughspike as rs
from roughspike.paths.realised import AbstractPath

LAZY = rs.BrownianPath(2, areas=True, lazy=True)
SPIKING = rs.EventSDE(
    lambda t, y, p: jnp.stack([p - y[0], jnp.exp(3.0 * (y[0] - 1.0))]),
    lambda t, y, p: jnp.array([[0.3, -0.15], [0.0, 0.0]]),
    event=lambda t, y, p: y[1:],
    transition=lambda t, y, kind, u, p: jnp.stack([y[0] - 0.5 * p, jnp.log(u[0])]),
    num_uniforms=1,
)


class Kept(AbstractPath):
    """The same path, all of it drawn before the run."""

    @property
    def rough(self):
        return LAZY.rough

    def realise(self, key, t0, t1, num_steps, dtype):
        return LAZY.realise(key, t0, t1, num_steps, dtype)


POINT = (1.4, 5.0)  # a parameter, and the end of the window, which scales the path


@functools.cache
def program(driver, gradient, steps=40, events=True):
    """Value, number of events and derivative in `POINT`, and temporary bytes."""
    sde = SPIKING if events else rs.EventSDE(SPIKING.drift, SPIKING.diffusion)

    def run(point):
        p, t1 = point
        options = {"t0": 0.0, "t1": t1, "num_steps": steps, "max_events": 12, "key": jr.key(3), "args": p}
        sol = rs.solve(sde, y0=jnp.array([0.5, -0.4]), driver=driver, gradient=gradient, **options)
        times = jnp.where(jnp.isfinite(sol.event_times), sol.event_times, 0.0)
        return jnp.sum(times**2) + jnp.sum(sol.y1**2), sol.num_events

    point = jax.tree.map(jnp.asarray, POINT)
    compiled = jax.jit(jax.value_and_grad(run, has_aux=True)).lower(point).compile()
    return compiled(point), compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("method", [rs.Direct(checkpoints=4), rs.Forward(), None], ids=["blocks", "forward", "calm"])
def test_it_is_the_same_run(method):
    """With events by two methods, against Direct with the path kept; and without events."""
    (lazy, count), on_lazy = program(LAZY, method or rs.Direct(), events=bool(method))[0]
    (kept, _), on_kept = program(Kept(), rs.Direct(), events=bool(method))[0]
    assert int(count) >= 2 or not method
    assert abs(float(lazy - kept)) < 1e-12 and relative_error(on_lazy, on_kept) < 1e-11


def test_memory_does_not_grow_with_the_steps():
    """Temporary bytes of the gradient by Forward: from 40 to 4000 steps, less than an eighth of the path is added."""
    few, many = (program(LAZY, rs.Forward(), n)[1] for n in (40, 4000))
    assert many < few + 4000 * 4 * 8 / 8


def test_its_law():
    """5000 steps of two channels: normal, uncorrelated, and uncorrelated with the areas."""
    path = LAZY.realise(jr.key(0), 0.0, 50.0, 5000, jnp.float64)
    rows = np.concatenate([path.increments / np.sqrt(0.01), path.areas / np.sqrt(0.01 / 12)], axis=1)
    for column in rows.T:
        assert st.kstest(column, st.norm.cdf).pvalue > 1e-3
    late = np.concatenate([rows[1:], rows[:-1]], axis=1)
    correlations = np.corrcoef(late.T) - np.eye(8)
    assert np.max(np.abs(correlations)) < 4.2 / np.sqrt(5000)  # 28 pairs
