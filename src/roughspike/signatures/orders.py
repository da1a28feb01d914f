"""How many coefficients an edge needs: an estimate of the error from the data, and the cheapest choice that meets it.

Along one strip (a time move or a jump of x) the solution u is a function of the strip's coordinate, and so is u~, the
solution for the reversed paths. Let z be the product of the strip with the other path, Z that of both whole paths, and
the strip at the fraction p of its path. As for straight lines, u = I0(2 sqrt((p Z + z s) t)) at the fraction t of the
other path, whose coefficient of degree m in s is, relative to u,

    c_m(z t, p Z t),    c_m(z, w) = z^m / m! min(1 / m!, w^{-m/2}) exp(z / (2 max(m + 1, sqrt w))),

at most, with the leading term first; u~ is the same from the other end. The part of u that P coefficients of an edge
cut off meets the part of degree P - 1 of u~ (`tiles`), hence

    error of N strips = N mean_p S(p) max_t C c_P(z t, p Z t) c_{P-1}(z (1 - t), (1 - p) Z (1 - t)) k(p, t),         (1)

    C = P (2 P - 1) (P - 1)!^4 / (2 P - 1)!^2,    k = I0(2 sqrt(p Z t)) I0(2 sqrt((1 - p) Z (1 - t))) / I0(2 sqrt Z),

with S(p) = 2 + 3.5 (p (1 - p))^{1/2} Z^{1/4} for the range of t that counts: k is a Gaussian of variance
2 p (1 - p) / sqrt Z, and u grows by sqrt Z per unit of t. The first and the last strip are added once more, as there
may be few; time moves, of all lengths, count twice. In 240 sets of trains of all kinds it was never below the measured
error; it is a few to a hundred times it.

Taylor edges of general paths (`goursat`) keep less, and their strips are judged by the first of them,

    error of N strips ~ N max_t (z t)^P / (P!)^2 I0(2 sqrt((Z - z) (1 - t))) / I0(2 sqrt Z).                         (2)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from roughspike._types import is_concrete
from roughspike.signatures.sweep import Orders

_TIME, _JUMP, _PIECES = (2, 3, 4, 5, 6, 8), (3, 4, 5, 6, 7, 8, 9, 11, 13, 17), (1, 2, 4, 8, 16, 32)
_LADDERS = {True: (Orders(3, 5), Orders(5, 8, 4)), False: (Orders(4, 6), Orders(6, 9, 4))}
_GENERAL = (4, 5, 6, 8, 10, 12, 16)


class Extent(NamedTuple):
    """What two sets of trains are, as far as the error depends on it. Arrays of the module that found them."""

    length: Any  # time_weight (t1 - t0)
    moves: tuple[Any, Any]  # (trains, slots) weighted time moves of x and of y
    size: Any  # squared jump size
    most: Any  # (2, neurons) largest number of spikes in a train of x and of y
    least: Any  # (2, neurons) smallest
    least_any: Any  # (2, neurons) smallest among trains that have a spike of that neuron
    together: Any  # largest number of neurons that spike at one time


def extent_of(moves: tuple[Any, Any], counts: tuple[Any, Any], length: Any, size: Any, together: Any) -> Extent:
    """`Extent` from weighted time moves (trains, slots) and counts (trains, neurons) of both sets."""
    xp = np if is_concrete(moves, counts, length, size) else jnp
    size = xp.asarray(size)
    counts = (xp.asarray(counts[0]).astype(size.dtype), xp.asarray(counts[1]).astype(size.dtype))
    some = [xp.min(xp.where(c > 0, c, 2**30), axis=0) for c in counts]
    return Extent(
        xp.asarray(length),
        (xp.asarray(moves[0]), xp.asarray(moves[1])),
        size,
        xp.stack([xp.max(c, axis=0) for c in counts]),
        xp.stack([xp.min(c, axis=0) for c in counts]),
        xp.stack(some),
        xp.asarray(together),
    )


def estimated_error(extent: Extent, orders: Orders) -> tuple[Any, Any]:
    """Relative errors by (1) of time moves and of jumps, for the worst pair."""
    return time_error(extent, orders.time, orders.pieces), jump_error(extent, orders.jump)


def time_error(extent: Extent, order: int, pieces: int = 1) -> Any:
    """That of time moves."""
    xp = np if is_concrete(extent) else jnp
    overlap = extent.length**2 + extent.size * xp.sum(extent.least[0] * extent.least[1])
    time = 0.0
    for moves in extent.moves:
        longest = xp.max(moves)
        shares = (moves / xp.maximum(longest, 1e-30)) ** (2 * order - 1)
        strips = pieces * xp.max(xp.sum(shares, axis=-1))
        z = longest / pieces * extent.length
        time = time + 2 * strip_sum(xp, z, overlap, strips, order)
        time = time + 8 * strips * strip_error(xp, z, overlap, 2 * order)  # what `move_tile` leaves out
    return time


def jump_error(extent: Extent, order: int) -> Any:
    """That of jumps."""
    xp = np if is_concrete(extent) else jnp
    square, jump = extent.length**2, []
    for mine, others in ((0, 1), (1, 0)):
        ranked = xp.cumsum(-xp.sort(-extent.most[others]))  # spikes of the most active neurons together
        joint = ranked[xp.minimum(extent.together, ranked.shape[0]) - 1]
        there = xp.where(extent.together > 1, joint, extent.most[others])
        most = extent.most[mine]
        least = xp.minimum(extent.least_any[mine], most)
        strips = xp.stack([least, xp.sqrt(least * most), most])
        z = extent.size * there
        jump.append(xp.sum(xp.max(strip_sum(xp, z[None], square + z[None] * strips, strips, order), axis=0)))
    return jump[0] + jump[1]


def rounding_error(whole: Any, dtype: Any, spikes: Any = 0.0) -> Any:
    """Relative error by rounding of a kernel I0(2 sqrt whole) of trains of so many spikes together, as measured."""
    xp = np if is_concrete(whole) else jnp
    return float(np.finfo(dtype).eps) * (4 + xp.maximum(0.35 * xp.sqrt(whole), 2 * xp.sqrt(spikes)))


def largest(extent: Extent) -> Any:
    """Product of the two longest paths."""
    xp = np if is_concrete(extent) else jnp
    return extent.length**2 + extent.size * xp.sum(extent.most[0] * extent.most[1])


def strip_error(xp: Any, z: Any, whole: Any, order: int) -> Any:
    """(2) for one strip of product z with paths of product `whole`, elementwise."""
    z, whole, t = _grid(xp, z, whole)
    log = order * xp.log(xp.maximum(z * t, 1e-30)) - 2 * math.lgamma(order + 1)
    log = xp.where(z * t > (order + 1) ** 2, log_i0(xp, z * t), log)  # later terms are larger: all may be lost
    return _grown(xp, log, z, whole, t)


_PLACES = np.array([0.0, 0.003, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.997, 1.0])  # of a strip, in its path
_ALONG = np.concatenate([np.geomspace(1e-3, 0.5, 10), 1 - np.geomspace(1e-3, 0.4, 9)[::-1]])  # the other path
_SHARES = np.convolve(np.diff(_PLACES), [0.5, 0.5])


def strip_sum(xp: Any, z: Any, whole: Any, strips: Any, order: int) -> Any:
    """(1): relative error of so many strips of product z, elementwise."""
    z, whole, strips = (xp.asarray(part) for part in (z, whole, strips))
    z, whole = z[..., None, None], whole[..., None, None]
    rest = xp.maximum(whole - z, 0.0)
    grid = (1,) * (z.ndim - 2)
    p = xp.asarray(_PLACES.reshape(*grid, -1, 1), z.dtype)
    t = xp.asarray(_ALONG.reshape(*grid, 1, -1), z.dtype)
    before, after = p * rest * t, (1 - p) * rest * (1 - t)
    log = _coefficient(xp, z * t, before, order) + _coefficient(xp, z * (1 - t), after, order - 1)
    log = log + log_i0(xp, before) + log_i0(xp, after) - log_i0(xp, whole)
    log = log + 4 * math.lgamma(order) - 2 * math.lgamma(2 * order) + math.log(order * (2 * order - 1))
    error = xp.exp(xp.minimum(xp.max(log, axis=-1), 80.0))
    spread = 3.5 * (p * (1 - p) * xp.sqrt(whole)) ** 0.5
    error = error * (2 + spread[..., 0])
    mean = xp.sum(error * xp.asarray(_SHARES.reshape(*grid, -1), z.dtype), axis=-1)
    return xp.where(strips > 0, strips * mean + error[..., 0] + error[..., -1], 0.0)


def _coefficient(xp: Any, z: Any, whole: Any, m: int) -> Any:
    """log of the coefficient of degree m along a strip, bounded by its leading term and what follows."""
    large = xp.maximum(math.lgamma(m + 1), 0.5 * m * xp.log(xp.maximum(whole, 1e-30)))
    lead = m * xp.log(xp.maximum(z, 1e-30)) - math.lgamma(m + 1) - large
    return lead + z / (2 * xp.maximum(m + 1.0, xp.sqrt(whole)))


def _grid(xp: Any, z: Any, whole: Any) -> tuple[Any, Any, Any]:
    z, whole = xp.asarray(z)[..., None], xp.asarray(whole)[..., None]
    at = np.geomspace(1e-4, 1, 32)  # the worst fraction is about order / sqrt(whole)
    return z, whole, xp.asarray(at.reshape((1,) * (z.ndim - 1) + (32,)), z.dtype)


def _grown(xp: Any, log: Any, z: Any, whole: Any, t: Any) -> Any:
    rest = xp.maximum(whole - z, 0.0) * (1 - t)
    return xp.exp(xp.minimum(xp.max(log + log_i0(xp, rest) - log_i0(xp, whole), axis=-1), 80.0))


def log_i0(xp: Any, z: Any) -> Any:
    """log I0(2 sqrt z) to a few per cent: enough to judge an error."""
    a = 2 * xp.sqrt(xp.maximum(z, 0.0))
    return xp.where(
        a < 2,
        a**2 / 4 - a**4 / 64 + a**6 / 576,
        a - 0.5 * xp.log(xp.maximum(6.2832 * a, 1.0)) + 0.125 / xp.maximum(a, 1.0),
    )


def choose(extent: Extent, tol: float) -> tuple[Orders, float]:
    """The cheapest orders whose estimate is below the tolerance, for concrete data; the estimate."""
    jump, second = _first_below(_JUMP, lambda p: float(jump_error(extent, p)), 0.3 * tol)
    limit, best, least = 0.95 * tol - second, (_TIME[-1], _PIECES[-1], math.inf), math.inf
    for pieces in _PIECES:
        if pieces**2 * (_TIME[0] ** 2 + jump**2 + 20) >= least:
            break  # more pieces cost more whatever the order
        time, first = _first_below(_TIME, lambda p, n=pieces: float(time_error(extent, p, n)), limit)
        if first < limit and (cost := pieces**2 * (time**2 + jump**2 + 20)) < least:
            best, least = (time, pieces, first), cost
    time, pieces, first = best
    if second >= 0.3 * tol or first == math.inf:  # out of reach: all there is
        return (most := Orders(_TIME[-1], _JUMP[-1], _PIECES[-1])), float(sum(estimated_error(extent, most)))
    return Orders(time, jump, pieces), first + second


def _first_below(orders: tuple[int, ...], error: Callable[[int], float], limit: float) -> tuple[int, float]:
    """The smallest order whose error is below the limit, or else the largest; its error."""
    order, found = orders[-1], math.inf
    for order in orders:
        if (found := error(order)) < limit:
            break
    return order, found


def ladder(tol: float) -> tuple[Orders, ...]:
    """Orders to choose from at run time where the data are traced, cheapest first."""
    return _LADDERS[tol > 1e-6]


def general_order(z: float, whole: float, strips: int, tol: float) -> tuple[int, int]:
    """Taylor order and pieces per segment for a piecewise linear path: strips of product z."""
    best, least = (_GENERAL[-1], _PIECES[-1]), math.inf
    for pieces in _PIECES:
        for order in _GENERAL:
            found = general_error(np.float64(z), np.float64(whole), strips, order, pieces)
            if found < tol / 2 and (cost := pieces**2 * (order**2 + 6)) < least:
                best, least = (order, pieces), cost
    return best


def general_error(z: Any, whole: Any, strips: int, order: int, pieces: int) -> Any:
    """Error of `general_order`'s choice; the factor 4 is for strips and paths beyond the few that z was found from."""
    xp = np if is_concrete(z, whole) else jnp
    return 4 * strips * pieces * strip_error(xp, z / pieces, whole, order)
