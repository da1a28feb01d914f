"""What the backward pass of a layer need not be given: the end of a step before its spikes, where they only shift v.

A neuron that is reset by subtraction has at the end of a step what it would have without its spikes there, and of each
spike at x

    shift e^{-mu1 h (1 - x)} + self_weight kappa(h (1 - x))

so the spikes and v at the end of the step say where the path ended. A quarter of the memory of a noisy layer.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from roughspike.networks.decay import Decay, horner
from roughspike.networks.general import General
from roughspike.networks.kinds import Escape, Kind


def is_thin(kind: Kind | General, lean: bool) -> bool:
    """Is what a kind keeps made less?"""
    return lean and isinstance(kind, Escape) and kind.static.keep == 1.0


def thinned(kind: Kind | General, lean: bool, kept: Any) -> Any:
    """What a kind keeps of a step, without the end of its path."""
    return kept[:3] if is_thin(kind, lean) else kept


def refilled(co: Any, decay: Decay, kept: Any, known: tuple[jax.Array, ...], after: jax.Array) -> Any:
    """What a kind kept, from what `thinned` left of it, the spikes and v at the end of the step."""
    v, rest, middle = kept
    late = 0.0
    for x in known:
        on = co.shift * horner(decay.membrane, 0.5 - x)
        if co.self_weight is not None:
            on = on + co.self_weight * horner(decay.response, 0.5 - x)
        late = late + jnp.where(x >= 0, on, 0.0)
    return v, rest, middle, after - co.decay * v - late
