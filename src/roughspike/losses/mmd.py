"""SignatureMMD: the distance of two laws of spike trains in the space of a signature kernel, and a test of it."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import as_float, is_concrete
from roughspike.losses.base import batched, check_pair
from roughspike.paths.spikes import SpikeTrain, unchecked
from roughspike.signatures.gram import early
from roughspike.signatures.kernel import SignatureKernel
from roughspike.signatures.lifts import FilteredLift


def signature_mmd(x: Any, y: Any, *, kernel: SignatureKernel | None = None, unbiased: bool = True) -> Float[Array, ""]:
    """Squared maximum mean discrepancy of two sets of trains (or paths): how far their laws are apart.

        MMD^2 = E k(X, X') - 2 E k(X, Y) + E k(Y, Y')

    It is 0 for equal laws only: the signature kernel tells laws of paths apart.

    **Arguments**

    - `x`, `y`: trains with one batch axis, or paths (n, vertices, channels).
    - `kernel`: `SignatureKernel()` by default, for several neurons the one of filtered trains (`SignatureMMD` says
      why); its "auto" jump size is resolved from both sets.
    - `unbiased`: leave out k(x_i, x_i) and k(y_i, y_i); the result can then be negative.

    **Reference**: Gretton, Borgwardt, Rasch, Schoelkopf & Smola (2012), JMLR 13, Lemma 6.

    >>> import numpy as np, roughspike as rs
    >>> early, late = (rs.SpikeTrain(np.array([[[t]], [[t + 0.1]]])) for t in (0.1, 0.6))
    >>> bool(rs.signature_mmd(early, late) > 0.01)
    True
    """
    kernel = (default_kernel(x) if kernel is None else kernel).resolved(x, y)
    if not _same_window(x, y):
        return mean_within(kernel, x, unbiased) - 2 * jnp.mean(kernel.gram(x, y)) + mean_within(kernel, y, unbiased)
    return _squared(kernel, x, y, unbiased, True)


def kernel_score(x: SpikeTrain, y: SpikeTrain, *, kernel: SignatureKernel | None = None) -> Float[Array, ""]:
    """A proper score of a simulator for ONE observation per condition: E k(X, X') / 2 - E k(X, y), averaged.

    Over all models its mean is smallest at the law of the data; it is MMD^2 / 2 without the part of the data alone.

    **Arguments**

    - `x`: samples, batch shape (conditions, samples), at least two.
    - `y`: observations, batch shape (conditions,).
    - `kernel`: as in `signature_mmd`; "auto" is resolved from the observations.

    **Reference**: Gneiting & Raftery (2007), JASA 102, section 5.1.

    >>> import numpy as np, roughspike as rs
    >>> x = rs.SpikeTrain(np.array([[[[0.2]], [[0.3]]]]))                # one condition, two samples
    >>> near, far = (rs.SpikeTrain(np.array([[[t]]])) for t in (0.25, 0.9))
    >>> kernel = rs.SignatureKernel(jump_size=1.0, normalise=True)
    >>> bool(rs.kernel_score(x, near, kernel=kernel) < rs.kernel_score(x, far, kernel=kernel))
    True
    """
    if len(x.batch_shape) != 2 or x.batch_shape[1] < 2 or y.batch_shape != x.batch_shape[:1]:
        raise ValueError(
            "x must have batch shape (conditions, samples) with two samples or more, and y (conditions,), got "
            f"{x.batch_shape} and {y.batch_shape}"
        )
    check_pair(x, y)
    conditions, samples = x.batch_shape
    number = conditions * samples
    kernel = (default_kernel(x) if kernel is None else kernel).resolved(y)
    i, j = np.triu_indices(samples, 1)
    start = samples * np.arange(conditions)[:, None]
    first = np.concatenate([(start + i).ravel(), np.arange(number)])
    second = np.concatenate([(start + j).ravel(), number + np.repeat(np.arange(conditions), samples)])
    weights = np.concatenate([np.full(conditions * len(i), 0.5 / (conditions * len(i))), np.full(number, -1 / number)])
    return weighted(kernel, joined(batched(x), y), first, second, weights)


class MMDTest(eqx.Module):
    """Can two sets of trains be told apart?

    **Attributes**

    - `statistic`: the unbiased squared MMD.
    - `p_value`: share of permutations that are as far apart, the sets as they are counted as one of them.
    - `null`: the statistic of every permutation.
    """

    statistic: float
    p_value: float
    null: np.ndarray


def mmd_test(
    x: Any, y: Any, *, kernel: SignatureKernel | None = None, num_permutations: int = 500, seed: int = 0
) -> MMDTest:
    """Permutation test of equal laws by the unbiased MMD: exact level for any sample size.

    **Arguments**

    - `x`, `y`: as in `signature_mmd`, each with two trains or more. If all trains are samples of one law, every split
      of them is as likely, so that p <= 0.05 comes with probability 0.05 at most.
    - `kernel`: `SignatureKernel()` by default, for several neurons too: it sees which of them came first, and a test
      needs no gradient.
    - `num_permutations`, `seed`: random splits of the pooled trains.

    **Reference**: Gretton et al. (2012), JMLR 13, section 5; Phipson & Smyth (2010) for the p-value.

    >>> import numpy as np, roughspike as rs
    >>> random = np.random.default_rng(0)
    >>> x, y = (rs.SpikeTrain(np.sort(random.uniform(0, end, (12, 1, 4)))) for end in (1.0, 0.5))
    >>> rs.mmd_test(x, y, num_permutations=99).p_value
    0.01
    """
    kernel = (SignatureKernel() if kernel is None else kernel).resolved(x, y)
    n, m = len(_array(x)), len(_array(y))
    if min(n, m) < 2 or num_permutations < 1:
        raise ValueError(f"a test needs two trains or more on both sides and a permutation, got {n}, {m} trains")
    if _same_window(x, y):
        gram = np.asarray(kernel.gram(joined(x, y)), float)
    else:
        corner = np.asarray(kernel.gram(x, y), float)
        gram = np.block([[np.asarray(kernel.gram(x), float), corner], [corner.T, np.asarray(kernel.gram(y), float)]])
    random = np.random.default_rng(seed)
    order = np.stack([np.arange(n + m), *(random.permutation(n + m) for _ in range(num_permutations))])
    chosen = np.zeros((len(order), n + m))
    np.put_along_axis(chosen, order[:, :n], 1.0, axis=1)
    own = np.diagonal(gram)
    among = [np.sum((z @ gram) * z, axis=1) - z @ own for z in (chosen, 1 - chosen)]
    across = np.sum((chosen @ gram) * (1 - chosen), axis=1)
    found = among[0] / (n * (n - 1)) + among[1] / (m * (m - 1)) - 2 * across / (n * m)
    as_far = np.sum(found[1:] >= found[0] - 1e-12 * np.abs(gram).max())
    return MMDTest(float(found[0]), float((1 + as_far) / (1 + num_permutations)), found[1:])


class SignatureMMD(eqx.Module):
    """Squared MMD of simulated and recorded trains as a loss for `fit`: all levels of the signature at once.

    The term of the recorded trains alone does not depend on the model and is left out of the gradient, not of the
    value.

    **Which gradient it needs.** The Marcus lift jumps when a spike enters or leaves the window at t1: use
    `with_horizon(SignatureMMD())`. With several neurons the joint Marcus lift also jumps where two of them swap the
    order of their spikes, and that term is in no gradient here. The default for several neurons is therefore the
    kernel of filtered trains, `SignatureKernel(lift=FilteredLift())`, which needs neither term; `PerNeuron()` needs
    the horizon term only.

    **Arguments**

    - `kernel`: `SignatureKernel()` for one neuron, the one of filtered trains for several; "auto" is resolved from the
      recorded trains. Networks that start far from the data train best by a kernel with `normalise=True`, at two to
      three times the cost: without, trains with many spikes outweigh the others.
    - `unbiased`: products of different samples only. Needs two simulated samples.
    - `landmarks`: None for all kernels of n simulated and m recorded trains, n (n / 2 + m) of them. A number for the
      kernel's Nystroem features at so many of the recorded trains, evenly chosen: only n landmarks kernels.

    >>> import numpy as np, roughspike as rs
    >>> trains = rs.SpikeTrain(np.array([[[0.5]], [[0.6]]]))
    >>> abs(float(rs.SignatureMMD(unbiased=False)(trains, trains))) < 1e-5
    True
    """

    kernel: SignatureKernel | None = None
    unbiased: bool = eqx.field(static=True, default=True)
    landmarks: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.landmarks is not None and self.landmarks < 1:
            raise ValueError(f"landmarks must be at least 1, got {self.landmarks}: pass None for the exact kernel")

    def __call__(self, simulated: SpikeTrain, recorded: SpikeTrain) -> Float[Array, ""]:
        """The loss. **Raises** ValueError if the trains differ in their neurons or in their windows."""
        check_pair(simulated, recorded)
        x, y, kernel = self.sides(simulated, recorded)
        if self.unbiased and x.batch_shape[0] < 2:
            raise ValueError("unbiased=True needs two simulated samples or more: pass num_samples=2 or more")
        alone = y.batch_shape[0] > 1 or not self.unbiased
        if self.landmarks is not None:
            f, g = self._features(kernel, y, x, y)
            rest = within_features(g, self.unbiased) if alone else 0.0
            return within_features(f, self.unbiased) - 2 * jnp.vdot(jnp.mean(f, axis=0), jnp.mean(g, axis=0)) + rest
        return _squared(kernel, x, y, self.unbiased, alone)

    def gains(
        self, changed: SpikeTrain, simulated: SpikeTrain, recorded: SpikeTrain, everyone: SpikeTrain | None = None
    ) -> Float[Array, "samples"]:
        """What replacing one simulated train by its changed one does to the expectation of the loss, for each train.

        2 (w(changed_i) - w(x_i)) / n with the witness w(z) = mean_{j != i} k(z, x_j) - mean_j k(z, y_j).

        `everyone`: all n simulated trains, of which `simulated` are the first; None if there are no others.
        """
        x, y, kernel = self.sides(simulated, recorded)
        changed, everyone = batched(changed), x if everyone is None else batched(everyone)
        n = everyone.batch_shape[0]
        if self.landmarks is None:
            after, before = jnp.split(kernel.gram(joined(changed, x), joined(everyone, y)), 2)
            change, across = (after - before)[:, :n], (after - before)[:, n:]
            among = (jnp.sum(change, axis=1) - jnp.diagonal(change)) / max(n - 1, 1)
            return 2 * (among - jnp.mean(across, axis=1)) / n
        new, old, others = self._features(kernel, y, changed, x, y)
        total = old if everyone is x else self._features(kernel, y, everyone)[0]
        among = ((new - old) @ jnp.sum(total, axis=0) - jnp.sum((new - old) * old, axis=1)) / max(n - 1, 1)
        return 2 * (among - (new - old) @ jnp.mean(others, axis=0)) / n

    def _features(self, kernel: SignatureKernel, recorded: SpikeTrain, *sets: SpikeTrain) -> list[jax.Array]:
        """Of each set; those of recorded trains once, if they are known."""
        assert self.landmarks is not None
        seen, found = evenly(recorded, self.landmarks), []
        for z in sets:
            with early(z, recorded, kernel):
                found.append(kernel.features(z, seen))
        return found

    def sides(self, simulated: SpikeTrain, recorded: SpikeTrain) -> tuple[SpikeTrain, SpikeTrain, SignatureKernel]:
        """Both sets with one batch axis and one float type, and the kernel."""
        x, y = batched(simulated), batched(recorded)
        kernel = default_kernel(x) if self.kernel is None else self.kernel
        with early(recorded, kernel):
            times = jax.lax.stop_gradient(jnp.asarray(y.times, as_float(x.times).dtype))
            y = unchecked(times, x.t0, x.t1)
            return x, y, kernel.resolved(y)


def default_kernel(x: Any) -> SignatureKernel:
    """For a loss: of filtered trains if there are several neurons, whose joint lift jumps where two swap spikes."""
    return SignatureKernel(lift=FilteredLift() if isinstance(x, SpikeTrain) and x.num_neurons > 1 else None)


def _squared(kernel: SignatureKernel, x: Any, y: Any, unbiased: bool, rest: bool) -> jax.Array:
    """The squared MMD, `rest` being the term of y alone: a sum over one list of pairs, so one program to compile.

    What is known while a program is traced is computed then.
    """
    n, m, value = len(_array(x)), len(_array(y)), None
    known = rest and is_concrete(y, kernel) and not is_concrete(x)
    if known:
        with early(y, kernel):
            value = mean_within(kernel, y, unbiased)
    i, j, own = _own_pairs(n, unbiased)
    a, b, others = _own_pairs(m, unbiased) if rest and not known else (np.zeros(0, int),) * 3
    across = np.divmod(np.arange(n * m), m)
    first = np.concatenate([i, across[0], n + a])
    second = np.concatenate([j, n + across[1], n + b])
    weights = np.concatenate([own, np.full(n * m, -2 / (n * m)), others])
    found = weighted(kernel, joined(x, y), first, second, weights)
    return found if value is None else found + value


def mean_within(kernel: SignatureKernel, x: Any, unbiased: bool) -> jax.Array:
    """Mean of the kernels of one set, of different trains only if unbiased."""
    return weighted(kernel, x, *_own_pairs(len(_array(x)), unbiased))


def weighted(kernel: SignatureKernel, x: Any, first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> jax.Array:
    """The weighted sum of listed kernels."""
    found = kernel.pairs(x, None, first, second)
    return jnp.vdot(jnp.asarray(weights, found.dtype), found)


def _own_pairs(n: int, unbiased: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices i <= j, and the weight of each in the mean."""
    if unbiased and n < 2:
        raise ValueError("unbiased=True needs two trains or more on both sides: pass unbiased=False")
    i, j = np.triu_indices(n, int(unbiased))
    return i, j, np.where(i == j, 1, 2) / (n * (n - 1) if unbiased else n**2)


def _same_window(x: Any, y: Any) -> bool:
    return not isinstance(x, SpikeTrain) or (x.t0, x.t1) == (y.t0, y.t1)


def _array(x: Any) -> Any:
    return x.times if isinstance(x, SpikeTrain) else x


def joined(x: Any, y: Any) -> Any:
    """Both sets as one, the trains or paths of y after those of x."""
    a, b = as_float(_array(x)), as_float(_array(y))
    xp = np if is_concrete(a, b) else jnp
    axis = 2 if isinstance(x, SpikeTrain) else 1
    room = max(a.shape[axis], b.shape[axis])
    options: Any = {"constant_values": np.inf} if isinstance(x, SpikeTrain) else {"mode": "edge"}
    pad = lambda z: xp.pad(z, [(0, (room - z.shape[axis]) * (k == axis)) for k in range(z.ndim)], **options)  # noqa: E731
    both = xp.concatenate([pad(a), pad(xp.asarray(b, a.dtype))])
    return unchecked(both, x.t0, x.t1) if isinstance(x, SpikeTrain) else both


def within_features(features: jax.Array, unbiased: bool) -> jax.Array:
    """As `mean_within` of the Gram matrix of the features."""
    n, total = features.shape[0], jnp.sum(features, axis=0)
    if not unbiased:
        return jnp.vdot(total, total) / n**2
    return (jnp.vdot(total, total) - jnp.vdot(features, features)) / (n * (n - 1))


def evenly(y: SpikeTrain, number: int) -> SpikeTrain:
    """So many of the trains."""
    return y[np.unique(np.linspace(0, y.batch_shape[0] - 1, number).astype(int))]
