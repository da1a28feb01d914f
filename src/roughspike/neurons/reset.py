"""What a spike does to the membrane potential of its own neuron."""

from __future__ import annotations

import abc

import equinox as eqx
import jax


class AbstractReset(eqx.Module):
    """An affine transition v+ = keep v- + shift(v_reset).

    Affine, so that a recorded spike train leaves the potential linear in its past (`paths.recurrence`).
    """

    @property
    @abc.abstractmethod
    def keep(self) -> float:
        """How much of the potential before the spike survives."""

    @abc.abstractmethod
    def shift(self, v_reset: jax.Array) -> jax.Array:
        """What is added."""


class SubtractiveReset(AbstractReset):
    """v+ = v- - v_reset, the transition of Holberg & Salvi (2024): it commutes with additive noise."""

    @property
    def keep(self) -> float:
        """1: the potential survives."""
        return 1.0

    def shift(self, v_reset: jax.Array) -> jax.Array:
        """-v_reset."""
        return -v_reset


class ResetToValue(AbstractReset):
    """v+ = v_reset: the potential forgets its past.

    With diffusion in v this transition does not commute with the noise (theory, assumption 3.5): the law is the usual
    one, but the pathwise gradient holds for the path that is linear inside a step, not in the limit dt -> 0.
    """

    @property
    def keep(self) -> float:
        """0: the potential forgets."""
        return 0.0

    def shift(self, v_reset: jax.Array) -> jax.Array:
        """v_reset."""
        return v_reset
