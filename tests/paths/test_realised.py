"""Drivers on a grid: what is promised of all of them, sums and stacks, given paths, buffers that are too small."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs
from roughspike.paths.realised import merge_jumps
from roughspike.paths.stacked import SampledPath, as_driver

F64 = jnp.float64


@eqx.filter_jit
def realise(driver, key, t0, t1, steps, dtype=F64):
    return driver.realise(key, t0, t1, steps, dtype)


def spikes():
    return rs.SpikeTrain(np.array([[0.2, 0.5, np.inf], [0.5, 0.9, 1.5]]), t0=0.0, t1=2.0)


def cubic():
    knots = jnp.linspace(0.0, 2.0, 9)
    return diffrax.LinearInterpolation(knots, jnp.stack([jnp.sin(knots), knots**2], axis=1))


EVERY = {
    "brownian": lambda: rs.BrownianPath(2),
    "brownian-areas": lambda: rs.BrownianPath(2, areas=True),
    "poisson": lambda: rs.PoissonPath([3.0, 0.0, 5.0], max_jumps=40),
    "compound": lambda: rs.CompoundPoissonPath(6.0, lambda k: jr.normal(k, (2,)), max_jumps=40),
    "gamma": lambda: rs.LevyPath.gamma(2.0, 1.0, cutoff=1e-2),
    "stable": lambda: rs.LevyPath.tempered_stable(1.5, 1.0, 1.0, cutoff=0.2),
    "own-measure": lambda: rs.LevyPath(lambda x: jnp.exp(-(x**2)) / x**2, 0.1, compensate_below=1.0, largest=20.0),
    "piecewise": lambda: rs.PiecewisePath([0.0, 0.7, 2.0], [1.0, 3.0, 2.0], jumps=[0.5, 1.0, -1.0]),
    "only-jumps": lambda: rs.PiecewisePath([0.3, 1.1, jnp.inf], jumps=[[1.0, 2.0], [0.5, 0.5], [9.0, 9.0]]),
    "spikes": lambda: as_driver(spikes()),
    "diffrax": lambda: as_driver(cubic()),
    "diffrax-brownian": lambda: as_driver(
        diffrax.VirtualBrownianTree(0.0, 2.0, 1e-3, (2,), jr.key(3), levy_area=diffrax.SpaceTimeLevyArea)
    ),
    "sum": lambda: rs.BrownianPath(1, areas=True) + rs.PoissonPath(3.0) + rs.PoissonPath(4.0),
    "stack": lambda: rs.StackedPath(rs.BrownianPath(1, areas=True), spikes(), rs.PoissonPath(3.0)),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_driver_keeps_the_contract(name):
    """In float32; the laws are tested in float64."""
    driver, dtype = EVERY[name](), jnp.float32
    path = realise(driver, jr.key(0), 0.25, 1.5, 12, dtype)
    channels = driver.num_channels
    assert path.increments.shape == (12, channels) == (path.num_steps, path.num_channels)
    assert len(driver.rough) == channels and path.jump_sizes.shape == (path.jump_times.shape[0], channels)
    assert {x.dtype for x in jax.tree.leaves(path) if jnp.issubdtype(x.dtype, jnp.floating)} == {jnp.dtype(dtype)}
    times, finite = np.asarray(path.jump_times), np.isfinite(path.jump_times)
    assert np.all(np.sort(times) == times) and np.all((times[finite] > 0.25) & (times[finite] <= 1.5))
    assert np.all(np.isposinf(times[~finite])) and np.all(np.asarray(path.jump_sizes)[~finite] == 0)
    assert not bool(path.overflow) and int(path.needed) >= finite.sum()
    again = realise(driver, jr.key(0), 0.25, 1.5, 12, dtype)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(path), jax.tree.leaves(again), strict=True))
    other = jax.tree.leaves(realise(driver, jr.key(1), 0.25, 1.5, 12, dtype))
    same = [np.array_equal(a, b) for a, b in zip(jax.tree.leaves(path), other, strict=True)]
    given = ("piecewise", "only-jumps", "spikes", "diffrax", "diffrax-brownian")
    assert all(same) == (name in given)
    total = jnp.concatenate([path.increments, path.jump_sizes]).sum(0)
    assert np.all(np.isfinite(total)) and np.any(np.asarray(total) != 0)


def test_areas_do_not_change_the_increments():
    plain, areas = (realise(rs.BrownianPath(2, areas=a), jr.key(0), 0.0, 1.0, 50) for a in (False, True))
    assert plain.areas is None and areas.areas is not None
    np.testing.assert_array_equal(plain.increments, areas.increments)


@pytest.mark.parametrize("areas", [False, True])
def test_a_coarse_grid_sees_the_same_path(areas):
    """The integral of the path over a long step, by quadrature of its short straight lines or parabolas."""
    fine = rs.BrownianPath(1, areas=areas).realise(jr.key(0), 0.0, 1.0, 12, F64)
    coarse = fine.coarsen(4)
    np.testing.assert_allclose(coarse.increments, fine.increments.reshape(3, 4).sum(1)[:, None], rtol=1e-14)
    r = (np.arange(1000) + 0.5) / 1000
    step = np.asarray(fine.increments[:, 0])
    start = np.concatenate([[0.0], np.cumsum(step)])[:-1]
    h = np.zeros(12) if fine.areas is None else np.asarray(fine.areas[:, 0])
    mean = (start[:, None] + np.outer(step, r) + 6 * np.outer(h, r * (1 - r))).mean(1).reshape(3, 4).mean(1)
    expected = mean - start[::4] - step.reshape(3, 4).sum(1) / 2
    np.testing.assert_allclose(coarse.areas[:, 0], expected, atol=1e-6)
    with pytest.raises(ValueError, match="factor must divide the number of steps 12, got 5"):
        fine.coarsen(5)


def test_piecewise_straight_part_and_jumps():
    path = rs.PiecewisePath([0.0, 1.0, 2.0], [0.0, 4.0, 0.0], jumps=[7.0, 1.0, -2.0])
    drawn = path.realise(None, 0.0, 2.0, 8, F64)
    np.testing.assert_allclose(drawn.increments[:, 0], [1, 1, 1, 1, -1, -1, -1, -1])
    # cadlag: a jump at t0 has been made before the window, one at t1 belongs to it
    np.testing.assert_allclose(drawn.jump_times, [1.0, 2.0, np.inf])
    np.testing.assert_allclose(drawn.jump_sizes[:, 0], [1.0, -2.0, 0.0])
    assert int(drawn.needed) == 2
    outside = path.realise(None, 5.0, 6.0, 4, F64)
    assert np.all(outside.increments == 0) and np.all(np.isinf(outside.jump_times))


def test_a_sampled_diffrax_path_telescopes():
    path = as_driver(cubic()).realise(None, 0.25, 1.75, 30, F64)
    np.testing.assert_allclose(path.increments.sum(0), cubic().evaluate(0.25, 1.75), rtol=1e-12)


def test_a_diffrax_brownian_path_keeps_its_areas():
    tree = diffrax.VirtualBrownianTree(0.0, 2.0, 1e-2, (), jr.key(3), levy_area=diffrax.SpaceTimeLevyArea)
    drawn = realise(SampledPath(tree), None, 0.0, 2.0, 4)
    whole = jax.jit(lambda a, b: tree.evaluate(a, b, use_levy=True))(0.0, 2.0)
    np.testing.assert_allclose(drawn.increments.sum(), whole.W, rtol=1e-9)
    np.testing.assert_allclose(drawn.coarsen(4).areas[0, 0], whole.H, atol=1e-6)
    plain = diffrax.VirtualBrownianTree(0.0, 2.0, 1e-3, (2,), jr.key(3))
    assert realise(SampledPath(plain), None, 0.0, 2.0, 4).areas is None
    assert SampledPath(plain).rough == (True, True) and SampledPath(cubic()).rough == (False, False)


def test_spikes_at_the_same_time_are_one_jump():
    drawn = as_driver(spikes()).realise(None, 0.0, 2.0, 4, F64)
    np.testing.assert_allclose(drawn.jump_times, [0.2, 0.5, 0.9, 1.5, np.inf, np.inf])
    np.testing.assert_allclose(drawn.jump_sizes, [[1, 0], [1, 1], [0, 1], [0, 1], [0, 0], [0, 0]])


def test_merging_keeps_the_derivative_of_the_times():
    weight = jnp.array([1.0, 10.0, 100.0, 1000.0])

    def value(times):
        merged, sizes = merge_jumps(times, jnp.eye(4))
        return jnp.sum(jnp.where(jnp.isfinite(merged), merged, 0.0) * (sizes @ weight))

    np.testing.assert_allclose(jax.grad(value)(jnp.array([0.4, 0.1, jnp.inf, 0.3])), [1.0, 10.0, 0.0, 1000.0])


def test_stack_and_sum_put_jumps_where_they_belong():
    a, b = rs.PiecewisePath([0.5], jumps=[2.0]), rs.PiecewisePath([0.25, 0.5], jumps=[3.0, 4.0])
    stacked = rs.StackedPath(a, b).realise(None, 0.0, 1.0, 2, F64)
    np.testing.assert_allclose(stacked.jump_times, [0.25, 0.5, np.inf])
    np.testing.assert_allclose(stacked.jump_sizes, [[0, 3], [2, 4], [0, 0]])
    added = (a + b).realise(None, 0.0, 1.0, 2, F64)
    np.testing.assert_allclose(added.jump_sizes[:, 0], [3, 6, 0])
    mixed = rs.StackedPath(rs.BrownianPath(1, areas=True), b)
    assert mixed.rough == (True, False)
    drawn = mixed.realise(jr.key(0), 0.0, 1.0, 2, F64)
    assert drawn.areas is not None and np.all(drawn.areas[:, 1] == 0) and np.all(drawn.areas[:, 0] != 0)


@pytest.mark.parametrize("name", ["poisson", "gamma"])
def test_a_larger_buffer_repeats_the_path(name):
    make = {
        "poisson": lambda n: rs.PoissonPath([3.0, 5.0], max_jumps=n),
        "gamma": lambda n: rs.LevyPath.gamma(2.0, 1.0, 1e-2, max_jumps=n),
    }[name]
    one, two = (realise(make(n), jr.key(4), 0.0, 1.5, 4) for n in (40, 300))
    np.testing.assert_array_equal(one.jump_times[:30], two.jump_times[:30])
    np.testing.assert_array_equal(one.jump_sizes[:30], two.jump_sizes[:30])


def test_overflow_is_reported_and_what_fits_is_right():
    full = realise(rs.PoissonPath([20.0, 30.0], max_jumps=200), jr.key(0), 0.0, 2.0, 4)
    short = realise(rs.PoissonPath([20.0, 30.0], max_jumps=10), jr.key(0), 0.0, 2.0, 4)
    assert bool(short.overflow) and not bool(full.overflow)
    np.testing.assert_array_equal(short.jump_times, full.jump_times[:10])
    # an estimate, from what remains of the window after the last jump that was drawn: within 3 standard deviations
    assert abs(int(short.needed) - int(full.needed)) < 3 * np.sqrt(100)
    both = rs.StackedPath(rs.PoissonPath(30.0, max_jumps=10), rs.PoissonPath(1.0, max_jumps=500))
    assert bool(realise(both, jr.key(0), 0.0, 2.0, 4).overflow)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rs.BrownianPath(0), "num_channels must be at least 1"),
        (lambda: rs.PoissonPath(-1.0), "rate must not be negative"),
        (lambda: rs.PoissonPath([[1.0]]), "rate must be a scalar or have shape"),
        (lambda: rs.PoissonPath(1.0, max_jumps=0), "max_jumps must be at least 1"),
        (lambda: rs.CompoundPoissonPath([1.0, 2.0], jr.normal), "rate must be a scalar"),
        (lambda: rs.CompoundPoissonPath(1.0, lambda k: jnp.zeros((2, 2))), r"jump\(key\) must have shape"),
        (lambda: rs.LevyPath(jnp.abs, 0.0), "cutoff must be positive"),
        (lambda: rs.LevyPath(jnp.abs, 0.1, largest=0.05), "largest must exceed the cutoff"),
        (lambda: rs.LevyPath(jnp.abs, 0.1, compensate_below=0.05), "compensate_below must be 0 or at least"),
        (lambda: rs.LevyPath.tempered_stable(2.5, 1.0, 1.0, 0.1), "index must lie between 0 and 2"),
        (lambda: rs.LevyPath.tempered_stable(1.2, 1.0, 0.0, 0.1), "not summable: pass compensate_below"),
        (lambda: rs.LevyPath.tempered_stable(0.5, 1.0, 0.0, 0.1, tempering=-1.0), "tempering must not be negative"),
        (lambda: rs.PiecewisePath([0.0, 1.0]), "give values"),
        (lambda: rs.PiecewisePath([0.0, 1.0], [1.0]), r"times must have shape \(knots,\) and values"),
        (lambda: rs.PiecewisePath([1.0, 0.0], [1.0, 2.0]), "times must ascend"),
        (lambda: rs.PiecewisePath([1.0, jnp.inf], [1.0, 2.0]), "drop the padding"),
        (lambda: rs.PiecewisePath([0.0], [[1.0, 2.0]], [[1.0]]), "same channels"),
        (lambda: rs.BrownianPath(1) + rs.BrownianPath(2), "same number of channels.*rs.StackedPath"),
        (lambda: rs.StackedPath(), "at least one driver"),
        (lambda: as_driver(3.0), "driver must be a path such as"),
        (lambda: as_driver(rs.SpikeTrain(np.array([[[0.5]]]))), r"one trial.*pass spikes\[k\]"),
        (lambda: rs.BrownianPath(1).realise(None, 0.0, 1.0, 2, F64), "key must be a JAX random key"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
