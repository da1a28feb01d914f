"""A network of neurons as a multivariate point process."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from roughspike._constraints import Real, parameter
from roughspike.neurons.lif import SLIF
from roughspike.pointprocess.basis import AbstractBasis
from roughspike.pointprocess.links import AbstractLink


class PointProcessNetwork(eqx.Module):
    """Neurons that excite and inhibit each other's intensity; some are observed, the others hidden.

        lambda_i(t) = link(b_i + sum over earlier spikes s of neurons j, over k, of W[k, i, j] kappa_k(t - s))
        log p       = sum over spikes of log lambda - integral of sum_i lambda_i

    It has no membrane between spikes, so its likelihood is exact and cheap, and spikes of hidden neurons can be
    sampled given those of the observed ones. Observed neurons come first.

    **Arguments**

    - `num_observed`, `num_hidden`: how many neurons are recorded, and how many are not.
    - `basis`: filters of the lag, such as `EpanechnikovBasis`. `link`: the intensity, such as `SigmoidIntensity`.
    - `key`: draws weights from U(-5, 5), those of a neuron to itself from U(-5, -0.1), biases from U(-1, 1).
    - `weights`, `bias`: given instead of drawn, shapes (basis, post, pre) and (neurons,).

    **Raises** ValueError for shapes that do not fit, or if neither key nor both arrays are given.

    **Reference**: Kajino (2021), *A Differentiable Point Process with Its Application to Spiking Neural Networks*.

    >>> import jax.random as jr, roughspike as rs
    >>> net = rs.PointProcessNetwork(2, 1, basis=rs.ExponentialBasis(tau=(1.0,)), link=rs.SigmoidIntensity(5.0),
    ...                              key=jr.key(0))
    >>> net.weights.shape, net.bias.shape
    ((1, 3, 3), (3,))
    """

    weights: Float[Array, "basis post pre"] = parameter(Real())
    bias: Float[Array, " neurons"] = parameter(Real())
    basis: AbstractBasis
    link: AbstractLink
    num_observed: int = eqx.field(static=True)
    num_hidden: int = eqx.field(static=True)

    def __init__(
        self,
        num_observed: int,
        num_hidden: int = 0,
        *,
        basis: AbstractBasis,
        link: AbstractLink,
        key: jax.Array | None = None,
        weights: Any = None,
        bias: Any = None,
    ):
        if num_observed < 0 or num_hidden < 0 or num_observed + num_hidden < 1:
            raise ValueError(f"a network needs neurons: got num_observed={num_observed} and num_hidden={num_hidden}")
        size = num_observed + num_hidden
        shape = (basis.num_functions, size, size)
        if key is None and (weights is None or bias is None):
            raise ValueError("pass key=jax.random.key(...) to draw the parameters, or both weights and bias")
        if key is not None:
            w_key, b_key, self_key = jr.split(key, 3)
            own = jr.uniform(self_key, (basis.num_functions, size, 1), minval=-5.0, maxval=-0.1)
            diagonal = jnp.eye(size, dtype=bool)[None]
            drawn = jnp.where(diagonal, own, jr.uniform(w_key, shape, minval=-5.0, maxval=5.0))
            weights = drawn if weights is None else weights
            bias = jr.uniform(b_key, (size,), minval=-1.0, maxval=1.0) if bias is None else bias
        self.weights, self.bias = weights, bias
        self.basis, self.link = basis, link
        self.num_observed, self.num_hidden = num_observed, num_hidden
        if jnp.shape(weights) != shape or jnp.shape(bias) != (size,):
            raise ValueError(
                f"weights must have shape (basis, post, pre) = {shape} and bias ({size},), got {jnp.shape(weights)} "
                f"and {jnp.shape(bias)}"
            )

    @classmethod
    def from_slif(
        cls, neuron: SLIF, weights: Any, current: Any, num_observed: int, *, jumps: bool = False
    ) -> PointProcessNetwork:
        """A network of SLIF neurons without diffusion, whose hidden ones any estimator can then sample.

        With a subtractive reset the potential is a sum of responses to spikes, so it is a network of intensities:

            v_i(t) = c_i + sum over s < t, j of w_ji r(t - s) - v_reset sum over own s < t of e^{-mu1 (t - s)}
            r(t)   = mu1 (e^{-mu1 t} - e^{-mu2 t}) / (mu2 - mu1),     u_i = beta (v_i - v_th).

        **Arguments**

        - `neuron`: rates, reset, escape rate (bounded, `rs.SigmoidEscape`, where hidden neurons are to be thinned).
        - `weights`: (pre, post), as in `rs.Synapses`: a spike of pre adds to the synaptic current of post.
        - `current`: input c, a scalar or (neurons,); potentials start at rest, v = c.
        - `num_observed`: so many neurons come first and are observed.
        - `jumps`: a spike adds to the potential instead, r(t) = e^{-mu1 t}; potentials then jump at spikes.

        **Raises** ValueError for a neuron with diffusion, refractory time or a reset that is not linear.

        >>> import numpy as np, roughspike as rs
        >>> neuron = rs.SLIF(mu=(10.0, 50.0), v_reset=1.0, escape=rs.SigmoidEscape(tau_s=0.02))
        >>> rs.PointProcessNetwork.from_slif(neuron, np.zeros((3, 3)), 0.8, num_observed=1).num_hidden
        2
        """
        from roughspike.pointprocess.slif import slif_network

        return slif_network(neuron, weights, current, num_observed, jumps=jumps)

    @property
    def num_neurons(self) -> int:
        """Observed and hidden neurons."""
        return self.num_observed + self.num_hidden

    def potentials(
        self, features: Float[Array, "times basis neurons"], post: slice = slice(None)
    ) -> Float[Array, "times post"]:
        """u of the neurons `post` at some times, from what the basis sums there over the spikes of all neurons."""
        return self.bias[None, post] + jnp.einsum("kij,qkj->qi", self.weights[:, post], features)
