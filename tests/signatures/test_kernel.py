"""The signature kernel of spike trains: closed forms, an independent solver, semantics."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import roughspike as rs
from roughspike.signatures.orders import choose, extent_of

sys.path.insert(0, str(Path(__file__).parent))
import kernel_oracle as oracle

HARD = [  # spikes, neurons, jump size, time weight
    (1, 1, 1.0, 0.1),
    (1, 1, 0.1, 10.0),
    (20, 3, 0.5, 3.0),
]


RBF = rs.SignatureKernel(rs.RBFKernel(1.0), orders=(5,))
SHARED = rs.SignatureKernel(orders=(6, 7, 1), jump_size=1.0)  # one program for several tests


def worst(values, expected) -> float:
    return float(np.max(np.abs(np.asarray(values) / np.asarray(expected) - 1)))


@pytest.mark.parametrize(("spikes", "neurons", "jump", "weight"), HARD)
def test_tolerance_is_kept_and_the_estimate_is_above_the_error(spikes, neurons, jump, weight):
    x, y = (oracle.trains(seed, 2, spikes, neurons) for seed in (0, 1))
    expected = oracle.gram(*(oracle.paths(t, weight, jump) for t in (x, y)))
    for tol in (1e-7, 1e-10):
        found = rs.SignatureKernel(jump_size=jump, time_weight=weight, tol=tol).solve(x, y)
        error = worst(found.values, expected)
        print(f"tol {tol:.0e}: error {error:.1e}, estimate {float(found.error):.1e}")
        assert error < tol and error <= float(found.error) + 1e-12 and bool(found.ok)


@pytest.mark.slow
def test_two_hundred_unit_jumps():
    """Single spikes against many, and many against many: against Taylor edges on half segments."""
    x = rs.SpikeTrain(np.stack([np.linspace(0.003, 0.99, 200), np.r_[0.4, np.full(199, np.inf)]])[:, None])
    found = rs.SignatureKernel(jump_size=1.0).solve(x)
    path = np.asarray(rs.marcus_lift(x)[:, :402])
    many, single = rs.SignatureKernel(orders=(16, 2)).gram(path[:1]), oracle.gram(path[1:, :4], path[:1])
    assert bool(found.ok) and worst(found.values[:1, :1], many) < 1e-7 and worst(found.values[1:, :1], single) < 1e-7


def test_straight_lines_and_silent_trains():
    a, b = np.array([0.3, -1.2, 0.7]), np.array([-0.5, -1.0, 2.0])
    lines = [np.stack([np.zeros(3), v])[None] for v in (a, b)]
    assert worst(rs.SignatureKernel(tol=1e-12).gram(*lines), oracle.i0(2 * np.sqrt(a @ b))) < 1e-12
    silent = rs.SpikeTrain(np.full((1, 2, 3), np.inf), 0.5, 2.0)
    assert worst(SHARED.gram(silent), oracle.i0(3.0)) < 1e-12
    for weight, tol in ((10.0, 1e-10), (3.0, 1e-7)):  # e^30: moves are cut into pieces; e^9: one move
        found = rs.SignatureKernel(time_weight=weight, tol=tol).solve(silent)
        assert worst(found.values, oracle.i0(3 * weight)) < float(found.error) < tol and bool(found.ok)


def test_neurons_that_share_no_spikes_do_not_see_each_other():
    x = rs.SpikeTrain(np.array([[[0.2, 0.7], [np.inf, np.inf]]]))
    y = rs.SpikeTrain(np.array([[[np.inf, np.inf], [0.1, 0.4]]]))
    assert worst(SHARED.gram(x, y), oracle.i0(2.0)) < 1e-12


def test_truncated_signatures_of_high_depth():
    x, y = (oracle.trains(seed, 3, 3) for seed in (0, 1))
    s, t = (rs.signature(rs.marcus_lift(z, time_weight=0.5, jump=0.5), 14) for z in (x, y))
    assert worst(rs.SignatureKernel(time_weight=0.5, jump_size=0.5, tol=1e-12).gram(x, y), 1 + s @ t.T) < 1e-10


def test_pysiglib_agrees():
    """Polynomials of order 12: numbers that pysiglib 4.0.0 gave, and what it gives now where it is installed."""
    x, y = (oracle.trains(seed, 3, 30, 3) for seed in (0, 1))
    noted = [
        [4600.236479518054, 6108.848153319942, 5866.538385714237],
        [6434.694357159307, 7542.399407868930, 4666.528554651758],
        [5772.457599591244, 8820.049156422816, 2907.679772091495],
    ]
    assert worst(rs.SignatureKernel(jump_size=0.3).gram(x, y), noted) < 1e-7
    pysiglib = pytest.importorskip("pysiglib", exc_type=ImportError)
    paths = (np.array(oracle.paths(t, 1.0, 0.3), order="C") for t in (x, y))
    assert worst(pysiglib.sig_kernel_gram(*paths, method="polynomial", order=12), noted) < 1e-12


def test_what_cannot_be_met_is_said():
    """By rounding; by too few coefficients, with an error above the true one; by all there is."""
    x = oracle.trains(7, 3, 10)
    found = rs.SignatureKernel(jump_size=0.5, tol=1e-10, orders=(3, 4, 1)).solve(x)
    assert bool(found.ok) == (float(found.error) <= 1e-10) and not bool(found.ok)
    exact = oracle.gram(*[oracle.paths(x, 1.0, 0.5)] * 2)
    assert 1e-10 < worst(found.values, exact) < float(found.error)
    assert not bool(rs.SignatureKernel(jump_size=0.5, tol=5e-16, orders=(8, 11, 1)).solve(x).ok)
    with jax.enable_x64(False):
        single = rs.SpikeTrain(np.float32(x.times))
        assert not bool(rs.SignatureKernel(jump_size=0.5, tol=1e-10, orders=(8, 11, 1)).solve(single).ok)
    one_against_many = extent_of(([[5.0]],) * 2, ([[1]], [[3000]]), 5.0, 4.0, 1)
    assert choose(one_against_many, 1e-7)[1] > 1e-7


def test_each_coefficient_counts_twice():
    """P coefficients err as degree 2 P - 1 does: one more divides the error by hundreds. The estimate follows."""
    x = oracle.trains(8, 1, 100)
    run = lambda *orders: rs.SignatureKernel(jump_size=0.2, orders=orders).solve(x)  # noqa: E731
    exact = run(5, 9).values
    for coarse, fine in [((5, 3), (5, 4)), ((2, 9), (3, 9))]:
        found = [run(*orders) for orders in (coarse, fine)]
        error = [worst(f.values, exact) for f in found]
        print(error, [float(f.error) for f in found])
        assert error[0] > 1e-9 and error[1] < error[0] / 200
        assert all(e <= float(f.error) + 1e-12 < 100 * e + 2e-12 for e, f in zip(error, found, strict=True))


@pytest.mark.plain
def test_float32():
    x, y = (oracle.trains(seed, 4, 50, 2) for seed in (0, 1))
    found = rs.SignatureKernel(jump_size=0.25).gram(x, y)
    assert found.dtype == jnp.float32
    with jax.enable_x64(True):
        exact = rs.SignatureKernel(jump_size=0.25, tol=1e-10).gram(x, y)
    assert worst(found, exact) < 1e-5


def test_ties_are_one_diagonal_jump():
    times = np.array([[[0.2, 0.5], [0.5, 0.8]], [[0.1, np.inf], [0.3, 0.9]]])
    tied = rs.SpikeTrain(times)
    expected = oracle.gram(*[oracle.paths(tied, 1.0, 0.7)] * 2)
    found = rs.SignatureKernel(jump_size=0.7, tol=1e-10).gram(tied)
    assert worst(found, expected) < 1e-10
    apart = rs.SpikeTrain(np.where(times == 0.5, [[[0.5, 0.5], [0.5 + 1e-12, 0.5]]], times))
    assert worst(rs.SignatureKernel(jump_size=0.7).gram(apart)[0, 0], found[0, 0]) > 1e-3


def test_padding_and_order_change_nothing():
    x = oracle.trains(3, 4, 12, 2)
    padded = rs.SpikeTrain(np.pad(x.times, ((0, 0), (0, 0), (0, 9)), constant_values=np.inf))
    kernel = rs.SignatureKernel(jump_size=0.4, orders=(4, 6, 1))
    gram = kernel.gram(x)
    np.testing.assert_allclose(kernel.gram(padded), gram, rtol=1e-13)
    np.testing.assert_allclose(kernel.gram(x[::-1], x), gram[::-1], rtol=1e-13)
    np.testing.assert_array_equal(gram, gram.T)


def test_positive_semi_definite_and_normalised():
    x = oracle.trains(4, 12, 25, 2)
    kernels = rs.SignatureKernel(normalise=True), RBF, SHARED  # to 1e-7, coarse, and to rounding
    normalised, chords, fine = (np.asarray(k.gram(x)) for k in kernels)
    for gram, least in ((normalised, 1e-7), (chords, 1e-7), (fine, 1e-14)):
        np.testing.assert_array_equal(gram, gram.T)
        assert np.linalg.eigvalsh(gram)[0] > -least * np.linalg.norm(gram, 2)
    np.testing.assert_allclose(np.diagonal(normalised), 1.0, rtol=1e-14)
    assert np.max(np.abs(normalised)) <= 1 + 1e-12


def test_time_reversal_of_both_and_reparametrisation():
    x, y = (oracle.trains(seed, 3, 8) for seed in (0, 1))
    mirrored = [rs.SpikeTrain(np.where(np.isfinite(t.times), 1 - t.times, np.inf)[..., ::-1]) for t in (x, y)]
    kernel = rs.SignatureKernel(jump_size=0.5, tol=1e-11)
    np.testing.assert_allclose(kernel.gram(*mirrored), kernel.gram(x, y), rtol=1e-10)
    stretched = [rs.SpikeTrain(5 * t.times, 0.0, 5.0) for t in (x, y)]
    slower = rs.SignatureKernel(jump_size=0.5, tol=1e-11, time_weight=0.2)
    np.testing.assert_allclose(slower.gram(*stretched), kernel.gram(x, y), rtol=1e-10)


def test_swap_of_two_neurons_jumps():
    """The documented discontinuity: signature levels see who came first."""
    pair = lambda gap: rs.SpikeTrain(np.array([[[0.5], [0.5 + gap]]]))  # noqa: E731
    kernel = rs.SignatureKernel(jump_size=1.0)
    before, after, base = (float(kernel.gram(pair(gap), pair(0.1))[0, 0]) for gap in (1e-9, -1e-9, 1e-8))
    assert abs(before / base - 1) < 1e-6 and abs(after / before - 1) > 0.01


def test_chen_through_concatenation():
    """Two paths of three points: the kernel with a third follows from values on the grid, by the solver on a split."""
    random = np.random.default_rng(5)
    a, b = (np.cumsum(0.4 * random.normal(size=(1, 6, 2)), axis=1) for _ in range(2))
    more = np.concatenate([a[:, :3], 0.5 * a[:, 2:3] + 0.5 * a[:, 3:4], a[:, 3:], a[:, -1:]], axis=1)
    kernel = rs.SignatureKernel(tol=1e-12)
    np.testing.assert_allclose(kernel.gram(more, b), kernel.gram(a, b), rtol=1e-11)
    np.testing.assert_allclose(kernel.gram(a, b)[0, 0], oracle.gram(a, b)[0, 0], rtol=1e-11)
    there_and_back = np.concatenate([a, a[:, ::-1]], axis=1)
    np.testing.assert_allclose(kernel.gram(there_and_back, b), 1.0, rtol=1e-11)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tol": 0.0}, "tol must lie between 0 and 1"),
        ({"jump_size": "big"}, 'jump_size must be a number above 0 or "auto"'),
        ({"jump_size": -1.0}, "jump_size must be a finite number above 0"),
        ({"orders": (4, 0)}, "orders must be up to three whole numbers"),
        ({"time_weight": np.inf}, "time_weight must be a finite number above 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        rs.SignatureKernel(**options)


def test_bad_paths():
    with pytest.raises(ValueError, match="x must be a SpikeTrain with one batch axis or paths of shape"):
        rs.SignatureKernel().gram(np.zeros((3, 2)))
