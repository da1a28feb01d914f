"""SignatureKernel: inner products of whole signatures, of spike trains and of piecewise linear paths."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import as_float, is_concrete
from roughspike.paths.spikes import SpikeTrain
from roughspike.signatures.gram import path_gram, spike_gram
from roughspike.signatures.static import AbstractStaticKernel, LinearKernel
from roughspike.signatures.sweep import Orders
from roughspike.signatures.truncated import marcus_lift


class Gram(eqx.Module):
    """Kernels of all pairs, and how accurate they are.

    **Attributes**

    - `values`: shape (n, m).
    - `error`: estimated largest relative error of the numerical scheme, rounding apart.
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
    - `normalise`: k(x, y) / sqrt(k(x, x) k(y, y)), which is 1 for equal trains.
    - `orders`: (time, jump, pieces) to fix the numbers of coefficients; None to choose them. Inside `jit` and `grad`,
      where the data are unknown to the compiler, a few choices are compiled and one is taken at run time.

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

    def __init__(
        self,
        static: AbstractStaticKernel | None = None,
        tol: float | None = None,
        time_weight: Any = 1.0,
        jump_size: Any = "auto",
        normalise: bool = False,
        orders: tuple[int, ...] | None = None,
    ):
        self.static = LinearKernel() if static is None else static
        self.tol, self.normalise = tol, bool(normalise)
        self.time_weight, self.jump_size = time_weight, jump_size
        self.orders = None if orders is None else tuple(int(p) for p in orders)
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
        tol = _tolerance(kernel, x)
        values, error = _raw(kernel, x, y, tol)
        if self.normalise:
            values = _normalised(kernel, values, x, y, tol)
        return Gram(values, jnp.asarray(error, values.dtype), tol)

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


def _raw(kernel: SignatureKernel, x: Any, y: Any, tol: float) -> tuple[jax.Array, Any]:
    orders = None if kernel.orders is None else kernel.orders
    if isinstance(x, SpikeTrain):
        weights = kernel.time_weight, kernel.jump_size
        if isinstance(kernel.static, LinearKernel) and not _ties(x, y):
            fixed = None if orders is None else Orders(*orders)
            return spike_gram(x, y, *weights, tol, fixed)
        x, y = (None if t is None else _lifted(t, *weights) for t in (x, y))
    return path_gram(as_float(x), None if y is None else as_float(y), kernel.static, tol, orders)


def _lifted(train: SpikeTrain, time_weight: Any, jump_size: Any) -> jax.Array:
    path = marcus_lift(train)
    scale = jnp.concatenate(
        [jnp.asarray(time_weight, path.dtype)[None], jnp.full(train.num_neurons, jump_size, path.dtype)]
    )
    return (path - path[:, :1]) * scale[None, None]


def _ties(*trains: SpikeTrain | None) -> bool:
    """Do two neurons of a train spike at exactly the same time? Traced times are taken not to."""
    for train in trains:
        if train is None or train.num_neurons == 1 or not is_concrete(train.times):
            continue
        flat = np.sort(np.asarray(train.times).reshape(train.times.shape[0], -1), axis=-1)
        if bool(np.any((flat[:, 1:] == flat[:, :-1]) & np.isfinite(flat[:, 1:]))):
            return True
    return False


def _normalised(kernel: SignatureKernel, values: jax.Array, x: Any, y: Any, tol: float) -> jax.Array:
    if y is None:
        norm = jnp.sqrt(jnp.diagonal(values))
        return values / norm[:, None] / norm[None]
    own = [jnp.sqrt(jnp.diagonal(_raw(kernel, z, None, tol)[0])) for z in (x, y)]
    return values / own[0][:, None] / own[1][None]


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
    for name in ("time_weight", "jump_size"):
        value = getattr(kernel, name)
        if isinstance(value, int | float) and not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number above 0, got {value}: pass 1.0 for no scaling")
