"""Currents that are curves in time: knots, a decaying drift, splines."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import BSpline

from roughspike._constraints import Positive, Real, declare
from roughspike._types import as_float, is_concrete
from roughspike.currents.base import AbstractCurrent


class PiecewiseLinear(AbstractCurrent):
    """The current that runs straight between knots (times, values), constant before the first and after the last.

    **Arguments**

    - `times`: shape (knots,), ascending.
    - `values`: shape (knots,), or (neurons, knots).

    The mean over a piece is taken at its midpoint: exact unless a knot lies inside, and then of second order.

    **Raises** ValueError for shapes that do not fit or (concrete) times that do not ascend.
    """

    times: Float[Array, "knots"] = eqx.field(converter=as_float, metadata=declare(Real(), "time"))
    values: Float[Array, "*neurons knots"] = eqx.field(converter=as_float, metadata=declare(Real()))

    def __check_init__(self):
        if self.times.ndim != 1 or self.values.shape[-1:] != self.times.shape or self.values.ndim > 2:
            raise ValueError(
                f"values must have shape (knots,) or (neurons, knots) for times of shape (knots,), got "
                f"{self.values.shape} and {self.times.shape}"
            )
        if is_concrete(self.times) and not np.all(np.diff(np.asarray(self.times)) > 0):
            raise ValueError("times of PiecewiseLinear must ascend strictly: sort the knots and drop duplicates")

    def prepare(self, starts: np.ndarray, lengths: np.ndarray) -> Any:
        """Midpoints."""
        return starts + 0.5 * lengths

    def means(self, prepared: Any) -> Float[Array, "*batch neurons pieces"]:
        """Values at the midpoints."""
        middle = jnp.asarray(prepared, jnp.result_type(self.times, self.values))
        if self.values.ndim == 1:
            return jnp.interp(middle, self.times, self.values)
        middle = jnp.broadcast_to(middle, (*middle.shape[:-2], self.num_neurons, middle.shape[-1]))
        per_neuron = jax.vmap(lambda m, v: jnp.interp(m, self.times, v), in_axes=(-2, 0), out_axes=-2)
        return per_neuron(middle, self.values)

    @property
    def num_neurons(self) -> int:
        """Rows of `values`."""
        return self.values.shape[0] if self.values.ndim == 2 else 1


class ExponentialDrift(AbstractCurrent):
    """c(t) = amplitude e^{-t / tau}: a slow drift, such as the adaptation of a receptor over a recording.

    t is the time of the SpikeTrain's window (0 at its onset).
    """

    amplitude: Float[Array, ""] = eqx.field(converter=as_float, metadata=declare(Real()))
    tau: Float[Array, ""] = eqx.field(converter=as_float, metadata=declare(Positive(), "time"))

    def __check_init__(self):
        if is_concrete(self.tau) and not np.asarray(self.tau) > 0:
            raise ValueError(f"tau must be greater than 0, got {self.tau}: pass the time constant of the decay")

    def prepare(self, starts: np.ndarray, lengths: np.ndarray) -> Any:
        """Midpoints."""
        return starts + 0.5 * lengths

    def means(self, prepared: Any) -> Float[Array, "*batch neurons pieces"]:
        """Values at the midpoints (pieces are short against tau)."""
        middle = jnp.asarray(prepared, jnp.result_type(self.amplitude, self.tau))
        return self.amplitude * jnp.exp(-middle / self.tau)


class BSplineCurrent(AbstractCurrent):
    """c(t) = sum_k coefficients[k] B_k(t): a smooth baseline, cubic B-splines with equally spaced knots on [t0, t1].

    **Arguments**

    - `coefficients`: shape (basis,), at least 4; all equal to b gives the constant b.
    - `t0`, `t1`: the span; outside of it the value at its end.
    """

    coefficients: Float[Array, "basis"] = eqx.field(converter=as_float, metadata=declare(Real()))
    t0: float = eqx.field(static=True)
    t1: float = eqx.field(static=True)

    def __init__(self, coefficients: Any, t0: float, t1: float):
        self.coefficients = as_float(coefficients)
        self.t0, self.t1 = float(t0), float(t1)
        if self.coefficients.ndim != 1 or self.coefficients.shape[0] < 4:
            raise ValueError(f"coefficients must be a vector of at least 4, got shape {self.coefficients.shape}")
        if not self.t1 > self.t0:
            raise ValueError(f"t1 must lie after t0, got [{t0}, {t1}]")

    def prepare(self, starts: np.ndarray, lengths: np.ndarray) -> Any:
        """The basis at the midpoints, shape (..., pieces, basis)."""
        count = self.coefficients.shape[0]
        inner = np.linspace(self.t0, self.t1, count - 2)
        knots = np.concatenate([[self.t0] * 3, inner, [self.t1] * 3])
        middle = np.clip(starts + 0.5 * lengths, self.t0, self.t1)
        matrix = BSpline.design_matrix(middle.ravel(), knots, 3).toarray()
        return matrix.reshape(*middle.shape, count)

    def means(self, prepared: Any) -> Float[Array, "*batch neurons pieces"]:
        """Basis times coefficients."""
        return jnp.asarray(prepared, self.coefficients.dtype) @ self.coefficients
