"""A recurrent network of four stochastic neurons, against a plain NumPy simulation of the same discretisation."""

from __future__ import annotations

import functools

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from event_systems import METHODS, central_differences, relative_error

import roughspike as rs
from roughspike.paths.realised import AbstractPath, continuous
from roughspike.paths.uniform import open_uniform

K, T, STEPS, EVENTS = 4, 2.5, 50, 48
BETA, TAU_S = 5.0, 1.0


class Given(AbstractPath):
    """A driver with known increments."""

    increments: jax.Array

    @property
    def rough(self):
        return (True,) * self.increments.shape[1]

    def realise(self, key, t0, t1, num_steps, dtype):
        return continuous(self.increments)


def drift(t, y, p):
    v, i, _ = y
    rate = jnp.exp(BETA * (v - p["v_th"])) / TAU_S
    return jnp.stack([p["mu1"] * (i + p["c"] - v), -p["mu2"] * i, rate])


def diffusion(t, y, p):
    """Each neuron has two channels of its own: (3, K, 2 K)."""
    own = jnp.eye(K)
    rows = [
        p["sigma"][a, 0] * jnp.concatenate([own, 0 * own], 1) + p["sigma"][a, 1] * jnp.concatenate([0 * own, own], 1)
        for a in range(2)
    ]
    return jnp.stack([*rows, jnp.zeros((K, 2 * K))])


def transition(t, y, k, u, p):
    v, i, s = y
    mine = jnp.arange(K, dtype=jnp.int32) == k
    threshold = jnp.log(u[0]) - p["alpha"]
    return jnp.stack([v - jnp.where(mine, p["v_reset"], 0.0), i + p["w"][k], jnp.where(mine, threshold, s)])


NETWORK = rs.EventSDE(drift, diffusion, lambda t, y, p: y[2], transition, num_uniforms=1)


@functools.cache
def setting():
    r = np.random.default_rng(0)
    p = {
        "w": r.uniform(0.2, 0.8, (K, K)) * r.choice([1, -1, -0.5], (K, K)),
        "c": r.uniform(1.2, 1.6, K),
        "mu1": 6.0,
        "mu2": 5.0,
        "sigma": np.array([[0.25, 0.05], [0.0, 0.25]]),
        "v_reset": 1.2,
        "alpha": 0.03,
        "v_th": 1.0,
    }
    y0 = np.stack([0.6 + 0.1 * r.standard_normal(K), np.full(K, 0.3), np.log(r.uniform(0.05, 1, K))])
    noise = np.sqrt(T / STEPS) * r.standard_normal((STEPS, 2 * K))
    return jax.tree.map(jnp.asarray, (p, y0, noise))


def uniforms(key):
    """What the solver gives event m of kind k: [m, k]."""
    keys = jax.vmap(lambda m: jr.fold_in(key, m))(jnp.arange(EVENTS, dtype=jnp.int32))
    return jax.vmap(lambda k: open_uniform(k, (K, 1), jnp.float64))(keys)[..., 0]


def simulate(p, y, noise, u):
    """NumPy: Heun on pieces, bisection for the earliest event, one event at a time."""
    p = {name: np.asarray(x) for name, x in p.items()}
    y, noise, h = np.array(y), np.asarray(noise), T / STEPS
    counts, events = np.zeros(K, int), []

    def slope(y, z):
        v, i, _ = y
        kick = np.stack([*(p["sigma"] @ z.reshape(2, K)), np.zeros(K)]) / h
        flow = np.stack([p["mu1"] * (i + p["c"] - v), -p["mu2"] * i, np.exp(BETA * (v - p["v_th"])) / TAU_S])
        return flow + kick

    def heun(y, d, z):
        k1 = slope(y, z)
        return y + d / 2 * (k1 + slope(y + d * k1, z))

    for n, z in enumerate(noise):
        left = h
        while True:
            end = heun(y, left, z)
            if not np.any(end[2] >= 0):
                break
            low, high = 0.0, left
            for _ in range(80):
                middle = (low + high) / 2
                low, high = (low, middle) if np.any(heun(y, middle, z)[2] >= 0) else (middle, high)
            before = heun(y, high, z)
            k = int(np.argmax(before[2] >= 0))
            left -= high
            y = before.copy()
            y[0, k] -= p["v_reset"]
            y[1] += p["w"][k]
            y[2, k] = np.log(u[counts[k], k]) - p["alpha"]
            counts[k] += 1
            events.append(((n + 1) * h - left, k, before, y.copy()))
        y = end
    return events, y


def solution(point, method="direct"):
    p, y0, noise = point
    return rs.solve(
        NETWORK,
        t0=0.0,
        t1=T,
        num_steps=STEPS,
        y0=y0,
        args=p,
        driver=Given(noise),
        key=jr.key(3),
        solver=diffrax.Heun(),
        gradient=METHODS[method],
        max_events=EVENTS,
        save_at=jnp.linspace(0.0, T, 11)[1:],  # on the grid: a save time inside a step cuts it
    )


def test_path_by_path():
    p, y0, noise = setting()
    sol = jax.jit(solution)(setting())
    events, y1 = simulate(p, y0, noise, np.asarray(uniforms(jr.split(jr.key(3))[1])))
    n = len(events)
    assert 25 <= n <= 50 and int(sol.num_events) == n and bool(sol.result.ok)
    assert [int(k) for k in sol.event_kinds[:n]] == [e[1] for e in events]
    np.testing.assert_allclose(sol.event_times[:n], [e[0] for e in events], atol=1e-12)
    np.testing.assert_allclose(sol.event_states[:n, 0], [e[2] for e in events], atol=1e-11)
    np.testing.assert_allclose(sol.event_states[:n, 1], [e[3] for e in events], atol=1e-11)
    np.testing.assert_allclose(sol.y1, y1, atol=1e-11)
    np.testing.assert_allclose(sol.ys[-1], y1, atol=1e-11)


def loss(point, method):
    """Spike times, potentials at spikes, and a running loss."""
    sol = solution(point, method)
    fired = jnp.isfinite(sol.event_times)
    weights = jnp.cos(1.3 * jnp.arange(1.0 * EVENTS) + 0.4)
    of_times = jnp.sum(jnp.where(fired, weights * jnp.sin(jnp.where(fired, sol.event_times, 0.0)), 0.0))
    of_states = 0.1 * jnp.sum(jnp.tanh(sol.event_states[:, 0, 0])) + 0.7 * jnp.sum(jnp.tanh(sol.y1[0]))
    return of_times + of_states + 0.1 * jnp.sum(sol.ys[:, :2] ** 2)


@functools.cache
def differences():
    value = jax.jit(lambda point: loss(point, "direct"))
    p, y0, noise = setting()
    few = jnp.asarray(np.asarray(noise)[:2])
    rest = noise[2:]
    found = central_differences(lambda x: value((x[0], x[1], jnp.concatenate([x[2], rest]))), (p, y0, few))
    return found


@pytest.mark.parametrize("method", ["direct", "adjoint"])
def test_all_parameters_and_the_noise(method):
    on_p, on_y0, on_noise = jax.jit(jax.grad(lambda point: loss(point, method)))(setting())
    assert relative_error((on_p, on_y0, on_noise[:2]), differences()) < 1e-6


def test_forward_in_a_few_parameters():
    """Parameters, and initial state; the increments would be one column each."""
    p, y0, noise = setting()
    found = jax.jit(jax.grad(lambda x: loss((x[0], x[1], noise), "forward")))((p, y0))
    assert relative_error(found, differences()[:2]) < 1e-6
