"""Every test runs in float64, with strict dtype promotion and no silent rank promotion, warnings as errors.

A test marked `plain` runs with JAX's own defaults instead, as a user's program does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest


@pytest.fixture(autouse=True)
def numerics(request: pytest.FixtureRequest) -> Iterator[None]:
    """Precision and promotion rules for one test."""
    with contextlib.ExitStack() as stack:
        if request.node.get_closest_marker("plain") is None:
            stack.enter_context(jax.enable_x64(True))
            stack.enter_context(jax.numpy_dtype_promotion("strict"))
            stack.enter_context(jax.numpy_rank_promotion("raise"))
        yield


@pytest.fixture(scope="module", autouse=True)
def compiled() -> Iterator[None]:
    """Programs compiled for one module are dropped after it: a process can only map so many, and memory adds up."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of pyproject.toml."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared(root: Path) -> Path:
    """Data sets that may lie beside the checkout; a test that asks for them is skipped where there are none."""
    folder = root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the data folder ../shared/data beside the checkout")
    return folder
