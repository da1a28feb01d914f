"""Refuse a gradient that does not exist, where the values are known."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

from roughspike._types import is_concrete
from roughspike.gradients.base import Inputs
from roughspike.sde.check import EventNumbers, measure_events, report_on


def refuse_gradient(inputs: Inputs, times: Any, kinds: Any, states: Any) -> None:
    """Raise if a derivative of this solution is being taken and an assumption for it fails at one of its events.

    `jax.grad` of a single run is seen here: its arrays are tracers, and the values behind them are known. Inside of
    `jit` or `vmap` no value is known, and nothing is checked: `rs.check_assumptions` is for those.

    **Raises** ValueError with the explanation of the report.
    """
    stop = jax.lax.stop_gradient
    if inputs.sde.event is None or is_concrete(times) or not is_concrete(stop(times)):
        return
    rough = () if inputs.driver is None else inputs.driver.rough
    before = jax.tree.map(lambda x: x[:, 0], states)
    numbers = stop(_measure(inputs, stop(times), stop(kinds), stop(before), rough))
    if is_concrete(numbers):
        report_on(numbers, stop(times), stop(kinds)).raise_if_failed()


@eqx.filter_jit
def _measure(inputs: Inputs, times: Any, kinds: Any, before: Any, rough: tuple[bool, ...]) -> EventNumbers:
    floats, rest = eqx.partition((inputs.sde, inputs.args), eqx.is_inexact_array)
    sde, args = eqx.combine(jax.lax.stop_gradient(floats), rest)
    return measure_events(sde, times, kinds, before, args, rough)
