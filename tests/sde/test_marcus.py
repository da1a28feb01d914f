"""Jumps of the driver: the Marcus flow against closed forms, its invariances, and how Ito jumps differ."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax
import numpy as np
import pytest

import roughspike as rs

TIMES, SIZES = np.array([0.31, 0.77, 1.23]), np.array([0.5, -1.1, 0.7])


def still(t, y, args):
    del t, args
    return jax.tree.map(jnp.zeros_like, y)


GEOMETRIC = rs.EventSDE(drift=still, diffusion=lambda t, y, args: y[:, None])


def run(sde, driver, y0, jumps=None, key=None, steps=15, **options):
    options = {"t0": 0.0, "t1": 1.5, "num_steps": steps, "driver": driver, "jumps": jumps, "key": key} | options
    return rs.solve(sde, y0=y0, **options)


def errors(jumps):
    after = [j(lambda y: y[:, None], jnp.ones(1), jnp.array([1.0]))[0] for j in jumps]
    return np.abs(np.asarray(after) / np.e - 1)


def test_the_flow_of_a_linear_field_is_the_exponential():
    """Order 4 of the built-in steps; a solver of diffrax in their place."""
    found = errors([rs.MarcusJump(n) for n in (4, 8, 16, 32)])
    order = -np.polyfit(np.log([4, 8, 16, 32]), np.log(found), 1)[0]
    assert 3.8 < order < 4.2 and found[1] < 4e-6
    assert errors([rs.MarcusJump(4, solver=diffrax.Dopri8())])[0] < 1e-9
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        rs.MarcusJump(0)


def test_every_form_of_the_diffusion():
    y, dx = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(0.5)}, jnp.array([0.3, -0.2])

    def field(y):
        return {"a": jnp.stack([y["a"] * y["b"], y["a"] ** 2], axis=-1), "b": jnp.stack([y["b"], y["a"][0]])}

    def operator(y):
        by = lambda dx: jax.tree.map(lambda leaf: leaf @ dx, field(y))  # noqa: E731
        return lineax.FunctionLinearOperator(by, jax.eval_shape(lambda: dx))

    for jump in (rs.MarcusJump(), rs.ItoJump()):
        for a, b in zip(jax.tree.leaves(jump(field, y, dx)), jax.tree.leaves(jump(operator, y, dx)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14)


def test_geometric_equation_with_poisson_jumps():
    """dy = y dX has y = exp(X) (Marcus), and the product of 1 + dX (Ito)."""
    driver = rs.CompoundPoissonPath(3.0, lambda k: 0.6 * jr.normal(k), max_jumps=24)

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(None, 0))
    def end(jumps, key):
        return run(GEOMETRIC, driver, jnp.ones(1), jumps, key, steps=3).y1[0]

    keys = jr.split(jr.key(0), 50)
    path = jax.vmap(lambda k: driver.realise(jr.split(k)[0], 0.0, 1.5, 3, jnp.float64))(keys)
    sizes = path.jump_sizes[..., 0]
    assert not np.any(path.overflow)
    np.testing.assert_allclose(end(rs.MarcusJump(64), keys), np.exp(sizes.sum(1)), rtol=1e-7)
    np.testing.assert_allclose(end(rs.ItoJump(), keys), np.prod(1 + sizes, axis=1), rtol=1e-12)


def test_brownian_motion_and_jumps_together():
    """dy = y o (dB + dN): y = exp(B + N), to the accuracy of Heun's method; the chain rule with a rough driver."""
    driver = rs.BrownianPath(1) + rs.PiecewisePath(TIMES, jumps=SIZES)
    path = driver.realise(jr.split(jr.key(3))[0], 0.0, 1.5, 1500, jnp.float64)
    exact = np.exp(path.increments.sum() + SIZES.sum())
    found = run(GEOMETRIC, driver, jnp.ones(1), rs.MarcusJump(32), jr.key(3), steps=1500).y1[0]
    np.testing.assert_allclose(found, exact, rtol=2e-3)


def test_the_chain_rule_and_where_ito_jumps_break_it():
    """Solve for y and for z = sinh(y): dz = cosh(y) sigma(y) dX."""
    sigma = lambda y: 0.5 + 0.4 * jnp.sin(y)  # noqa: E731
    direct = rs.EventSDE(still, lambda t, y, args: sigma(y)[:, None])
    changed = rs.EventSDE(still, lambda t, z, args: (jnp.sqrt(1 + z**2) * sigma(jnp.arcsinh(z)))[:, None])
    driver = rs.PiecewisePath(TIMES, jumps=SIZES)
    y0 = jnp.array([0.4])
    for jumps, holds in ((rs.MarcusJump(64), True), (rs.ItoJump(), False)):
        y, z = run(direct, driver, y0, jumps).y1, run(changed, driver, jnp.sinh(y0), jumps).y1
        assert (abs(float(jnp.sinh(y)[0] - z[0])) < 1e-8) == holds


def test_invariance_under_reparametrisation():
    """Crossing the jump ever faster along a straight line, or in two pieces at once, is the same jump."""
    field = lambda y: jnp.stack([jnp.stack([y[1], 0.3 * y[0]]), jnp.stack([jnp.sin(y[0]), y[1] * 0.5])])  # noqa: E731
    sde = rs.EventSDE(still, lambda t, y, args: field(y))
    y0, size = jnp.array([0.5, -0.2]), jnp.array([[0.8, -0.6]])
    jump = run(sde, rs.PiecewisePath([0.5], jumps=size), y0, rs.MarcusJump(64)).y1
    ramp = rs.PiecewisePath([0.4, 0.6], jnp.concatenate([0 * size, size]))
    smooth = run(sde, ramp, y0, steps=1500, solver=diffrax.Dopri5()).y1
    halves = rs.PiecewisePath([0.5, 0.500001], jumps=jnp.concatenate([0.5 * size, 0.5 * size]))
    twice = run(sde, halves, y0, rs.MarcusJump(64)).y1
    np.testing.assert_allclose(jump, smooth, rtol=1e-8)
    np.testing.assert_allclose(jump, twice, rtol=1e-8)
    ito = [run(sde, d, y0, rs.ItoJump()).y1 for d in (rs.PiecewisePath([0.5], jumps=size), halves)]
    assert np.max(np.abs(ito[0] - ito[1])) > 1e-2


def test_constant_fields_jump_alike():
    sde = rs.EventSDE(lambda t, y, args: -y, lambda t, y, args: jnp.array([[2.0]]))
    driver = rs.PiecewisePath(TIMES, jumps=SIZES)
    marcus, ito = (run(sde, driver, jnp.ones(1), jumps).y1 for jumps in (rs.MarcusJump(), rs.ItoJump()))
    np.testing.assert_allclose(marcus, ito, rtol=1e-14)


@pytest.mark.parametrize("method", [rs.Direct(), rs.Forward(), rs.Adjoint()], ids=["direct", "forward", "adjoint"])
@pytest.mark.parametrize("jumps", [rs.MarcusJump(), rs.ItoJump()], ids=["marcus", "ito"])
def test_gradients_in_jump_times_and_sizes(jumps, method):
    """A leaky neuron whose threshold and reset lie between jumps of a multiplicative input, against differences."""
    sde = rs.EventSDE(
        drift=lambda t, y, args: args * (1.5 - y),
        diffusion=lambda t, y, args: (0.2 + 0.3 * y)[:, None],
        event=lambda t, y, args: y - 1.0,
        transition=lambda t, y, kind, u, args: y - 0.9,
    )

    def loss(times, sizes, rate):
        driver = rs.PiecewisePath(times, jumps=sizes)
        sol = run(sde, driver, jnp.zeros(1), jumps, args=rate, max_events=4, gradient=method)
        return sol.event_times[0] + 0.7 * sol.event_times[1] ** 2 + jnp.sin(sol.y1[0])

    point = (jnp.asarray(TIMES), jnp.asarray(0.5 * SIZES), jnp.asarray(2.0))
    both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    gradient = both(*point)[1]
    for k, (x, slope) in enumerate(zip(point, gradient, strict=True)):
        for index in np.ndindex(x.shape):
            moved = [point[:k] + (x.at[index].add(s * 1e-6),) + point[k + 1 :] for s in (1, -1)]
            difference = (both(*moved[0])[0] - both(*moved[1])[0]) / 2e-6
            np.testing.assert_allclose(slope[index], difference, rtol=1e-6, atol=1e-8)
    assert np.all(np.asarray(gradient[0]) != 0)


def test_a_jump_across_the_threshold_is_an_event_at_its_time():
    sde = rs.EventSDE(
        drift=still,
        diffusion=lambda t, y, args: jnp.ones((1, 1)),
        event=lambda t, y, args: y - 1.0,
        transition=lambda t, y, kind, u, args: y - 1.0,
    )

    def first(times):
        return run(sde, rs.PiecewisePath(times, jumps=[0.6, 0.7]), jnp.zeros(1), max_events=2).event_times[0]

    np.testing.assert_allclose(first(jnp.array([0.31, 0.83])), 0.83, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(first)(jnp.array([0.31, 0.83])), [0.0, 1.0], atol=1e-12)


def test_spikes_drive_a_neuron():
    """A spike adds to the current; v from the two exponentials of the closed form."""
    neuron = rs.EventSDE(
        lambda t, y, args: jnp.stack([10.0 * (y[1] - y[0]), -4.0 * y[1]]),
        lambda t, y, args: jnp.array([[0.0, 0.0], [0.5, -0.2]]),
    )
    spikes = rs.SpikeTrain(np.array([[0.11, 0.52], [0.4, np.inf]]), t0=0.0, t1=1.5)
    sol = run(neuron, spikes, jnp.zeros(2), steps=3000, save_at=jnp.array([0.9]))
    kernel = lambda t: 10 / 6 * (np.exp(-4 * t) - np.exp(-10 * t))  # noqa: E731
    exact = 0.5 * kernel(0.9 - 0.11) + 0.5 * kernel(0.9 - 0.52) - 0.2 * kernel(0.9 - 0.4)
    np.testing.assert_allclose(sol.ys[0, 0], exact, rtol=1e-5)
