"""Drivers in law, by Kolmogorov-Smirnov at stated sizes and fixed keys, and their pathwise derivatives.

Every test of a law fails by chance with probability 0.001 for a key drawn at random; the keys are fixed.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special as sp
import scipy.stats as st

import roughspike as rs

F64, LEVEL = jnp.float64, 1e-3


def draws(driver, num, steps=4, t1=1.0):
    return jax.jit(jax.vmap(lambda k: driver.realise(k, 0.0, t1, steps, F64)))(jr.split(jr.key(11), num))


def end(path):
    assert not np.any(path.overflow)
    return np.asarray(path.increments.sum((1, 2)) + path.jump_sizes.sum((1, 2)))


def test_brownian_increments_and_areas():
    path = draws(rs.BrownianPath(2, areas=True), 1000, steps=5, t1=2.0)
    assert st.kstest(np.ravel(path.increments), st.norm(scale=np.sqrt(0.4)).cdf).pvalue > LEVEL  # 10,000 values
    assert st.kstest(np.ravel(path.areas), st.norm(scale=np.sqrt(0.4 / 12)).cdf).pvalue > LEVEL
    values = np.concatenate([np.asarray(path.increments), np.asarray(path.areas)], axis=2).reshape(1000, -1)
    correlations = np.corrcoef(values.T)[np.triu_indices(20, 1)]
    assert np.max(np.abs(correlations)) < 4.5 / np.sqrt(1000)  # 190 of them


def test_poisson_counts_and_times():
    path = draws(rs.PoissonPath([3.0, 8.0], max_jumps=40), 4000)
    counts = np.asarray(path.jump_sizes.sum(1))
    for channel, rate in enumerate((3.0, 8.0)):
        seen = np.bincount(counts[:, channel].astype(int), minlength=20)[:20]
        expected = 4000 * st.poisson(rate).pmf(np.arange(20))
        keep = expected > 5
        seen, expected = seen[keep], expected[keep]
        assert st.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > LEVEL
    assert abs(np.corrcoef(counts.T)[0, 1]) < 3.3 / np.sqrt(4000)
    times = np.asarray(path.jump_times)
    assert st.kstest(times[np.isfinite(times)], st.uniform().cdf).pvalue > LEVEL  # given their number: uniform


def test_compound_poisson_sizes():
    path = draws(rs.CompoundPoissonPath(5.0, jr.laplace, max_jumps=40), 2000)
    sizes = np.asarray(path.jump_sizes)[np.isfinite(path.jump_times)]
    assert sizes.size > 9000 and st.kstest(np.ravel(sizes), st.laplace().cdf).pvalue > LEVEL
    assert abs(np.corrcoef(np.ravel(sizes)[1:], np.ravel(sizes)[:-1])[0, 1]) < 3.3 / np.sqrt(9000)


@pytest.mark.parametrize(
    ("driver", "law"),
    [
        (lambda: rs.LevyPath.gamma(3.0, 2.0, cutoff=1e-3), lambda: st.gamma(3.0, scale=0.5)),
        (  # sub-ordinator of Brownian motion with drift 1 at level 1: inverse Gaussian of mean 1 and shape 2
            lambda: rs.LevyPath.tempered_stable(0.5, np.sqrt(1 / np.pi), 0.0, cutoff=1e-4, tempering=1.0),
            lambda: st.invgauss(0.5, scale=2.0),
        ),
        (
            lambda: rs.LevyPath.tempered_stable(1.5, 1.0, 1.0, cutoff=0.05, max_jumps=300),
            lambda: st.levy_stable(1.5, 0.0, scale=(2 * sp.gamma(-0.5) / 1.5 * np.cos(0.75 * np.pi)) ** (1 / 1.5)),
        ),
    ],
    ids=["gamma", "inverse-gaussian", "stable"],
)
def test_levy_processes(driver, law):
    assert st.kstest(end(draws(driver(), 1500)), law().cdf).pvalue > LEVEL


def test_quadrature_of_the_measure():
    gamma = rs.LevyPath.gamma(3.0, 2.0, cutoff=1e-2)
    np.testing.assert_allclose(gamma.jump_rate, 3 * sp.exp1(0.02), rtol=1e-6)
    lower = lambda k: 3 * sp.gamma(k) * sp.gammainc(k, 0.02) / 2.0**k  # integral of x^k nu up to the cutoff  # noqa: E731
    np.testing.assert_allclose(gamma.small_jump_error, lower(3) / lower(2), rtol=1e-4)
    assert float(gamma.small_jump_error) < 1e-2
    stable = rs.LevyPath.tempered_stable(1.8, 1.0, 2.0, cutoff=0.1, compensate_below=np.inf)
    np.testing.assert_allclose(stable.jump_rate, 3 / 1.8 * 0.1**-1.8, rtol=1e-5)


def test_compensation():
    """A martingale by `compensate_below=inf`; and 1 minus the mean of the jumps up to 1 for a one-sided measure."""
    c, a, lam = 0.4, 1.3, 1.0
    make = lambda level: rs.LevyPath.tempered_stable(a, c, 0.0, 0.02, lam, compensate_below=level)  # noqa: E731
    values = end(draws(make(np.inf), 4000))
    variance = c * sp.gamma(2 - a) * lam ** (a - 2)
    assert abs(values.mean()) < 3.3 * np.sqrt(variance / 4000)
    np.testing.assert_allclose(values.var(), variance, rtol=0.15)
    x = np.linspace(1.0, 60.0, 400001)
    beyond = np.trapezoid(c * x**-a * np.exp(-lam * x), x)
    shift = end(draws(make(1.0), 4000))[:3] - values[:3]
    np.testing.assert_allclose(shift, beyond, rtol=1e-3)


def value_of(path):
    """A smooth functional of everything that is drawn; the number of jumps does not enter by a cliff."""
    times = jnp.where(jnp.isfinite(path.jump_times), path.jump_times, 0.0)
    return jnp.sum(jnp.sin(times)[:, None] * path.jump_sizes**2) + jnp.sum(path.increments**2)


@pytest.mark.parametrize(
    ("make", "point"),
    [
        (lambda p: rs.PoissonPath(p), (2.0,)),
        (lambda p, q: rs.CompoundPoissonPath(p, lambda k: q * jr.exponential(k)), (4.0, 0.7)),
        (lambda p, q: rs.LevyPath.gamma(p, q, cutoff=0.05), (2.0, 1.5)),
        (lambda p, q: rs.LevyPath.tempered_stable(p, q, q, cutoff=0.3), (1.4, 0.6)),
        (lambda p, q: rs.PiecewisePath([0.2, p], [0.0, 1.0], jumps=[q, 2.0]), (0.61, 0.7)),
        (lambda p, q: rs.StackedPath(rs.PoissonPath(p), rs.PoissonPath(q)), (3.0, 2.0)),
    ],
)
def test_derivatives_against_differences(make, point):
    both = jax.value_and_grad(
        lambda *p: value_of(make(*p).realise(jr.key(5), 0.0, 1.0, 8, F64)), argnums=tuple(range(len(point)))
    )
    draw = jax.jit(both)
    exact = draw(*point)[1]
    for k, slope in enumerate(exact):
        up, down = (draw(*(x + s * 1e-6 * (j == k) for j, x in enumerate(point)))[0] for s in (1, -1))
        np.testing.assert_allclose(slope, (up - down) / 2e-6, rtol=2e-6, atol=1e-8)
