"""compare_estimators: bias, standard deviation, time and effective cost of gradient estimators on one problem."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree

from roughspike.paths.spikes import SpikeTrain
from roughspike.pointprocess.basis import Span
from roughspike.pointprocess.elbo import bound_of, check_problem, default_spacing
from roughspike.pointprocess.estimators import AbstractEstimator
from roughspike.pointprocess.events import Events, by_trial, events_of
from roughspike.pointprocess.network import PointProcessNetwork
from roughspike.pointprocess.score import LeaveOneOut, Score

_DRAWS_AT_ONCE = 10


class HiddenNeurons(eqx.Module):
    """A problem for `compare_estimators`: the gradient of `elbo` in all parameters of the model and the posterior.

    A problem of your own is any function of (estimator, key) that returns a value and its flat gradient, under `jit`.

    **Arguments**

    - `net`, `observed`, `posterior`: as for `elbo`. `num_samples`: samples for each trial in one draw of the gradient.
    """

    net: PointProcessNetwork
    posterior: PointProcessNetwork | None
    events: Events
    span: Span = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    num_samples: int = eqx.field(static=True)

    def __init__(
        self,
        net: PointProcessNetwork,
        observed: SpikeTrain,
        posterior: PointProcessNetwork | None = None,
        num_samples: int = 10,
    ):
        check_problem(net, observed, posterior, Score(), num_samples)
        self.net, self.posterior, self.num_samples = net, posterior, num_samples
        self.events = by_trial(events_of(observed, net.bias.dtype))
        self.span, self.dt = Span(observed.t0, observed.t1), default_spacing(net)

    def __call__(self, estimator: AbstractEstimator, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The bound and its gradient."""
        estimator.check(self.num_samples)

        def bound(networks: tuple[PointProcessNetwork, PointProcessNetwork | None]) -> jax.Array:
            net, posterior = networks
            return bound_of(net, posterior, self.events, self.span, self.dt, key, estimator, self.num_samples)

        value, slope = jax.value_and_grad(bound)((self.net, self.posterior))
        return value, ravel_pytree(slope)[0]


@dataclasses.dataclass(frozen=True)
class Row:
    """One estimator. Norms are Euclidean, over all parameters.

    **Attributes**

    - `bias`, `bias_error`: norm of (mean - truth) with its noise removed, and the standard error of that.
    - `chi2`: squared distance from the truth over its variance, per parameter: about 1 without bias, and as often 1.7
      where the gradient varies mostly along few directions; `bias_error` takes that into account.
    - `deviation`: standard deviation of one draw. `milliseconds`: CPU time of one draw, without compilation.
    - `cost`: variance times milliseconds: what a given accuracy costs, as long as the bias does not matter.
    - `value`, `value_error`: mean value and its standard error.
    """

    name: str
    draws: int
    bias: float
    bias_error: float
    chi2: float
    deviation: float
    milliseconds: float
    cost: float
    value: float
    value_error: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare_estimators` returns; printing it gives the table.

    **Attributes**

    - `rows`: one per estimator. `truth`: the name of the one that the others are measured against.
    - `signal`, `signal_error`: norm of the true gradient, and the standard error of its mean as a vector.
    """

    rows: tuple[Row, ...]
    truth: str
    signal: float
    signal_error: float

    def __str__(self) -> str:
        head = ("estimator", "draws", "bias", "+-", "chi2/dof", "sd", "CPU ms", "var x ms", "value", "+-")
        cells = [
            (r.name, str(r.draws), *(f"{x:.3g}" for x in (r.bias, r.bias_error, r.chi2, r.deviation, r.milliseconds)))
            + (f"{r.cost:.3g}", f"{r.value:.2f}", f"{r.value_error:.2g}")
            for r in self.rows
        ]
        widths = [max(len(row[k]) for row in [head, *cells]) for k in range(len(head))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [head, *cells]]
        return "\n".join([*lines, f"truth: {self.truth}, norm {self.signal:.3g} +- {self.signal_error:.2g}"])


def compare_estimators(
    problem: Callable[[Any, jax.Array], tuple[jax.Array, jax.Array]],
    estimators: Mapping[str, AbstractEstimator],
    num_draws: int,
    key: jax.Array,
    *,
    truth: str | None = None,
    truth_draws: int | None = None,
    finished: Callable[[Comparison], None] | None = None,
) -> Comparison:
    """Bias, standard deviation, CPU time and effective cost of gradient estimators, each from draws of its own.

    **Arguments**

    - `problem`: `HiddenNeurons(...)`, or a function of (estimator, key) that gives a value and a flat gradient.
    - `estimators`: by name. `num_draws`: of each; rounded up to a multiple of 10.
    - `truth`: which of them, one without bias, the others are measured against. None: `Score(LeaveOneOut())`, added
      if it is not among them. `truth_draws`: how often that one is drawn; None for four times as often.
    - `finished`: called with the table so far after each estimator, the truth first: nothing is lost by Ctrl-C.

    **Returns** a `Comparison`. Its standard errors are of this run; a variance with heavy tails is underestimated by
    few draws. **Raises** ValueError for a truth that is not there. The command `roughspike compare` does the same for
    a named problem or one of your own, with a figure.

    >>> import jax.random as jr, numpy as np, roughspike as rs
    >>> basis, link = rs.AlphaBasis(tau=(1.0,)), rs.SigmoidIntensity(2.0)
    >>> net = rs.PointProcessNetwork(1, 1, basis=basis, link=link, key=jr.key(0))
    >>> problem = rs.HiddenNeurons(net, rs.SpikeTrain(np.array([[0.5, 1.5]]), 0.0, 3.0), num_samples=4)
    >>> table = rs.compare_estimators(problem, {"soft": rs.Pathwise(0.5)}, num_draws=20, key=jr.key(1))
    >>> [row.name for row in table.rows]
    ['soft', 'score, leave-one-out']
    """
    estimators, truth = with_truth(estimators, truth)
    if num_draws < 2:
        raise ValueError(f"num_draws must be at least 2, got {num_draws}: a variance needs two")
    many = 4 * num_draws if truth_draws is None else truth_draws
    keys = dict(zip(estimators, jr.split(key, len(estimators)), strict=True))
    found: dict[str, Drawn] = {}
    for name in sorted(estimators, key=lambda n: n != truth):
        found[name] = draw(problem, estimators[name], many if name == truth else num_draws, keys[name])
        if finished is not None:
            finished(comparison_of({n: found[n] for n in estimators if n in found}, truth))
    return comparison_of({n: found[n] for n in estimators}, truth)


def with_truth(
    estimators: Mapping[str, AbstractEstimator], truth: str | None
) -> tuple[dict[str, AbstractEstimator], str]:
    """The estimators with one that has no bias, and its name. **Raises** ValueError for a name that is not there."""
    estimators = dict(estimators)
    if truth is None:
        plain = [n for n, e in estimators.items() if isinstance(e, Score) and isinstance(e.baseline, LeaveOneOut)]
        truth = plain[0] if plain else "score, leave-one-out"
        estimators.setdefault(truth, Score(LeaveOneOut()))
    if truth not in estimators:
        raise ValueError(f"truth={truth!r} is none of the estimators {list(estimators)}: name one of them")
    return estimators, truth


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What the draws of one estimator come to.

    **Attributes**

    - `mean`, `variance`: of one draw of the gradient, for each parameter. `value`, `value_error`: mean value.
    - `square`: trace of the square of the covariance of one draw; how few directions the noise has.
    - `milliseconds`: CPU time of a draw. `compile_seconds`: CPU time of the first one, with compilation.
    """

    draws: int
    mean: np.ndarray
    variance: np.ndarray
    value: float
    value_error: float
    milliseconds: float
    compile_seconds: float
    square: float


def draw(
    problem: Any, estimator: AbstractEstimator, count: int, key: jax.Array, tick: Callable[[int], Any] | None = None
) -> Drawn:
    """Draws in groups of 10; a running mean moves after each group. The first run compiles and is not timed.

    `tick` is called with the number of draws of each group.
    """
    groups = -(-count // _DRAWS_AT_ONCE)
    keys = jr.split(key, (groups, _DRAWS_AT_ONCE))
    # numbers of the type that they come back with, so that one program serves all groups; two runs before the clock
    # starts, for a running mean is then no longer 0
    start = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(float)), estimator)
    begin = time.process_time()
    for _ in range(2):
        start = jax.block_until_ready(_group(problem, start, keys[0]))[0]
    compiling = time.process_time() - begin
    spent, values, slopes = 0.0, [], []
    for group in keys:
        begin = time.process_time()
        start, value, slope = jax.block_until_ready(_group(problem, start, group))
        spent += time.process_time() - begin
        values.append(np.asarray(value, np.float64))
        slopes.append(np.asarray(slope, np.float64))
        if tick is not None:
            tick(_DRAWS_AT_ONCE)
    all_values, found = np.concatenate(values), np.concatenate(slopes)
    draws, mean = len(found), found.mean(0)
    centred = found - mean
    return Drawn(
        draws=draws,
        mean=mean,
        variance=(centred**2).sum(0) / (draws - 1),
        value=float(all_values.mean()),
        value_error=float(all_values.std(ddof=1) / math.sqrt(draws)),
        milliseconds=1e3 * spent / draws,
        compile_seconds=compiling,
        square=_square_of_covariance(centred),
    )


def _square_of_covariance(centred: np.ndarray) -> float:
    """tr C^2 of the covariance C that n draws estimate: |X X^T|^2 / (n - 1)^2, less what it is too large in mean."""
    n = len(centred)
    gram = centred @ centred.T if n < centred.shape[1] else centred.T @ centred
    raw = float((gram**2).sum()) / (n - 1) ** 2
    trace = float((centred**2).sum()) / (n - 1)
    unbiased = (n - 1) ** 2 / ((n + 1) * (n - 2)) * (raw - trace**2 / (n - 1)) if n > 2 else raw
    return max(unbiased, trace**2 / centred.shape[1])  # the least there can be: all directions alike


@eqx.filter_jit
def _group(problem: Any, estimator: AbstractEstimator, keys: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
    values, slopes = jax.vmap(lambda key: problem(estimator, key))(keys)
    return estimator.updated(jnp.mean(values)), values, slopes


def comparison_of(found: Mapping[str, Drawn], truth: str) -> Comparison:
    """The table of what was drawn, which includes the truth."""
    true = found[truth]
    noise = true.variance / true.draws
    rows = tuple(_row(name, drawn, true, name == truth) for name, drawn in found.items())
    signal = math.sqrt(max(0.0, float(true.mean @ true.mean) - float(noise.sum())))
    return Comparison(rows, truth, signal, math.sqrt(float(noise.sum())))


def _row(name: str, drawn: Drawn, true: Drawn, is_truth: bool) -> Row:
    """|gap|^2 less its noise has the variance 2 tr C^2 + 4 gap' C gap, C the covariance of the gap of two means.

    tr C^2 is at most the square of s = sqrt(tr C_1^2) / n_1 + sqrt(tr C_2^2) / n_2, and gap' C gap at most s |gap|^2.
    """
    variance = float(drawn.variance.sum())
    gap, total = drawn.mean - true.mean, drawn.variance / drawn.draws + true.variance / true.draws
    square = float(gap @ gap - total.sum())
    spread = math.sqrt(drawn.square) / drawn.draws + math.sqrt(true.square) / true.draws
    error = math.sqrt(2 * spread**2 + 4 * max(square, 0.0) * spread)
    bias = math.sqrt(max(square, 0.0))
    moves = total > 0
    nan = float("nan")
    return Row(
        name=name,
        draws=drawn.draws,
        bias=nan if is_truth else bias,
        bias_error=nan if is_truth else min(math.sqrt(error), error / (2 * bias) if bias > 0 else math.inf),
        chi2=nan if is_truth else float(np.mean(gap[moves] ** 2 / total[moves])),
        deviation=math.sqrt(variance),
        milliseconds=drawn.milliseconds,
        cost=variance * drawn.milliseconds,
        value=drawn.value,
        value_error=drawn.value_error,
    )
