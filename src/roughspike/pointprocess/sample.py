"""sample and sample_relaxed: spikes of a network, and their differentiable relaxation."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float

from roughspike._types import SimulationError, is_concrete
from roughspike.paths.spikes import SpikeTrain, unchecked
from roughspike.pointprocess.basis import Span
from roughspike.pointprocess.events import Events, events_of, train_of
from roughspike.pointprocess.likelihood import check_neurons
from roughspike.pointprocess.network import PointProcessNetwork
from roughspike.pointprocess.rescaling import Run, rescaled_sample
from roughspike.pointprocess.thinning import (
    HARD,
    RELAXED,
    STRAIGHT_THROUGH,
    Candidates,
    Scan,
    check_bounded,
    draw_candidates,
    marks,
)

_FIRST_ROOM = 256
_MOST_ROOM = 1 << 20


class RelaxedSpikes(eqx.Module):
    """What `sample_relaxed` returns: every candidate with a soft mark for each neuron.

    **Attributes**

    - `times`: candidates in the order of time, padded with t1; no parameter moves them.
    - `marks`: how far each of them is a spike of each neuron, between 0 and 1, differentiable in the network; 0 for
      padding. The rest to 1 is "no spike".
    - `real`: which candidates are none of the padding.
    """

    times: Float[Array, "*samples candidates"]
    marks: Float[Array, "*samples candidates neurons"]
    real: Bool[Array, "*samples candidates"]
    t0: float = eqx.field(static=True)
    t1: float = eqx.field(static=True)

    @property
    def counts(self) -> Float[Array, "*samples neurons"]:
        """Soft number of spikes of each neuron."""
        return jnp.sum(self.marks, axis=-2)


def sample(
    net: PointProcessNetwork,
    *,
    t1: float,
    key: jax.Array,
    num_samples: int | None = None,
    t0: float = 0.0,
    dt: float | None = None,
    max_spikes: int | None = None,
    observed: SpikeTrain | None = None,
) -> SpikeTrain:
    """Spikes of all neurons, observed ones first, of a network that is silent before t0.

    By default by thinning, which is exact and needs a bounded intensity such as `SigmoidIntensity`. With a step `dt` by
    time rescaling, which needs no bound: the total intensity is integrated as a quadratic on each piece of a grid of
    that step, cut at spikes; choose a tenth of the narrowest filter or less.

    **Arguments**

    - `t0`, `t1`: the window, plain numbers. `key`: a JAX random key.
    - `num_samples`: gives the result a leading axis; None is one sample without it.
    - `dt`: step of time rescaling; None for thinning.
    - `max_spikes`: room for spikes, all neurons together, of time rescaling. None: as many as there are.
    - `observed`: one trial of spikes of the observed neurons; then the hidden ones alone are sampled, each from its
      intensity given all earlier spikes. The window is that of `observed`, which must be t0, t1.

    **Returns** a SpikeTrain, batch shape (num_samples,) or (). **Raises** ValueError before any work for an intensity
    without bound, or a window that makes no sense; SimulationError if the network explodes. Under `jit`, where nothing
    can be raised, the times are then NaN.

    **Reference**: Ogata (1981), IEEE Trans. Inf. Theory 27; Kajino (2021), algorithm 1; Brown et al. (2002).

    >>> import jax.random as jr, roughspike as rs
    >>> net = rs.PointProcessNetwork(2, 4, basis=rs.EpanechnikovBasis(centres=(0.0, 10.0)),
    ...                              link=rs.SigmoidIntensity(5.0), key=jr.key(0))
    >>> spikes = rs.sample(net, t1=50.0, key=jr.key(1), num_samples=10)
    >>> spikes.batch_shape, spikes.num_neurons
    ((10,), 6)
    """
    span, given = _check(net, t0, t1, num_samples, observed)
    keys = jr.split(key, 1 if num_samples is None else num_samples)
    if dt is None:
        check_bounded(net.link, "pass dt=..., to sample by time rescaling, which needs no bound")
        train = _thinned(net, keys, span, given)
    else:
        train = _rescaled(net, keys, span, dt, max_spikes, given)
    train = _trimmed(train)
    return train[0] if num_samples is None else train


def sample_relaxed(
    net: PointProcessNetwork,
    *,
    t1: float,
    temperature: Any,
    key: jax.Array,
    num_samples: int | None = None,
    t0: float = 0.0,
    observed: SpikeTrain | None = None,
    straight_through: bool = False,
) -> RelaxedSpikes:
    """The differentiable point process: thinning in which every candidate stays, with marks that are soft.

    The mark of a candidate is softmax((log probabilities + Gumbel noise) / temperature) over the neurons and "none",
    and acts on later candidates in proportion. As the temperature tends to 0 the marks tend to those of `sample` with
    the same key. Differentiable in the network; a derivative costs as much as the sample again.

    **Arguments** as for `sample`, and

    - `temperature`: greater than 0; may be traced. Below 0.1 the variance of gradients explodes.
    - `straight_through`: marks are those of the hard process, their gradient that of the relaxed one.

    **Raises** ValueError for an intensity without bound or a temperature that is not positive.

    **Reference**: Kajino (2021), section 4.

    >>> import jax, jax.random as jr, roughspike as rs
    >>> net = rs.PointProcessNetwork(1, basis=rs.AlphaBasis(tau=(1.0,)), link=rs.SigmoidIntensity(5.0), key=jr.key(0))
    >>> count = lambda net: rs.sample_relaxed(net, t1=10.0, temperature=0.3, key=jr.key(1)).counts.sum()
    >>> bool(jax.grad(lambda b: count(rs.PointProcessNetwork(1, basis=net.basis, link=net.link, weights=net.weights,
    ...                                                      bias=b)))(net.bias)[0] > 0)
    True
    """
    span, given = _check(net, t0, t1, num_samples, observed)
    check_bounded(net.link, "sample the hard process with rs.sample(..., dt=...)")
    check_temperature(temperature)
    keys = jr.split(key, 1 if num_samples is None else num_samples)
    kind = STRAIGHT_THROUGH if straight_through else RELAXED
    found, soft = _relaxed(net, keys, span, given, jnp.asarray(temperature, net.bias.dtype), kind)
    relaxed = RelaxedSpikes(found.times, soft, found.real, span.start, span.stop)
    return jax.tree.map(lambda x: x[0], relaxed) if num_samples is None else relaxed


def sample_marks(
    net: PointProcessNetwork, key: jax.Array, span: Span, given: Events, temperature: Any, kind: str
) -> tuple[Candidates, jax.Array]:
    """One sample of all neurons, or of the hidden ones if events of the observed are given: candidates and marks."""
    first = given.marks.shape[1]
    post = slice(first, None)
    size = net.num_neurons - first
    assert net.link.bound is not None
    candidates = draw_candidates(key, net.link.bound * size, size + 1, span, net.bias.dtype)
    scan = Scan(base_potentials(net, candidates.times, given, span), net.weights[:, post, post])
    return candidates, marks(scan, candidates, temperature, kind, net.basis, net.link, span)


def base_potentials(
    net: PointProcessNetwork, times: Float[Array, " times"], given: Events, span: Span
) -> Float[Array, "times neurons"]:
    """Potentials of the neurons that are not given, without input from each other."""
    first = given.marks.shape[1]
    post = slice(first, None)
    if first == 0:
        return jnp.broadcast_to(net.bias, (len(times), net.num_neurons))
    features = net.basis.features(times, given.times, given.marks, span)
    return net.bias[None, post] + jnp.einsum("kij,qkj->qi", net.weights[:, post, :first], features)


def check_temperature(temperature: Any) -> None:
    """**Raises** ValueError unless a concrete temperature is greater than 0."""
    if is_concrete(temperature) and not np.all(np.asarray(temperature) > 0):
        raise ValueError(f"temperature must be greater than 0, got {temperature}; at 0 it is rs.sample")


def no_events(dtype: Any, span: Span) -> Events:
    """Events of no neuron."""
    return Events(jnp.full(1, span.stop, dtype), jnp.zeros((1, 0), dtype))


@eqx.filter_jit
def _relaxed(net, keys, span, given, temperature, kind) -> tuple[Candidates, jax.Array]:
    return jax.vmap(lambda key: sample_marks(net, key, span, given, temperature, kind))(keys)


@eqx.filter_jit
def _thinned(net: PointProcessNetwork, keys: jax.Array, span: Span, given: Events) -> SpikeTrain:
    found, hard = jax.vmap(lambda key: sample_marks(net, key, span, given, 1.0, HARD))(keys)
    train = train_of(Events(found.times, hard), span)
    lost = jnp.isnan(found.times[:, :1, None])
    return unchecked(jnp.where(lost, jnp.nan, train.times), span.start, span.stop)


def _rescaled(
    net: PointProcessNetwork, keys: jax.Array, span: Span, dt: float, max_spikes: int | None, given: Events
) -> SpikeTrain:
    room = _FIRST_ROOM if max_spikes is None else max_spikes
    while True:
        run = _run_rescaled(net, keys, span, dt, room, given)
        if not is_concrete(run.full) or not bool(jnp.any(run.full)):
            train = train_of(run.events, span)
            times = jnp.where(run.full[:, None, None], jnp.nan, train.times)
            return unchecked(times, span.start, span.stop)
        if max_spikes is not None or room >= _MOST_ROOM:
            stopped = int(jnp.sum(run.full))
            raise SimulationError(
                f"{stopped} of {len(keys)} samples have more than {room} spikes: a network that excites itself with an "
                "intensity without bound can explode; weaken its weights, shorten the window, or raise max_spikes"
            )
        room *= 4


@eqx.filter_jit
def _run_rescaled(net, keys, span, dt, room, given) -> Run:
    return jax.vmap(lambda key: rescaled_sample(net, key, span, dt, room, given))(keys)


def _trimmed(train: SpikeTrain) -> SpikeTrain:
    """Without the slots that no neuron uses, where times are concrete."""
    if not is_concrete(train.times):
        return train
    times = np.asarray(train.times)
    if np.isnan(times).any():
        raise SimulationError("more candidates than there is room for, which has odds of 1e-9: use another key")
    most = int(np.isfinite(times).sum(-1).max(initial=0))
    return unchecked(train.times[..., : max(1, most)], train.t0, train.t1)


def _check(
    net: PointProcessNetwork, t0: float, t1: float, num_samples: int | None, observed: SpikeTrain | None
) -> tuple[Span, Events]:
    """The window, and the events that are given. **Raises** ValueError."""
    span = Span(float(t0), float(t1))
    if not span.stop > span.start:
        raise ValueError(f"t1 must lie after t0, got t0={t0}, t1={t1}")
    if num_samples is not None and num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, or None for a single sample, got {num_samples}")
    if observed is None:
        return span, no_events(net.bias.dtype, span)
    check_neurons(net.num_observed, observed, "the network has num_observed")
    if observed.batch_shape:
        raise ValueError(f"observed must be one trial, got batch axes {observed.batch_shape}: pass observed[k]")
    if net.num_hidden == 0:
        raise ValueError("the network has no hidden neuron to sample given the observed ones: leave observed out")
    if (observed.t0, observed.t1) != span:
        raise ValueError(f"observed lies on [{observed.t0:g}, {observed.t1:g}]: pass t0, t1 of the same window")
    return span, events_of(observed, net.bias.dtype)
