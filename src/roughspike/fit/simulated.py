"""SimulatedObjective: any loss on simulated and recorded spikes as something that `fit` can minimise."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from roughspike import parallel
from roughspike._types import (
    ROOT_NOT_CONVERGED,
    SPIKE_BUFFER_FULL,
    STEP_TOO_COARSE,
    TOO_MANY_SPIKES_IN_A_STEP,
    Result,
    concrete,
)
from roughspike.likelihood.objective import AbstractObjective, check_data
from roughspike.likelihood.starts import Cut, cut_windows, draw_start, window_starts
from roughspike.losses.base import AbstractLoss
from roughspike.losses.shared_out import features_on, loss_on
from roughspike.networks.noise import Part
from roughspike.networks.population import Population
from roughspike.networks.simulate import simulate
from roughspike.networks.windows import lanes_per_step, simulate_lanes
from roughspike.paths.spikes import Horizon, SpikeTrain, unchecked
from roughspike.paths.windows import Windows

_INEXACT = STEP_TOO_COARSE | ROOT_NOT_CONVERGED
_MOST_INEXACT = 0.01
_FIRST_ROOM = 64
_MOST_PER_STEP = 16


class Prepared(eqx.Module):
    """The recorded spikes, and how a simulation to compare with them is run."""

    recorded: SpikeTrain
    dt: float = eqx.field(static=True)
    room: int = eqx.field(static=True)  # slots per neuron in the buffer of simulated spikes


class PreparedWindows(eqx.Module):
    """The same for windows of a recording, each of which starts where the spikes before it leave the neuron."""

    cut: Cut
    room: int = eqx.field(static=True)
    per_step: int = eqx.field(static=True)  # spikes of one neuron that a step may hold


class SimulatedObjective(AbstractObjective):
    """loss(simulated spikes, recorded spikes), with fresh simulations in every step of the optimiser.

    `fit` makes one of these from a loss such as `ExpectedSignatureLoss()`. Without windows, simulations on the data's
    window are compared with all of its trials. With windows, each window of each trial is one condition: it is
    simulated from the state in which the recorded spikes before it leave the neuron (`likelihood.starts`), with its own
    input, and compared with the one train recorded there; the loss is the mean over conditions. Its trains have the
    clock of the window: t0 = 0.

    Its `score` is minus the loss, always with the same key: a figure to follow during training, in the loss's own unit.
    It is no bits per spike, it is noisy for few samples, and it cannot be compared between different losses.

    **Arguments**

    - `loss`: a function of (simulated, recorded) SpikeTrains with a scalar value.
    - `num_samples`: simulated trains in each step, for each window if there are windows.
    - `windows_per_step`: how many conditions, drawn anew, a step looks at; None for all. The score uses all.
    - `scored`: False leaves the score out (NaN), which saves compiling a second simulation.
    - `mesh`: filled by `fit(mesh=...)`; samples are shared out over its devices.
    """

    loss: Callable[[SpikeTrain, SpikeTrain], Any]
    num_samples: int = eqx.field(static=True)
    windows_per_step: int | None = eqx.field(static=True, default=None)
    scored: bool = eqx.field(static=True, default=True)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def prepare(
        self,
        cell: Population,
        data: SpikeTrain,
        *,
        windows: Windows | None = None,
        dt: float,
        rate: float | None = None,
    ) -> Prepared | PreparedWindows:
        """Check the data, and choose room for the spikes: from the data and from one run of the model as it is.

        **Raises** ValueError for windows of different lengths, and for a model whose simulation fails at the start.
        """
        del rate  # of a Poisson process to compare with: a loss has none
        if windows is None and self.windows_per_step is not None:
            raise ValueError(
                "windows_per_step chooses from windows: pass windows=Windows.tile(...) too, or leave it out"
            )
        if self.mesh is not None:
            parallel.check_shares(self.mesh, self.num_samples, "num_samples", "change it")
        check_data(cell, data, dt)
        recorded = SpikeTrain(np.asarray(data.times).reshape(-1, *data.times.shape[-2:]), data.t0, data.t1)
        if windows is not None:
            return self._prepare_windows(cell, recorded, windows, dt)
        sol = simulate(
            cell,
            t0=data.t0,
            t1=data.t1,
            dt=dt,
            key=jax.random.key(0),
            num_samples=max(self.num_samples, 32),
            mesh=self.mesh if self.num_samples >= 32 else None,
        )
        return Prepared(recorded, float(dt), _room(sol.result, recorded.times))

    def _prepare_windows(self, cell: Population, recorded: SpikeTrain, windows: Windows, dt: float) -> PreparedWindows:
        cut = cut_windows(cell, recorded, windows, dt)
        per_step = lanes_per_step(cell, cut.duration / cut.steps)
        most = most_spikes(cell, cut)
        if most is not None:  # the refractory time leaves no doubt
            return PreparedWindows(cut, most, per_step)
        while True:
            tried = jax.tree.map(jnp.asarray, PreparedWindows(cut, _FIRST_ROOM, per_step))
            result = _try_windows(cell, tried, max(2, 32 // cut.num_conditions), jax.random.key(0))
            if per_step >= _MOST_PER_STEP or not bool(jnp.any(result.has(TOO_MANY_SPIKES_IN_A_STEP))):
                return PreparedWindows(cut, _room(result, cut.recorded), per_step)
            per_step *= 2

    def __call__(self, cell: Population, prepared: Prepared | PreparedWindows, key: jax.Array) -> jax.Array:
        """The loss on fresh simulations; NaN if one of them failed, so that no wrong number is minimised."""
        return self._value(cell, prepared, key, self.windows_per_step)

    def score(self, cell: Population, prepared: Prepared | PreparedWindows, key: jax.Array) -> jax.Array:
        """Minus the loss."""
        if not self.scored:
            return jnp.asarray(jnp.nan)
        return -self._value(cell, prepared, key, None)

    def complaint(self, cell: Population, prepared: Prepared | PreparedWindows, key: jax.Array) -> str:
        """Why the simulation of this step failed, and what to do; empty if it did not. Outside of `jit` only."""
        run = self._simulate if self.mesh is None else eqx.filter_jit(self._simulate)
        result = parallel.gather(run(cell, prepared, key, self.windows_per_step)[2])
        if bool(jnp.any(result.has(SPIKE_BUFFER_FULL))):
            return (
                f"a simulated train has {int(jnp.max(result.needed))} spikes and there is room for {prepared.room}, "
                "chosen at the start; fit again from this result's model, for which room is chosen anew, or pass a "
                "smaller learning_rate"
            )
        return "; ".join(result.messages())

    def _value(self, cell: Population, prepared: Prepared | PreparedWindows, key: jax.Array, count: int | None):
        simulated, recorded, result = self._simulate(cell, prepared, key, count)
        if not isinstance(prepared, PreparedWindows):
            return jnp.where(result.ok, jnp.asarray(loss_on(self.loss, simulated, recorded, self.mesh)), jnp.nan)
        values = by_condition(self.loss, simulated, recorded, self.mesh)
        flags = result.flags.reshape(values.shape[0], -1)
        inexact = jnp.any(flags & _INEXACT != 0, axis=-1)
        failed = jnp.any(flags & ~_INEXACT != 0) | (jnp.mean(inexact.astype(values.dtype)) > _MOST_INEXACT)
        kept = (~inexact).astype(values.dtype)
        return jnp.where(failed, jnp.nan, jnp.sum(jnp.where(inexact, 0.0, values)) / jnp.sum(kept))

    def _simulate(
        self, cell: Population, prepared: Prepared | PreparedWindows, key: jax.Array, count: int | None
    ) -> tuple[SpikeTrain, SpikeTrain, Result]:
        """Simulated and recorded spikes, and how the simulation ended."""
        if isinstance(prepared, PreparedWindows):
            return _simulate_windows(cell, prepared, self.num_samples, count, key, self.mesh)
        data = prepared.recorded
        sol = simulate(
            cell,
            t0=data.t0,
            t1=data.t1,
            dt=prepared.dt,
            key=key,
            num_samples=self.num_samples,
            max_spikes=prepared.room,
            mesh=self.mesh,
        )
        return sol.spikes, data, sol.result


def by_condition(
    loss: Callable[[SpikeTrain, SpikeTrain], Any],
    simulated: SpikeTrain,
    recorded: SpikeTrain,
    mesh: Mesh | None = None,
) -> jax.Array:
    """The loss of each condition, from trains of shape (conditions, samples, neurons, capacity) and, recorded,
    (conditions, neurons, capacity): one observation per condition.
    """
    if not isinstance(loss, AbstractLoss):
        return jax.vmap(lambda s, r: jnp.asarray(loss(_train(simulated, *s), _train(recorded, r, None))))(
            (simulated.times, simulated.horizon), recorded.times[:, None]
        )
    # features of all conditions in one batch; only the comparison is by condition
    x = features_on(loss, simulated, mesh, axis=1)
    y = loss.features(_train(recorded, recorded.times, None))
    return jax.vmap(loss.compare)(x, y[:, None])


def most_spikes(cell: Population, cut: Cut) -> int | None:
    """How many spikes the refractory time lets a window hold; None if that says too little."""
    refractory = None if cell.neuron.refractory is None else concrete(cell.neuron.refractory)
    if refractory is None or not refractory > 0:
        return None
    most = 2 + math.floor(cut.duration / float(refractory))
    return most if most <= 2 * _FIRST_ROOM else None


def _train(like: SpikeTrain, times: Any, horizon: Horizon | None) -> SpikeTrain:
    return unchecked(times, like.t0, like.t1, like.onset, horizon)


def _simulate_windows(
    cell: Population,
    prepared: PreparedWindows,
    num_samples: int,
    count: int | None,
    key: jax.Array,
    mesh: Mesh | None = None,
) -> tuple[SpikeTrain, SpikeTrain, Result]:
    """Simulate `count` conditions (None: all), chosen at random, from where the recorded spikes leave the neuron.

    Shapes (conditions, samples, neurons, capacity), and (conditions, neurons, capacity) of the recorded spikes.
    """
    cut = prepared.cut
    choice_key, start_key, run_key = jax.random.split(key, 3)
    starts, means = window_starts(cell, cut)
    chosen = jnp.arange(cut.num_conditions)
    if count is not None and count < cut.num_conditions:
        chosen = jax.random.permutation(choice_key, cut.num_conditions)[:count]
    starts = jax.tree.map(lambda x: x[chosen], starts)

    def some(device: Any, neuron: Any, means: jax.Array, starts: Any, keys: tuple[Any, Any], samples: int) -> Any:
        if mesh is not None:
            mine = device * samples + jnp.arange(samples)
            keys = Part(keys[0], mine, num_samples), Part(keys[1], mine, num_samples)
        return simulate_lanes(
            neuron,
            means,
            draw_start(neuron, starts, samples, keys[0]),
            h=cut.duration / cut.steps,
            num_samples=samples,
            capacity=prepared.room,
            max_spikes_per_step=prepared.per_step,
            key=keys[1],
        )

    currents = means[chosen % len(means)].reshape(-1, means.shape[-1])
    given = cell.neuron, currents, starts, (start_key, run_key)
    if mesh is None:
        run = some(0, *given, num_samples)
    else:
        share = functools.partial(some, samples=num_samples // mesh.size)
        run = parallel.spread(share, mesh, given, (None,) * 4, 1)
    lanes = lambda x: jnp.swapaxes(x.reshape(len(chosen), cell.num_neurons, *x.shape[1:]), 1, 2)  # noqa: E731
    spikes = unchecked(lanes(run.times), 0.0, cut.duration, horizon=Horizon(lanes(run.threshold), lanes(run.open)))
    recorded = unchecked(jnp.asarray(cut.recorded, run.times.dtype)[chosen], 0.0, cut.duration)
    return spikes, recorded, Result(run.flags.ravel(), run.needed.ravel())


@eqx.filter_jit
def _try_windows(cell: Population, prepared: PreparedWindows, num_samples: int, key: jax.Array) -> Result:
    return _simulate_windows(cell, prepared, num_samples, None, key)[2]


def _room(result: Result, recorded: Any) -> int:
    """Slots for spikes. **Raises** ValueError if the model could not be simulated but for want of them."""
    others = Result(result.flags & ~SPIKE_BUFFER_FULL, result.needed)
    if not bool(others.ok):
        raise ValueError(
            "the model cannot be simulated at the start values: "
            + "; ".join(others.messages())
            + "; choose other start values or a smaller dt"
        )
    most = max(int(jnp.max(result.needed)), int(np.max(np.isfinite(recorded).sum(-1), initial=0)))
    return 8 + most + most // 2


def as_objective(loss: Any, num_samples: int | None, windows_per_step: int | None = None) -> Any:
    """`loss` if it is an objective by itself, else a `SimulatedObjective` of it.

    **Raises** ValueError if num_samples is missing for a loss that simulates, or given for one that does not.
    """
    if not (isinstance(loss, AbstractLoss) or _is_plain(loss)):
        for name, value in (("num_samples", num_samples), ("windows_per_step", windows_per_step)):
            if value is not None:
                raise ValueError(f"{name} is for losses that simulate; give a likelihood such numbers itself")
        return loss
    if num_samples is None:
        raise ValueError(
            f"{type(loss).__name__} compares simulated with recorded spikes: say how many simulations a step "
            "makes, for example num_samples=128"
        )
    for name, value in (("num_samples", num_samples), ("windows_per_step", windows_per_step)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1
        if not whole and not (value is None and name == "windows_per_step"):
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    return SimulatedObjective(loss, int(num_samples), windows_per_step)


def _is_plain(loss: Any) -> bool:
    """A module or a Python function that is no objective: has no `prepare` and no `score`."""
    objective = any(callable(getattr(loss, name, None)) for name in ("prepare", "score"))
    return not objective and (isinstance(loss, eqx.Module) or hasattr(loss, "__code__")) and callable(loss)
