"""What the tests of recurrent networks share: given noise, a loss that sees a whole run, derivatives by differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from roughspike.networks.coupled import Noise, Options
from roughspike.paths.drivers import LinearDriver


class PlainDriver(LinearDriver):
    """The linear driver without the bridge correction: the random ODE that `rs.solve` integrates."""

    def bridge_variance(self, r, h):
        return 0.0 * r * h


def options(steps, h, *, samples=None, batch=(), driver=None, trace=False, forward_mode=False, capacity=16, per_step=1):
    """Options of a run from 0."""
    driver = PlainDriver() if driver is None else driver
    return Options(0.0, steps * h, steps, samples, batch, driver, trace, forward_mode, capacity, per_step)


def noise_of(net, opts, seed):
    """Noise from NumPy, with uniforms away from 0 so that all neurons spike."""
    rng = np.random.default_rng(seed)
    normals = len(net.neuron.noise_channels) * opts.driver.num_normals
    shape = opts.lanes, opts.steps, normals, net.num_neurons
    log_u = np.log(rng.uniform(0.1, 1.0, (opts.lanes, opts.capacity + 1, net.num_neurons)))
    return Noise(jnp.asarray(rng.standard_normal(shape)), jnp.asarray(log_u))


def weigh(ran):
    """A scalar that depends on every spike time, the final state and the trace, with signs that do not cancel."""
    finite = jnp.isfinite(ran.times)
    signs = jnp.asarray(np.cos(1.3 * np.arange(ran.times.size) + 0.4).reshape(ran.times.shape))
    total = jnp.sum(jnp.where(finite, signs * jnp.sin(jnp.where(finite, ran.times, 0.0)), 0.0))
    total += jnp.sum(jnp.tanh(ran.end.v) + 0.3 * ran.end.i + 0.2 * jnp.tanh(ran.end.s))
    if ran.membrane is not None:
        total += 0.1 * jnp.sum(jnp.sin(ran.membrane))
    return total


def relative_gap(a, b):
    """Largest difference of two pytrees, leaf by leaf, relative to the size of the leaf."""
    gaps = jax.tree.map(lambda x, y: float(jnp.max(jnp.abs(x - y)) / (1e-12 + jnp.max(jnp.abs(y)))), a, b)
    return max(jax.tree.leaves(gaps))


def difference_errors(value, at, gradient, free):
    """Per name the relative error of the derivative in each group of `free` along a random direction, by differences.

    `value`: arguments -> scalar. `free`: name -> function of a pytree like `at`, which returns the leaves to move. Of
    three step sizes the best counts: a scheme jumps by O(h^4) where a spike crosses a grid point.
    """
    flat, back = ravel_pytree(at)
    slope, _ = ravel_pytree(gradient)
    where = _positions(at)
    rng = np.random.default_rng(7)
    steps = np.array([1e-6, 3e-7, 1e-7])
    directions = []
    for pick in free.values():
        direction = np.zeros(flat.size)
        index = np.concatenate([np.ravel(x) for x in jax.tree.leaves(pick(where))]).astype(int)
        direction[index] = rng.choice([-1.0, 1.0], index.size) * rng.uniform(0.5, 1.0, index.size)
        directions.append(direction)
    directions = np.stack(directions)
    moves = np.concatenate([steps, -steps])[:, None, None] * directions
    values = np.asarray(
        jax.jit(lambda xs: jax.lax.map(lambda x: value(back(x)), xs))(flat[None] + moves.reshape(-1, flat.size))
    )
    values = values.reshape(2, len(steps), -1)
    differences = (values[0] - values[1]) / (2 * steps[:, None])
    exact = directions @ np.asarray(slope)
    errors = np.min(np.abs(differences - exact) / np.maximum(np.abs(exact), 1e-3), axis=0)
    return dict(zip(free, errors, strict=True)), dict(zip(free, exact, strict=True))


def _positions(tree):
    """The tree with every entry replaced by its place in the flat vector."""
    flat, back = ravel_pytree(tree)
    return back(jnp.arange(flat.size, dtype=flat.dtype))
