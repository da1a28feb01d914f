"""A regulariser that keeps the neurons of a layered network alive and sparing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from roughspike.networks.solution import Solution


def activity_penalty(
    solution: Solution, low: float = 0.5, high: int | None = None, v_th: float = 1.0
) -> Float[Array, ""]:
    r"""How far silent neurons are from a spike, and busy ones from fewer spikes.

    A neuron that never spikes has no spike time to differentiate, so a loss of spikes leaves it silent. Its potential
    does have a gradient. With n_{bk} the spikes of neuron k in sample b and m_k their mean over samples,

        P = sum over layers of the mean over b and k of
            max(0, 1 - m_k / low) 1{n_{bk} = 0} max(0, v_th - max_t v_{bk}(t))
            + max(0, t1 - t_{bk, high + 1}) / (t1 - t0)

    The first term pulls the highest potential of a neuron that is too quiet towards the threshold; its weight is not
    differentiated. The second moves the first spike too many out of the window, by its own exact derivative. Both
    vanish where every neuron spikes `low` times or more on average and never more than `high` times.

    **Arguments**

    - `solution`: of a layered network, run with `trace=True`.
    - `low`: mean spikes per sample below which a neuron is too quiet.
    - `high`: spikes of a neuron in a sample above which it is too busy; None for no limit. `max_spikes` must be larger.
    - `v_th`: the threshold, in the units of the potential.

    **Returns** a scalar to add to a loss, times a small factor.

    **Raises** ValueError for a solution without traces of layers, and for limits that make no sense.

    >>> import jax.random as jr, roughspike as rs
    >>> net = rs.FeedForward([5, 8, 3], neuron=rs.LIF(20e-3, 5e-3), key=jr.key(0), readout=rs.Readout())
    >>> inputs = rs.latency_code(rs.yin_yang(4)[0], t1=48e-3, latest=30e-3)
    >>> sol = rs.simulate(net, inputs=inputs, t1=48e-3, dt=1e-3, trace=True)
    >>> bool(rs.activity_penalty(sol, low=1.0, high=4) >= 0)
    True

    **Reference**: for the idea, Wunderlich & Pehle (2021), who raise the weights of silent neurons by hand.
    """
    if not isinstance(solution.membrane, tuple) or not solution.layers:
        raise ValueError("solution has no membrane of each layer: pass trace=True to rs.simulate of an rs.FeedForward")
    if low <= 0:
        raise ValueError(f"low must be greater than 0, got {low}")
    if high is not None and (high < 0 or high >= min(train.capacity for train in solution.layers)):
        raise ValueError(f"high must be at least 0 and less than max_spikes, got {high}: raise max_spikes")
    total = jnp.zeros((), solution.layers[0].times.dtype)
    for train, membrane in zip(solution.layers, solution.membrane, strict=False):  # a readout has a trace alone
        counts = train.counts
        rate = jnp.mean(counts.reshape(-1, counts.shape[-1]).astype(total.dtype), axis=0)
        quiet = jax.lax.stop_gradient(jnp.maximum(0.0, 1.0 - rate / low))
        short = jnp.where(counts == 0, jnp.maximum(0.0, v_th - jnp.max(membrane, axis=-1)), 0.0)
        total = total + jnp.mean(short.reshape(-1, rate.size) * quiet[None])
        if high is not None:
            surplus = train.times[..., high]
            late = jnp.where(jnp.isfinite(surplus), train.t1 - jnp.where(jnp.isfinite(surplus), surplus, 0.0), 0.0)
            total = total + jnp.mean(late) / (train.t1 - train.t0)
    return total
