"""Bases and links: sums over the past against their definition, whichever way they are computed."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import roughspike as rs
from roughspike.pointprocess.basis import Span

SPAN, EVENTS, REAL, NEURONS = Span(1.0, 41.0), 60, 55, 3
BASES = [
    rs.EpanechnikovBasis(centres=(0.0, 0.7, 10.0), width=1.0),
    rs.RaisedCosineBasis(centres=(0.3, 1.0, 5.0), width=0.8),
    rs.ExponentialBasis(tau=(0.5, 20.0)),
    rs.AlphaBasis(tau=(0.5, 2.0)),
]


@pytest.fixture(scope="module")
def events():
    rng = np.random.default_rng(0)
    times, marks = np.sort(rng.uniform(*SPAN, EVENTS)), rng.uniform(0, 1, (EVENTS, NEURONS))
    times[REAL:], marks[REAL:] = SPAN.stop, 0.0
    return times, marks


@pytest.mark.parametrize("basis", BASES, ids=lambda b: type(b).__name__)
def test_three_ways_to_sum_over_the_past(basis, events):
    times, marks = (jnp.asarray(x) for x in events)
    queries = jnp.asarray(np.random.default_rng(1).uniform(*SPAN, 40))

    def defined(at):
        return jnp.einsum("qek,ej->qkj", basis.values(at[:, None] - times[None, :]), marks)

    def step(past, now):
        row, x = now
        return basis.write(past, row, x[None]), basis.read(past, row)

    def append(history, now):
        time, x, happened = now
        return basis.add(history, time, x, happened, SPAN), basis.now(history, time, SPAN)

    def all_ways(times, marks, queries):
        start = basis.begin(EVENTS, 1, NEURONS, times.dtype)
        scanned = jax.lax.scan(step, start, (basis.rows(times, SPAN), marks))[1]
        # every event is announced and does not happen, then happens
        twice = (jnp.repeat(times, 2), jnp.repeat(marks, 2, 0), jnp.arange(2 * EVENTS) % 2 == 1)
        grown = jax.lax.scan(append, basis.empty(EVENTS, NEURONS, SPAN, times.dtype), twice)[1][::2]
        return basis.features(queries, times, marks, SPAN), scanned, grown

    found, scanned, grown = jax.jit(all_ways)(times, marks, queries)
    at_queries, at_events = defined(queries), defined(times)
    assert float(jnp.max(jnp.abs(at_queries))) > 0.5
    np.testing.assert_allclose(found, at_queries, atol=1e-12)
    np.testing.assert_allclose(scanned[:REAL], at_events[:REAL], atol=1e-12)
    np.testing.assert_allclose(grown[:REAL], at_events[:REAL], atol=1e-12)


@pytest.mark.plain
def test_rounding_does_not_grow_with_the_recording():
    """Float32, window 2000 times the width: running sums start anew in every block."""
    basis, span = rs.EpanechnikovBasis(centres=(1.0,), width=1.0), Span(0.0, 4000.0)
    times = np.sort(np.random.default_rng(0).uniform(0, 4000, 4000)).astype(np.float32)
    queries = jnp.asarray(times[3000:3100] + np.float32(0.25))
    found = jax.jit(lambda t: basis.features(queries, t, jnp.ones((4000, 1)), span))(jnp.asarray(times))
    wanted = basis.values(queries[:, None] - times[None]).sum(1)
    assert float(jnp.max(jnp.abs(found[..., 0] - wanted))) < 2e-4


@pytest.mark.parametrize(
    "link",
    [rs.SigmoidIntensity(5.0), rs.SigmoidIntensity(5.0, 0.3), rs.SoftplusIntensity(2.0), rs.ExponentialIntensity()],
)
def test_links(link):
    u = jnp.linspace(-30.0, 6.0, 19)
    np.testing.assert_allclose(jnp.exp(link.log_rate(u)), link.rate(u), rtol=1e-6)
    assert bool(jnp.all(jnp.diff(link.rate(jnp.linspace(-3.0, 6.0, 19))) > 0)) and bool(
        jnp.all(jnp.isfinite(link.log_rate(10 * u)))
    )
    if link.bound is not None:
        np.testing.assert_allclose(jnp.exp(link.log_rest(u)), 1 - link.rate(u) / link.bound, atol=1e-14)
        assert bool(jnp.all(link.rate(10 * u) <= link.bound))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: rs.EpanechnikovBasis(centres=(0.0,), width=0.0), "width must be greater than 0"),
        (lambda: rs.EpanechnikovBasis(centres=(-1.0,)), "a filter that ends before lag 0"),
        (lambda: rs.RaisedCosineBasis(centres=()), "at least one of them"),
        (lambda: rs.AlphaBasis(tau=(0.0,)), "tau must hold time constants greater than 0"),
        (lambda: rs.SigmoidIntensity(1.0, 2.0), "greater than floor"),
        (lambda: rs.SoftplusIntensity(-1.0), "amplitude must be greater than 0"),
    ],
)
def test_numbers_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()
