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
from roughspike.paths.uniform import open_uniform

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
        moments = self._moments()
        return jnp.sum(moments[2]) / jnp.sum(moments[1])

    @property
    def jump_rate(self) -> jax.Array:
        """Jumps beyond the cutoff per time: `max_jumps` should exceed this times the window."""
        return jnp.sum(self._tails().mass[:, 0])

    def realise(
        self, key: Any, t0: float | jax.Array, t1: float | jax.Array, num_steps: int, dtype: Any
    ) -> RealisedPath:
        """Brownian increments for the small jumps, and the large ones by inversion of the tails of nu."""
        for_small, for_times, for_sizes = jax.random.split(random_key(self, key), 3)
        tails, moments = self._tails(), self._moments()
        total = jnp.sum(tails.mass[:, 0])
        times, needed = poisson_times(for_times, total.astype(dtype), t0, t1, self.max_jumps, dtype)
        draw = jax.vmap(lambda k: open_uniform(k, (), total.dtype))
        sizes = tails.signed_size(total * draw(interval_keys(for_sizes, self.max_jumps)))
        sizes = jnp.where(jnp.isfinite(times), sizes.astype(dtype), 0.0)[:, None]
        h = step_length(t0, t1, num_steps, dtype)
        normals = jax.random.normal(for_small, (num_steps, 1), dtype)
        spread, mean = jnp.sqrt(jnp.sum(moments[1])), self._mean(tails, moments)
        increments = spread.astype(dtype) * jnp.sqrt(h) * normals + mean.astype(dtype) * h
        return RealisedPath(increments, None, times, sizes, needed)

    def _both(self, x: jax.Array) -> jax.Array:
        """nu at x and at -x."""
        return jnp.stack([self.density(x), self.density(-x)])

    def _tails(self) -> _Tails:
        """Integrals beyond the cutoff."""
        span = jnp.log(self.largest / self.cutoff)
        log_x = jnp.log(self.cutoff) + span * jnp.linspace(0.0, 1.0, _NODES, dtype=self.cutoff.dtype)
        x = jnp.exp(log_x)
        weight = self._both(x) * x[None]  # nu(x) dx = weight d log x
        gap = span / (_NODES - 1)
        slope = _end_slope(weight, gap)
        pieces, first = _cumulative(weight, gap), _cumulative(weight * x[None], gap)
        mass = pieces[:, -1:] - pieces + (weight[:, -1] / slope)[:, None]
        steep = jnp.where(slope > 1, slope - 1, 1.0)
        rest = jnp.where(slope > 1, weight[:, -1] * x[-1] / steep, jnp.inf)
        return _Tails(log_x, mass, slope, first, jnp.where(weight[:, -1] > 0, rest, 0.0))

    def _moments(self) -> jax.Array:
        """Integrals of |x|, |x|^2, |x|^3 (rows) over 0 < x < cutoff and -cutoff < x < 0 (columns)."""
        span = jnp.log(jnp.asarray(_REACH, self.cutoff.dtype))
        x = self.cutoff * jnp.exp(-span * jnp.linspace(0.0, 1.0, _NODES, dtype=self.cutoff.dtype))
        weight = jnp.stack([self._both(x) * (x**power)[None] for power in (2, 3, 4)])
        gap = span / (_NODES - 1)
        return _cumulative(weight, gap)[..., -1] + weight[..., -1] / _end_slope(weight, gap)

    def _mean(self, tails: _Tails, moments: jax.Array) -> jax.Array:
        """m: the mean of the small jumps, or minus that of the compensated ones."""
        up, down = moments[0] if self.compensate_below == 0 else -tails.mean_up_to(self.compensate_below)
        return up - down


class _Tails(NamedTuple):
    """The measure beyond the cutoff, right and left (rows), on nodes that are equally far apart in log x."""

    log_x: jax.Array
    mass: jax.Array  # nu beyond each node
    slope: jax.Array  # -d log mass / d log x at the last node, from where the mass continues as a power
    mean: jax.Array  # integral of |x| nu from the cutoff to each node
    rest: jax.Array  # integral of |x| nu beyond the last node

    def signed_size(self, mass: jax.Array) -> jax.Array:
        """The jump for a uniform variable on [0, nu beyond the cutoff]: first the right side, then the left."""
        right = mass < self.mass[0, 0]
        own = jnp.where(right, mass, mass - self.mass[0, 0])
        tiny = float(jnp.finfo(mass.dtype).tiny)
        wanted, logs = jnp.log(jnp.maximum(own, tiny)), jnp.log(jnp.maximum(self.mass, tiny))
        inside = jax.vmap(lambda side: jnp.interp(-wanted, -side, self.log_x))(logs)
        beyond = self.log_x[-1] + (logs[:, -1:] - wanted[None]) / self.slope[:, None]
        sizes = jnp.exp(jnp.where(wanted[None] < logs[:, -1:], beyond, inside))
        return jnp.where(right, sizes[0], -sizes[1])

    def mean_up_to(self, size: float) -> jax.Array:
        """Integral of |x| nu from the cutoff to `size`, right and left."""
        if np.isinf(size):
            return self.mean[:, -1] + self.rest
        at = jnp.log(jnp.asarray(size, self.log_x.dtype))
        return jax.vmap(lambda side: jnp.interp(at, self.log_x, side))(self.mean)


def _end_slope(weight: jax.Array, gap: jax.Array) -> jax.Array:
    """-d log weight per distance of the nodes at the last node; 1 where the weight has vanished."""
    alive = (weight[..., -1] > 0) & (weight[..., -2] > 0)
    ratio = jnp.where(alive, weight[..., -2], 1.0) / jnp.where(alive, weight[..., -1], 1.0)
    return jnp.where(alive, jnp.maximum(jnp.log(ratio) / gap, 1e-3), 1.0)


def _cumulative(weight: jax.Array, gap: jax.Array) -> jax.Array:
    """Integral from the first node to each: the trapezium rule with the correction of its leading error term."""
    first, last = (w[..., :3] @ jnp.asarray((-1.5, 2.0, -0.5), weight.dtype) for w in (weight, -weight[..., ::-1]))
    derivative = jnp.asarray(jnp.gradient(weight, axis=-1)).at[..., 0].set(first).at[..., -1].set(last)
    pieces = (weight[..., 1:] + weight[..., :-1]) / 2 - (derivative[..., 1:] - derivative[..., :-1]) / 12
    start = jnp.zeros_like(weight[..., :1])
    return jnp.concatenate([start, jnp.cumsum(pieces * gap, axis=-1)], axis=-1)
