"""Marks, ties inside jit, kernels that would overflow, the RBF kernel, and derivatives through all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import roughspike as rs
from roughspike.signatures.goursat import goursat
from roughspike.signatures.gram import _spike_values

sys.path.insert(0, str(Path(__file__).parent))
import kernel_oracle as oracle


def worst(values, expected) -> float:
    return float(np.max(np.abs(np.asarray(values) / np.asarray(expected) - 1)))


def slope(run, point, index, step=1e-5):
    return float(run(point.at[index].add(step)) - run(point.at[index].add(-step))) / (2 * step)


@pytest.fixture(scope="module")
def crowds() -> np.ndarray:
    """Trains of 200, 150 and 25 spikes: with unit jumps kernels reach 2^571, and a normalised one is 5e-37."""
    random = np.random.default_rng(0)
    times = np.full((3, 1, 200), np.inf)
    for row, count, end in zip(times[:, 0], (200, 150, 25), (1.0, 0.6, 1.0), strict=True):
        row[:count] = np.sort(random.uniform(0, end, count))
    return times.astype(np.float32).astype(float)


@pytest.fixture(scope="module")
def crowd_kernels(crowds) -> np.ndarray:
    """Their normalised kernels, from float64 without scales."""
    with jax.enable_x64(True):
        gram = np.asarray(rs.SignatureKernel(jump_size=1.0, orders=(3, 9, 1)).gram(rs.SpikeTrain(crowds)))
    norms = np.sqrt(np.diagonal(gram))
    assert gram[0, 0] > 2.0**500
    return gram / norms[:, None] / norms


@pytest.mark.plain
def test_two_hundred_unit_jumps_in_float32(crowds, crowd_kernels):
    x = rs.SpikeTrain(crowds.astype(np.float32))
    found = rs.SignatureKernel(jump_size=1.0, normalise=True, orders=(3, 9, 1)).solve(x)
    assert found.values.dtype == jnp.float32 and bool(jnp.all(jnp.isfinite(found.values)))
    assert 0 < crowd_kernels[0, 2] < 1e-35
    np.testing.assert_allclose(found.values, crowd_kernels, rtol=1e-5)
    np.testing.assert_allclose(np.diagonal(found.values), 1.0, rtol=1e-6)
    plain = rs.SignatureKernel(jump_size=1.0, orders=(3, 9, 1)).solve(x)
    assert not bool(plain.ok) and not bool(jnp.all(jnp.isfinite(plain.values)))


def test_gradient_of_what_would_overflow(crowds):
    """Against differences; the scale of float64 is in use at 2^300."""

    def value(times, jump):
        kernel = rs.SignatureKernel(jump_size=jump, orders=(3, 9, 1), normalise=True)
        return kernel.gram(rs.SpikeTrain(times))[0, 1]

    both = jax.jit(jax.value_and_grad(value, (0, 1)))
    run = lambda *point: both(*point)[0]  # noqa: E731
    times, one = jnp.asarray(crowds), jnp.asarray(1.0)
    by_time, by_jump = both(times, one)[1]
    moved = times.at[0, 0, 100].add(1e-6), times.at[0, 0, 100].add(-1e-6)
    np.testing.assert_allclose(by_time[0, 0, 100], (run(moved[0], one) - run(moved[1], one)) / 2e-6, rtol=1e-4)
    np.testing.assert_allclose(by_jump, (run(times, one + 1e-6) - run(times, one - 1e-6)) / 2e-6, rtol=1e-6)


def test_ties_inside_jit():
    """The oracle's numbers, for trains with and without ties, and the slope in the jump size, from one program."""
    tied = np.array([[[0.2, 0.5], [0.5, 0.8]], [[0.1, np.inf], [0.3, 0.9]]])
    apart = np.where(tied == 0.5, [[[0.5, 0.5], [0.6, 0.5]], [[0.5, 0.5], [0.5, 0.5]]], tied)

    def value(times, jump):
        gram = rs.SignatureKernel(jump_size=jump, orders=(4, 6, 1)).gram(rs.SpikeTrain(times))
        return jnp.sum(gram), gram

    run = jax.jit(jax.value_and_grad(value, (0, 1), has_aux=True))
    for times in (tied, apart):
        at = lambda jump, times=times: oracle.gram(*[oracle.paths(rs.SpikeTrain(times), 1.0, jump)] * 2)  # noqa: E731
        (_, gram), (by_time, by_jump) = run(jnp.asarray(times), jnp.asarray(0.7))
        assert worst(gram, at(0.7)) < 1e-7
        np.testing.assert_allclose(by_jump, (at(0.7 + 1e-5).sum() - at(0.7 - 1e-5).sum()) / 2e-5, rtol=1e-6)
        assert bool(jnp.all(jnp.isfinite(by_time)))
    assert run._cache_size() == 1


def test_other_numbers_of_trains_and_spikes_do_not_compile_anew():
    kernel = rs.SignatureKernel(jump_size=0.5, orders=(3, 4, 1))
    sizes = []
    for n, spikes in ((2, 3), (3, 9), (5, 15)):
        kernel.gram(oracle.trains(n, n, spikes, 1))
        sizes.append(_spike_values._cache_size())
    assert sizes[0] == sizes[1] == sizes[2]


def test_marks_and_their_gradient():
    """Of any sign and with ties: heights of single spikes, the kernel by the oracle, the slope by differences."""
    random = np.random.default_rng(3)
    times = np.array([[[0.2, 0.5, 0.9], [0.5, 0.7, np.inf]], [[0.1, 0.4, np.inf], [0.3, 0.6, 0.8]]])
    x, marks = rs.SpikeTrain(times), jnp.asarray(0.5 * random.normal(size=times.shape))
    kernel = rs.SignatureKernel(tol=1e-10, orders=(12,))

    def entry(marks):
        gram = kernel.gram(rs.marcus_lift(x, marks=marks))
        return gram[0, 1], gram

    both = jax.jit(jax.value_and_grad(entry, has_aux=True))

    path = np.asarray(rs.marcus_lift(x, marks=marks))
    steps = np.diff(path[0], axis=0)
    np.testing.assert_allclose(steps[steps[:, 1:].any(axis=1)][1], [0.0, marks[0, 0, 1], marks[0, 1, 0]], rtol=1e-14)
    (_, gram), found = both(marks)
    assert worst(gram, oracle.gram(path, path)) < 1e-9
    value = lambda marks: both(marks)[0][0]  # noqa: E731
    for index in [(0, 0, 1), (1, 1, 2)]:
        np.testing.assert_allclose(found[index], slope(value, marks, index), rtol=1e-7)
    assert float(found[0, 1, 2]) == 0.0  # an empty slot
    per_neuron = rs.marcus_lift(x, marks=np.array([[2.0], [0.5]]))
    np.testing.assert_allclose(per_neuron[0, -1], [1.0, 6.0, 1.0], rtol=1e-14)
    with pytest.raises(ValueError, match="marks must broadcast to the shape of spikes.times"):
        rs.marcus_lift(x, marks=np.ones(4))


def test_rbf_along_chords_and_along_straight_lines():
    """(A), a jump as a chord in feature space, is not (B), a jump as a line of states, to which fine cuts tend."""
    random = np.random.default_rng(4)
    paths = np.cumsum(0.6 * random.normal(size=(2, 4, 2)), axis=1)
    kernel = rs.SignatureKernel(rs.RBFKernel(1.0), orders=(10,))

    def cut(pieces):
        at = np.linspace(0, 3, 3 * pieces + 1)
        found = np.stack([[np.interp(at, np.arange(4), c) for c in path.T] for path in paths]).swapaxes(1, 2)
        return np.pad(found, ((0, 0), (0, 97 - len(at)), (0, 0)), mode="edge")  # one length is one program

    chords, *lines = (np.asarray(kernel.gram(cut(pieces)))[0, 1] for pieces in (1, 8, 16, 32))
    squares = np.sum((paths[0][:, None] - paths[1][None]) ** 2, axis=-1)
    rho = np.diff(np.diff(np.exp(-squares / 2), axis=0), axis=1)
    np.testing.assert_allclose(chords, oracle.solve(rho), rtol=1e-11)
    steps = np.abs(np.diff(lines))
    assert 3.5 < steps[0] / steps[1] < 4.5  # second order in the cuts
    assert abs(chords - lines[-1]) > 20 * steps[1]


def test_rbf_gradient_and_its_scale():
    x, y = (jnp.asarray(oracle.paths(oracle.trains(seed, 2, 4, 2))) for seed in (0, 1))

    def value(path, scale):
        return rs.SignatureKernel(rs.RBFKernel(scale), orders=(10,)).gram(path, y)[0, 1]

    both = jax.jit(jax.value_and_grad(value, (0, 1)))
    run = lambda *point: both(*point)[0]  # noqa: E731
    one = jnp.asarray(0.9)
    by_path, by_scale = both(x, one)[1]
    for index in [(0, 3, 0), (0, 4, 2)]:
        np.testing.assert_allclose(by_path[index], slope(lambda p: run(p, one), x, index), rtol=1e-7)
    np.testing.assert_allclose(by_scale, slope(lambda s: run(x, s), one, ()), rtol=1e-7)


@pytest.mark.parametrize("unit", [0, 2])
def test_strips_of_rows_are_the_rows_one_by_one(unit):
    """With a last strip that is not full, and with scales in use (unit 2: above 2^2); slopes by differences."""
    rho = jnp.asarray(0.5 * np.random.default_rng(0).normal(size=(7, 5, 2)) + 0.3)

    def value(rho):
        found = goursat(rho, 9, unit, 3)
        each = found.value * jnp.exp2(unit * found.exponent)
        return jnp.sum(each), (each, found.exponent)

    both = jax.jit(jax.value_and_grad(value, has_aux=True))
    (_, (each, exponent)), slopes = both(rho)
    assert worst(each, [oracle.solve(np.asarray(rho)[..., k]) for k in range(2)]) < 1e-7
    assert bool(jnp.max(exponent) > 0) == (unit > 0)
    for index in [(0, 0, 0), (6, 4, 1), (3, 2, 0)]:
        np.testing.assert_allclose(slopes[index], slope(lambda r: both(r)[0][0], rho, index), rtol=1e-7)
