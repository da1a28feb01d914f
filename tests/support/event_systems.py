"""Event SDEs that several tests use, and what they need to compare derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import roughspike as rs

METHODS = {
    "direct": rs.Direct(),
    "blocks": rs.Direct(checkpoints=7),
    "forward": rs.Forward(),
    "adjoint": rs.Adjoint(),
}


def bouncing_ball(on_floor: bool = False) -> rs.EventSDE:
    """Height and velocity; args g and e. `on_floor`: the transition puts the ball exactly on the floor."""
    return rs.EventSDE(
        drift=lambda t, y, args: jnp.stack([y[1], -args["g"]]),
        event=lambda t, y, args: -y[:1],
        transition=lambda t, y, kind, u, args: jnp.stack([0.0 * y[0] if on_floor else y[0], -args["e"] * y[1]]),
    )


def impacts(number: int, y0: Any, args: Any) -> jax.Array:
    """Closed form: the first impact times of the ball dropped at t = 0, differentiable."""
    height, speed, g, e = y0[0], y0[1], args["g"], args["e"]
    down = jnp.sqrt(speed**2 + 2 * g * height)
    gaps = 2 * down / g * e ** jnp.arange(1.0, number)
    return (speed + down) / g + jnp.concatenate([jnp.zeros(1), jnp.cumsum(gaps)])


def central_differences(function: Callable[[Any], jax.Array], at: Any, h: float = 1e-6) -> Any:
    """Gradient of a scalar function of a pytree, by central differences in every number."""
    flat, back = ravel_pytree(at)
    steps = h * jnp.eye(flat.size)
    pairs = [(function(back(flat + d)), function(back(flat - d))) for d in steps]
    return back(jnp.stack([(a - b) / (2 * h) for a, b in pairs]))


def relative_error(found: Any, wanted: Any) -> float:
    """Largest difference over the largest entry, leaf by leaf."""
    worst = 0.0
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        worst = max(worst, float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-3)))
    return worst
