"""SignatureMMD: the distance of two laws of spike trains in the space of a signature kernel, and a test of it."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from roughspike._types import as_float
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
    - `kernel`: `SignatureKernel()` by default, its "auto" jump size resolved from both sets.
    - `unbiased`: leave out k(x_i, x_i) and k(y_i, y_i); the result can then be negative.

    **Reference**: Gretton, Borgwardt, Rasch, Schoelkopf & Smola (2012), JMLR 13, Lemma 6.

    >>> import numpy as np, roughspike as rs
    >>> early, late = (rs.SpikeTrain(np.array([[[t]], [[t + 0.1]]])) for t in (0.1, 0.6))
    >>> bool(rs.signature_mmd(early, late) > 0.01)
    True
    """
    kernel = (SignatureKernel() if kernel is None else kernel).resolved(x, y)
    within = []
    for z in (x, y):
        with early(z, kernel):
            within.append(_within(kernel.gram(z), unbiased))
    return within[0] - 2 * jnp.mean(kernel.gram(x, y)) + within[1]


def kernel_score(x: SpikeTrain, y: SpikeTrain, *, kernel: SignatureKernel | None = None) -> Float[Array, ""]:
    """A proper score of a simulator for ONE observation per condition: E k(X, X') / 2 - E k(X, y), averaged.

    Over all models its mean is smallest at the law of the data; it is MMD^2 / 2 without the part of the data alone.

    **Arguments**

    - `x`: samples, batch shape (conditions, samples), at least two.
    - `y`: observations, batch shape (conditions,).

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
    conditions, samples = x.batch_shape
    flat = batched(x)
    kernel = (SignatureKernel() if kernel is None else kernel).resolved(y)
    i, j = np.triu_indices(samples, 1)
    start = samples * np.arange(conditions)[:, None]
    among = kernel.pairs(flat, flat, (start + i).reshape(-1), (start + j).reshape(-1))
    owner = np.repeat(np.arange(conditions), samples)
    return jnp.mean(among) / 2 - jnp.mean(kernel.pairs(flat, y, np.arange(conditions * samples), owner))


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
    - `num_permutations`, `seed`: random splits of the pooled trains.

    **Reference**: Gretton et al. (2012), JMLR 13, section 5; Phipson & Smyth (2010) for the p-value.

    >>> import numpy as np, roughspike as rs
    >>> random = np.random.default_rng(0)
    >>> x, y = (rs.SpikeTrain(np.sort(random.uniform(0, end, (12, 1, 4)))) for end in (1.0, 0.5))
    >>> rs.mmd_test(x, y, num_permutations=99).p_value
    0.01
    """
    kernel = (SignatureKernel() if kernel is None else kernel).resolved(x, y)
    blocks = [[np.asarray(kernel.gram(x), float), np.asarray(kernel.gram(x, y), float)], []]
    blocks[1] = [blocks[0][1].T, np.asarray(kernel.gram(y), float)]
    gram = np.block(blocks)
    n, m = len(blocks[0][0]), len(blocks[1][1])
    if min(n, m) < 2 or num_permutations < 1:
        raise ValueError(f"a test needs two trains or more on both sides and a permutation, got {n}, {m} trains")
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
      recorded trains.
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
        x, y, kernel = self._sides(simulated, recorded)
        if self.unbiased and x.batch_shape[0] < 2:
            raise ValueError("unbiased=True needs two simulated samples or more: pass num_samples=2 or more")
        alone = y.batch_shape[0] > 1 or not self.unbiased
        if self.landmarks is not None:
            f, g = (kernel.features(z, _evenly(y, self.landmarks)) for z in (x, y))
            rest = _within_features(g, self.unbiased) if alone else 0.0
            return _within_features(f, self.unbiased) - 2 * jnp.vdot(jnp.mean(f, axis=0), jnp.mean(g, axis=0)) + rest
        with early(y, kernel):
            rest = _within(kernel.gram(y), self.unbiased) if alone else 0.0
        return _within(kernel.gram(x), self.unbiased) - 2 * jnp.mean(kernel.gram(x, y)) + rest

    def gains(self, changed: SpikeTrain, simulated: SpikeTrain, recorded: SpikeTrain) -> Float[Array, "samples"]:
        """What replacing one simulated train by its changed one does to the expectation of the loss, for each train.

        2 (w(changed_i) - w(x_i)) / n with the witness w(z) = mean_{j != i} k(z, x_j) - mean_j k(z, y_j).
        """
        x, y, kernel = self._sides(simulated, recorded)
        changed, n = batched(changed), x.batch_shape[0]
        if self.landmarks is None:
            change, across = kernel.gram(changed, x) - kernel.gram(x), kernel.gram(changed, y) - kernel.gram(x, y)
            among = (jnp.sum(change, axis=1) - jnp.diagonal(change)) / max(n - 1, 1)
            return 2 * (among - jnp.mean(across, axis=1)) / n
        new, old, others = (kernel.features(z, _evenly(y, self.landmarks)) for z in (changed, x, y))
        among = ((new - old) @ jnp.sum(old, axis=0) - jnp.sum((new - old) * old, axis=1)) / max(n - 1, 1)
        return 2 * (among - (new - old) @ jnp.mean(others, axis=0)) / n

    def _sides(self, simulated: SpikeTrain, recorded: SpikeTrain) -> tuple[SpikeTrain, SpikeTrain, SignatureKernel]:
        """Both sets with one batch axis and one float type, and the kernel."""
        x, y = batched(simulated), batched(recorded)
        kernel = self.kernel
        if kernel is None:
            kernel = SignatureKernel() if x.num_neurons == 1 else SignatureKernel(lift=FilteredLift())
        with early(recorded, kernel):
            times = jax.lax.stop_gradient(jnp.asarray(y.times, as_float(x.times).dtype))
            y = unchecked(times, x.t0, x.t1)
            return x, y, kernel.resolved(y)


def _within(gram: jax.Array, unbiased: bool) -> jax.Array:
    """Mean of a Gram matrix of one set, without its diagonal if unbiased."""
    n = gram.shape[0]
    if not unbiased:
        return jnp.mean(gram)
    if n < 2:
        raise ValueError("unbiased=True needs two trains or more on both sides: pass unbiased=False")
    return (jnp.sum(gram) - jnp.trace(gram)) / (n * (n - 1))


def _within_features(features: jax.Array, unbiased: bool) -> jax.Array:
    """As `_within` of the Gram matrix of the features."""
    n, total = features.shape[0], jnp.sum(features, axis=0)
    if not unbiased:
        return jnp.vdot(total, total) / n**2
    return (jnp.vdot(total, total) - jnp.vdot(features, features)) / (n * (n - 1))


def _evenly(y: SpikeTrain, number: int) -> SpikeTrain:
    """So many of the trains."""
    return y[np.unique(np.linspace(0, y.batch_shape[0] - 1, number).astype(int))]
