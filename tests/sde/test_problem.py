"""EventSDE: what its functions close over is differentiated; the uniforms of its transitions, in single precision."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs


class Pull(eqx.Module):
    """A drift with parameters of its own, and something that is no array."""

    rate: jax.Array
    name: str = "pull"

    def __call__(self, t, y, args):
        return self.rate * (1.5 - y)


def end(system, args=None, gradient=None):
    """Something that looks at the events and at the end."""
    sol = rs.solve(system, t0=0.0, t1=2.0, num_steps=20, y0=jnp.zeros(1), args=args, max_events=4, gradient=gradient)
    return jnp.sum(sol.event_times[:2]) + sol.y1[0] ** 2


def by_args(p):
    return end(
        rs.EventSDE(
            lambda t, y, p: p[0] * (1.5 - y),
            event=lambda t, y, p: y - p[1],
            transition=lambda t, y, kind, u, p: y - p[2],
        ),
        p,
    )


@pytest.mark.parametrize("gradient", [rs.Direct(), rs.Forward(), rs.Adjoint()], ids=["direct", "forward", "adjoint"])
def test_what_functions_close_over_is_differentiated(gradient):
    """The same derivative as through args: a module's parameter, and arrays in closures of event and transition."""

    def closed(p):
        system = rs.EventSDE(
            Pull(p[0]), event=lambda t, y, args: y - p[1], transition=lambda t, y, kind, u, args: y - p[2]
        )
        return end(system, gradient=gradient)

    p = jnp.array([2.0, 1.0, 0.8])
    np.testing.assert_allclose(jax.jit(jax.grad(closed))(p), jax.jit(jax.grad(by_args))(p), rtol=1e-12)
    found = eqx.filter_grad(lambda drift: end(rs.EventSDE(drift), gradient=gradient))(Pull(jnp.asarray(2.0)))
    assert np.isfinite(found.rate) and float(found.rate) != 0


@pytest.mark.plain
def test_uniforms_in_single_precision():
    """On (0, 1), of the state's type, uniform, different for every event and kind; more room repeats the same run."""
    two = rs.EventSDE(
        lambda t, y, args: {"clock": jnp.ones(2), "seen": jnp.zeros(2)},
        event=lambda t, y, args: y["clock"] - jnp.array([0.01, 0.02]),
        transition=lambda t, y, kind, u, args: {
            "clock": jnp.where(jnp.arange(2) == kind, 0.0, y["clock"]),
            "seen": u,
        },
        num_uniforms=2,
    )
    y0 = {"clock": jnp.zeros(2), "seen": jnp.zeros(2)}
    run = lambda room: rs.solve(two, t0=0.0, t1=1.0, num_steps=50, y0=y0, key=jr.key(5), max_events=room)  # noqa: E731
    sol, more = run(160), run(200)
    number = int(sol.num_events)
    u = np.asarray(sol.event_states["seen"][:number, 1])
    assert bool(sol.result.ok) and number > 140 and u.dtype == np.float32
    assert np.all((u > 0) & (u < 1)) and len(np.unique(u)) == u.size
    np.testing.assert_array_equal(u, more.event_states["seen"][:number, 1])
    from scipy.stats import kstest

    assert kstest(u.ravel(), "uniform").pvalue > 1e-3  # 290 numbers and more, fixed key
