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


class Checked(eqx.Module):
    x: float

    def __check_init__(self):
        if self.x < 0:
            raise ValueError("x must not be negative: give a positive x")


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
    """(current - number of spikes)^2 + (mu[0] - 0.5)^2, with noise that depends on the key.

    `nan_above`: the loss is NaN where current is greater. `wall`: the loss stays finite there, but its slope is not.
    `turning`: the held-out score is best at this current.
    """

    noise: float = eqx.field(static=True, default=0.1)
    nan_above: float = eqx.field(static=True, default=np.inf)
    wall: float = eqx.field(static=True, default=np.inf)
    turning: float = eqx.field(static=True, default=np.inf)

    def prepare(self, cell, data, *, windows, dt, rate=None):
        times = np.asarray(data.times)
        inside = np.isfinite(times) if windows is None else windows.contains(times)
        return {"target": np.asarray(inside.sum(), float), "dt": np.asarray(dt)}

    def __call__(self, cell, prepared, key):
        x = cell.current
        loss = (x - prepared["target"]) ** 2 + (cell.mu[0] - 0.5) ** 2
        loss = loss + self.noise * jr.normal(key, dtype=x.dtype) * x
        if np.isfinite(self.wall):
            loss = loss + jnp.sqrt(jnp.where(x > self.wall, 0.0 * x, 1.0))
        return jnp.where(x > self.nan_above, jnp.nan, loss)

    def score(self, cell, prepared, key):
        return -((cell.current - jnp.minimum(prepared["target"], self.turning)) ** 2)
