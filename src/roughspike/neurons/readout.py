"""A leaky membrane that never spikes: the output of a network that is read as a voltage."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from roughspike._constraints import KeepsSign, parameter
from roughspike._types import as_float, concrete


class Readout(eqx.Module):
    """Leaky membrane without spikes: tau_mem dv = (i + c - v) dt, tau_syn di = -i dt.

    As the last layer of a network, whose voltage is then `Solution.membrane`. The voltage is continuous in the spikes
    that feed it and starts from nothing at each of them, so a loss on it knows no jump when two spikes change order.

    **Arguments**

    - `tau_mem`, `tau_syn`: time constants, greater than 0; they may be equal.

    **Raises** ValueError for time constants that are not positive.

    >>> import roughspike as rs
    >>> [round(float(rate)) for rate in rs.Readout(tau_mem=20e-3, tau_syn=5e-3).mu]
    [50, 200]
    """

    mu: Float[Array, "2"] = parameter(KeepsSign(), unit="1/time")

    def __init__(self, tau_mem: Any = 20e-3, tau_syn: Any = 5e-3):
        for name, value in (("tau_mem", tau_mem), ("tau_syn", tau_syn)):
            host = concrete(value)
            if host is not None and not np.all(host > 0):
                raise ValueError(f"{name} must be greater than 0, got {host}: it is a time constant")
        self.mu = 1.0 / as_float([tau_mem, tau_syn])
