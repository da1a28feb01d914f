"""log_likelihood and time_rescaling: how well a model explains recorded spikes."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from roughspike.currents.base import as_current
from roughspike.likelihood.exact import Terms, exact_terms, in_windows
from roughspike.likelihood.objective import check_data
from roughspike.likelihood.particle import particle_terms
from roughspike.likelihood.segments import Segments, lay_out
from roughspike.networks.population import Population
from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows
from roughspike.pointprocess.likelihood import network_log_likelihood, rescaled_intervals
from roughspike.pointprocess.network import PointProcessNetwork
from roughspike.pointprocess.particle import filtered_log_likelihood


def log_likelihood(
    cell: Population | PointProcessNetwork,
    data: SpikeTrain,
    *,
    windows: Windows | None = None,
    dt: float | None = None,
    key: jax.Array | None = None,
    num_particles: int = 400,
    per_trial: bool = False,
) -> jax.Array:
    """log p(recorded spikes | cell), natural logarithm, summed over trials and neurons.

    Exact for a neuron without diffusion (up to quadrature: three Gauss points on the exact flow of each piece), and
    then differentiable in the cell; by a particle filter for a neuron with diffusion. Exact too for a
    `PointProcessNetwork` whose neurons are all in the data, hidden ones included (two Gauss points between all spikes
    and grid points). Where its hidden neurons are not in the data: by a particle filter (`key`), which is not
    differentiable, and whose estimate is below the truth in mean, by less the more particles; to train, use `elbo`.

    **Arguments**

    - `data`: concrete spikes, (trials, neurons, capacity) or (neurons, capacity). Each trial starts at v0, i0.
    - `windows`: score these windows only, given all spikes before.
    - `dt`: longest piece; None for a twentieth of the median interval (a network: 1/16 of its narrowest filter).
    - `key`, `num_particles`: for the particle filter.
    - `per_trial`: one number for each trial, shape (trials,), to compare models trial by trial (paired).

    **Raises** ValueError for data that do not fit the cell, or a missing key.

    >>> import jax.numpy as jnp, roughspike as rs
    >>> poisson = rs.Population(rs.SLIF(mu=(1.0, 0.0), v_reset=0.0), current=0.0)   # rate e^{-5} / tau_s
    >>> data = rs.SpikeTrain(jnp.array([[0.5, jnp.inf]]), t1=2.0)
    >>> print(f"{rs.log_likelihood(poisson, data, dt=0.01):.3f}")
    -5.013
    """
    if isinstance(cell, PointProcessNetwork):
        _check_whole(windows)
        if cell.num_hidden and data.num_neurons == cell.num_observed:
            if key is None:
                raise ValueError(
                    f"{cell.num_hidden} neurons are hidden, so log p needs a particle filter: pass "
                    "key=jax.random.key(...); or pass spikes of all neurons"
                )
            each = filtered_log_likelihood(cell, data, key, num_particles=num_particles, dt=dt)
        else:
            each = network_log_likelihood(cell, data, dt)
        return each if per_trial else jnp.sum(each)
    terms, segments = _terms(cell, data, windows, dt, key, num_particles)
    return in_windows(terms, segments, per_trial=per_trial)


def time_rescaling(
    cell: Population | PointProcessNetwork,
    data: SpikeTrain,
    *,
    windows: Windows | None = None,
    dt: float | None = None,
    key: jax.Array | None = None,
    num_particles: int = 400,
) -> np.ndarray:
    """z = 1 - exp(-compensator) of every interval between two spikes inside one window: uniform if the model is right.

    Arguments as for `log_likelihood`. Of a network: the intervals of all neurons, trials joined end to end.

    **Reference**: Brown, Barbieri, Ventura, Kass & Frank (2002), Neural Computation 14: 325-346.
    """
    if isinstance(cell, PointProcessNetwork):
        _check_whole(windows)
        return -np.expm1(-np.concatenate(rescaled_intervals(cell, data, dt)))
    terms, segments = _terms(cell, data, windows, dt, key, num_particles)
    compensator = np.asarray(terms.compensator, np.float64).reshape(-1, segments.window.shape[-1])
    found = []
    for total, spike, window in zip(
        np.cumsum(compensator, axis=-1),
        segments.spike.reshape(compensator.shape),
        segments.window.reshape(compensator.shape),
        strict=True,
    ):
        at = np.flatnonzero(spike)
        same = (window[at[1:]] == window[at[:-1]]) & (window[at[1:]] >= 0)
        found.append(np.diff(total[at])[same])
    return -np.expm1(-np.concatenate(found))


def default_step(data: SpikeTrain) -> float:
    """A twentieth of the median interval between spikes, and at most a fiftieth of the window."""
    intervals = [np.diff(row) for trial in data.to_lists() for row in trial if len(row) > 1]
    longest = data.duration / 50
    return min(longest, float(np.median(np.concatenate(intervals))) / 20) if intervals else longest


def _check_whole(windows: Windows | None) -> None:
    if windows is not None:
        raise ValueError("windows: a network is scored on whole trials; cut the data into trials of their own instead")


def _terms(cell, data, windows, dt, key, num_particles) -> tuple[Terms, Segments]:
    dt = default_step(data) if dt is None else dt
    check_data(cell, data, dt)
    if cell.neuron.has_diffusion and key is None:
        raise ValueError("a neuron with diffusion is scored by a particle filter: pass key=jax.random.key(...)")
    segments = lay_out(data, dt, windows)
    current = as_current(cell.current).prepare(segments.starts, segments.lengths)
    if cell.neuron.has_diffusion:
        return _particle(cell, segments, current, num_particles, key), segments
    return _exact(cell, segments, current), segments


_exact = eqx.filter_jit(exact_terms)
_particle = eqx.filter_jit(particle_terms)
