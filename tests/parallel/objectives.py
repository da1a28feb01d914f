"""What `worker.py` runs besides simulations of one neuron: likelihoods, the bound, and networks with recurrence."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import roughspike as rs
from roughspike import parallel
from roughspike.fit.devices import share

TRIALS = 4


def _slopes(loss: Any, model: Any, data: rs.SpikeTrain, dt: float, mesh: Any) -> dict[str, np.ndarray]:
    """Value and gradient of what `fit` minimises, as `fit` asks for them."""
    shared = share(loss, mesh)
    prepared = jax.tree.map(jnp.asarray, shared.prepare(model, data, dt=dt))
    both = eqx.filter_jit(eqx.filter_value_and_grad(lambda m, p: shared(m, p, jr.key(4))))
    value, slope = both(model, prepared)
    flat = [np.ravel(x) for x in jax.tree.leaves(eqx.filter(slope, eqx.is_inexact_array))]
    return {"value": np.asarray(value), "gradient": np.concatenate(flat)}


def likelihood(mesh: Any) -> dict[str, np.ndarray]:
    """Of a neuron with diffusion; particles are shared out."""
    noise = ((0.25, 0.0), (0.0, 0.0))
    model = rs.Population(rs.SLIF(mu=(15.0, 0.0), sigma=noise, v_reset=1.4), jnp.array(1.5))
    data = rs.SpikeTrain(np.sort(np.random.default_rng(5).uniform(0.05, 0.95, (TRIALS, 1, 4))), 0.0, 1.0)
    return _slopes(rs.NegativeLogLikelihood(num_particles=8), model, data, 0.05, mesh)


def bound(mesh: Any) -> dict[str, np.ndarray]:
    """Of a network with a hidden neuron; trials are shared out."""
    basis, link = rs.AlphaBasis(tau=(1.0,)), rs.SigmoidIntensity(4.0)
    net = rs.PointProcessNetwork(1, 1, basis=basis, link=link, key=jr.key(0))
    data = rs.SpikeTrain(np.sort(np.random.default_rng(6).uniform(0.0, 5.0, (TRIALS, 1, 6))), 0.0, 5.0)
    return _slopes(rs.NegativeELBO(num_samples=2), net, data, 0.5, mesh)


def recurrent(mesh: Any, delays: float | None) -> dict[str, np.ndarray]:
    """Spikes of a network, and the gradient of a mean spike time in its weights."""
    weights = jnp.array([[0.0, 0.3, 0.2], [0.1, 0.0, -0.2], [0.2, 0.1, 0.0]])
    net = rs.Recurrent(rs.SLIF(mu=(15.0, 10.0), v_reset=1.2), weights=weights, current=1.3, delays=delays)

    def first(net: Any) -> tuple[jax.Array, rs.Solution]:
        sol = rs.simulate(net, t1=0.5, dt=0.02, key=jr.key(2), num_samples=8, max_spikes=16, mesh=mesh)
        return jnp.mean(jnp.minimum(sol.spikes.times[..., 1], 0.5)), sol

    (value, sol), slope = eqx.filter_jit(eqx.filter_value_and_grad(first, has_aux=True))(net)
    found = parallel.gather({"times": sol.spikes.times, "flags": sol.result.flags})
    flat = [np.ravel(x) for x in jax.tree.leaves(eqx.filter(slope, eqx.is_inexact_array))]
    return found | {"value": np.asarray(value), "gradient": np.concatenate(flat)}


def all_of_them(mesh: Any) -> dict[str, np.ndarray]:
    """By "what:which"."""
    found = {
        "particles": likelihood(mesh),
        "bound": bound(mesh),
        "ordered": recurrent(mesh, None),
        "delayed": recurrent(mesh, 0.04),
    }
    return {f"{what}:{which}": value for what, values in found.items() for which, value in values.items()}
