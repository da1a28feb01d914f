"""The homogeneous Poisson process: the yardstick of every likelihood, at the rate of the training windows."""

from __future__ import annotations

import math

import numpy as np

from roughspike.paths.spikes import SpikeTrain
from roughspike.paths.windows import Windows


def count_spikes(spikes: SpikeTrain, windows: Windows) -> int:
    """Number of spikes of all trials and neurons inside the windows. Needs concrete times."""
    return sum(int(windows.contains(row).sum()) for trial in spikes.to_lists() for row in trial)


def train_rate(spikes: SpikeTrain, windows: Windows) -> float:
    """Spikes per second, trial and neuron inside the windows.

    **Raises** ValueError if there is no spike: a Poisson process of rate 0 gives any spike probability 0.

    >>> import roughspike as rs
    >>> from roughspike.baselines.poisson import train_rate
    >>> train_rate(rs.SpikeTrain([[0.1, 0.3, 1.5]], t1=2.0), rs.Windows([0.0], [1.0]))
    2.0
    """
    count = count_spikes(spikes, windows)
    if not count:
        raise ValueError("no spike lies in the training windows: choose windows that hold spikes")
    trains = math.prod(spikes.batch_shape) * spikes.num_neurons
    return count / (windows.duration * trains)


def poisson_log_likelihood(num_spikes: int, rate: float, duration: float) -> float:
    r"""Log density of a homogeneous Poisson train, \(n \log r - r T\), in nats against the unit-rate measure.

    **Arguments**

    - `num_spikes`: n.
    - `rate`: r, in 1/s, greater than 0.
    - `duration`: T, in s, the total observed time (of all trials and neurons).

    **Raises** ValueError for a rate that is not positive.
    """
    if not rate > 0:
        raise ValueError(f"rate must be greater than 0, got {rate}: take it from windows that hold spikes")
    return num_spikes * math.log(rate) - rate * duration


def bits_per_spike(log_likelihood: float, num_spikes: int, rate: float, duration: float) -> float:
    r"""How many bits per spike a model gains over the homogeneous Poisson process.

    \[ \frac{\log L - (n \log r - r T)}{n \log 2} \]

    **Arguments**

    - `log_likelihood`: of the model, in nats, as a density over spike times in seconds.
    - `num_spikes`: n, the spikes it was evaluated on.
    - `rate`: r, in 1/s; take the rate of the training data, so that the yardstick has not seen the test data either.
    - `duration`: T, in s, the time it was evaluated on.

    **Raises** ValueError if there is no spike or the rate is not positive.

    >>> from roughspike.baselines.poisson import bits_per_spike, poisson_log_likelihood
    >>> bits_per_spike(poisson_log_likelihood(20, 10.0, 2.0), 20, 10.0, 2.0)
    0.0
    """
    if num_spikes < 1:
        raise ValueError("num_spikes is 0: bits per spike need at least one spike, so score windows that hold spikes")
    return float((log_likelihood - poisson_log_likelihood(num_spikes, rate, duration)) / (num_spikes * np.log(2.0)))
