"""SimulatedObjective: any loss on simulated and recorded spikes as something that `fit` can minimise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from roughspike._types import SPIKE_BUFFER_FULL
from roughspike.likelihood.objective import AbstractObjective, check_data
from roughspike.losses.base import AbstractLoss
from roughspike.networks.population import Population
from roughspike.networks.simulate import Solution, simulate
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows


class Prepared(eqx.Module):
    """The recorded spikes, and how a simulation to compare with them is run."""

    recorded: SpikeTrain
    dt: float = eqx.field(static=True)
    room: int = eqx.field(static=True)  # slots per neuron in the buffer of simulated spikes


class SimulatedObjective(AbstractObjective):
    """loss(simulated spikes, recorded spikes), with fresh simulations on the data's window in every step.

    `fit` makes one of these from a loss such as `ExpectedSignatureLoss()`. Its `score` is minus the loss, always with
    the same key: a figure to follow during training, in the loss's own unit. It is no bits per spike, it is noisy for
    a small number of samples, and it cannot be compared between different losses.

    **Arguments**

    - `loss`: a function of (simulated, recorded) SpikeTrains with a scalar value.
    - `num_samples`: simulated trains in each step.
    """

    loss: Callable[[SpikeTrain, SpikeTrain], Any]
    num_samples: int = eqx.field(static=True)

    def prepare(
        self,
        cell: Population,
        data: SpikeTrain,
        *,
        windows: Windows | None = None,
        dt: float,
        rate: float | None = None,
    ) -> Prepared:
        """Check the data, and choose room for the spikes: from the data and from one run of the model as it is.

        **Raises** ValueError for windows, and for a model whose simulation fails at the start.
        """
        del rate  # of a Poisson process to compare with: a loss has none
        if windows is not None:
            raise ValueError(
                "a loss that simulates cannot be restricted to windows, since the neuron's state at their start is not "
                "known: pass data that are trials of one window (read_spikes(window=...)), and held_out=other trials"
            )
        check_data(cell, data, dt)
        recorded = SpikeTrain(np.asarray(data.times).reshape(-1, *data.times.shape[-2:]), data.t0, data.t1)
        sol = simulate(
            cell, t0=data.t0, t1=data.t1, dt=dt, key=jax.random.key(0), num_samples=max(self.num_samples, 32)
        )
        if not bool(sol.result.ok):
            raise ValueError(
                "the model cannot be simulated at the start values: "
                + "; ".join(sol.result.messages())
                + "; choose other start values or a smaller dt"
            )
        most = max(int(jnp.max(sol.result.needed)), int(np.max(np.isfinite(recorded.times).sum(-1), initial=0)))
        return Prepared(recorded, float(dt), room=8 + most + most // 2)

    def __call__(self, cell: Population, prepared: Prepared, key: jax.Array) -> jax.Array:
        """The loss on fresh simulations; NaN if one of them failed, so that no wrong number is minimised."""
        sol = self._simulate(cell, prepared, key)
        value = jnp.asarray(self.loss(sol.spikes, prepared.recorded))
        return jnp.where(sol.result.ok, value, jnp.nan)

    def score(self, cell: Population, prepared: Prepared, key: jax.Array) -> jax.Array:
        """Minus the loss."""
        return -self(cell, prepared, key)

    def complaint(self, cell: Population, prepared: Prepared, key: jax.Array) -> str:
        """Why the simulation of this step failed, and what to do; empty if it did not. Outside of `jit` only."""
        result = self._simulate(cell, prepared, key).result
        if bool(jnp.any(result.has(SPIKE_BUFFER_FULL))):
            return (
                f"a simulated train has {int(jnp.max(result.needed))} spikes and there is room for {prepared.room}, "
                "chosen at the start; fit again from this result's model, for which room is chosen anew, or pass a "
                "smaller learning_rate"
            )
        return "; ".join(result.messages())

    def _simulate(self, cell: Population, prepared: Prepared, key: jax.Array) -> Solution:
        data = prepared.recorded
        return simulate(
            cell,
            t0=data.t0,
            t1=data.t1,
            dt=prepared.dt,
            key=key,
            num_samples=self.num_samples,
            max_spikes=prepared.room,
        )


def as_objective(loss: Any, num_samples: int | None) -> Any:
    """`loss` if it is an objective by itself, else a `SimulatedObjective` of it.

    **Raises** ValueError if num_samples is missing for a loss that simulates, or given for one that does not.
    """
    if not (isinstance(loss, AbstractLoss) or _is_plain(loss)):
        if num_samples is not None:
            raise ValueError("num_samples is for losses that simulate; give a likelihood its number of samples itself")
        return loss
    if num_samples is None:
        raise ValueError(
            f"{type(loss).__name__} compares simulated with recorded spikes: say how many simulations a step "
            "makes, for example num_samples=128"
        )
    if isinstance(num_samples, bool) or not isinstance(num_samples, int | np.integer) or num_samples < 1:
        raise ValueError(f"num_samples must be a whole number of at least 1, got {num_samples!r}")
    return SimulatedObjective(loss, int(num_samples))


def _is_plain(loss: Any) -> bool:
    """A module or a Python function that is no objective: has no `prepare` and no `score`."""
    objective = any(callable(getattr(loss, name, None)) for name in ("prepare", "score"))
    return not objective and (isinstance(loss, eqx.Module) or hasattr(loss, "__code__")) and callable(loss)
