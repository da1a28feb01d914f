"""Static kernels: the geometry in which a path's increments are measured."""

from __future__ import annotations

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class AbstractStaticKernel(eqx.Module):
    """A positive definite kernel on states; a signature kernel lifts it to paths.

    A member defines `products(x, y)`: the inner products of the increments of two paths after the feature map,

        rho_ij = kappa(x_{i+1}, y_{j+1}) - kappa(x_i, y_{j+1}) - kappa(x_{i+1}, y_j) + kappa(x_i, y_j).
    """

    @abc.abstractmethod
    def products(
        self, x: Float[Array, "vertices channels"], y: Float[Array, "others channels"]
    ) -> Float[Array, "segments pieces"]:
        """Inner products of the increments of two paths."""


class LinearKernel(AbstractStaticKernel):
    """kappa(x, y) = <x, y>: the signature kernel of the path itself.

    >>> import jax.numpy as jnp
    >>> path = jnp.array([[0.0, 0.0], [1.0, 2.0]])
    >>> LinearKernel().products(path, path).tolist()
    [[5.0]]
    """

    def products(
        self, x: Float[Array, "vertices channels"], y: Float[Array, "others channels"]
    ) -> Float[Array, "segments pieces"]:
        """<dx_i, dy_j>."""
        return jnp.diff(x, axis=0) @ jnp.diff(y, axis=0).T


class RBFKernel(AbstractStaticKernel):
    """kappa(x, y) = exp(-|x - y|^2 / (2 scale^2)): the path moves in the kernel's feature space.

    A segment, jump or time move, is a chord in feature space from one vertex to the next: for jumps this is the Marcus
    lift of the path in feature space. It is a different kernel from the one along the straight line in the space of
    states, to which it tends when segments are cut into many. Time moves are chords too: cut them for a finer path.

    **Arguments**

    - `scale`: the distance at which two states are told apart.
    """

    scale: float | Float[Array, ""] = 1.0

    def products(
        self, x: Float[Array, "vertices channels"], y: Float[Array, "others channels"]
    ) -> Float[Array, "segments pieces"]:
        """Second differences of the Gaussian."""
        squares = jnp.sum(jnp.square(x[:, None] - y[None]), axis=-1)
        values = jnp.exp(squares * (-0.5 / jnp.square(jnp.asarray(self.scale, x.dtype))))
        return jnp.diff(jnp.diff(values, axis=0), axis=1)


def path_products(static: AbstractStaticKernel, x: jax.Array, y: jax.Array) -> jax.Array:
    """`products` of rows of paths, (pairs, vertices, channels) each, as (segments, pieces, pairs)."""
    return jnp.moveaxis(jax.vmap(static.products)(x, y), 0, -1)
