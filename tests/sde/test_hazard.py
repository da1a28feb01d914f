"""Hazards: exact Poisson and Cox processes, first passages with analytic laws, derivatives, systems with own events.

Laws by Kolmogorov-Smirnov at the stated sizes, level 0.001, fixed keys.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg
import scipy.stats as st

import roughspike as rs
from roughspike.sde.hazard import HazardState

LEVEL = 1e-3


def still(t, y, args):
    del t, args
    return jnp.zeros_like(y)


def paths(model, y0, num, key=0, **options):
    """`num` independent solutions."""

    @jax.jit
    @jax.vmap
    def one(key):
        start, run = jr.split(key)
        sol = rs.solve(model, t0=0.0, y0=model.start(jnp.asarray(y0), start), key=run, **options)
        return sol.event_times, sol.event_kinds, sol.num_events, sol.y1.y, sol.result

    times, kinds, counts, y1, result = one(jr.split(jr.key(key), num))
    assert result.ok, result.messages()
    return np.asarray(times), np.asarray(kinds), np.asarray(counts), np.asarray(y1)


@pytest.fixture(scope="module")
def three():
    """1500 paths on [0, 5] of rates 3, 4 with alpha 0.6, and 1 + t, in one system: per hazard the times, padded."""
    model = rs.hazard(
        still, lambda t, y, args: jnp.stack([3.0, 4.0, 1.0 + t]), alpha=jnp.array([0.0, 0.6, 0.0]), transition=None
    )
    with jax.enable_x64(True):
        times, kinds, *_ = paths(model, [0.0], 1500, t1=5.0, num_steps=20, max_events=90)
    return [np.sort(np.where(kinds == k, times, np.inf)) for k in range(3)]


def gaps_of(times):
    """Three per path; that the window holds fewer has a probability of 4e-5."""
    return np.diff(np.c_[np.zeros(len(times)), times[:, :3]])


def test_a_constant_rate_is_a_poisson_process(three):
    times = three[0]
    seen = np.bincount(np.isfinite(times).sum(1), minlength=60)
    expected = 1500 * st.poisson(15.0).pmf(np.arange(len(seen)))
    keep = expected > 5
    assert st.chisquare(seen[keep], expected[keep] * seen[keep].sum() / expected[keep].sum()).pvalue > LEVEL
    assert st.kstest(times[np.isfinite(times)], st.uniform(0, 5).cdf).pvalue > LEVEL  # 22,500 times
    gaps = gaps_of(times)
    assert st.kstest(np.ravel(gaps), st.expon(scale=1 / 3).cdf).pvalue > LEVEL  # 4500
    assert abs(np.corrcoef(gaps[:, 0], gaps[:, 1])[0, 1]) < 3.3 / np.sqrt(1500)


def test_thresholds_within_rounding_of_zero_count_too():
    """Float32 and 40 events a step: log u is as near to 0 as rounding of the hazard in one event of 3000."""
    model = rs.hazard(still, lambda t, y, args: 40.0)
    *_, counts, _ = paths(model, np.zeros(1, np.float32), 64, t1=8.0, num_steps=8, max_events=450)
    assert abs(counts.sum() - 64 * 320) < 3.3 * np.sqrt(64 * 320)  # one that never fires again would lose dozens


def test_alpha_is_a_hazard_to_exceed_first(three):
    assert st.kstest(np.ravel(gaps_of(three[1])), st.expon(loc=0.6 / 4, scale=1 / 4).cdf).pvalue > LEVEL


def test_a_rate_that_depends_on_time(three):
    """Rate 1 + t: P(T > t) = exp(-t - t^2 / 2)."""
    assert st.kstest(three[2][:, 0], lambda t: 1 - np.exp(-t - t**2 / 2)).pvalue > LEVEL


def test_hazards_are_independent_of_each_other(three):
    first = np.stack([times[:, 0] for times in three])
    assert np.max(np.abs(np.corrcoef(first) - np.eye(3))) < 3.3 / np.sqrt(1500)


def test_a_cox_process_driven_by_brownian_motion():
    """Rate B^2 / 2: P(T > t) = E exp(-int B^2 / 2) = cosh(t)^(-1/2), the formula of Cameron and Martin."""
    noisy = rs.EventSDE(still, lambda t, y, args: jnp.ones((1, 1)))
    model = rs.hazard(noisy, lambda t, y, args: 0.5 * y[0] ** 2)
    options = {"t1": 3.0, "num_steps": 150, "max_events": 200, "driver": rs.BrownianPath(1)}
    times, *_ = paths(model, [0.0], 2000, **options)
    first = np.minimum(times[:, 0], 3.0)  # censored: the law agrees below 3
    survival = lambda t: np.cosh(t) ** -0.5  # noqa: E731
    assert abs(np.mean(first == 3.0) - survival(3.0)) < 3.3 * np.sqrt(survival(3.0) / 2000)
    below = first[first < 3.0]
    assert st.kstest(below, lambda t: (1 - survival(t)) / (1 - survival(3.0))).pvalue > LEVEL


ON, OFF, MAKE = 2.0, 3.0, 6.0


def promoter():
    """State (gene on?, transcripts); hazards: switch on, switch off, transcribe while on."""
    return rs.hazard(
        still,
        rate=lambda t, y, args: jnp.stack([ON * (1 - y[0]), OFF * y[0], MAKE * y[0]]),
        alpha=jnp.zeros(3),
        transition=lambda t, y, kind, u, args: jnp.stack(
            [jnp.where(kind == 0, 1.0, jnp.where(kind == 1, 0.0, y[0])), y[1] + jnp.where(kind == 2, 1.0, 0.0)]
        ),
    )


@pytest.fixture(scope="module")
def transcripts():
    with jax.enable_x64(True):
        return paths(promoter(), [0.0, 0.0], 2000, t1=4.0, num_steps=2, max_events=70)


def test_first_transcript_of_a_telegraph_promoter(transcripts):
    """From off: P(T > t) = (1, 0) exp(Q t) (1, 1)', Q the generator without the transcription."""
    times, kinds, *_ = transcripts
    first = np.where(kinds == 2, times, np.inf).min(1)
    generator = np.array([[-ON, ON], [OFF, -OFF - MAKE]])
    grid = np.linspace(0, 4, 401)
    survival = np.array([scipy.linalg.expm(generator * t)[0].sum() for t in grid])
    assert abs(np.mean(np.isinf(first)) - survival[-1]) < 3.3 * np.sqrt(survival[-1] / 2000)
    conditional = lambda t: np.interp(t, grid, (1 - survival) / (1 - survival[-1]))  # noqa: E731
    assert st.kstest(first[np.isfinite(first)], conditional).pvalue > LEVEL


def test_mean_and_variance_of_transcripts(transcripts):
    """Mean from the mean time that the gene is on; the Fano factor of bursts exceeds that of a Poisson process."""
    count, t = transcripts[3][:, 1], 4.0
    total, share = ON + OFF, ON / (ON + OFF)
    mean = MAKE * share * (t - (1 - np.exp(-total * t)) / total)
    assert abs(count.mean() - mean) < 3.3 * count.std() / np.sqrt(2000)
    assert count.var() > 1.5 * mean


def test_bursts_of_protein_are_gamma_distributed():
    """Bursts at rate k of exponential size b, decay 1: stationary Gamma(k, b); from 0 after 8 lifetimes."""
    model = rs.hazard(
        lambda t, y, args: -y,
        rate=lambda t, y, args: 2.5,
        transition=lambda t, y, kind, u, args: y - 1.5 * jnp.log(u),
        num_uniforms=1,
    )
    *_, y1 = paths(model, [0.0], 2000, t1=8.0, num_steps=80, max_events=60)
    assert st.kstest(y1[:, 0], st.gamma(2.5, scale=1.5).cdf).pvalue > LEVEL


def leaky(args):
    """An own event (threshold at 2, reset) and a hazard that kicks; noise in y."""
    base = rs.EventSDE(
        drift=lambda t, y, args: args[0] * (1.0 + t - y),
        event=lambda t, y, args: y - 2.0,
        transition=lambda t, y, kind, u, args: y - 1.0 - 0.1 * u,
        num_uniforms=1,
    )
    return rs.hazard(base, lambda t, y, args: jnp.exp(args[1] * (y[0] - 1.0)), args[2], kick, num_uniforms=2)


def kick(t, y, kind, u, args):
    return y + 0.3 * u[:1] - 0.1 * u[1:] * args[0]


def run(args, gradient=None):
    model = leaky(args)
    start = HazardState(jnp.zeros(1), model.start(jnp.zeros(1), jr.key(2)).s)
    return rs.solve(model, t0=0.0, t1=3.0, num_steps=60, y0=start, args=args, key=jr.key(5), gradient=gradient)


def test_own_events_come_first_and_both_kinds_happen():
    sol = run(jnp.array([2.0, 1.0, 0.2]))
    kinds = np.asarray(sol.event_kinds[: int(sol.num_events)])
    assert {0, 1} == set(kinds.tolist()) and bool(sol.result.ok)
    before, after = (np.asarray(sol.event_states.s)[: len(kinds), k, 0] for k in (0, 1))
    np.testing.assert_allclose(before[kinds == 1], 0.0, atol=1e-12)
    np.testing.assert_array_equal(before[kinds == 0], after[kinds == 0])
    assert np.all(after[kinds == 1] < -0.2)


@pytest.mark.parametrize("method", [rs.Direct(), rs.Adjoint()], ids=["direct", "adjoint"])
def test_derivatives_of_times_and_end(method):
    """In the rate's steepness, alpha (through start and after-event thresholds) and the drift."""

    def loss(args):
        sol = run(args, method)
        count = 5
        return jnp.sum(jnp.cos(sol.event_times[:count])) + sol.y1.y[0] ** 2 + 0.3 * sol.y1.s[0]

    both, point = jax.jit(jax.value_and_grad(loss)), jnp.array([2.0, 1.0, 0.2])
    gradient = both(point)[1]
    for k in range(3):
        up, down = (both(point.at[k].add(s * 1e-6))[0] for s in (1, -1))
        np.testing.assert_allclose(gradient[k], (up - down) / 2e-6, rtol=1e-6)
        assert gradient[k] != 0


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="alpha must be a scalar or one per hazard, not negative"):
        rs.hazard(still, lambda t, y, args: 1.0, alpha=-1.0)
    two = rs.hazard(still, lambda t, y, args: jnp.ones(2))
    with pytest.raises(ValueError, match=r"rate has shape \(2,\) and alpha \(1,\): pass one alpha per hazard"):
        rs.solve(two, t0=0.0, t1=1.0, dt=0.1, y0=two.start(jnp.ones(1), jr.key(0)), key=jr.key(1))
