"""How many coefficients an edge needs: an estimate of the error from the data, and the cheapest choice that meets it.

Along one strip (a time move or a jump of x) the solution is a function of the strip's coordinate whose coefficient of
degree P is at most z^P / (P!)^2 times the solution, with z the strip's total product with y. What is cut off at the
fraction t of y is (z t)^P / (P!)^2 and still grows by the kernel of what remains. With Z the product of both whole
paths, and I0(2 sqrt Z) the kernel of straight lines,

    error of N strips ~ N max_t (z t)^P / (P!)^2 I0(2 sqrt((Z - z) (1 - t))) / I0(2 sqrt Z),                     (1)

with z that of the longest time move, and N the number of strips of that length that would err as much.

Chebyshev edges keep more: the coefficient of degree P of s^m is 2 4^-m binom(2 m, m - P), so that

    z^P / (P!)^2  becomes  sum_{m >= P} 2 (z / 4)^m binom(2 m, m - P) / (m!)^2.                                     (2)

Factors of 16 (time) and 1/(2 sqrt N) (jumps, whose early strips err most) bring this to measured errors, and a little
above them; the tests hold it to that. The factor for jumps is that of odd P: what is cut off there has the mean 0, as
the points of a Chebyshev edge, s = 0 among them, lie symmetrically. With even P the errors of all cells add up, and the
factor is 1; so odd numbers are chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from roughspike._types import is_concrete
from roughspike.signatures.sweep import Orders

_TIME, _JUMP, _PIECES = (3, 4, 5, 6, 8, 10, 12), (4, 5, 7, 9, 11, 13, 17, 21), (1, 2, 4, 8, 16, 32)
_LADDERS = {True: (Orders(3, 5), Orders(6, 11, 4)), False: (Orders(5, 7), Orders(8, 15, 4))}
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
        shares = (moves / xp.maximum(longest, 1e-30)) ** order
        strips = pieces * xp.max(xp.sum(shares, axis=-1))
        time = xp.maximum(time, 16 * strips * strip_error(xp, longest / pieces * extent.length, overlap, order))
    return time


def jump_error(extent: Extent, order: int) -> Any:
    """That of jumps."""
    xp = np if is_concrete(extent) else jnp
    square, jump = extent.length**2, 0.0
    for mine, others in ((0, 1), (1, 0)):
        ranked = xp.cumsum(-xp.sort(-extent.most[others]))  # spikes of the most active neurons together
        joint = ranked[xp.minimum(extent.together, ranked.shape[0]) - 1]
        there = xp.where(extent.together > 1, joint, extent.most[others])
        z = extent.size * there
        for here in (extent.least_any[mine], extent.most[mine]):
            present = xp.minimum(here, extent.most[mine])
            cut = chebyshev_error(xp, z, square + z * present, order)
            strips = xp.sum(extent.most[mine])
            jump = xp.maximum(jump, xp.max(cut) * (0.5 * xp.sqrt(strips) if order % 2 else strips))
    return jump


def rounding_error(whole: Any, dtype: Any) -> Any:
    """Relative error by rounding of a kernel I0(2 sqrt whole), measured: it grows with the kernel's logarithm."""
    xp = np if is_concrete(whole) else jnp
    return float(np.finfo(dtype).eps) * (2 + 0.35 * xp.sqrt(whole))


def largest(extent: Extent) -> Any:
    """Product of the two longest paths."""
    xp = np if is_concrete(extent) else jnp
    return extent.length**2 + extent.size * xp.sum(extent.most[0] * extent.most[1])


def strip_error(xp: Any, z: Any, whole: Any, order: int) -> Any:
    """(1) for one strip of product z with paths of product `whole`, elementwise."""
    z, whole, t = _grid(xp, z, whole)
    log = order * xp.log(xp.maximum(z * t, 1e-30)) - 2 * math.lgamma(order + 1)
    log = xp.where(z * t > (order + 1) ** 2, log_i0(xp, z * t), log)  # later terms are larger: all may be lost
    return _grown(xp, log, z, whole, t)


def chebyshev_error(xp: Any, z: Any, whole: Any, order: int) -> Any:
    """(2) for one strip, elementwise."""
    z, whole, t = _grid(xp, z, whole)
    base = xp.log(xp.maximum(z * t, 1e-30))
    total = None
    for m in range(order, order + 30):
        choices = math.lgamma(2 * m + 1) - math.lgamma(m - order + 1) - math.lgamma(m + order + 1)
        term = m * base + (choices - 2 * math.lgamma(m + 1) - m * math.log(4) + math.log(2))
        total = term if total is None else xp.logaddexp(total, term)
    total = xp.where(z * t > (order + 30) ** 2, log_i0(xp, z * t), total)  # as above
    return _grown(xp, total, z, whole, t)


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
    # a share for each: the estimate for jumps may be low by half where a train of one spike meets one of hundreds
    jump, second = _first_below(_JUMP, lambda p: float(jump_error(extent, p)), 0.3 * tol)
    best, least = (_TIME[-1], _PIECES[-1], math.inf), math.inf
    for pieces in _PIECES:
        if pieces**2 * (_TIME[0] ** 2 + jump**2 + 20) >= least:
            break  # more pieces cost more whatever the order
        time, first = _first_below(_TIME, lambda p, n=pieces: float(time_error(extent, p, n)), 0.65 * tol)
        if first < 0.65 * tol and (cost := pieces**2 * (time**2 + jump**2 + 20)) < least:
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
