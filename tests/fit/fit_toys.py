"""A toy model and a toy objective with the contract of a likelihood: a parabola whose minimum is the data."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import roughspike as rs
from roughspike._constraints import KeepsSign, Positive, Real, parameter


class Gain(eqx.Module):
    gain: jax.Array = parameter(Real())
    tau: jax.Array = parameter(Positive(), unit="time")
    signal: np.ndarray | jax.Array


class Parts(eqx.Module):
    parts: tuple[Gain, ...]


class Toy(eqx.Module):
    mu: jax.Array = parameter(KeepsSign(), unit="1/time")
    sigma: jax.Array = parameter(KeepsSign(), unit="1/sqrt(time)")
    current: jax.Array | Parts
    rest: jax.Array | None
    count: int = eqx.field(static=True)
    label: str = eqx.field(static=True)


def toy(current=None) -> Toy:
    return Toy(
        mu=jnp.array([2.0, 0.0]),
        sigma=jnp.zeros((2, 2)),
        current=jnp.array(0.5) if current is None else current,
        rest=None,
        count=3,
        label="cell",
    )


def parts() -> Parts:
    return Parts((Gain(1.0, 0.5, np.arange(3.0)), Gain(-2.0, 0.25, np.arange(4.0))))


def spikes() -> rs.SpikeTrain:
    return rs.SpikeTrain(np.array([[0.1, 0.4, 0.75, np.inf]]), t0=0.0, t1=1.0)


class Parabola(eqx.Module):
    """Squared distance of (mu[0], current) from (0.5, number of spikes), plus noise that depends on the key.

    From training step `nan_at` on (told by the key's step being unknown, by the current's value) the loss is NaN.
    """

    noise: float = eqx.field(static=True, default=0.1)
    nan_above: float = eqx.field(static=True, default=np.inf)
    bad_gradient: bool = eqx.field(static=True, default=False)
    turning: float = eqx.field(static=True, default=np.inf)

    def prepare(self, cell, data, *, windows, dt):
        times = np.asarray(data.times)
        if windows is not None:
            times = times[windows.contains(times)]
        return {"target": np.asarray(np.isfinite(times).sum(), float), "dt": np.asarray(dt)}

    def __call__(self, cell, prepared, key):
        current = jnp.where(cell.current > self.nan_above, jnp.nan if not self.bad_gradient else 1.0, 1.0) * cell.current
        if self.bad_gradient:  # finite value, infinite slope
            current = current + jnp.sqrt(jnp.maximum(self.nan_above - cell.current, 0.0))
        wobble = self.noise * jr.normal(key, dtype=current.dtype) * current
        return (current - prepared["target"]) ** 2 + (cell.mu[0] - 0.5) ** 2 + wobble

    def score(self, cell, prepared, key):
        aim = jnp.minimum(prepared["target"], self.turning)
        return -((cell.current - aim) ** 2)
