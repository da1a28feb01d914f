"""SignatureKernel: inner products of whole signatures, of spike trains and of piecewise linear paths."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import as_float
from roughspike.paths.spikes import SpikeTrain
from roughspike.signatures.gram import as_matrix, pair_list, path_pairs, spike_pairs
from roughspike.signatures.lifts import FilteredLift, PerNeuron, scaled_path, without_repeats
from roughspike.signatures.scales import Scaled, quotient, scale_unit, summed
from roughspike.signatures.static import AbstractStaticKernel, LinearKernel
from roughspike.signatures.sweep import Orders


class Gram(eqx.Module):
    """Kernels of all pairs, and how accurate they are.

    **Attributes**

    - `values`: shape (n, m).
    - `error`: estimated largest relative error, of the numerical scheme or of rounding, whichever is larger.
    - `tol`: what was asked for.
    """

    values: Float[Array, "n m"]
    error: Float[Array, ""]
    tol: float = eqx.field(static=True)

    @property
    def ok(self) -> jax.Array:
        """Is the estimate within the tolerance, and are all values finite?"""
        return (self.error <= self.tol) & jnp.all(jnp.isfinite(self.values))


class SignatureKernel(eqx.Module):
    """k(x, y) = <S(x), S(y)>, all levels of the signature, computed to a tolerance from the Goursat problem

        u_st = <dx_s, dy_t> u,    u(0, .) = u(., 0) = 1,    k = u(end, end).

    A spike train is the path (time_weight t, jump_size N_t), each jump filled by a straight line (`marcus_lift`): the
    kernel of two trains of one neuron is large if they have many spikes, at similar times. Simultaneous spikes are one
    diagonal jump.

    **Arguments**

    - `static`: the geometry of states: `LinearKernel()`, or `RBFKernel(scale)`.
    - `tol`: relative tolerance; None for 1e-7 in float64 and 1e-5 in float32. The number of coefficients follows from
      it and from the data; `solve` says what was reached.
    - `time_weight`: scale of the time coordinate.
    - `jump_size`: height of a spike, or "auto" for 1 / sqrt(mean number of spikes per neuron). Kernels of 50 unit
      jumps are near the largest float32 number.
    - `normalise`: k(x, y) / sqrt(k(x, x) k(y, y)), which is 1 for equal trains; it overflows for no train.
    - `orders`: (time, jump, pieces) to fix the numbers of coefficients; None to choose them. Inside `jit` and `grad`,
      where the data are unknown to the compiler, a few choices are compiled and one is taken at run time.
    - `lift`: None for the Marcus lift of all neurons together, `PerNeuron()` for the sum of the kernels of each, or
      `FilteredLift(tau)` for trains smoothed by an alpha function.

    `time_weight`, `jump_size` and the spike times are differentiable.

    **When not to use it.** Trains of several neurons that swap the order of two spikes jump in this kernel; see
    `SignatureMMD` for what to train with.

    **Reference**: Salvi, Cass, Foster, Lyons & Yang (2021), arXiv 2006.14794; for spike trains Holberg & Salvi (2024),
    arXiv 2405.13587.

    >>> import numpy as np, roughspike as rs
    >>> trains = rs.SpikeTrain(np.array([[[0.2, 0.6]], [[0.3, np.inf]], [[np.inf, np.inf]]]))
    >>> gram = rs.SignatureKernel(jump_size=0.5).gram(trains)
    >>> gram.shape, bool(abs(gram[2, 2] - 2.2795853) < 1e-4)         # two silent trains: I0(2)
    ((3, 3), True)
    """

    static: AbstractStaticKernel = LinearKernel()
    tol: float | None = eqx.field(static=True, default=None)
    time_weight: float | Float[Array, ""] = 1.0
    jump_size: float | Float[Array, ""] | str = "auto"
    normalise: bool = eqx.field(static=True, default=False)
    orders: tuple[int, ...] | None = eqx.field(static=True, default=None)
    lift: PerNeuron | FilteredLift | None = None

    def __init__(
        self,
        static: AbstractStaticKernel | None = None,
        tol: float | None = None,
        time_weight: Any = 1.0,
        jump_size: Any = "auto",
        normalise: bool = False,
        orders: tuple[int, ...] | None = None,
        lift: PerNeuron | FilteredLift | None = None,
    ):
        self.static = LinearKernel() if static is None else static
        self.tol, self.normalise = tol, bool(normalise)
        self.time_weight, self.jump_size = time_weight, jump_size
        self.orders = None if orders is None else tuple(int(p) for p in orders)
        self.lift = lift
        _check(self)

    def gram(self, x: Any, y: Any = None) -> Float[Array, "n m"]:
        """Kernels of all pairs: k(x_i, y_j), or k(x_i, x_j) if y is left out (half the work, exactly symmetric).

        **Arguments**

        - `x`, `y`: trains with one batch axis, or piecewise linear paths of shape (n, vertices, channels); both of one
          kind. Paths are taken as they are, without the two weights.
        """
        return self.solve(x, y).values

    def solve(self, x: Any, y: Any = None) -> Gram:
        """As `gram`, with an estimate of the error."""
        kernel = self.resolved(x, x if y is None else y)
        n, m = _count(x), None if y is None else _count(y)
        first, second = pair_list(n, m)
        listed, error = _pairs(kernel, x, y, first, second)
        if self.normalise:
            if y is None:
                among = np.flatnonzero(first == second)
                own = [Scaled(*(part[among] for part in listed))]
            else:
                own, errors = zip(*(_own(kernel, z) for z in (x, y)), strict=True)
                error = jnp.max(jnp.stack([jnp.asarray(e) for e in (error, *errors)]))  # of one sign: they cancel
            values = _quotient(listed, own[0], own[-1], first, second)
        else:
            values = listed.value
        return Gram(as_matrix(values, n, m), jnp.asarray(error, values.dtype), _tolerance(kernel, x))

    def pairs(self, x: Any, y: Any, first: np.ndarray, second: np.ndarray) -> Float[Array, "pairs"]:
        """k(x[first], y[second]) for index arrays of equal length; y is x if it is None."""
        kernel = self.resolved(x, x if y is None else y)
        first, second = np.asarray(first), np.asarray(second)
        if not self.normalise:
            return _pairs(kernel, x, y, first, second)[0].value
        if y is not None:
            listed = _pairs(kernel, x, y, first, second)[0]
            return _quotient(listed, _own(kernel, x)[0], _own(kernel, y)[0], first, second)
        every, among = np.arange(_count(x)), len(first)
        found = _pairs(kernel, x, None, np.concatenate([first, every]), np.concatenate([second, every]))[0]
        listed, own = (Scaled(*(part[cut] for part in found)) for cut in (slice(among), slice(among, None)))
        return _quotient(listed, own, own, first, second)

    def features(self, x: Any, landmarks: Any) -> Float[Array, "n landmarks"]:
        """Nystroem features f with <f(x), f(y)> close to k(x, y), and equal to it if x or y is a landmark.

            f(x) = C^-1 k(landmarks, x),    C C' = k(landmarks, landmarks)

        n times m kernels in place of n^2: for means over many samples.

        **Arguments**

        - `x`, `landmarks`: trains or paths; some tens of landmarks, of the kind that x is.

        **Reference**: Williams & Seeger (2001), Advances in Neural Information Processing Systems 13.
        """
        kernel = self.resolved(landmarks)
        gram = kernel.gram(landmarks)
        noise = 4 * len(gram) * jnp.finfo(gram.dtype).eps * jnp.trace(gram)  # what rounding and tol may make negative
        noise = jnp.maximum(noise, _tolerance(kernel, x) * jnp.trace(gram))
        factor = jnp.linalg.cholesky(gram + noise * jnp.eye(len(gram), dtype=gram.dtype))
        return jax.scipy.linalg.solve_triangular(factor, kernel.gram(landmarks, x), lower=True).T

    def resolved(self, *trains: Any) -> SignatureKernel:
        """The same kernel with a number for "auto": the jump size that suits all these trains together."""
        if not isinstance(self.jump_size, str) or not isinstance(trains[0], SpikeTrain):
            return self
        return eqx.tree_at(lambda k: k.jump_size, self, auto_jump_size(*trains))


def auto_jump_size(*trains: SpikeTrain) -> jax.Array:
    """1 / sqrt(mean number of spikes per neuron) over all trains, at most 1."""
    counts = [jnp.asarray(jnp.sum(jnp.isfinite(train.times), axis=-1)).reshape(-1) for train in trains]
    dtype = as_float(trains[0].times).dtype
    return 1 / jnp.sqrt(jnp.maximum(jnp.mean(jnp.concatenate(counts).astype(dtype)), 1.0))


def _own(kernel: SignatureKernel, x: Any) -> tuple[Scaled, Any]:
    """k(x_i, x_i), and the estimated error."""
    every = np.arange(_count(x))
    return _pairs(kernel, x, None, every, every)


def _quotient(listed: Scaled, x: Scaled, y: Scaled, first: np.ndarray, second: np.ndarray) -> jax.Array:
    """The normalised kernels of listed pairs."""
    own = [Scaled(side.value[index], side.exponent[index]) for side, index in ((x, first), (y, second))]
    return quotient(listed, own[0], own[1], scale_unit(listed.value.dtype, True))


def _pairs(kernel: SignatureKernel, x: Any, y: Any, first: np.ndarray, second: np.ndarray) -> tuple[Scaled, Any]:
    """Kernels of listed pairs, with a scale if they are to be normalised, and the estimated error.

    "auto" is resolved by now.
    """
    tol, scaled = _tolerance(kernel, x), kernel.normalise
    if not isinstance(x, SpikeTrain):
        x, y = as_float(x), None if y is None else as_float(y)
        return path_pairs(x, y, first, second, static=kernel.static, tol=tol, orders=kernel.orders, scaled=scaled)
    if isinstance(kernel.lift, PerNeuron) and x.num_neurons > 1:
        k = np.arange(x.num_neurons)
        i, j = ((x.num_neurons * index[:, None] + k).reshape(-1) for index in (first, second))
        x, y = (None if t is None else kernel.lift.split(t) for t in (x, y))
        listed, error = _pairs(kernel, x, y, i, j)
        by_neuron = Scaled(*(part.reshape(-1, len(k)) for part in listed))
        return summed(by_neuron, scale_unit(listed.value.dtype, scaled)), error
    weights: tuple[Any, Any] = (kernel.time_weight, kernel.jump_size)

    if isinstance(kernel.static, LinearKernel) and not isinstance(kernel.lift, FilteredLift):
        if kernel.orders is not None and (len(kernel.orders) < 2 or min(kernel.orders[:2]) < 2):
            raise ValueError(
                f"orders of spike trains must be (time, jump, pieces), 2 coefficients or more for each, got "
                f"{kernel.orders}: pass None to choose them"
            )
        orders = None if kernel.orders is None else Orders(*kernel.orders)
        return spike_pairs(x, y, first, second, weights=weights, tol=tol, orders=orders, scaled=scaled)
    lift = kernel.lift if isinstance(kernel.lift, FilteredLift) else without_repeats
    other = None if y is None else scaled_path(lift(y), *weights)
    options: dict[str, Any] = {"static": kernel.static, "tol": tol, "orders": kernel.orders, "scaled": scaled}
    return path_pairs(scaled_path(lift(x), *weights), other, first, second, **options)


def _count(x: Any) -> int:
    """Number of trains or paths. **Raises** ValueError for anything but one batch axis."""
    shape = x.batch_shape if isinstance(x, SpikeTrain) else np.shape(x)[:1]
    if len(shape) != 1:
        raise ValueError(
            f"x and y must be a SpikeTrain with one batch axis or paths of shape (n, vertices, channels), got batch "
            f"shape {shape}: pass spikes[None] or reshape"
        )
    return shape[0]


def _tolerance(kernel: SignatureKernel, x: Any) -> float:
    if kernel.tol is not None:
        return float(kernel.tol)
    times = x.times if isinstance(x, SpikeTrain) else x
    return 1e-5 if as_float(times).dtype == jnp.float32 else 1e-7


def _check(kernel: SignatureKernel) -> None:
    if kernel.tol is not None and not 0 < kernel.tol < 1:
        raise ValueError(f"tol must lie between 0 and 1, got {kernel.tol}: pass None for the default")
    if isinstance(kernel.jump_size, str) and kernel.jump_size != "auto":
        raise ValueError(f'jump_size must be a number above 0 or "auto", got {kernel.jump_size!r}')
    if kernel.orders is not None and not (0 < len(kernel.orders) < 4 and min(kernel.orders) > 0):
        raise ValueError(
            f"orders must be up to three whole numbers of at least 1, (time, jump, pieces) for trains and (order, "
            f"pieces) for paths, got {kernel.orders}: pass None to choose them"
        )
    for name in ("time_weight", "jump_size"):
        value = getattr(kernel, name)
        if isinstance(value, int | float) and not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number above 0, got {value}: pass 1.0 for no scaling")
