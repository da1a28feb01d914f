"""What the tests of recurrent networks share: given noise, a loss that sees a whole run, derivatives by differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from roughspike.networks.coupled import Noise, run_on
from roughspike.networks.means import prepare_means
from roughspike.networks.options import Options
from roughspike.paths.drivers import LinearDriver


class PlainDriver(LinearDriver):
    """The linear driver without the bridge correction: the random ODE that `rs.solve` integrates."""

    def bridge_variance(self, r, h):
        return 0.0 * r * h


def options(steps, h, *, samples=None, batch=(), driver=None, trace=False, forward_mode=False, capacity=16, per_step=1):
    """Options of a run from 0."""
    driver = PlainDriver() if driver is None else driver
    room = {"batch": batch, "capacity": capacity, "per_step": (per_step,)}
    return Options(0.0, steps * h, steps, samples, driver, trace, forward_mode, **room)


def noise_of(net, opts, seed):
    """Noise from NumPy, with uniforms away from 0 so that all neurons spike."""
    rng = np.random.default_rng(seed)
    normals = len(net.neuron.noise_channels) * opts.driver.num_normals
    shape = opts.steps, normals, opts.lanes, net.num_neurons
    log_u = np.log(rng.uniform(0.1, 1.0, (opts.capacity + 1, opts.lanes, net.num_neurons)))
    return Noise(jnp.asarray(rng.standard_normal(shape)), jnp.asarray(log_u))


class Case:
    """A network, input times, its noise, and the gradients of `weigh` in (network, input times), by hand and by JAX."""

    def __init__(self, net, times, opts, seed=2, compare=True, noisy=True, compiler=None):
        self.at, self.options, self.compiler = (net, times), opts, compiler
        self.noise = noise_of(net, opts, seed) if noisy else None
        self.prepared = prepare_means(net.current, 0.0, opts.t1, opts.steps)
        by_hand, (counts, flags) = self._gradient(False)
        self.by_hand = by_hand
        self.by_jax = self._gradient(True)[0] if compare else None
        self.counts, self.flags = np.asarray(counts), np.asarray(flags)

    def loss(self, at, forward_mode=False):
        """A number that depends on the whole run; spike counts and flags."""
        ran = run_on(at[0], self.prepared, at[1], self.noise, self.options._replace(forward_mode=forward_mode))
        return weigh(ran), (ran.counts, ran.flags)

    def _gradient(self, forward_mode):
        of = jax.grad(lambda at: self.loss(at, forward_mode), has_aux=True, allow_int=True)
        gradient, aux = jax.jit(of, compiler_options=self.compiler)(self.at)
        return jax.tree.map(lambda x: jnp.zeros(()) if x.dtype == jax.dtypes.float0 else x, gradient), aux

    def errors(self, free):
        """What `difference_errors` returns for the parameters that the functions in `free` pick."""
        is_float = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
        numbers = jax.tree.map(lambda x: x if is_float(x) else None, self.at)
        others = jax.tree.map(lambda x: None if is_float(x) else x, self.at)
        none = lambda x: x is None  # noqa: E731
        join = lambda at: jax.tree.map(lambda a, b: b if a is None else a, at, others, is_leaf=none)  # noqa: E731
        gradient = jax.tree.map(lambda x, g: None if x is None else g, numbers, self.by_hand, is_leaf=none)
        return difference_errors(lambda at: self.loss(join(at))[0], numbers, gradient, free, self.compiler)


def weigh(ran):
    """A scalar that depends on every spike time, the final state and the trace, with signs that do not cancel."""
    finite = jnp.isfinite(ran.times)
    signs = jnp.asarray(np.cos(1.3 * np.arange(ran.times.size) + 0.4).reshape(ran.times.shape))
    total = jnp.sum(jnp.where(finite, signs * jnp.sin(jnp.where(finite, ran.times, 0.0)), 0.0))
    total += jnp.sum(jnp.tanh(ran.end.v) + 0.3 * ran.end.i)
    if hasattr(ran.end, "s"):
        total += 0.2 * jnp.sum(jnp.tanh(ran.end.s))
    if ran.membrane is not None:
        total += 0.1 * jnp.sum(jnp.sin(ran.membrane))
    return total


def relative_gap(a, b):
    """Largest difference of two pytrees, leaf by leaf, relative to the size of the leaf."""
    gap = lambda x, y: float(np.max(np.abs(x - y)) / (1e-12 + np.max(np.abs(y))))  # noqa: E731
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(gap(np.asarray(x), np.asarray(y)) for x, y in pairs)


def difference_errors(value, at, gradient, free, compiler=None):
    """Per name the relative error of the derivative in each group of `free` along a random direction, by differences.

    `value`: arguments -> scalar. `free`: name -> function of a pytree like `at`, which returns the leaves to move. Of
    three step sizes the best counts: a scheme jumps by O(h^4) where a spike crosses a grid point.
    """
    flat, back = ravel_pytree(at)
    slope = np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient)])  # compiles nothing
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
    each = jax.jit(lambda xs: jax.lax.map(lambda x: value(back(x)), xs), compiler_options=compiler)
    values = np.asarray(each(flat[None] + moves.reshape(-1, flat.size)))
    values = values.reshape(2, len(steps), -1)
    differences = (values[0] - values[1]) / (2 * steps[:, None])
    exact = directions @ np.asarray(slope)
    errors = np.min(np.abs(differences - exact) / np.maximum(np.abs(exact), 1e-3), axis=0)
    return dict(zip(free, errors, strict=True)), dict(zip(free, exact, strict=True))


def _positions(tree):
    """The tree with every entry replaced by its place in the flat vector."""
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([np.size(x) for x in leaves])
    return jax.tree.unflatten(
        structure, [np.arange(e - np.size(x), e).reshape(np.shape(x)) for x, e in zip(leaves, ends, strict=True)]
    )
