"""Signatures against signax (where it is installed) and a brute-force oracle, and the semantics of the Marcus lift."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs


def brute_force(path: np.ndarray, depth: int) -> np.ndarray:
    """Every word by summing over all ways to place its letters on segments: letters that share one get 1 / m!."""
    dx = np.diff(path, axis=0)
    n, d = dx.shape
    out = []
    for k in range(1, depth + 1):
        for word in itertools.product(range(d), repeat=k):
            total = 0.0
            for where in itertools.combinations_with_replacement(range(n), k):
                repeats = math.prod(math.factorial(where.count(m)) for m in set(where))
                total += math.prod(dx[m, letter] for m, letter in zip(where, word, strict=True)) / repeats
            out.append(total)
    return np.array(out)


def tensors(flat: np.ndarray, channels: int, depth: int) -> list[np.ndarray]:
    cuts = np.cumsum([channels**k for k in range(1, depth + 1)])[:-1]
    return [np.ones(()), *(x.reshape((channels,) * k) for k, x in enumerate(np.split(np.asarray(flat), cuts), 1))]


def chen(a: np.ndarray, b: np.ndarray, channels: int, depth: int) -> np.ndarray:
    a, b = tensors(a, channels, depth), tensors(b, channels, depth)
    products = [sum(np.multiply.outer(a[j], b[k - j]) for j in range(k + 1)) for k in range(1, depth + 1)]
    return np.concatenate([p.ravel() for p in products])


def walk(key: int, *shape: int) -> jax.Array:
    return jnp.cumsum(0.4 * jr.normal(jr.key(key), shape), axis=-2)


def train(times, t1: float = 2.0) -> rs.SpikeTrain:
    return rs.SpikeTrain(np.asarray(times, float), 0.0, t1)


@pytest.mark.parametrize(("channels", "depth"), [(1, 5), (2, 5), (3, 4)])
def test_every_word_by_brute_force(channels: int, depth: int):
    path = walk(0, 6, channels)
    np.testing.assert_allclose(rs.signature(path, depth), brute_force(np.asarray(path), depth), rtol=1e-12, atol=1e-14)


@pytest.mark.plain
def test_signax_agrees():
    signax = pytest.importorskip("signax", exc_type=ImportError)
    paths = rs.marcus_lift(rs.SpikeTrain(np.sort(np.random.default_rng(0).uniform(0, 2, (8, 2, 5)), -1), 0.0, 2.0))
    theirs = jax.vmap(lambda path: signax.signature(path, 4))(paths)
    np.testing.assert_allclose(rs.signature(paths, 4), theirs, rtol=2e-5, atol=2e-5)


def test_chen():
    whole = walk(1, 9, 3)
    left, right = rs.signature(whole[:5], 4), rs.signature(whole[4:], 4)
    np.testing.assert_allclose(chen(left, right, 3, 4), rs.signature(whole, 4), rtol=1e-12, atol=1e-14)


def test_reparametrisation_and_translation_change_nothing():
    path = walk(2, 5, 2)
    more = jnp.concatenate([path[:2], 0.3 * path[1:2] + 0.7 * path[2:3], path[2:], path[-1:]], axis=0)
    np.testing.assert_allclose(rs.signature(more + 7.0, 5), rs.signature(path, 5), rtol=1e-10, atol=1e-13)


def test_a_straight_line_has_powers_over_factorials():
    x = np.array([2.0, -3.0])
    levels = tensors(rs.signature(jnp.array([[0.0, 0.0], x]), 4), 2, 4)
    np.testing.assert_allclose(levels[3], np.einsum("i,j,k->ijk", x, x, x) / 6, rtol=1e-14)


def test_batches_are_rows():
    paths = walk(3, 2, 3, 6, 2)
    found = rs.signature(paths, 3)
    assert found.shape == (2, 3, 14)
    np.testing.assert_allclose(found[1, 2], rs.signature(paths[1, 2], 3), rtol=1e-12)


def test_a_single_neuron_has_polynomial_sums():
    times, t1 = np.array([0.3, 0.9, 1.4]), 2.0
    s = tensors(rs.signature(rs.marcus_lift(train([times])), 3), 2, 3)
    n = len(times)
    assert s[1].tolist() == [t1, n]
    np.testing.assert_allclose(s[2][0, 1], times.sum(), rtol=1e-14)
    np.testing.assert_allclose(s[2][1, 0], (t1 - times).sum(), rtol=1e-14)
    np.testing.assert_allclose(s[3][0, 0, 1], (times**2).sum() / 2, rtol=1e-14)
    np.testing.assert_allclose(s[3][1, 1, 1], n**3 / 6, rtol=1e-14)


def test_padding_is_an_exact_no_op():
    times = np.array([[0.3, 0.9], [0.5, np.inf]])
    padded = np.pad(times, ((0, 0), (0, 5)), constant_values=np.inf)
    a, b = (rs.signature(rs.marcus_lift(train(x)), 4) for x in (times, padded))
    np.testing.assert_array_equal(a, b)


def test_simultaneous_spikes_are_one_diagonal_jump():
    together = rs.marcus_lift(train([[0.5, 1.5], [0.5, np.inf]]))
    by_hand = jnp.array([[0.0, 0.0, 0.0], [0.5, 0, 0], [0.5, 1, 1], [1.5, 1, 1], [1.5, 2, 1], [2.0, 2, 1]])
    np.testing.assert_allclose(rs.signature(together, 4), rs.signature(by_hand, 4), rtol=1e-13, atol=1e-14)
    apart = rs.marcus_lift(train([[0.5, 1.5], [0.5 + 1e-9, np.inf]]))
    area = lambda path: tensors(rs.signature(path, 2), 3, 2)[2][1, 2]  # noqa: E731
    assert area(together) == 0.5 and area(apart) == pytest.approx(1.0)


def test_the_path_ends_at_t1_and_keeps_a_jump_there():
    path = rs.marcus_lift(train([[0.5, 2.0]]))
    assert path[0].tolist() == [0.0, 0.0] and path[-1].tolist() == [2.0, 2.0]
    assert float(path[:, 1].max()) == 2.0
    assert rs.marcus_lift(train([[np.inf]]))[-1].tolist() == [2.0, 0.0]


def test_order_of_neurons_in_time_and_of_samples():
    times = np.array([[[0.3, 0.9], [0.5, 1.1]], [[0.2, np.inf], [np.inf, np.inf]]])
    expected = rs.expected_signature(train(times), 3)
    np.testing.assert_allclose(rs.expected_signature(train(times[::-1]), 3), expected, rtol=1e-14)
    steps = np.diff(np.asarray(rs.marcus_lift(train(times[0]))), axis=0)
    assert np.all(steps >= 0) and steps.sum(0).tolist() == [2.0, 2.0, 2.0]


def test_scales():
    path = rs.marcus_lift(train([[0.5]]), time_weight=3.0, jump=0.25)
    assert path[-1].tolist() == [6.0, 0.25]


@pytest.mark.parametrize("neurons", [1, 2])
def test_gradients_against_differences(neurons: int):
    times = np.full((2, neurons, 4), np.inf)
    times[..., :3] = np.sort(np.random.default_rng(neurons).uniform(0.1, 1.9, (2, neurons, 3)), axis=-1)
    weights = jr.normal(jr.key(4), (sum((1 + neurons) ** k for k in range(1, 5)),))

    def value(flat):
        full = jnp.asarray(times).at[..., :3].set(flat)
        return jnp.vdot(weights, rs.expected_signature(rs.SpikeTrain(full, 0.0, 2.0), 4))

    x = jnp.asarray(times[..., :3])
    both = jax.jit(jax.value_and_grad(value), compiler_options={"xla_backend_optimization_level": "0"})
    gradient, eps = both(x)[1], 1e-6
    for index in np.ndindex(x.shape):
        difference = (both(x.at[index].add(eps))[0] - both(x.at[index].add(-eps))[0]) / (2 * eps)
        np.testing.assert_allclose(gradient[index], difference, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("depth", [0, -1, True])
def test_bad_depth(depth):
    with pytest.raises(ValueError, match="depth must be a whole number of at least 1.*pass depth=3"):
        rs.signature(jnp.zeros((3, 2)), depth)


def test_too_large():
    with pytest.raises(ValueError, match="over 1,000,000 coordinates: pass a smaller depth, or take"):
        rs.signature(jnp.zeros((3, 40)), 5)
    with pytest.raises(ValueError, match="2 vertices or more"):
        rs.signature(jnp.zeros((1, 2)), 2)
