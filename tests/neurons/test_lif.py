"""SLIF: its fields, its structure, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import roughspike as rs


def test_defaults_and_fields():
    neuron = rs.SLIF()
    assert neuron.mu.shape == (2,) and neuron.sigma.shape == (2, 2)
    assert neuron.refractory is None and neuron.self_weight is None and not neuron.has_diffusion
    assert isinstance(neuron.escape, rs.ExponentialEscape) and isinstance(neuron.reset, rs.SubtractiveReset)


def test_every_numeric_field_is_a_leaf():
    neuron = rs.SLIF(refractory=0.1, self_weight=-1)
    assert len(jax.tree.leaves(neuron)) == 9  # mu sigma v_reset alpha beta v_th tau_s refractory self_weight
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(neuron))


@pytest.mark.parametrize(
    ("sigma", "channels"),
    [
        (((0.0, 0.0), (0.0, 0.0)), ()),
        (((0.2, 0.0), (0.0, 0.0)), (0,)),
        (((0.0, 0.0), (0.0, 0.3)), (1,)),
        (((0.2, 0.0), (0.1, 0.0)), (0,)),
        (((0.2, 0.1), (0.1, 0.3)), (0, 1)),
    ],
)
def test_noise_that_is_zero_is_absent(sigma, channels):
    for given in (sigma, np.array(sigma), jnp.array(sigma)):
        assert rs.SLIF(sigma=given).noise_channels == channels


def test_structure_under_jit_is_that_outside():
    inside = {}

    def make(s):
        inside["nested"] = rs.SLIF(sigma=((s, 0.0), (0.0, 0.0))).noise
        inside["rows"] = rs.SLIF(sigma=(jnp.stack([s, s]), (0.0, 0.0))).noise
        inside["array"] = rs.SLIF(sigma=s * jnp.eye(2)).noise
        inside["constant"] = rs.SLIF(sigma=jnp.array([[0.2, 0.0], [0.0, 0.0]])).noise
        return s

    jax.jit(make)(0.3)
    assert inside["nested"] == rs.SLIF(sigma=((0.3, 0.0), (0.0, 0.0))).noise
    assert inside["rows"] == ((True, True), (False, False))
    assert inside["array"] == ((True, True), (True, True))


def test_traced_arguments():
    def total(mu1, sigma, v_reset, alpha, beta, refractory, weight):
        neuron = rs.SLIF(
            mu=(mu1, 0.0),
            sigma=((sigma, 0.0), (0.0, 0.0)),
            v_reset=v_reset,
            alpha=alpha,
            escape=rs.ExponentialEscape(beta=beta),
            refractory=refractory,
            self_weight=weight,
        )
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(neuron))

    values = (15.0, 0.25, 1.4, 0.03, 5.0, 0.1, -1.0)
    gradient = jax.jit(jax.grad(total, argnums=tuple(range(7))))(*values)
    np.testing.assert_array_equal(gradient, np.ones(7))
    many = jax.vmap(total)(*(jnp.full(3, x) for x in values))
    assert many.shape == (3,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"sigma": 0.25},
            r"sigma must be 2 x 2 .*got shape \(\): for noise of size s .* pass \(\(s, 0.0\)",
        ),
        ({"sigma": (0.25, 0.0)}, r"sigma must be 2 x 2 .*got shape \(2,\)"),
        ({"sigma": np.eye(3)}, r"sigma must be 2 x 2 .*got shape \(3, 3\)"),
        ({"sigma": ((0.1, 0.2), (0.1,))}, "must be rectangular"),
        ({"sigma": ((np.nan, 0.0), (0.0, 0.0))}, "sigma must be finite"),
        ({"mu": 15.0}, r"mu must be two rates \(membrane, current\), got shape \(\)"),
        ({"mu": (-1.0, 0.0)}, "mu must have a positive membrane rate"),
        ({"mu": (1.0, -2.0)}, "non-negative current rate"),
        ({"mu": (np.nan, 0.0)}, "mu must have a positive membrane rate"),
        ({"alpha": -0.1}, "alpha must not be negative, got -0.1: pass 0.0 to switch it off"),
        ({"refractory": -0.1}, "refractory must not be negative"),
        ({"v_reset": (1.0, 2.0)}, r"v_reset must be a scalar, got shape \(2,\)"),
        ({"self_weight": np.ones(2)}, r"self_weight must be a scalar, got shape \(2,\)"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        rs.SLIF(**arguments)


def test_bad_shapes_are_refused_under_jit_too():
    with pytest.raises(ValueError, match="sigma must be 2 x 2"):
        jax.jit(lambda s: rs.SLIF(sigma=s).sigma)(jnp.ones(3))


def test_resets_are_affine():
    v_reset = jnp.asarray(1.5)
    assert (rs.SubtractiveReset().keep, float(rs.SubtractiveReset().shift(v_reset))) == (1.0, -1.5)
    assert (rs.ResetToValue().keep, float(rs.ResetToValue().shift(v_reset))) == (0.0, 1.5)
