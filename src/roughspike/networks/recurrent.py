"""A recurrent network: neurons of one kind, coupled by weights, with or without delays."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._constraints import Positive, Real, declare, parameter
from roughspike._types import as_float, concrete
from roughspike.currents.base import AbstractCurrent, as_current
from roughspike.networks.event_form import EventForm, Link, event_form, group_of
from roughspike.networks.synapses import Synapses, as_synapses
from roughspike.neurons.base import AbstractNeuron
from roughspike.neurons.lif import SLIF
from roughspike.neurons.threshold import is_hard
from roughspike.paths.spikes import SpikeTrain


class Recurrent(eqx.Module):
    """Neurons of one kind, each driven by its own current and noise and by the spikes of all.

        between spikes   as `SLIF`
        spike of k       i_j <- i_j + w[k, j] for all j, at once or a delay later; and k's own transition

    `simulate` picks the engine. Without delays (`ordered`) spikes are handled one by one in the order of time; of two
    at the same time the lower index comes first. With delays of at least a step (`delayed`) neurons are independent
    inside a step, and a spike costs one row of weights.

    **Arguments**

    - `neuron`: the dynamics.
    - `weights`: a matrix (neurons, neurons), rows presynaptic; or `rs.Synapses`: sparse connections, masks, Dale's law.
    - `current`: a scalar, shape (neurons,), or a current such as `PiecewiseLinear`.
    - `delays`: None; or a scalar, (neurons,) one per presynaptic neuron (axonal), or of the shape of the weights, one
      per synapse. Trainable.
    - `max_delay`: the longest delay that there is room for, a plain number. None: twice the longest of `delays`;
      needed where `delays` is traced.
    - `input_weights`: (channels, neurons) or `Synapses`, what spikes from outside (`simulate(..., inputs=train)`) do.
    - `v0`, `i0`: initial potential and synaptic current, scalars or shape (neurons,).

    **Raises** ValueError naming the argument for shapes that do not fit, (concrete) delays that are not positive, or a
    hard threshold without delays.

    **Reference**: Holberg & Salvi (2024), section 3.

    >>> import jax.numpy as jnp, jax.random as jr, roughspike as rs
    >>> net = rs.Recurrent(rs.SLIF(mu=(15.0, 10.0)), weights=0.1 * jnp.ones((3, 3)), current=1.2)
    >>> sol = rs.simulate(net, t1=1.0, dt=0.01, key=jr.key(0))
    >>> sol.spikes.times.shape, bool(sol.result.ok)
    ((3, 64), True)
    """

    neuron: Any  # SLIF or AbstractNeuron
    synapses: Synapses
    inputs: Synapses | None
    current: Float[Array, "*neurons"] | AbstractCurrent = eqx.field(metadata=declare(Real()))
    delays: Float[Array, "..."] | None = eqx.field(metadata=declare(Positive(), "time"))
    v0: Float[Array, "*neurons"] = parameter(Real())
    i0: Float[Array, "*neurons"] = parameter(Real())
    max_delay: float | None = eqx.field(static=True)

    def __init__(
        self,
        neuron: SLIF | AbstractNeuron,
        *,
        weights: Any,
        current: Any = 0.0,
        delays: Any = None,
        max_delay: float | None = None,
        input_weights: Any = None,
        v0: Any = 0.0,
        i0: Any = 0.0,
    ):
        self.neuron, self.synapses = neuron, as_synapses(weights)
        self.current = current if isinstance(current, AbstractCurrent) else as_float(current)
        self.delays = None if delays is None else as_float(delays)
        self.inputs = None if input_weights is None else as_synapses(input_weights)
        self.v0, self.i0 = as_float(v0), as_float(i0)
        self.max_delay = None if self.delays is None else _longest(self.delays, max_delay)
        _check_shapes(self)

    @property
    def num_neurons(self) -> int:
        """Number of neurons."""
        return self.synapses.num_post

    @property
    def weights(self) -> Float[Array, "pre fan_out"]:
        """The weights as they were given: a matrix, or those of the sparse connections."""
        return self.synapses.values

    def as_event_sde(self, inputs: SpikeTrain | None = None, room: int = 4) -> EventForm:
        """The same network for `rs.solve`: slow, general, the ground truth that the engines are tested against.

        A spike on its way is a time in the state, and its arrival an event.

        **Arguments**

        - `inputs`: input spikes of one run, times (channels, capacity).
        - `room`: how many spikes of one neuron may be on their way at once; with one more the run is not finite.

        **Raises** ValueError for a neuron other than an `rs.SLIF`, a current that changes in time, or one delay for
        each sparse connection.

        >>> import jax.numpy as jnp, jax.random as jr, roughspike as rs
        >>> net = rs.Recurrent(rs.SLIF(mu=(15.0, 10.0)), weights=0.1 * jnp.ones((2, 2)), current=1.2)
        >>> form = net.as_event_sde()
        >>> sol = rs.solve(form.sde, t0=0.0, t1=1.0, dt=0.01, y0=form.start(jr.key(0)), key=jr.key(1), max_events=64)
        >>> bool(sol.result.ok)
        True
        """
        group = group_of(self.neuron, self.current, self.v0, self.i0, self.num_neurons)
        delays = self.delays
        if delays is not None and delays.ndim == 2 and self.synapses.targets is not None:
            raise ValueError("as_event_sde takes one delay per synapse of a matrix only: pass weights=synapses.dense()")
        links = [Link(0, 0, self.synapses.dense(), delays)]
        if inputs is not None and self.inputs is not None:
            links.append(Link(-1, 0, self.inputs.dense(), None, jnp.asarray(inputs.times, self.weights.dtype)))
        return event_form([group], links, room)


def _longest(delays: jax.Array, max_delay: float | None) -> float:
    known = concrete(delays)
    if known is not None and not np.all(known > 0):
        raise ValueError(f"delays must be greater than 0, got {known.min():g}: pass None for a network without delays")
    if max_delay is not None:
        return float(max_delay)
    if known is None:
        raise ValueError("max_delay is missing: where delays are traced the room for them must be a plain number")
    return 2.0 * float(known.max())


def _check_shapes(net: Recurrent) -> None:
    count = net.num_neurons
    if isinstance(net.neuron, AbstractNeuron):
        if net.delays is None:
            raise ValueError(
                f"without delays the neuron must be an rs.SLIF, got {type(net.neuron).__name__}: pass delays of a step "
                "or more"
            )
    elif is_hard(net.neuron) and net.delays is None:
        raise ValueError(
            "a hard threshold needs delays in a recurrent network (without, neurons that drive each other over the "
            "threshold have no order): pass delays, or a neuron with an escape rate"
        )
    if net.synapses.num_pre != count:
        raise ValueError(f"weights must have one row per neuron, {count}, got {net.synapses.num_pre}")
    if isinstance(net.current, jax.Array) and net.current.ndim > 1:
        raise ValueError(f"current must be a scalar, of shape (neurons,) or a current object, got {net.current.shape}")
    sizes = {"current": as_current(net.current).num_neurons, "v0": net.v0.size, "i0": net.i0.size}
    for name, size in sizes.items():
        if size not in (1, count):
            raise ValueError(f"{name} must be a scalar or have one value for each of {count} neurons, got {size}")
    if net.inputs is not None and net.inputs.num_post != count:
        raise ValueError(f"input_weights must lead to {count} neurons, got {net.inputs.num_post}")
    if net.delays is not None and net.delays.shape not in ((), (count,), net.weights.shape):
        raise ValueError(
            f"delays must be a scalar, of shape ({count},) or one per synapse, {net.weights.shape}, "
            f"got shape {net.delays.shape}"
        )
