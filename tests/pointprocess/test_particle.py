"""The particle filter of hidden neurons: exact where hidden neurons do nothing, without bias where they do."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import roughspike as rs
from roughspike.pointprocess.basis import Span
from roughspike.pointprocess.elbo import bound_of
from roughspike.pointprocess.events import by_trial, events_of
from roughspike.pointprocess.particle import particle_filter

BASIS, LINK = rs.EpanechnikovBasis(centres=(0.0, 0.5), width=0.5), rs.SigmoidIntensity(3.0)
TRAIN = rs.SpikeTrain(np.array([[0.3, 0.35, 0.9, 1.6]]), 0.0, 2.0)


def network(key, factor):
    net = rs.PointProcessNetwork(1, 1, basis=BASIS, link=LINK, key=jr.key(key))
    return eqx.tree_at(lambda n: n.weights, net, factor * net.weights)


@pytest.fixture(scope="module")
def pair():
    with jax.enable_x64(True):
        return network(1, 1.0), network(2, 0.5)


def test_hidden_neurons_without_effect(pair):
    """20 runs of 400 particles from a posterior that is another network: their weights must cancel in mean."""
    net, posterior = pair
    net = eqx.tree_at(lambda n: n.weights, net, net.weights.at[:, 0, 1].set(0.0))
    alone = rs.PointProcessNetwork(1, basis=BASIS, link=LINK, weights=net.weights[:, :1, :1], bias=net.bias[:1])
    wanted = rs.log_likelihood(alone, TRAIN)
    np.testing.assert_allclose(rs.log_likelihood(net, TRAIN, key=jr.key(0), num_particles=3), wanted, atol=2e-3)
    events = jax.tree.map(lambda x: jnp.repeat(x, 20, 0), by_trial(events_of(TRAIN, jnp.float64)))
    found = particle_filter(net, posterior, events, Span(0.0, 2.0), 4, 4, 1 / 32, 400, jr.key(0)).log_p
    ratio = np.exp(np.asarray(found - wanted))
    print(ratio.mean(), "+-", ratio.std() / np.sqrt(20))
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(20) < 0.3


def test_mean_of_the_estimate_is_that_of_importance_sampling(pair):
    """p(observed): 8 times 2,000 particles that are never drawn anew, and 150 runs of 32 that are in each window."""
    net, _ = pair
    span, events = Span(0.0, 2.0), by_trial(events_of(TRAIN, jnp.float64))

    def runs(count, windows, particles):
        many = jax.tree.map(lambda x: jnp.repeat(x, count, 0), events)
        each = np.exp(
            np.asarray(particle_filter(net, None, many, span, windows, 4, 1 / 32, particles, jr.key(particles))[0])
        )
        return each.mean(), each.std() / np.sqrt(count)

    (a, a_error), (b, b_error) = runs(8, 1, 2000), runs(150, 4, 32)
    print(f"{a} +- {a_error}, {b} +- {b_error}")
    assert abs(a - b) < 4 * np.hypot(a_error, b_error) < 0.2 * a


def test_gradient_of_log_p(pair):
    """Fisher's identity along one direction: mean of 300 gradients, and a difference of 8 times 4,000 particles.

    The observed neuron is too silent for its spikes, and the direction makes it less so.
    """
    net = eqx.tree_at(lambda n: n.bias, pair[0], pair[0].bias.at[0].add(-2.0))
    span, events = Span(0.0, 2.0), by_trial(events_of(TRAIN, jnp.float64))
    step = jax.tree.map(lambda x: 0.05 * jnp.asarray(np.random.default_rng(0).standard_normal(x.shape)), net)
    step = eqx.tree_at(lambda n: n.bias, step, step.bias.at[0].set(0.4))
    many = jax.tree.map(lambda x: jnp.repeat(x, 8, 0), events)

    def log_p(sign):
        moved = jax.tree.map(lambda x, d: x + 0.5 * sign * d, net, step)
        each = np.exp(np.asarray(particle_filter(moved, None, many, span, 1, 4, 1 / 32, 4000, jr.key(0)).log_p))
        return np.log(each.mean()), each.std() / each.mean() / np.sqrt(8)

    (up, up_error), (down, down_error) = log_p(1.0), log_p(-1.0)

    @jax.jit
    def slope(keys):
        bound = lambda net, key: bound_of(net, None, events, span, 1 / 16, key, rs.Particles(), 32)  # noqa: E731
        found = jax.vmap(lambda key: jax.grad(bound)(net, key))(keys)
        pairs = zip(jax.tree.leaves(found), jax.tree.leaves(step), strict=True)
        return sum(jnp.sum(a * b[None], range(1, a.ndim)) for a, b in pairs)

    each = np.asarray(slope(jr.split(jr.key(1), 300)))
    error = np.sqrt(up_error**2 + down_error**2 + each.var() / 300)
    print(f"{each.mean()} and {up - down}, +- {error}")
    assert abs(each.mean() - (up - down)) < 4 * error + 0.02 and abs(up - down) > 8 * error


def test_too_many_spikes_in_a_window_are_refused(pair):
    with pytest.raises(ValueError, match=r"up to 2: pass rs.Particles\(room=2\)"):
        rs.elbo(pair[0], TRAIN, key=jr.key(0), estimator=rs.Particles(room=1), num_samples=2)


def test_one_number_for_each_trial(pair):
    """Of hidden neurons, and of all in the data."""
    net = pair[0]
    both = rs.sample(net, t1=2.0, key=jr.key(0), num_samples=3)
    seen = rs.SpikeTrain(np.asarray(both.times)[:, :1], 0.0, 2.0)
    for data in (both, seen):
        options = dict(key=jr.key(1), num_particles=3)
        each = rs.log_likelihood(net, data, **options, per_trial=True)
        assert each.shape == (3,)
        np.testing.assert_allclose(jnp.sum(each), rs.log_likelihood(net, data, **options), rtol=1e-12)
    np.testing.assert_allclose(rs.log_likelihood(net, both[1:2]), rs.log_likelihood(net, both, per_trial=True)[1])


def test_what_is_refused(pair):
    net, _ = pair
    with pytest.raises(ValueError, match="1 neurons are hidden, so log p needs a particle filter: pass key"):
        rs.log_likelihood(net, TRAIN)
    with pytest.raises(ValueError, match="num_particles must be at least 1"):
        rs.log_likelihood(net, TRAIN, key=jr.key(0), num_particles=0)
    unbounded = rs.PointProcessNetwork(1, 1, basis=BASIS, link=rs.SoftplusIntensity(), key=jr.key(0))
    with pytest.raises(ValueError, match="upper bound"):
        rs.log_likelihood(unbounded, TRAIN, key=jr.key(0))
