"""The stochastic leaky integrate-and-fire neuron: its parameters, without weights and without input."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from roughspike._constraints import KeepsSign, Positive, Real, parameter
from roughspike._types import as_float, concrete
from roughspike.neurons.escape import AbstractEscape, ExponentialEscape
from roughspike.neurons.reset import AbstractReset, SubtractiveReset


class SLIF(eqx.Module):
    """Stochastic leaky integrate-and-fire neuron with escape noise and diffusion.

        between spikes   dv = mu1 (i + c(t) - v) dt + (sigma dB)_1
                         di = -mu2 i dt             + (sigma dB)_2
                         ds = lambda(v) dt          while not refractory
        spike            when s reaches 0
        transition       v <- v - v_reset (or v_reset),  i <- i + self_weight,  s <- log u - alpha,  u ~ U(0, 1)
        start            s = log u - alpha

    With alpha = 0 the spikes are a Cox process of intensity lambda(v). Two noises, then: Brownian in the dynamics,
    uniforms in the timing (Holberg & Salvi 2024, arXiv 2405.13587, section 3).

    **Arguments**

    - `mu`: rates (mu1, mu2) in 1/time: membrane and synaptic current. mu1 > 0, mu2 >= 0, mu1 = mu2 is allowed.
    - `sigma`: 2 x 2 diffusion matrix in potential / sqrt(time). An entry that is 0 here is absent: its noise is never
      drawn or computed, and `Result` reports a neuron in which such an entry was changed afterwards.
    - `v_reset`: by how much (or to where) a spike resets the potential.
    - `alpha`: soft refractory threshold: the hazard accumulated since the last spike must exceed alpha first.
    - `escape`: the escape rate lambda.
    - `reset`: `SubtractiveReset()` or `ResetToValue()`.
    - `refractory`: absolute refractory time during which the hazard is 0; None for none.
    - `self_weight`: added to the neuron's own current at a spike: adaptation (< 0) or bursting (> 0); None for none.

    **Raises** ValueError naming the argument for wrong shapes or (concrete) values out of range.
    """

    mu: Float[Array, "2"] = parameter(KeepsSign(), unit="1/time")
    sigma: Float[Array, "2 2"] = parameter(KeepsSign(), unit="1/sqrt(time)")
    v_reset: Float[Array, ""] = parameter(Real())
    alpha: Float[Array, ""] = parameter(Positive())
    escape: AbstractEscape
    reset: AbstractReset
    refractory: Float[Array, ""] | None = eqx.field(metadata={"constraint": Positive(), "unit": "time"})
    self_weight: Float[Array, ""] | None = eqx.field(metadata={"constraint": Real(), "unit": ""})
    noise: tuple[tuple[bool, bool], tuple[bool, bool]] = eqx.field(static=True)

    def __init__(
        self,
        mu: Any = (15.0, 0.0),
        sigma: Any = ((0.0, 0.0), (0.0, 0.0)),
        v_reset: Any = 1.0,
        alpha: Any = 0.0,
        escape: AbstractEscape | None = None,
        reset: AbstractReset | None = None,
        refractory: Any = None,
        self_weight: Any = None,
    ):
        scalars = {"v_reset": v_reset, "alpha": alpha, "refractory": refractory, "self_weight": self_weight}
        _check_arguments(mu=mu, sigma=sigma, **scalars)
        self.mu, self.sigma = _stack(mu), _stack(sigma)
        self.v_reset, self.alpha = as_float(v_reset), as_float(alpha)
        self.escape = ExponentialEscape() if escape is None else escape
        self.reset = SubtractiveReset() if reset is None else reset
        self.refractory = None if refractory is None else as_float(refractory)
        self.self_weight = None if self_weight is None else as_float(self_weight)
        self.noise = _present(sigma)

    @property
    def noise_channels(self) -> tuple[int, ...]:
        """Columns of sigma that are not 0 throughout: the Brownian motions that are drawn."""
        return tuple(j for j in (0, 1) if self.noise[0][j] or self.noise[1][j])

    @property
    def has_diffusion(self) -> bool:
        """Does any Brownian motion drive this neuron?"""
        return bool(self.noise_channels)


def _check_arguments(**given: Any) -> None:
    """Complain about shapes, and about values where they are concrete (also inside `jit`, before they are staged)."""
    shapes = {name: () if value is None else _stack(value).shape for name, value in given.items()}
    if shapes["mu"] != (2,):
        raise ValueError(f"mu must be two rates (membrane, current), got shape {shapes['mu']}")
    if shapes["sigma"] != (2, 2):
        raise ValueError(
            f"sigma must be 2 x 2 (rows: potential, current; columns: Brownian motions), got shape {shapes['sigma']}: "
            "for noise of size s in the potential pass ((s, 0.0), (0.0, 0.0))"
        )
    for name in ("v_reset", "alpha", "refractory", "self_weight"):
        if shapes[name] != ():
            raise ValueError(f"{name} must be a scalar, got shape {shapes[name]}")
    mu = concrete(given["mu"])
    if mu is not None and not (mu[0] > 0 and mu[1] >= 0):
        raise ValueError(f"mu must have a positive membrane rate and a non-negative current rate, got {mu.tolist()}")
    for name in ("alpha", "refractory"):
        value = None if given[name] is None else concrete(given[name])
        if value is not None and not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value}: pass 0.0 to switch it off")
    sigma = concrete(given["sigma"])
    if sigma is not None and not np.isfinite(sigma).all():
        raise ValueError(f"sigma must be finite, got {sigma.tolist()}")


def _present(sigma: Any) -> tuple[tuple[bool, bool], tuple[bool, bool]]:
    """Which entries of sigma may be nonzero: all but the concrete zeros, also where other entries are traced."""

    def entry(values: Any, k: int) -> Any:
        host = concrete(values)
        return (values if host is None else host)[k]

    def present(value: Any) -> bool:
        host = concrete(value)
        return host is None or bool(host != 0)

    (a, b), (c, d) = ([present(entry(entry(sigma, j), k)) for k in (0, 1)] for j in (0, 1))
    return (a, b), (c, d)


def _stack(value: Any) -> jax.Array:
    """Nested sequences, of which some may be tracers, as one float array."""
    if isinstance(value, tuple | list):
        rows = [_stack(row) for row in value]
        if len({row.shape for row in rows}) != 1:
            raise ValueError(f"sigma and mu must be rectangular, got rows of shapes {[row.shape for row in rows]}")
        return as_float(jax.numpy.stack(rows))
    return as_float(value)
