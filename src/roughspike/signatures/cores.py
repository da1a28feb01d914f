"""Long lists of pairs shared out over the cores of the host, where all is known and the backend is the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from roughspike._types import is_concrete
from roughspike.signatures.scales import Scaled

_FEWEST = 512  # pairs that are worth a core


def over_cores(
    run: Callable[[Any, Any], Scaled], first: Any, second: Any, data: Any, cores: int | None = None
) -> Scaled:
    """run(first, second) for index arrays of pairs; in equal parts, one for each core, if `data` are known arrays.

    A program on the CPU runs in the queue of the thread that called it: one call from each of several threads runs
    them side by side. The first part is called from here, so that the others find it compiled. Parts are of equal
    length, a multiple of 16, and the last one repeats the last pair.
    """
    cores = usable_cores() if cores is None else cores
    parts = min(cores, len(first) // _FEWEST)
    if parts < 2 or not is_concrete(data, first, second) or jax.default_backend() != "cpu":
        return run(first, second)
    size = -(-len(first) // (16 * parts)) * 16
    more = size * parts - len(first)
    cuts = [np.pad(np.asarray(index), (0, more), mode="edge").reshape(parts, size) for index in (first, second)]
    x64 = bool(jax.config.jax_enable_x64)  # pyright: ignore[reportAttributeAccessIssue]

    def elsewhere(part: int) -> Scaled:
        with jax.enable_x64(x64):  # as it is in this thread
            return run(cuts[0][part], cuts[1][part])

    here = run(cuts[0][0], cuts[1][0])
    found = [here, *(future.result() for future in [_threads(p).submit(elsewhere, p) for p in range(1, parts)])]
    return Scaled(*(jnp.concatenate(of)[: len(first)] for of in zip(*found, strict=True)))


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=64)
def _threads(part: int) -> ThreadPoolExecutor:
    """One thread for each part, always the same: an executor shares its threads out as it likes."""
    return ThreadPoolExecutor(1, f"signature-kernel-{part}")
