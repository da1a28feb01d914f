"""The hard threshold: the limit of an infinitely steep escape rate, and the deterministic neuron that has it."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from roughspike._constraints import Real, declare
from roughspike._types import as_float, concrete
from roughspike.neurons.escape import AbstractEscape
from roughspike.neurons.lif import SLIF
from roughspike.neurons.reset import AbstractReset, ResetToValue


class HardThreshold(AbstractEscape):
    """lambda(v) = 0 below v_th and infinite from there on: a spike when v reaches v_th from below.

    The limit beta -> infinity of `ExponentialEscape`, and the other setting of the same neuron: `rs.LIF`. With a hard
    threshold there is neither diffusion (the pathwise gradient would not exist: the noise moves the event function,
    assumption 3.4) nor a soft refractory threshold.

    **Arguments**

    - `v_th`: threshold potential.
    """

    v_th: jax.Array = eqx.field(converter=as_float, metadata=declare(Real()), default=1.0)

    def log_rate(self, v: jax.Array) -> jax.Array:
        """-infinity below the threshold, +infinity from there on."""
        return jnp.where(v >= self.v_th, jnp.inf, -jnp.inf).astype(jnp.result_type(v))

    def curvature(self, v: jax.Array) -> jax.Array:
        """0 on both sides of the threshold."""
        return jnp.zeros_like(v)


def LIF(  # noqa: N802  it stands for a neuron, as SLIF does
    tau_mem: Any = 20e-3,
    tau_syn: Any = 5e-3,
    v_th: Any = 1.0,
    v_reset: Any = None,
    reset: AbstractReset | None = None,
) -> SLIF:
    """Leaky integrate-and-fire neuron with a hard threshold: the deterministic setting of `rs.SLIF`.

        between spikes   tau_mem dv = (i + c(t) - v) dt,    tau_syn di = -i dt
        spike            when v reaches v_th from below
        transition       v <- v - v_reset (or v_reset)

    Its spike times have the derivative d tau = -Dv / (dv/dt): exact as long as no spike appears or vanishes, and blind
    to those that do (docs, "Networks").

    **Arguments**

    - `tau_mem`, `tau_syn`: time constants of membrane and synaptic current, greater than 0; they may be equal.
    - `v_th`: threshold.
    - `v_reset`: by how much (or to where) a spike resets the potential; None for `v_th`, that is, to 0.
    - `reset`: `SubtractiveReset()` or `ResetToValue()`. At a hard threshold they differ in what `v_reset` means.

    **Returns** an `rs.SLIF` with `escape=HardThreshold(v_th)` and `mu = (1 / tau_mem, 1 / tau_syn)`.

    **Raises** ValueError for time constants that are not positive.

    **Reference**: Wunderlich & Pehle (2021), equations (1) and (2), up to the reset.

    >>> import roughspike as rs
    >>> neuron = rs.LIF(tau_mem=20e-3, tau_syn=5e-3, v_th=1.0)
    >>> [round(float(rate)) for rate in neuron.mu]
    [50, 200]
    """
    for name, value in (("tau_mem", tau_mem), ("tau_syn", tau_syn)):
        host = concrete(value)
        if host is not None and not np.all(host > 0):
            raise ValueError(f"{name} must be greater than 0, got {host}: it is a time constant")
    mu = (1.0 / as_float(tau_mem), 1.0 / as_float(tau_syn))
    if v_reset is None:
        v_reset = 0.0 if isinstance(reset, ResetToValue) else v_th
    return SLIF(mu, v_reset=v_reset, escape=HardThreshold(as_float(v_th)), reset=reset)


def is_hard(neuron: SLIF) -> bool:
    """Has the neuron a hard threshold?

    **Raises** ValueError if it also has diffusion, a soft refractory threshold, a refractory time or a self-weight.
    """
    if not isinstance(neuron.escape, HardThreshold):
        return False
    alpha = concrete(neuron.alpha)
    odd = {
        "diffusion sigma": neuron.has_diffusion,
        "alpha": alpha is not None and bool(np.any(alpha != 0)),
        "refractory": neuron.refractory is not None,
        "self_weight": neuron.self_weight is not None,
    }
    if any(odd.values()):
        what = " and ".join(name for name, present in odd.items() if present)
        raise ValueError(
            f"a hard threshold does not go with {what}: for noise and refractoriness give the neuron an escape rate, "
            "escape=rs.ExponentialEscape(...)"
        )
    return True
