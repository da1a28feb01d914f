"""eligibility: learn the weights of a layered network online, in one pass, by three factors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from roughspike._types import NOT_FINITE, SPIKE_BUFFER_FULL, Result
from roughspike.networks.arrivals import input_pairs
from roughspike.networks.cells import Cell, cell, is_random
from roughspike.networks.feedforward import FeedForward, Layer
from roughspike.networks.inputs import as_inputs
from roughspike.networks.means import half_means, prepare_means
from roughspike.networks.noise import CHUNK, draw_log_uniforms, draw_normals, normals_per_step
from roughspike.networks.options import Options, check_rates, room_in_a_step
from roughspike.networks.recurrent import Recurrent
from roughspike.networks.solution import undeclared_noise
from roughspike.networks.traces import Moved, Sent, Traces, advance, as_last, no_traces
from roughspike.paths import grid
from roughspike.paths.drivers import LinearDriver
from roughspike.paths.spikes import SpikeTrain


class Moment(NamedTuple):
    """What a loss sees of one step of the last layer.

    - `times`: its spikes in this step, (slots, neurons), +inf where there are none.
    - `counts`: how many each neuron had before this step, (neurons,).
    - `membrane`: v at the end of the step, (neurons,).
    """

    times: jax.Array
    counts: jax.Array
    membrane: jax.Array


class Learned(eqx.Module):
    """What `eligibility` returns.

    **Attributes**

    - `network`: with the weights at the end; those it came with if there was no optimiser.
    - `gradient`: of the loss since the last update (without an optimiser: of the whole run) in the values of each
      layer's weights, in the layout of its `Synapses`.
    - `losses`: the loss summed over the steps between updates, (updates,).
    - `counts`: spikes of each layer's neurons, a tuple; a readout has zeros.
    - `result`: how the run ended.
    """

    network: FeedForward
    gradient: tuple[Float[Array, "_ _"], ...]
    losses: Float[Array, "updates"]
    counts: tuple[Int[Array, "_"], ...]
    result: Result


def eligibility(
    network: FeedForward | Recurrent,
    loss: Callable[[Any, Moment], Any],
    *,
    t1: float,
    dt: float,
    key: jax.Array | None = None,
    inputs: SpikeTrain | None = None,
    optimiser: Any = None,
    every: int | None = None,
    t0: float = 0.0,
    max_spikes: int = 256,
    max_spikes_per_step: int | None = None,
) -> Learned:
    """Run a layered network once and learn its weights on the way: the three-factor rule, exact.

    A synapse carries the derivative of its neuron's state in its weight, moved forward by local rules,

        presynaptic trace    da = -mu2 a dt, and + 1 at a spike of j
        synapse              de_v = mu1 (a - e_v) dt,  de_s = lambda'(v) e_v dt
        at a spike of k      d tau / dw = -e_s / lambda(v-),  e_v += -mu1 v_reset d tau,  e_s = -lambda(v+) d tau

    and the third factor is the derivative of the loss in v, or in a spike time, of the last layer, now. The sum of the
    products is the gradient of sum_steps loss(t, moment), the same number as by the adjoint, but known at every moment
    and without a backward pass: memory does not grow with the run. Weights of hidden layers carry their derivative
    through the layers behind, one number for each neuron there, so this pays with few outputs.

    **Arguments**

    - `loss`: (t, moment) -> scalar, added at the end t of each step. `moment` has the last layer's spike `times` in
      this step, (slots, neurons), +inf where there are none, its `counts` before, and its `membrane` at the end.
    - `t0`, `t1`, `dt`, `key`: as in `rs.simulate`, and with the same noise.
    - `inputs`: a SpikeTrain without batch.
    - `optimiser`: an optax optimiser, which moves the weights while the run goes on. None: only the gradient is wanted.
    - `every`: steps between updates; None: one update, at the end.
    - `max_spikes`: room for thresholds, one number for each spike of a neuron with an escape rate.
    - `max_spikes_per_step`: spikes of one neuron that a step may hold. None: as in `rs.simulate`, without retry.

    **Returns** `network` with its new weights, `gradient`, `losses`, `counts`, `result`. Between updates the gradient
    is exact; after one the traces still belong to the old weights, an error of the order of the learning rate.

    **Raises** ValueError naming the argument: layers with delays, batches of inputs, a step that is too coarse.

    **Reference**: the recursion (6)-(7) of Holberg & Salvi (2024), ordered as in Bellec et al. (2020), who drop the
    derivative through the reset and through later layers; here nothing is dropped.

    >>> import jax.numpy as jnp, jax.random as jr, roughspike as rs
    >>> net = rs.FeedForward([4, 1], rs.LIF(), weights=[jnp.zeros((4, 1))], readout=rs.Readout())
    >>> spikes = rs.poisson_spikes(jr.key(0), 40.0 * jnp.ones(4), t1=0.5)
    >>> def loss(t, now):
    ...     return jnp.sum((now.membrane - 1.0) ** 2)
    >>> found = rs.eligibility(net, loss, inputs=spikes, t1=0.5, dt=1e-3)
    >>> found.gradient[0].shape, bool(found.result.ok)
    ((4, 1), True)
    """
    steps = grid.num_steps(t0, t1, dt)
    _check(network, inputs, key, optimiser, every, max_spikes)
    assert isinstance(network, FeedForward)
    per_step = tuple(
        room_in_a_step(layer.neuron, (t1 - t0) / steps) if max_spikes_per_step is None else max_spikes_per_step
        for layer in network.layers
    )
    options = Options(float(t0), float(t1), steps, None, LinearDriver(), capacity=max_spikes, per_step=per_step)
    for layer in network.layers:
        check_rates(layer.neuron, options.h)
    prepared = tuple(prepare_means(x.current, options.t0, options.t1, steps) for x in network.layers)
    times = None
    if inputs is not None:
        times = as_inputs(inputs, network.num_inputs, options.t0, network.layers[0].v0.dtype).T[..., None]
    every = steps if every is None else min(every, steps)
    return _learn(network, loss, prepared, times, key, optimiser, every, options)


def _check(network: Any, inputs: Any, key: Any, optimiser: Any, every: int | None, max_spikes: int) -> None:
    if not isinstance(network, FeedForward):
        raise ValueError(
            f"network must be an rs.FeedForward, got {type(network).__name__}: in a recurrent network every weight "
            "moves every neuron, and the adjoint (jax.grad of rs.simulate) is the cheaper way"
        )
    if any(layer.delays is not None for layer in network.layers):
        raise ValueError("eligibility has no layers with delays: pass a network with delays=None")
    if any(layer.skips for layer in network.layers):
        raise ValueError("eligibility has no skips: pass a network whose layers follow one another")
    if inputs is not None and inputs.times.ndim != 2:
        raise ValueError(f"inputs must have no batch, got times of shape {inputs.times.shape}: use jax.vmap outside")
    if key is None and any(is_random(layer.neuron) for layer in network.layers):
        raise ValueError("key is missing: a layer with an escape rate is random; pass key=jr.key(0)")
    if max_spikes < 1 or (every is not None and every < 1):
        raise ValueError(f"max_spikes and every must be at least 1, got {max_spikes} and {every}")
    if optimiser is None and every is not None:
        raise ValueError("every says how often to update the weights: pass an optimiser, such as optax.sgd(1e-3)")
    if optimiser is not None and not (hasattr(optimiser, "init") and hasattr(optimiser, "update")):
        raise ValueError("optimiser must have init and update, as those of optax have: pass optax.adam(1e-3), say")


class _Carry(NamedTuple):
    """Of each layer: values of its synapses, state, traces, spike counts; and what learning has gathered."""

    weights: tuple[jax.Array, ...]
    states: tuple[Any, ...]
    traces: tuple[Traces, ...]
    counts: tuple[jax.Array, ...]
    gradient: tuple[jax.Array, ...]
    memory: Any  # of the optimiser
    losses: jax.Array
    flags: jax.Array


@eqx.filter_jit
def _learn(
    network: FeedForward, loss: Any, prepared: Any, times: Any, key: Any, optimiser: Any, every: int, options: Options
) -> Learned:
    run = _Run(network, loss, prepared, times, key, optimiser, every, options)
    chunks = jnp.arange(-(-options.steps // CHUNK), dtype=jnp.int32)
    end, _ = jax.lax.scan(run.chunk, run.first(), chunks)
    flags, most = end.flags, jnp.zeros((), jnp.int32)
    for layer, count in zip(network.layers, end.counts, strict=True):
        if is_random(layer.neuron):
            most = jnp.maximum(most, jnp.max(count))
            flags = flags | undeclared_noise(layer.neuron)
    flags = flags | jnp.where(most > options.capacity, SPIKE_BUFFER_FULL, 0)
    return Learned(
        run.with_weights(end.weights),
        end.gradient,
        end.losses,
        end.counts,
        Result(flags.astype(jnp.int32), most),
    )


class _Run:
    """A run: what stays the same from step to step."""

    def __init__(
        self,
        network: Any,
        loss: Any,
        prepared: Any,
        times: Any,
        key: Any,
        optimiser: Any,
        every: int,
        options: Options,
    ):
        self.network, self.loss, self.times, self.optimiser = network, loss, times, optimiser
        self.every, self.options = every, options
        keys = [None] * len(network.layers) if key is None else list(jax.random.split(key, len(network.layers)))
        self.keys: list[Any] = []
        self.cells: list[Cell] = []
        self.log_u: list[Any] = []
        for k, layer in enumerate(network.layers):
            made, noise_key, log_u = self._cell(layer, prepared[k], keys[k], options.per_step[k])
            self.cells.append(made)
            self.keys.append(noise_key)
            self.log_u.append(log_u)

    def _cell(self, layer: Layer, prepared: Any, key: Any, slots: int) -> tuple[Cell, Any, Any]:
        """The cell of a layer, the key of its normals and its log uniforms, drawn as `simulate` draws them."""
        options, neurons, dtype = self.options, layer.num_neurons, layer.v0.dtype
        full = lambda x: jnp.broadcast_to(x, (neurons,))  # noqa: E731
        means = half_means(layer.current, prepared, options.steps, neurons)[..., 0]
        halves = (means[0], means[1]) if means.ndim == 2 else (means[:, 0], means[:, 1])
        noise_key, log_u = None, None
        if is_random(layer.neuron):
            noise_key, threshold_key = jax.random.split(key)
            log_u = draw_log_uniforms(threshold_key, (options.capacity + 1, neurons, 1), dtype)[..., 0]
        first = None if log_u is None else log_u[0]
        options = options._replace(forward_mode=True)  # one lane a neuron: all at once
        return cell(layer.neuron, options, slots, halves, full(layer.v0), full(layer.i0), first), noise_key, log_u

    def first(self) -> _Carry:
        """The carry before the first step."""
        layers = self.network.layers
        weights = tuple(_values(layer) for layer in layers)
        shapes = [(layer.synapses.num_pre, layer.num_neurons) for layer in layers]
        return _Carry(
            weights=weights,
            states=tuple(c.start for c in self.cells),
            traces=tuple(no_traces(c, shapes[: k + 1]) for k, c in enumerate(self.cells)),
            counts=tuple(jnp.zeros(n, jnp.int32) for _, n in shapes),
            gradient=jax.tree.map(jnp.zeros_like, weights),
            memory=None if self.optimiser is None else self.optimiser.init(weights),
            losses=jnp.zeros(-(-self.options.steps // self.every), weights[0].dtype),
            flags=jnp.zeros((), jnp.int32),
        )

    def with_weights(self, weights: tuple[jax.Array, ...]) -> FeedForward:
        """The network with other values of its synapses."""
        return eqx.tree_at(lambda n: [_values(layer) for layer in n.layers], self.network, list(weights))

    def chunk(self, carry: _Carry, chunk: jax.Array) -> tuple[_Carry, None]:
        """Some steps, for which noise and input spikes are laid out at once."""
        first, dtype = chunk * CHUNK, carry.weights[0].dtype
        normals = []
        for layer, key in zip(self.network.layers, self.keys, strict=True):
            count = 0 if key is None else normals_per_step(layer.neuron, self.options.driver)
            shape = (count, layer.num_neurons, 1)
            normals.append(draw_normals(key, chunk, CHUNK, shape, dtype)[..., 0] if count and key is not None else None)
        steps = first + jnp.arange(CHUNK, dtype=jnp.int32)
        return jax.lax.scan(self._step, carry, (steps, tuple(normals), self._inputs(first, dtype)))

    def _inputs(self, first: jax.Array, dtype: Any) -> tuple[jax.Array, ...]:
        """What input spikes add per unit weight in the steps of a chunk (`left_of_step`), each (CHUNK, channels)."""
        h = self.options.h
        if self.times is None:
            none = jnp.zeros((CHUNK, self.network.num_inputs), dtype)
            return (none,) * self.cells[0].decay.parts
        since = self.times - first.astype(dtype) * h
        snap = 1e-3 if dtype == jnp.float32 else 1e-9  # a spike at its start belongs to the chunk before
        since = jnp.where((since <= snap * h) & (first > 0), jnp.inf, since)
        pairs = input_pairs(since, self.cells[0].decay, h, CHUNK)
        return tuple(jnp.moveaxis(pairs, -1, 0))

    def _step(self, carry: _Carry, inputs: Any) -> tuple[_Carry, None]:
        step, normals, pairs = inputs
        active = step < self.options.steps
        dense, back = jax.vjp(self._dense, carry.weights)
        sent = Sent((), (), pairs)
        states, traces, counts, flags = [], [], [], carry.flags
        out, moved = None, Moved((), ())
        for k, made in enumerate(self.cells):
            drive = jax.tree.map(lambda x: x[jnp.minimum(step, x.shape[0] - 1)] if x.ndim == 2 else x, made.drive)
            log_u, count = self.log_u[k], carry.counts[k]

            def upcoming(slot: int, log_u: Any = log_u, count: Any = count) -> jax.Array:
                interval = jnp.minimum(count + slot + 1, log_u.shape[0] - 1)[None]
                return jnp.take_along_axis(log_u, interval, axis=0, mode="promise_in_bounds")[0]

            noise = () if normals[k] is None else normals[k]
            out, after, moved, sent = advance(
                made, carry.states[k], carry.traces[k], sent, dense[k], drive, noise, upcoming
            )
            states.append(out.state)
            traces.append(after)
            more = sum((jnp.sum(x[None] >= 0, axis=0, dtype=jnp.int32) for x in out.fractions), jnp.zeros_like(count))
            counts.append(count + jnp.where(active, more, 0))
            bad = jax.lax.reduce(out.flags, jnp.int32(0), jax.lax.bitwise_or, (0,))
            bad = bad | jnp.where(jnp.all(jnp.isfinite(out.state.v)), 0, NOT_FINITE)
            flags = flags | jnp.where(active, bad, 0).astype(jnp.int32)
        assert out is not None
        value, slopes = self._loss(step, out, carry.counts[-1], moved)
        (gradient,) = back(tuple(jnp.where(active, g, 0.0) for g in slopes))
        carry = _Carry(
            carry.weights,
            tuple(states),
            tuple(traces),
            tuple(counts),
            jax.tree.map(jnp.add, carry.gradient, gradient),
            carry.memory,
            carry.losses.at[step // self.every].add(jnp.where(active, value, 0.0), mode="drop"),
            flags,
        )
        if self.optimiser is None:
            return carry, None
        due = active & (((step + 1) % self.every == 0) | (step + 1 == self.options.steps))
        return jax.lax.cond(due, self._update, lambda carry: carry, carry), None

    def _dense(self, weights: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(layer.synapses.dense() for layer in self.with_weights(weights).layers)

    def _loss(self, step: jax.Array, out: Any, counts: jax.Array, moved: Moved) -> tuple[jax.Array, list[jax.Array]]:
        """The loss of a step and its derivative in the dense weights of each layer."""
        h, v = self.options.h, out.state.v
        x = jnp.stack(out.fractions) if out.fractions else jnp.zeros((0, *v.shape), v.dtype)
        begin = self.options.t0 + step.astype(v.dtype) * h
        times = jnp.where(x >= 0, begin + x * h, jnp.inf)

        def value(times: jax.Array, v: jax.Array) -> jax.Array:
            return jnp.asarray(self.loss(begin + h, Moment(times, counts, v)), v.dtype)

        total, (on_times, on_v) = jax.value_and_grad(value, argnums=(0, 1))(times, v)
        on_x = jnp.where(x >= 0, h * on_times, 0.0)
        slopes = []
        for dv, dx in zip(moved.v, moved.parts, strict=True):
            slope = as_last(on_v, dv) * dv
            for k, part in enumerate(dx):
                slope = slope + as_last(on_x[k], part) * part
            slopes.append(slope)
        own, *earlier = slopes
        return total, [*(jnp.sum(s, axis=-1) for s in earlier), own]

    def _update(self, carry: _Carry) -> _Carry:
        """Move the weights by the gradient gathered since the last time."""
        moves, memory = self.optimiser.update(carry.gradient, carry.memory, carry.weights)
        weights = jax.tree.map(jnp.add, carry.weights, moves)
        zero = jax.tree.map(jnp.zeros_like, carry.gradient)
        return carry._replace(weights=weights, memory=memory, gradient=zero)


def _values(layer: Layer) -> Any:
    """The values of a layer's synapses as an optimiser sees them."""
    values = layer.synapses.signed if layer.synapses.free is None else layer.synapses.free
    assert values is not None
    return values
