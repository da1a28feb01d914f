"""What a run is made of, as short hashes by name: a resumed run must agree in every one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

from roughspike.fit.trainable import path_name


def digest(tree: Any) -> str:
    """Hash of a pytree: its structure, static fields, and every number in it."""
    sha = hashlib.sha256(structure(tree).encode())
    for leaf in jax.tree.leaves(tree):
        if eqx.is_array_like(leaf):
            sha.update(_bytes(leaf))
    return sha.hexdigest()[:16]


def structure(tree: Any) -> str:
    """The text that equinox prints for a pytree: classes, static fields, shapes and types, no array values."""
    return eqx.tree_pformat(tree).replace("weak_", "")


def leaf_digests(tree: Any) -> dict[str, str]:
    """Hash of every leaf by its path name."""
    return {path_name(path): digest(leaf) for path, leaf in jtu.tree_flatten_with_path(tree)[0]}


def shapes(tree: Any) -> list[str]:
    """Path, shape and type of every leaf, without values: what an optimiser state must have in common."""
    return [f"{path_name(p)}: {np.shape(x)} {np.asarray(x).dtype}" for p, x in jtu.tree_flatten_with_path(tree)[0]]


def key_numbers(key: jax.Array) -> dict[str, Any]:
    """A JAX random key as plain numbers."""
    typed = jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)
    data = jr.key_data(key) if typed else key
    return {"implementation": str(jr.key_impl(key)) if typed else "raw", "numbers": np.asarray(data).tolist()}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages whose arithmetic a run depends on."""
    found = {"python": platform.python_version()}
    for package in ("roughspike", "jax", "jaxlib", "equinox", "optax", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> str:
    """System, processor family, device kind and number of processors; no name of the host."""
    return f"{platform.system()} {platform.machine()}, jax on {jax.default_backend()}, {os.cpu_count()} processors"


def _bytes(leaf: Any) -> bytes:
    if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jr.key_data(leaf)
    return np.ascontiguousarray(np.asarray(leaf)).tobytes()
