"""FeedForward: layers of spiking neurons, each driven by the spikes of the one before, or of any before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._constraints import Positive, Real, declare, parameter
from roughspike._types import as_float, concrete
from roughspike.currents.base import AbstractCurrent
from roughspike.networks.event_form import EventForm, Link, event_form, group_of
from roughspike.networks.synapses import Synapses, as_synapses
from roughspike.neurons.base import AbstractNeuron
from roughspike.neurons.flow import kappa
from roughspike.neurons.lif import SLIF
from roughspike.neurons.readout import Readout
from roughspike.neurons.threshold import is_hard
from roughspike.paths.spikes import SpikeTrain

_MEAN, _SPREAD = 2.4, 1.05  # of the peak potential of a neuron whose inputs spike once, together, in units of v_th
_READOUT_SPREAD = 0.5


class Skip(eqx.Module):
    """Synapses that reach a layer from one further back: `source` 0 is the inputs, k the k-th layer."""

    synapses: Synapses
    delays: Float[Array, "*delays"] | None = eqx.field(metadata=declare(Positive(), "time"))
    source: int = eqx.field(static=True)


class Layer(eqx.Module):
    """Neurons of one kind and the synapses that reach them.

    - `neuron`: `rs.LIF(...)`, `rs.SLIF(...)` or `rs.Readout(...)`.
    - `synapses`: from the layer before (rows).
    - `delays`: None, a scalar, one per presynaptic neuron (pre,), or one per synapse (pre, post).
    - `current`, `v0`, `i0`: input current and state at the start; scalars or (post,).
    - `skips`: synapses from layers further back.
    """

    neuron: SLIF | AbstractNeuron | Readout
    synapses: Synapses
    delays: Float[Array, "*delays"] | None = eqx.field(metadata=declare(Positive(), "time"))
    current: Float[Array, "*post"] | AbstractCurrent = eqx.field(metadata=declare(Real()))
    v0: Float[Array, "*post"] = parameter(Real())
    i0: Float[Array, "*post"] = parameter(Real())
    skips: tuple[Skip, ...] = ()

    @property
    def num_neurons(self) -> int:
        """Neurons of the layer."""
        return self.synapses.num_post

    @property
    def spikes(self) -> bool:
        """Do its neurons spike?"""
        return not isinstance(self.neuron, Readout)


class FeedForward(eqx.Module):
    """A network in layers: inputs, then layers of neurons, each driven by the spikes of the layer before.

    Layer k obeys the equations of its neuron, `rs.LIF` (hard threshold), `rs.SLIF` (escape rate, with or without
    diffusion) or `rs.Readout`; a spike of its neuron or input j adds w[j, k] to the synaptic current of neuron k of the
    next layer, at once or after a delay. With `skips` a layer is also reached from further back, so that the layers may
    form any directed acyclic graph.

    **Arguments**

    - `sizes`: number of inputs, then of the neurons of each layer.
    - `neuron`: one for all layers, or a sequence with one for each.
    - `key`: random key of the weights. They are normal, with a mean and a spread such that neurons whose inputs
      spike once peak at 2.4 +- 1 thresholds, so that few of them are silent; those of a readout have mean 0.
    - `weights`: in place of that, for each layer a matrix (pre, post) or an `rs.Synapses` (mask, Dale's law), or None
      where no synapses come from the layer just before.
    - `delays`: None; or for all layers, or a sequence with one for each: a scalar, (pre,) or (pre, post). Trainable.
    - `current`: input current, for all layers, or a sequence: a scalar, (post,), or a current object.
    - `readout`: `rs.Readout(...)` in place of the neurons of the last layer.
    - `v0`, `i0`: state at the start, for all layers, or a sequence: scalars or (post,).
    - `skips`: {(source, target): weights}, more synapses, from the layer `source` to a later one that is not the next;
      0 is the inputs, k the k-th layer. Weights as above. They are found in `layers[target - 1].skips`.
    - `skip_delays`: {(source, target): delays}, of those that have some.

    **Raises** ValueError naming the argument if shapes do not fit, or a delay is negative.

    >>> import jax.random as jr, roughspike as rs
    >>> net = rs.FeedForward([5, 120, 3], neuron=rs.LIF(tau_mem=20e-3, tau_syn=5e-3), key=jr.key(0))
    >>> [layer.synapses.dense().shape for layer in net.layers]
    [(5, 120), (120, 3)]
    >>> skip = 0.1 * jr.normal(jr.key(1), (5, 3))
    >>> net = rs.FeedForward([5, 120, 3], neuron=rs.LIF(), key=jr.key(0), skips={(0, 2): skip})
    """

    layers: tuple[Layer, ...]

    def __init__(
        self,
        sizes: Sequence[int],
        neuron: SLIF | AbstractNeuron | Sequence[SLIF | AbstractNeuron | Readout],
        key: jax.Array | None = None,
        *,
        weights: Sequence[Any] | None = None,
        delays: Any = None,
        current: Any = 0.0,
        readout: Readout | None = None,
        v0: Any = 0.0,
        i0: Any = 0.0,
        skips: Mapping[tuple[int, int], Any] | None = None,
        skip_delays: Mapping[tuple[int, int], Any] | None = None,
    ):
        sizes = [int(n) for n in sizes]
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes must name the inputs and at least one layer, all at least 1, got {sizes}")
        depth = len(sizes) - 1
        neurons = _per_layer("neuron", neuron, depth)
        if readout is not None:
            neurons[-1] = readout
        if any(isinstance(n, Readout) for n in neurons[:-1]):
            raise ValueError("only the last layer can be a readout: nothing reaches a layer behind it")
        if weights is None:
            if key is None:
                raise ValueError("key is missing: pass key=jr.key(0) for random weights, or weights")
            keys = jax.random.split(key, depth)
            weights = [initial_weights(k, n, a, b) for k, n, a, b in zip(keys, neurons, sizes, sizes[1:], strict=False)]
        each_weights = zip(_per_layer("weights", list(weights), depth), sizes, sizes[1:], strict=False)
        synapses = [_none(a, b) if w is None else as_synapses(w) for w, a, b in each_weights]
        reaching = _skips(sizes, skips or {}, skip_delays or {})
        each = {name: _per_layer(name, x, depth) for name, x in (("delays", delays), ("current", current))}
        starts = [_per_layer(name, x, depth) for name, x in (("v0", v0), ("i0", i0))]
        layers = []
        for k, (cell, w) in enumerate(zip(neurons, synapses, strict=True)):
            if (w.num_pre, w.num_post) != (sizes[k], sizes[k + 1]):
                raise ValueError(f"weights of layer {k} must be {sizes[k], sizes[k + 1]}, got {w.num_pre, w.num_post}")
            if isinstance(cell, SLIF):
                is_hard(cell)
            c = each["current"][k]
            c = c if isinstance(c, AbstractCurrent) else _vector("current", c, w.num_post)
            d = each["delays"][k]
            d = None if d is None else _checked_delays(d, w)
            v, i = (_vector(name, x[k], w.num_post) for name, x in zip(("v0", "i0"), starts, strict=True))
            layers.append(Layer(cell, w, d, c, v, i, reaching[k]))
        self.layers = tuple(layers)

    @property
    def num_inputs(self) -> int:
        """Number of input channels."""
        return self.layers[0].synapses.num_pre

    def as_event_sde(self, inputs: SpikeTrain | None = None, room: int = 4) -> EventForm:
        """The same network for `rs.solve`, neurons of all layers in one state; see `Recurrent.as_event_sde`.

        >>> import jax.numpy as jnp, jax.random as jr, numpy as np, roughspike as rs
        >>> net = rs.FeedForward([1, 2], neuron=rs.LIF(), weights=[jnp.array([[8.0, 9.0]])])
        >>> form = net.as_event_sde(rs.SpikeTrain(np.array([[1e-3, 7e-3]]), t1=0.03))
        >>> sol = rs.solve(form.sde, t0=0.0, t1=0.03, dt=1e-3, y0=form.start(jr.key(0)))
        >>> [int((sol.event_kinds == kind).sum()) for kind in form.spike_kinds]
        [3, 3]
        """
        groups = [group_of(x.neuron, x.current, x.v0, x.i0, x.num_neurons) for x in self.layers]
        times = None if inputs is None else jnp.asarray(inputs.times, self.layers[0].v0.dtype)
        links = [Link(k - 1, k, x.synapses.dense(), x.delays) for k, x in enumerate(self.layers)]
        for k, x in enumerate(self.layers):
            links += [Link(s.source - 1, k, s.synapses.dense(), s.delays) for s in x.skips]
        links = [link if link.source >= 0 else link._replace(times=times) for link in links]
        return event_form(groups, [link for link in links if link.source >= 0 or times is not None], room)


def initial_weights(
    key: jax.Array, neuron: SLIF | AbstractNeuron | Readout, num_pre: int, num_post: int
) -> Float[Array, "pre post"]:
    """Normal weights that keep neurons alive.

    A spike raises the potential by at most w kappa_max. With n inputs that spike once, at about the same time, the
    peak has mean n m kappa_max and spread sqrt(n) s kappa_max for weights N(m, s^2): m and s make these 2.4 and 1.05
    thresholds. Weights of both signs, s about m for few inputs, matter as much as the mean. A readout has mean 0 and
    spread 0.5.

    **Reference**: the constants are those of the weights N(3, 3) that trained best on Yin-Yang (docs, "Networks").
    """
    mu1, mu2 = neuron.mu[0], neuron.mu[1]
    times = jnp.linspace(0.0, 4.0, 401, dtype=neuron.mu.dtype) / jnp.minimum(mu1, jnp.maximum(mu2, 1e-3 * mu1))
    peak = jnp.max(kappa(mu1, mu2, times))
    mean, spread = (0.0, _READOUT_SPREAD) if isinstance(neuron, Readout) else (_MEAN, _SPREAD)
    v_th = 1.0 if isinstance(neuron, Readout) else getattr(neuron.escape, "v_th", 1.0)
    unit = v_th / peak
    normal = jax.random.normal(key, (num_pre, num_post), neuron.mu.dtype)
    return unit * (mean / num_pre + spread / np.sqrt(num_pre).astype(neuron.mu.dtype) * normal)


def _none(num_pre: int, num_post: int) -> Synapses:
    """No synapses."""
    zeros = np.zeros((num_pre, num_post))
    return Synapses(zeros, mask=zeros != 0)


def _skips(
    sizes: list[int], skips: Mapping[tuple[int, int], Any], delays: Mapping[tuple[int, int], Any]
) -> list[tuple[Skip, ...]]:
    """Of each layer the synapses that reach it from further back."""
    found: list[list[Skip]] = [[] for _ in sizes[1:]]
    lost = [pair for pair in delays if pair not in skips]
    if lost:
        raise ValueError(f"skip_delays has delays for {lost[0]}, which skips has not: give it weights there")
    for (source, target), weights in skips.items():
        if not 0 <= source < target - 1 < len(sizes) - 1:
            raise ValueError(
                f"skips must go from a layer to a later one that is not the next, among 0 (inputs) to "
                f"{len(sizes) - 1}, got {(source, target)}: give weights of neighbours by weights="
            )
        w, d = as_synapses(weights), delays.get((source, target))
        if (w.num_pre, w.num_post) != (sizes[source], sizes[target]):
            shapes = (sizes[source], sizes[target]), (w.num_pre, w.num_post)
            raise ValueError(f"skips[{source}, {target}] must be {shapes[0]}, got {shapes[1]}")
        found[target - 1].append(Skip(w, None if d is None else _checked_delays(d, w), source))
    return [tuple(x) for x in found]


def _per_layer(name: str, value: Any, depth: int) -> list[Any]:
    """One entry per layer."""
    if not isinstance(value, list | tuple):
        return [value] * depth
    if len(value) != depth:
        raise ValueError(f"{name} must have one entry for each of the {depth} layers, got {len(value)}")
    return list(value)


def _vector(name: str, value: Any, neurons: int) -> jax.Array:
    value = as_float(value)
    if value.shape not in ((), (neurons,)):
        raise ValueError(f"{name} must be a scalar or have shape ({neurons},), got shape {value.shape}")
    return value


def _checked_delays(delays: Any, synapses: Synapses) -> jax.Array:
    delays = as_float(delays)
    pre, post = synapses.num_pre, synapses.num_post
    if delays.shape not in ((), (pre,), (pre, post)):
        raise ValueError(f"delays must be a scalar or of shape ({pre},) or ({pre}, {post}), got shape {delays.shape}")
    host = concrete(delays)
    if host is not None and not np.all(host >= 0):
        raise ValueError(f"delays must not be negative, got {host.min()}")
    return delays
