"""What several recipes share: the noisy neuron of their settings, and a compiled function that knows its memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from roughspike.neurons.escape import ExponentialEscape
from roughspike.neurons.lif import SLIF


def noisy_neuron(settings: dict[str, Any], **changed: Any) -> SLIF:
    """The neuron of the tables `neuron` and `escape`, with some of its options changed."""
    return SLIF(escape=ExponentialEscape(**settings["escape"]), **(settings["neuron"] | changed))


class Compiled(NamedTuple):
    """A function compiled for arguments of one shape; CPU seconds that took; temporary memory of a call, in MB."""

    run: Callable[..., Any]
    seconds: float
    megabytes: float


def compiled(function: Callable[..., Any], *arguments: Any) -> Compiled:
    """Compile `jax.jit(function)` for these arguments."""
    begin = time.process_time()
    run = jax.jit(function).lower(*arguments).compile()
    memory = run.memory_analysis()
    return Compiled(run, time.process_time() - begin, 0.0 if memory is None else memory.temp_size_in_bytes / 1e6)
