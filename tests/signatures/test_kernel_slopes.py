"""Derivatives of the kernel against differences, its lifts for several neurons, and Chen's relation."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import roughspike as rs
from roughspike.signatures import cores
from roughspike.signatures.scales import Scaled

sys.path.insert(0, str(Path(__file__).parent))
import kernel_oracle as oracle


def test_times_time_weight_and_jump_size_by_one_adjoint():
    x, y = (oracle.trains(seed, 2, 5, 2) for seed in (0, 1))

    def value(times, weight, size):
        kernel = rs.SignatureKernel(time_weight=weight, jump_size=size, orders=(6, 7, 1))
        return kernel.gram(rs.SpikeTrain(times), y)[0, 1]

    both = jax.jit(jax.value_and_grad(value, (0, 1, 2)))
    point = [jnp.asarray(x.times), jnp.asarray(1.3), jnp.asarray(0.6)]
    found, slopes = both(*point)
    np.testing.assert_allclose(
        found, oracle.gram(oracle.paths(x, 1.3, 0.6), oracle.paths(y, 1.3, 0.6))[0, 1], rtol=1e-7
    )
    for argument, index in [(0, (0, 0, 0)), (0, (0, 1, 1)), (1, ()), (2, ())]:
        moved = []
        for step in (1e-5, -1e-5):
            there = list(point)
            there[argument] = there[argument].at[index].add(step)
            moved.append(float(both(*there)[0]))
        np.testing.assert_allclose(slopes[argument][index], (moved[0] - moved[1]) / 2e-5, rtol=1e-7)


def test_memory_does_not_grow_with_the_number_of_pairs():
    """Of the gradient: no array is much larger for 4 times as many pairs, and none has room for all grids."""

    def largest(jaxpr) -> int:
        inner = [
            getattr(part, "jaxpr", part)
            for equation in jaxpr.eqns
            for value in equation.params.values()
            for part in (value if isinstance(value, tuple | list) else [value])
            if hasattr(getattr(part, "jaxpr", part), "eqns")
        ]
        here = [v.aval.size for equation in jaxpr.eqns for v in equation.outvars if hasattr(v.aval, "size")]
        return max([0, *here, *map(largest, inner)])

    def room(n: int) -> int:
        times = jnp.asarray(oracle.trains(0, n, 50, 1).times)
        kernel = rs.SignatureKernel(jump_size=0.3, orders=(3, 4, 1))
        value = lambda t: jnp.sum(kernel.gram(rs.SpikeTrain(t)))  # noqa: E731
        return largest(jax.make_jaxpr(jax.grad(value))(times).jaxpr)

    few, many = room(96), room(192)
    assert many < 1.5 * few and few < 96**2 / 2 * 51**2


def test_vertices_against_pysiglib():
    """Their backpropagation through polynomials of order 12: numbers of version 4.0.0, and today's where installed."""
    x, y = (jnp.asarray(oracle.paths(oracle.trains(seed, 2, 4, 2), 1.0, 0.5)) for seed in (0, 1))
    kernel = rs.SignatureKernel(orders=(12,))
    ours = jax.grad(lambda p: jnp.sum(kernel.gram(p, y)))(x)
    noted = [
        [-7.2464407295679134, -8.3477849662954107, -6.9054336144199491],
        [0.26432139001871091, 0.58052319768617133, -0.010120827915766295],
        [0.22489582839156341, 0.51243952951883420, -0.0091616184039569060],
    ]
    np.testing.assert_allclose(ours[0, :3], noted, rtol=1e-7)
    pytest.importorskip("pysiglib", exc_type=ImportError)
    import pysiglib.jax_api as theirs

    other = jax.grad(lambda p: jnp.sum(theirs.sig_kernel_gram(p, y, method="polynomial", order=12)))(x)
    np.testing.assert_allclose(ours, other, rtol=1e-7, atol=1e-9)


def test_filtered_trains_are_continuous_where_two_neurons_swap():
    """Unlike the joint Marcus lift; and the order of two neurons is still seen."""
    pair = lambda gap: rs.SpikeTrain(np.array([[[0.5], [0.5 + gap]]]))  # noqa: E731
    kernel = rs.SignatureKernel(lift=rs.FilteredLift(tau=0.1, points=12), jump_size=1.0, orders=(8,))
    gaps = (1e-8, -1e-8, 0.2, -0.2)
    after, before, later, sooner = (float(kernel.gram(pair(gap), pair(0.2))[0, 0]) for gap in gaps)
    assert abs(after / before - 1) < 1e-6 and abs(later / sooner - 1) > 0.01


def test_per_neuron_kernels_are_sums():
    """Normalised, which has the plain ones in it."""
    x, y = (oracle.trains(seed, 3, 6, 2) for seed in (0, 1))
    options = {"jump_size": 0.5, "orders": (4, 5, 1)}

    def of(a, b):
        one = lambda t, k: rs.SpikeTrain(t.times[:, k : k + 1])  # noqa: E731
        return sum(np.asarray(rs.SignatureKernel(**options).gram(one(a, k), one(b, k))) for k in range(2))

    expected = of(x, y) / np.sqrt(np.outer(np.diagonal(of(x, x)), np.diagonal(of(y, y))))
    found = rs.SignatureKernel(lift=rs.PerNeuron(), normalise=True, **options).gram(x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_chen_joins_the_kernels_of_two_pieces():
    """k(x * z, y) = <S(x) (x) S(z), S(y)>, the product of signatures to level 12 on the right."""
    random = np.random.default_rng(5)
    x, z, y = (np.cumsum(0.3 * random.normal(size=(4, 2)), axis=0) for _ in range(3))
    joint = np.concatenate([x, x[-1] + z[1:] - z[0]])[None]

    def one(path):
        return [
            np.ones(1),
            *np.split(np.asarray(rs.signature(jnp.asarray(path), 12)), np.cumsum(2 ** np.arange(1, 12))),
        ]  # noqa: E731

    s, t, other = one(x), one(z), one(y)
    product = [sum(np.outer(s[j], t[m - j]).ravel() for j in range(m + 1)) for m in range(13)]
    expected = sum(float(a @ b) for a, b in zip(product, other, strict=True))
    np.testing.assert_allclose(rs.SignatureKernel(tol=1e-12).gram(joint, y[None])[0, 0], expected, rtol=1e-11)


def test_parts_on_several_cores_are_one_list():
    """In order, each pair once, whatever is left over; the threads know the precision of the one that calls."""
    first, second = np.int32(np.arange(2100) // 30), np.int32(np.arange(2100) % 30)
    sizes, x = [], jnp.linspace(0.0, 1.0, 70)

    def run(i, j):
        sizes.append((len(i), bool(jax.config.jax_enable_x64)))
        return Scaled(x[i] + jnp.asarray(j, float), jnp.asarray(i * j, float))

    one, three = (cores.over_cores(run, first, second, x, cores=n) for n in (1, 3))
    assert sizes == [(2100, True), *[(704, True)] * 3]
    for a, b in zip(one, three, strict=True):
        np.testing.assert_array_equal(a, b)
    sizes.clear()
    jax.jit(lambda data: cores.over_cores(run, first, second, data, cores=3).value)(x)
    assert sizes[0][0] == 2100
