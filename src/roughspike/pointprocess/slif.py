"""An SLIF network as a network of intensities: the potential of a neuron is a sum of responses to spikes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from roughspike._types import concrete
from roughspike.neurons.escape import AbstractEscape, ExponentialEscape, SigmoidEscape, SoftplusEscape
from roughspike.neurons.lif import SLIF
from roughspike.neurons.reset import SubtractiveReset
from roughspike.pointprocess.decaying import ExponentialBasis
from roughspike.pointprocess.links import AbstractLink, ExponentialIntensity, SigmoidIntensity, SoftplusIntensity

if TYPE_CHECKING:
    from roughspike.pointprocess.network import PointProcessNetwork

_LINKS: dict[type[AbstractEscape], type[SigmoidIntensity] | type[ExponentialIntensity] | type[SoftplusIntensity]] = {
    SigmoidEscape: SigmoidIntensity,
    ExponentialEscape: ExponentialIntensity,
    SoftplusEscape: SoftplusIntensity,
}


def slif_network(
    neuron: SLIF, weights: Any, current: Any, num_observed: int, *, jumps: bool = False
) -> PointProcessNetwork:
    """`PointProcessNetwork.from_slif`, which says what it does."""
    from roughspike.pointprocess.network import PointProcessNetwork

    mu = _check(neuron, jumps)
    weights, current = jnp.asarray(weights, float), jnp.asarray(current, float)
    size = weights.shape[0]
    if weights.shape != (size, size) or current.shape not in ((), (size,)):
        raise ValueError(
            f"weights must be square (pre, post) and current a scalar or of shape ({size},), got {weights.shape} and "
            f"{current.shape}"
        )
    escape: Any = neuron.escape  # one of _LINKS
    membrane = weights.T if jumps else weights.T * mu[0] / (mu[1] - mu[0])
    own = neuron.v_reset * jnp.eye(size)
    parts = [membrane - own] if jumps else [membrane - own, -membrane]
    return PointProcessNetwork(
        num_observed,
        size - num_observed,
        basis=ExponentialBasis(tau=(1 / mu[0],) if jumps else (1 / mu[0], 1 / mu[1])),
        link=_link(escape),
        weights=escape.beta * jnp.stack(parts),
        bias=escape.beta * (jnp.broadcast_to(current, (size,)) - escape.v_th),
    )


def _link(escape: Any) -> AbstractLink:
    return _LINKS[type(escape)](amplitude=1 / float(escape.tau_s))


def _check(neuron: SLIF, jumps: bool) -> tuple[float, float]:
    """The rates, plain numbers. **Raises** ValueError for a neuron whose potential is no sum of responses to spikes."""
    mu, alpha, tau = concrete(neuron.mu), concrete(neuron.alpha), concrete(getattr(neuron.escape, "tau_s", None))
    wrong = None
    if mu is None or tau is None:
        wrong = "its rates mu and tau_s must be plain numbers, for filters have fixed time constants"
    elif neuron.has_diffusion:
        wrong = "it has diffusion (sigma): spikes then do not determine the potential"
    elif alpha is None or float(alpha) != 0 or neuron.refractory is not None:
        wrong = "it is refractory: use alpha=0 and refractory=None"
    elif not isinstance(neuron.reset, SubtractiveReset) or neuron.self_weight is not None:
        wrong = "its reset is not linear: use reset=SubtractiveReset() and self_weight=None"
    elif type(neuron.escape) not in _LINKS:
        wrong = f"its escape rate must be one of {', '.join(e.__name__ for e in _LINKS)}"
    elif not jumps and (not mu[1] > 0 or np.isclose(mu[0], mu[1])):
        wrong = "its rates must be mu1 > 0 and mu2 > 0, not the same; or pass jumps=True for synapses without a current"
    if wrong is not None or mu is None:
        raise ValueError(f"neuron is no sum of responses to spikes: {wrong}")
    return float(mu[0]), float(mu[1])
