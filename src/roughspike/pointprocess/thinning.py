"""Thinning, hard and relaxed: candidates of a Poisson process, each of which becomes a spike of a neuron or of none.

If no intensity exceeds `bound`, the neurons of a network of H spike at points of a Poisson process of rate H bound, and
a candidate at time t is a spike of neuron i with probability lambda_i(t) / (H bound). With unit exponentials E the
choice is argmax(p / E), since -log E is a Gumbel variable; softmax(log(p / E) / temperature) is its relaxation, in
which every candidate stays and carries marks that depend smoothly on the parameters (the differentiable point process).
Candidate times are free of them.

One scan over the candidates finds the marks, at a cost per candidate that does not depend on how many went before. Its
derivative is written by hand: the cotangents of the potentials obey the same kind of sum in reversed time,

    bar x(c) = own bar x(c) + sum over later candidates c' and k of kappa_k(t_c' - t_c) W_k^T bar u(c'),

so it is one more scan with the same basis on mirrored times; marks and what the basis summed are all that is stored.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float

from roughspike.pointprocess.basis import AbstractBasis, Span
from roughspike.pointprocess.links import AbstractLink

HARD, RELAXED, STRAIGHT_THROUGH = "hard", "relaxed", "straight-through"
"""What a candidate carries: a spike or none; a soft mark; or the first in value and the second in gradient."""

_SPARE_DEVIATIONS = 6.0


class Candidates(NamedTuple):
    """Points of a Poisson process, padded with the end of the window, and a unit exponential for every choice."""

    times: Float[Array, " candidates"]
    real: Bool[Array, " candidates"]
    noise: Float[Array, "candidates choices"]


class Scan(NamedTuple):
    """What the marks depend on beside the weights: the potentials without recurrent input, candidates, temperature."""

    base: Float[Array, "candidates neurons"]
    weights: Float[Array, "basis post pre"]


def check_bounded(link: AbstractLink, remedy: str) -> float:
    """The bound of a link. **Raises** ValueError, naming the assumption, if there is none."""
    if link.bound is None:
        raise ValueError(
            f"thinning needs an intensity with an upper bound, and that of {type(link).__name__} has none: use "
            f"SigmoidIntensity(amplitude=...), or {remedy}"
        )
    return link.bound


def num_candidates(rate: float, span: Span) -> int:
    """Room for a Poisson number of candidates: six standard deviations above its mean (missed with odds of 1e-9)."""
    mean = rate * (span.stop - span.start)
    return math.ceil(mean + _SPARE_DEVIATIONS * math.sqrt(mean) + 12)


def draw_candidates(key: jax.Array, rate: float, choices: int, span: Span, dtype: Any) -> Candidates:
    """Candidates of one sample. Should there be more of them than room, all times are NaN: never a silent loss."""
    size = num_candidates(rate, span)
    drawn = jr.exponential(key, (size * (1 + choices),), dtype).reshape(size, -1)  # two axes take long to compile
    drawn = jnp.maximum(drawn, jnp.finfo(dtype).tiny)  # 0 has no logarithm
    times = span.start + jnp.cumsum(drawn[:, 0]) / rate
    real = times < span.stop
    times = jnp.where(real, times, span.stop)
    return Candidates(jnp.where(real[-1], jnp.nan, times), real, drawn[:, 1:])


def log_choices(link: AbstractLink, u: Float[Array, "*times neurons"]) -> Float[Array, "*times choices"]:
    """log probabilities of a candidate: a spike of neuron 1, ..., H, or no spike."""
    size = u.shape[-1]
    assert link.bound is not None
    taken = link.log_rate(u) - math.log(link.bound)
    rest = jax.nn.logsumexp(link.log_rest(u), axis=-1, keepdims=True)
    return jnp.concatenate([taken, rest], -1) - math.log(size)


def soft_log_marks(
    link: AbstractLink, u: Float[Array, "*times neurons"], noise: Float[Array, "*times choices"], temperature: Any
) -> Float[Array, "*times choices"]:
    """Logarithms of the relaxed marks of all choices, rejection last."""
    return jax.nn.log_softmax((log_choices(link, u) - jnp.log(noise)) / temperature, axis=-1)


def concrete_log_density(
    log_marks: Float[Array, "*times choices"], log_p: Float[Array, "*times choices"], temperature: Any
) -> Float[Array, "*times"]:
    """Density of relaxed marks on the simplex, with respect to the Lebesgue measure of all but one coordinate,

        (n - 1)! tau^(n - 1) prod_i p_i x_i^(-tau - 1) / (sum_i p_i x_i^-tau)^n.

    **Reference**: Maddison, Mnih & Teh (2017), definition 1.
    """
    n = log_marks.shape[-1]
    scale = math.lgamma(n) + (n - 1) * jnp.log(temperature)
    tilted = log_p - temperature * log_marks
    return scale + jnp.sum(tilted - log_marks, -1) - n * jax.nn.logsumexp(tilted, -1)


def marks(
    scan: Scan,
    candidates: Candidates,
    temperature: Any,
    kind: str,
    basis: AbstractBasis,
    link: AbstractLink,
    span: Span,
) -> Float[Array, "candidates neurons"]:
    """Marks of the neurons at the candidates; differentiable in `scan` if they are relaxed or straight-through."""
    times = jax.lax.stop_gradient(candidates.times)
    temperature = jnp.asarray(temperature, times.dtype)
    return _marks(scan, (candidates._replace(times=times), temperature), (kind, basis, link, span))


@eqx.filter_custom_vjp
def _marks(scan: Scan, given: tuple[Candidates, jax.Array], fixed: tuple) -> jax.Array:
    return _run(scan, given, fixed)[0]


def _run(scan: Scan, given: tuple[Candidates, jax.Array], fixed: tuple) -> tuple[jax.Array, jax.Array]:
    """Marks, and what the basis summed before each candidate."""
    (times, real, noise), temperature = given
    kind, basis, link, span = fixed
    size = scan.base.shape[1]

    def step(past: Any, now: tuple) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        row, base, inverse, counts = now
        features = basis.read(past, row)
        taken, rest = link.chances(base + _drive(scan.weights, features))
        raised = jnp.append(taken, jnp.sum(rest)) * inverse
        if kind == RELAXED:
            found = jax.nn.softmax(jnp.log(raised) / temperature)[:size]
        else:
            found = jax.nn.one_hot(jnp.argmax(raised), size + 1, dtype=base.dtype)[:size]
        found = found * counts
        return basis.write(past, row, found[None]), (found, features)

    counts = real.astype(scan.base.dtype)
    start = basis.begin(len(times), 1, size, scan.base.dtype)
    return jax.lax.scan(step, start, (basis.rows(times, span), scan.base, 1 / noise, counts))[1]


@_marks.def_fwd
def _marks_forward(perturbed, scan, given, fixed):
    del perturbed
    found = _run(scan, given, fixed)
    return found[0], found


@_marks.def_bwd
def _marks_backward(residuals, cotangent, perturbed, scan, given, fixed):
    del perturbed
    ((times, real, noise), temperature), (kind, basis, link, span) = given, fixed
    if kind == HARD:
        return jax.tree.map(jnp.zeros_like, scan)
    features = residuals[1]
    size = scan.base.shape[1]
    u = scan.base + jnp.einsum("kij,qkj->qi", scan.weights, features)
    soft = jnp.exp(soft_log_marks(link, u, noise, temperature))
    # x = softmax(l / tau):  cotangent of l = x (xb - m) / tau with m = sum x xb, for the rejection -x_0 m / tau;
    # l_j = log lambda(u_j), l_0 = log sum_j e^rest(u_j):  cotangent of u_j = l_j' lb_j + softmax(rest)_j rest_j' lb_0
    one = jnp.ones_like(u)
    rest, rest_slope = jax.jvp(link.log_rest, (u,), (one,))
    own = soft[:, :size] * jax.jvp(link.log_rate, (u,), (one,))[1] / temperature
    shared = own + soft[:, size:] * jax.nn.softmax(rest, -1) * rest_slope / temperature

    def step(future: Any, now: tuple) -> tuple[Any, jax.Array]:
        row, bar, x, own_c, shared_c = now
        bar = bar + jnp.sum(basis.read(future, row), axis=0)
        u_bar = own_c * bar - shared_c * jnp.sum(x * bar)
        back = jnp.sum(scan.weights * u_bar[None, :, None], axis=1)
        return basis.write(future, row, back), u_bar

    counts = real.astype(u.dtype)[:, None]
    last_first = jax.tree.map(
        lambda x: x[::-1], (cotangent * counts, soft[:, :size] * counts, own * counts, shared * counts)
    )
    start = basis.begin(len(times), basis.num_functions, size, u.dtype)
    rows = basis.rows(-times[::-1], span.mirrored)
    u_bar = jax.lax.scan(step, start, (rows, *last_first))[1][::-1]
    return Scan(u_bar, jnp.einsum("qi,qkj->kij", u_bar, features))


def _drive(weights: jax.Array, features: jax.Array) -> jax.Array:
    """sum over k, j of W[k, i, j] F[k, j]."""
    return jnp.sum(weights * features[:, None], axis=(0, 2))
