"""Levy processes of infinite activity as drivers: large jumps one by one, small ones as a Brownian motion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import as_float, concrete
from roughspike.paths.brownian import step_length
from roughspike.paths.poisson import interval_keys, poisson_times
from roughspike.paths.realised import AbstractPath, RealisedPath, random_key

_NODES = 513  # of the logarithmic grids on which the measure is integrated
_REACH = 1e8  # how far below the cutoff, and above it if no largest jump is given, the grids go


class LevyDensity(eqx.Module):
    """The density of a one-dimensional Levy measure, c(sign x) |x|^(-1 - index) exp(-tempering |x|).

    What `LevyPath.gamma` and `LevyPath.tempered_stable` use; any function of x will do in its place.
    """

    index: Float[Array, ""] = eqx.field(converter=as_float)
    positive: Float[Array, ""] = eqx.field(converter=as_float)
    negative: Float[Array, ""] = eqx.field(converter=as_float)
    tempering: Float[Array, ""] = eqx.field(converter=as_float)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The density at x, elementwise."""
        size = jnp.abs(x)
        scale = jnp.where(x > 0, self.positive, self.negative).astype(x.dtype)
        return scale * jnp.exp(-self.tempering.astype(x.dtype) * size) * size ** (-1 - self.index.astype(x.dtype))


class LevyPath(AbstractPath):
    """A one-dimensional Levy process with jump measure nu, cut at a size: jumps beyond it are drawn one by one.

        X(t) = sum of the jumps with |x| > cutoff  +  s B(t)  +  m t,      s^2 = integral of x^2 nu over |x| < cutoff

    The Brownian motion stands for the small jumps (Asmussen & Rosinski 2001, J. Appl. Probab. 38, 482). At any fixed
    time the Wasserstein-1 distance between what it replaces and it is at most `small_jump_error` = integral of |x|^3 nu
    / integral of x^2 nu over |x| < cutoff, which is below the cutoff (Goldstein 2010, Ann. Probab. 38, 1672, in the
    limit of infinitely many summands). Times and sizes of the jumps are differentiable in the parameters of nu.

    **Arguments**

    - `density`: x -> nu(x), elementwise, both signs; on each side of 0 it should behave like a power where the grid of
      the quadrature ends (at 1e-8 times the cutoff, and at `largest`).
    - `cutoff`: size below which jumps are replaced.
    - `compensate_below`: 0 for the plain sum of all jumps, which needs integral of |x| nu over small x to be finite
      (then m is their mean); or a size of at least `cutoff` up to which jumps are compensated, so that m = minus the
      mean of the drawn jumps up to there: the truncation of the Levy-Khintchine formula. inf gives a martingale.
    - `largest`: where the density has become a power or negligible; None for 1e8 times the cutoff.
    - `max_jumps`: slots for jumps.

    **Raises** ValueError for a cutoff or compensation that makes no sense.

    >>> import jax, jax.numpy as jnp, roughspike as rs
    >>> gamma = rs.LevyPath.gamma(shape=3.0, rate=2.0, cutoff=1e-3)
    >>> path = gamma.realise(jax.random.key(0), 0.0, 1.0, 10, jnp.float32)
    >>> bool(path.overflow), float(gamma.small_jump_error) < 1e-3
    (False, True)
    """

    density: Callable[[jax.Array], jax.Array]
    cutoff: Float[Array, ""]
    largest: Float[Array, ""]
    compensate_below: float = eqx.field(static=True)
    max_jumps: int = eqx.field(static=True)

    def __init__(
        self,
        density: Callable[[jax.Array], jax.Array],
        cutoff: Any,
        compensate_below: float = 0.0,
        largest: Any = None,
        max_jumps: int = 256,
    ):
        self.density, self.cutoff = density, as_float(cutoff)
        self.largest = self.cutoff * _REACH if largest is None else as_float(largest)
        self.compensate_below, self.max_jumps = float(compensate_below), int(max_jumps)
        low, high = concrete(self.cutoff), concrete(self.largest)
        if low is not None and not (low > 0 and np.isfinite(low)):
            raise ValueError(f"cutoff must be positive and finite, got {low}")
        if low is not None and high is not None and not high > low:
            raise ValueError(f"largest must exceed the cutoff {low}, got {high}")
        if self.compensate_below < 0 or (low is not None and 0 < self.compensate_below < low * (1 - 1e-6)):
            raise ValueError(f"compensate_below must be 0 or at least the cutoff {low}, got {compensate_below}")
        if self.max_jumps < 1:
            raise ValueError(f"max_jumps must be at least 1, got {max_jumps}")

    @staticmethod
    def gamma(shape: Any, rate: Any, cutoff: Any, max_jumps: int = 256) -> LevyPath:
        """The gamma process: nu(x) = shape exp(-rate x) / x for x > 0, and X(t) ~ Gamma(shape t, rate)."""
        density = LevyDensity(0.0, shape, 0.0, rate)
        return LevyPath(density, cutoff, largest=as_float(cutoff) + 60.0 / as_float(rate), max_jumps=max_jumps)

    @staticmethod
    def tempered_stable(
        index: Any,
        positive: Any,
        negative: Any,
        cutoff: Any,
        tempering: Any = 0.0,
        compensate_below: float = 0.0,
        max_jumps: int = 256,
    ) -> LevyPath:
        """nu(x) = c |x|^(-1 - index) exp(-tempering |x|), c = `positive` for x > 0, `negative` for x < 0.

        0 < index < 2. Without tempering this is a stable process. From index 1 on small jumps are not summable: then
        the measure must be symmetric or `compensate_below` not 0.
        """
        values = [concrete(as_float(x)) for x in (index, positive, negative, tempering)]
        if values[0] is not None and not 0 < values[0] < 2:
            raise ValueError(f"index must lie between 0 and 2, got {values[0]}")
        known = not any(v is None for v in values[:3])
        if known and values[0] >= 1 and values[1] != values[2] and compensate_below == 0:  # pyright: ignore
            raise ValueError(
                f"small jumps of index {values[0]} are not summable: pass compensate_below, or positive = negative"
            )
        if values[3] is not None and values[3] < 0:
            raise ValueError(f"tempering must not be negative, got {values[3]}")
        low, rate = as_float(cutoff), as_float(tempering)
        far = jnp.where(rate > 0, low + 60 / jnp.where(rate > 0, rate, 1.0), jnp.inf)
        largest = jnp.minimum(far, _REACH * low)
        return LevyPath(LevyDensity(index, positive, negative, tempering), low, compensate_below, largest, max_jumps)

    @property
    def rough(self) -> tuple[bool, ...]:
        """Its Brownian part is."""
        return (True,)

    @property
    def small_jump_error(self) -> jax.Array:
        """Bound on the Wasserstein-1 distance between the small jumps and their Brownian motion, at any time."""
        return self._moment(3) / self._moment(2)

    @property
    def jump_rate(self) -> jax.Array:
        """Jumps beyond the cutoff per time: `max_jumps` should exceed this times the window."""
        return _tail(self._density(1.0), self.cutoff, self.largest).total + self._negative_tail().total

    def realise(
        self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any
    ) -> RealisedPath:
        """Brownian increments for the small jumps, and the large ones by inversion of the tails of nu."""
        for_small, for_times, for_sizes = jax.random.split(random_key(self, key), 3)
        up, down = _tail(self._density(1.0), self.cutoff, self.largest), self._negative_tail()
        total = up.total + down.total
        times, needed = poisson_times(for_times, total.astype(dtype), t0, t1, self.max_jumps, dtype)
        tiny = float(jnp.finfo(dtype).tiny)
        draw = jax.vmap(lambda k: jax.random.uniform(k, (), total.dtype, minval=tiny))
        mass = total * draw(interval_keys(for_sizes, self.max_jumps))
        is_up = mass < up.total
        sizes = jnp.where(is_up, up.inverse(jnp.where(is_up, mass, up.total)), -down.inverse(mass - up.total))
        sizes = jnp.where(jnp.isfinite(times), sizes.astype(dtype), 0.0)[:, None]
        h = step_length(t0, t1, num_steps, dtype)
        normals = jax.random.normal(for_small, (num_steps, 1), dtype)
        increments = jnp.sqrt(self._moment(2).astype(dtype) * h) * normals + self._mean(up, down).astype(dtype) * h
        return RealisedPath(increments, None, times, sizes, needed)

    def _density(self, sign: float) -> Callable[[jax.Array], jax.Array]:
        return lambda x: self.density(sign * x)

    def _negative_tail(self) -> _Tail:
        return _tail(self._density(-1.0), self.cutoff, self.largest)

    def _moment(self, power: int, signed: bool = False) -> jax.Array:
        """Integral of |x|^power nu, or of x^power nu, over |x| < cutoff."""
        below = [_below(self._density(sign), self.cutoff, power) for sign in (1.0, -1.0)]
        return below[0] - below[1] if signed else below[0] + below[1]

    def _mean(self, up: _Tail, down: _Tail) -> jax.Array:
        """m: the mean of the small jumps, or minus that of the compensated ones."""
        if self.compensate_below == 0:
            return self._moment(1, signed=True)
        return down.mean_up_to(self.compensate_below) - up.mean_up_to(self.compensate_below)


class _Tail(NamedTuple):
    """One side of the measure beyond the cutoff, on nodes that are equally far apart in log x."""

    log_x: jax.Array
    mass: jax.Array  # nu of (x, inf) at the nodes
    slope: jax.Array  # -d log mass / d log x at the last node, where mass continues as a power
    total: jax.Array
    mean: jax.Array  # integral of x nu from the cutoff to each node
    rest: jax.Array  # integral of x nu beyond the last node

    def inverse(self, mass: jax.Array) -> jax.Array:
        """The x beyond which the measure has this mass: log x linear in log mass between nodes, a power at the end."""
        tiny = jnp.finfo(mass.dtype).tiny
        logs = jnp.log(jnp.maximum(self.mass, tiny))
        wanted = jnp.log(jnp.maximum(mass, tiny))
        inside = jnp.interp(-wanted, -logs, self.log_x)
        beyond = self.log_x[-1] + (logs[-1] - wanted) / jnp.maximum(self.slope, 1e-3)
        return jnp.exp(jnp.where(wanted < logs[-1], beyond, inside))

    def mean_up_to(self, size: float) -> jax.Array:
        """Integral of x nu from the cutoff to `size`."""
        if np.isinf(size):
            return self.mean[-1] + self.rest
        return jnp.interp(jnp.log(jnp.asarray(size, self.log_x.dtype)), self.log_x, self.mean)


def _tail(density: Callable[[jax.Array], jax.Array], cutoff: jax.Array, largest: jax.Array) -> _Tail:
    span = jnp.log(largest / cutoff)
    log_x = jnp.log(cutoff) + span * jnp.linspace(0.0, 1.0, _NODES, dtype=cutoff.dtype)
    x = jnp.exp(log_x)
    weight = density(x) * x  # nu(x) dx = weight d log x
    gaps = span / (_NODES - 1)
    slope = _end_slope(weight, gaps)
    pieces = _cumulative(weight, gaps)
    mass = pieces[-1] - pieces + weight[-1] / slope
    first = _cumulative(weight * x, gaps)
    rest = jnp.where(slope > 1, weight[-1] * x[-1] / jnp.where(slope > 1, slope - 1, 1.0), jnp.inf)
    rest = jnp.where(weight[-1] > 0, rest, 0.0)
    return _Tail(log_x, mass, slope, mass[0], first, rest)


def _below(density: Callable[[jax.Array], jax.Array], cutoff: jax.Array, power: int) -> jax.Array:
    """Integral of x^power nu from 0 to the cutoff."""
    span = jnp.log(jnp.asarray(_REACH, cutoff.dtype))
    x = cutoff * jnp.exp(-span * jnp.linspace(0.0, 1.0, _NODES, dtype=cutoff.dtype))
    weight = density(x) * x ** (power + 1)
    gap = span / (_NODES - 1)
    return _cumulative(weight, gap)[-1] + weight[-1] / _end_slope(weight, gap)


def _end_slope(weight: jax.Array, gap: jax.Array) -> jax.Array:
    """-d log weight per node distance at the last node; 1 where the weight has vanished."""
    alive = (weight[-1] > 0) & (weight[-2] > 0)
    ratio = jnp.where(alive, weight[-2], 1.0) / jnp.where(alive, weight[-1], 1.0)
    return jnp.where(alive, jnp.maximum(jnp.log(ratio) / gap, 1e-3), 1.0)


def _cumulative(weight: jax.Array, gap: jax.Array) -> jax.Array:
    """Integral from the first node to each: the trapezium rule with the correction of its leading error term."""
    inner = (weight[1:] + weight[:-1]) / 2
    first, last = (w[:3] @ jnp.asarray((-1.5, 2.0, -0.5), weight.dtype) for w in (weight, -weight[::-1]))
    derivative = jnp.gradient(weight).at[0].set(first).at[-1].set(last)
    correction = (derivative[1:] - derivative[:-1]) / 12
    return jnp.concatenate([jnp.zeros(1, weight.dtype), jnp.cumsum((inner - correction) * gap)])
