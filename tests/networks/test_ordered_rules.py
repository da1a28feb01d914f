"""What the ordered engine does with events at one time: the lowest index first, several in a row, and not for ever."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from coupled_tools import PlainDriver, options
from lane_tools import QUICK

import roughspike as rs
from roughspike._types import CASCADE
from roughspike.networks.coupled import Noise, run_on
from roughspike.networks.cubic import Hazard
from roughspike.networks.means import prepare_means
from roughspike.networks.piece import _search
from roughspike.networks.step import settings


@functools.partial(jax.jit, compiler_options=QUICK)
def run(log_u):
    """Three neurons alike without noise but that of their thresholds, two samples; log u of (intervals, neurons)."""
    cell = rs.SLIF(mu=(6.0, 5.0), v_reset=1.0, escape=rs.ExponentialEscape(2.0, 1.0, 0.3))
    net = rs.Recurrent(cell, weights=-0.2 * jnp.ones((3, 3)), current=1.5)
    opts = options(50, 0.02, samples=2, capacity=8)
    quiet = jnp.full((9, 3), -1.0)
    both = jnp.stack([log_u, quiet], axis=1)
    noise = Noise(jnp.zeros((opts.steps, 0, 2, 3)), both)
    return run_on(net, prepare_means(net.current, 0.0, opts.t1, opts.steps), None, noise, opts)


def test_events_at_one_time():
    """Neurons alike spike together; a threshold that rounding leaves above 0 is due at once, then again as usual."""
    ran = run(jnp.full((9, 3), -1.0).at[0].set(-0.5).at[1:3, 0].set(1e-12))
    times, alone = np.asarray(ran.times)
    assert not np.any(ran.flags) and ran.counts[0, 0] >= 3
    assert (times[:, 0] == times[0, 0]).all() and (times[0, :3] == times[0, 0]).all() and times[0, 3] > times[0, 0]
    # the other sample has its own
    assert (alone[:, 0] == alone[0, 0]).all() and alone[0, 0] > times[0, 0]
    found = _search(
        settings(1.0, PlainDriver(), 1.0, 1, jnp.float64),
        Hazard(jnp.ones(3), jnp.zeros(3), jnp.zeros(3), 1.0),
        *(jnp.array([-0.9, -0.5, -0.5]), jnp.zeros(()), jnp.ones(())),
    )
    assert bool(found.hit) and int(found.k) == 1 and float(found.at) == 0.5


def test_an_endless_cascade_stops_its_sample_with_a_flag():
    """After twice as many spikes as neurons; the other sample goes on."""
    ran = run(jnp.full((9, 3), 1e-12).at[0].set(-0.5))
    times, alone = np.asarray(ran.times)
    assert int(ran.flags[0]) & CASCADE and int(ran.flags[1]) == 0
    assert 6 < int(ran.counts[0].sum()) <= 9 and (times[np.isfinite(times)] == times[0, 0]).all()
    assert np.isfinite(alone).any()
