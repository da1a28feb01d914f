"""Array aliases, and how a run ended.

Axis names used in shape annotations everywhere: `samples`, `trials`, `neurons`, `capacity` (slots of a spike
buffer), `steps` (of the time grid), `segments` (pieces of a grid cut at spikes).
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int

SPIKE_BUFFER_FULL = 1
NOT_FINITE = 2
STEP_TOO_COARSE = 4
TOO_MANY_SPIKES_IN_A_STEP = 8
ROOT_NOT_CONVERGED = 16
UNDECLARED_NOISE = 32
GRAZE = 64
CASCADE = 128
DELAY_OUT_OF_ROOM = 256

_REMEDY = {
    SPIKE_BUFFER_FULL: "spike buffer full (later spikes are lost): pass max_spikes={needed} or more",
    NOT_FINITE: "a membrane potential or hazard is not finite: check the parameters, or pass a smaller dt",
    STEP_TOO_COARSE: "the hazard changes too fast inside a step for its quadratic: pass a smaller dt",
    TOO_MANY_SPIKES_IN_A_STEP: "more spikes in one step than max_spikes_per_step: raise it, or pass a smaller dt",
    ROOT_NOT_CONVERGED: "a spike time did not converge: pass a smaller dt",
    UNDECLARED_NOISE: "sigma is nonzero in an entry that was zero when the neuron was made: build a new neuron",
    GRAZE: "a spike grazes its threshold, so the derivative of its time is infinite and was left out (the run is "
    "right)",
    CASCADE: "spikes of a network set each other off without end at one time, the run stopped there: weaken the "
    "weights, or give the neurons a refractory time",
    DELAY_OUT_OF_ROOM: "a delay is shorter than a step or longer than max_delay, and its spikes were not delivered: "
    "pass a smaller dt, or a larger max_delay to rs.Recurrent",
}


class AbstractResult(eqx.Module):
    """How runs ended: a bit mask of flags for each, and what to do about them.

    A member has a table of what each flag means, `remedies`, and says whom a flag has hit.
    """

    flags: eqx.AbstractVar[Int[Array, "..."]]
    needed: eqx.AbstractVar[Int[Array, "..."]]
    remedies: ClassVar[dict[int, str]]

    @abc.abstractmethod
    def whom(self, hit: np.ndarray, total: int) -> str:
        """Which runs, of how many, as the beginning of a line; `hit` are their indices."""

    @property
    def ok(self) -> jax.Array:
        """Scalar boolean: every run ended well."""
        return jnp.all(self.flags == 0)

    def has(self, flag: int) -> jax.Array:
        """Boolean per run: did this flag occur?"""
        return jnp.asarray((self.flags & flag) != 0)

    def messages(self) -> list[str]:
        """One line per kind of failure, with how many runs it hit and the remedy. Needs concrete values."""
        flags = np.asarray(self.flags).ravel()
        needed = int(np.max(np.asarray(self.needed), initial=0))
        lines = []
        for flag, remedy in self.remedies.items():
            hit = np.flatnonzero(flags & flag)
            if hit.size:
                lines.append(f"{self.whom(hit, flags.size)}: {remedy.format(needed=needed)}")
        return lines

    def raise_if_failed(self) -> None:
        """Raise `SimulationError` with `messages()` unless every run ended well."""
        lines = self.messages()
        if lines:
            raise SimulationError("; ".join(lines))

    def __repr__(self) -> str:
        name = type(self).__name__
        if is_concrete(self):
            return f"{name}({'; '.join(self.messages()) or 'all ended well'})"
        return f"{name}(<traced>)"


class Result(AbstractResult):
    """How every sample of a run ended.

    | flag | meaning |
    |---|---|
    | 1  | spike buffer full; `needed` says how many slots the sample wanted |
    | 2  | a state is not finite |
    | 4  | the step is too coarse for the hazard |
    | 8  | more spikes in one step than the engine was told to expect |
    | 16 | the root search for a spike time did not converge |
    | 32 | diffusion in an entry of sigma that was 0 when the neuron was built |
    | 64 | a spike grazes a hard threshold: its time has no derivative |
    | 128 | an endless cascade of spikes at one time |
    | 256 | a delay shorter than a step, or longer than there is room for |

    **Attributes**

    - `flags`: one bit mask per sample, 0 if all is well.
    - `needed`: the largest spike count of any neuron of the sample; an estimate where the buffer was full, since the
      thresholds of the intervals beyond it repeat.
    """

    flags: Int[Array, "..."]
    needed: Int[Array, "..."]
    remedies: ClassVar[dict[int, str]] = _REMEDY

    def whom(self, hit: np.ndarray, total: int) -> str:
        """How many samples."""
        return f"{hit.size} of {total} samples"


class SimulationError(RuntimeError):
    """A run ended badly and the caller asked for an exception (`throw=True`)."""


def is_concrete(*trees: Any) -> bool:
    """True if no leaf of the pytrees is a JAX tracer.

    Look at concrete values through NumPy only: inside `jit`, a jnp operation on them gives a tracer again.
    """
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def concrete(value: Any) -> np.ndarray | None:
    """`value` as a NumPy array on the host; None if it is traced."""
    return np.asarray(value) if is_concrete(value) else None


def default_float() -> np.dtype:
    """The float type of the current JAX configuration: float64 under x64, else float32."""
    return np.dtype(jnp.result_type(float))


def as_float(value: Any) -> jax.Array:
    """`value` as an array of the default float type; arrays that are floats already keep their type."""
    array = jnp.asarray(value)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(default_float())
