"""Models as a readable header and arrays: `model.json` says what the objects are, `arrays.npz` holds the numbers.

| in memory | in the header |
|---|---|
| equinox module | `{"class": "roughspike:SLIF", "fields": {...}}`; no other class may be named |
| JAX or NumPy array, NumPy scalar, JAX random key | `{"array": name, "kind": "jax", "numpy", "scalar" or "key"}` |
| tuple, list, dict | `{"tuple": [...]}`, `{"list": [...]}`, `{"dict": [[key, value], ...]}` |
| inf, nan | `{"float": "inf"}` |
| None, bool, int, float, str | themselves |

Nothing is pickled, and reading calls no constructor: it only sets fields. It does import the module that a class is
named in, as `import` would, so read files of people you trust or check the classes in the header first.
Each array keeps its kind and type. Only a 64-bit JAX array read without x64 becomes a 32-bit one, with a warning,
because JAX cannot hold it; NumPy arrays keep their 64 bits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import io
import json
import math
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from roughspike.io.atomic import write_atomic

FORMAT_VERSION = 1
MODEL_FILE, ARRAYS_FILE = "model.json", "arrays.npz"


def save_model(model: Any, folder: str | os.PathLike[str]) -> Path:
    """Write `model.json` and `arrays.npz` into `folder`, each of them atomically.

    **Arguments**

    - `model`: an equinox module, or a container of them; classes must be importable by name.
    - `folder`: created if missing.

    **Returns** the folder. **Raises** ValueError for something that cannot be read back, naming where it is.

    >>> import tempfile
    >>> import roughspike as rs
    >>> load_model(save_model(rs.Windows([0.0], [0.5]), tempfile.mkdtemp()))
    Windows(starts=(0.0,), stops=(0.5,))
    """
    for name, content in model_files(model).items():
        write_atomic(Path(folder) / name, content)
    return Path(folder)


def load_model(folder: str | os.PathLike[str]) -> Any:
    """The model that `save_model` wrote; its exact inverse.

    **Raises** FileNotFoundError or ValueError, naming the file and the remedy, for a folder that holds no model, a
    newer format, a corrupted header, a missing array, or arrays that are not those of the header.
    """
    header = read_header(Path(folder) / MODEL_FILE, "roughspike model")
    return unpack(header.get("model"), header.get("arrays"), Path(folder) / ARRAYS_FILE, Path(folder) / MODEL_FILE)


def model_files(model: Any) -> dict[str, bytes]:
    """The files of a saved model, arrays first, by name."""
    node, arrays = encode(model, "model")
    header = {**header_start("roughspike model"), "model": node, "arrays": array_table(arrays)}
    return {ARRAYS_FILE: npz_bytes(arrays), MODEL_FILE: json_bytes(header)}


def header_start(kind: str) -> dict[str, Any]:
    """The first entries of every header."""
    return {"format": kind, "version": FORMAT_VERSION}


def json_bytes(header: Any) -> bytes:
    """Readable, strict JSON."""
    return (json.dumps(header, indent=2, allow_nan=False) + "\n").encode()


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """An uncompressed NPZ file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


NPZ_ERRORS = (zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError)
"""What `read_npz` raises for a damaged file."""


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an NPZ file; pickled ones are refused."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it is no NPZ file")
        return {name: file[name] for name in file.files}


def encode(value: Any, name: str) -> tuple[Any, dict[str, np.ndarray]]:
    """A value as a JSON node and the arrays it refers to, whose names start with `name`."""
    arrays: dict[str, np.ndarray] = {}
    return _encode(value, name, arrays), arrays


def array_table(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Type, shape and hash of each array, for the header."""
    return {
        name: {"dtype": a.dtype.name, "shape": list(a.shape), "sha256": array_hash(a)} for name, a in arrays.items()
    }


def array_hash(array: np.ndarray) -> str:
    """SHA-256 over type, shape and bytes."""
    head = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def read_header(path: Path, kind: str) -> dict[str, Any]:
    """A header file, checked for its kind and version."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no {path.name}: give the folder that `save` wrote")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        found, version = header["format"], int(header["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is corrupted ({error}): restore it from a copy, or save the model again") from error
    if found != kind:
        raise ValueError(f"{path} is a {found!r}, not a {kind!r}: give the folder that `save` wrote")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this roughspike reads up to {FORMAT_VERSION}: upgrade roughspike"
        )
    return header


def unpack(node: Any, table: Any, npz: Path, header: Path) -> Any:
    """Decode a node of `header` whose arrays lie in `npz` and are described by `table`."""
    reader = _Reader(header, read_arrays(npz, table, header))
    value = reader.decode(node)
    if reader.shortened:
        warnings.warn(
            f"{npz}: {', '.join(reader.shortened)} became 32-bit JAX arrays: to keep 64 bits call "
            'jax.config.update("jax_enable_x64", True) before loading',
            stacklevel=3,
        )
    return value


def read_arrays(npz: Path, table: Any, header: Path) -> dict[str, np.ndarray]:
    """The arrays of an NPZ file, checked against the table of their header."""
    if not isinstance(table, dict):
        raise ValueError(f"{header} is corrupted (no table of arrays): restore it from a copy, or save again")
    if not npz.is_file():
        raise FileNotFoundError(f"{npz} is missing, {header.name} needs it: copy the whole folder, or save again")
    try:
        found = read_npz(npz)
    except NPZ_ERRORS as error:
        raise ValueError(f"{npz} is corrupted ({error}): restore it from a copy, or save again") from error
    arrays = {}
    for name in table:
        if name not in found:
            raise ValueError(f"{npz} has no array {name!r}, {header.name} needs it: restore the file")
        arrays[name] = found[name]
    for name, entry in table.items():
        if not isinstance(entry, dict) or array_hash(arrays[name]) != entry.get("sha256"):
            raise ValueError(
                f"{npz}: the array {name!r} is not the one of {header.name} (hash mismatch): the files are of "
                "different runs or damaged, restore both from one copy"
            )
    return arrays


# ------------------------------------------------------------------------------------------------------- encoding


def _encode(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return _encode_array(value, name, arrays)
    if isinstance(value, eqx.Module):
        return _encode_module(value, name, arrays)
    if type(value) in (tuple, list):
        return {type(value).__name__: [_encode(v, f"{name}[{k}]", arrays) for k, v in enumerate(value)]}
    if type(value) is dict and all(type(k) in (str, int) for k in value):
        return {"dict": [[k, _encode(v, f"{name}[{k!r}]", arrays)] for k, v in value.items()]}
    raise ValueError(
        f"{name} is a {type(value).__name__}, which cannot be saved: use arrays, numbers, text, tuples, lists, dicts "
        "and equinox modules (turn a function into a module with __call__)"
    )


def _encode_module(value: eqx.Module, name: str, arrays: dict[str, np.ndarray]) -> Any:
    fields = {}
    for field in dataclasses.fields(value):
        if not hasattr(value, field.name):
            raise ValueError(f"{name}.{field.name} was never set: set every field in __init__")
        fields[field.name] = _encode(getattr(value, field.name), f"{name}.{field.name}", arrays)
    return {"class": _class_path(type(value), name), "fields": fields}


def _encode_array(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    node: dict[str, Any] = {"array": name, "kind": "numpy"}
    if isinstance(value, jax.Array):
        node["kind"] = "jax"
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            node.update(kind="key", implementation=str(jr.key_impl(value)))
            value = jr.key_data(value)
    elif isinstance(value, np.generic):
        node["kind"] = "scalar"
    array = np.asarray(value)
    if array.dtype.kind not in "biufcV" or array.dtype.names is not None:
        raise ValueError(f"{name} is an array of type {array.dtype}, which cannot be saved: make it numeric")
    arrays[name] = array
    if array.dtype.kind == "V":  # bfloat16 and its kin, which NPZ does not know: store the bits
        node["bits_of"] = array.dtype.name
        arrays[name] = array.view(f"u{array.dtype.itemsize}")
    return node


def _class_path(cls: type, name: str) -> str:
    import roughspike

    if cls.__name__ in roughspike.__all__ and getattr(roughspike, cls.__name__) is cls:
        return f"roughspike:{cls.__name__}"
    path = f"{cls.__module__}:{cls.__qualname__}"
    if "<locals>" in path:
        raise ValueError(f"{name} is a {cls.__qualname__}, defined inside a function: move the class to a module")
    return path


# ------------------------------------------------------------------------------------------------------- decoding


@dataclasses.dataclass
class _Reader:
    """Decodes the nodes of one header."""

    header: Path
    arrays: dict[str, np.ndarray]
    shortened: list[str] = dataclasses.field(default_factory=list)

    def decode(self, node: Any) -> Any:
        if node is None or isinstance(node, bool | int | float | str):
            return node
        match node:
            case {"float": str(text)}:
                return float(text)
            case {"class": str(path), "fields": dict(fields)}:
                return self._module(path, fields)
            case {"array": str(name), "kind": str(kind)} if name in self.arrays:
                return self._array(name, kind, node)
            case {"tuple": list(items)}:
                return tuple(self.decode(item) for item in items)
            case {"list": list(items)}:
                return [self.decode(item) for item in items]
            case {"dict": list(items)}:
                return {key: self.decode(item) for key, item in items}
        raise ValueError(f"{self.header} is corrupted (unknown entry {str(node)[:80]}): restore it from a copy")

    def _array(self, name: str, kind: str, node: dict[str, Any]) -> Any:
        array = self.arrays[name]
        if "bits_of" in node:
            array = array.view(jnp.dtype(str(node["bits_of"])))
        if kind == "jax":
            held = jax.dtypes.canonicalize_dtype(array.dtype)
            if held != array.dtype:
                self.shortened.append(name)
            return jnp.asarray(array.astype(held))
        if kind == "key":
            return jr.wrap_key_data(jnp.asarray(array), impl=str(node.get("implementation")))
        return array[()] if kind == "scalar" else array

    def _module(self, path: str, fields: dict[str, Any]) -> eqx.Module:
        cls = self._class(path)
        expected = {f.name for f in dataclasses.fields(cls)}
        if expected != set(fields):
            raise ValueError(
                f"{self.header}: {path} was saved with the fields {sorted(fields)}, the class has {sorted(expected)}: "
                "install the version of the code that saved it"
            )
        module = object.__new__(cls)
        for name, value in fields.items():
            object.__setattr__(module, name, self.decode(value))
        for base in cls.__mro__:  # as equinox does after __init__
            if "__check_init__" in vars(base):
                vars(base)["__check_init__"](module)
        return module

    def _class(self, path: str) -> type[eqx.Module]:
        module, _, qualified = path.partition(":")
        try:
            cls: Any = importlib.import_module(module)
            for part in qualified.split("."):
                cls = getattr(cls, part)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{self.header}: the class {path} cannot be imported ({error}): install or import the code that "
                "defines it, in a module of the same name"
            ) from error
        if not (isinstance(cls, type) and issubclass(cls, eqx.Module)) or inspect.isabstract(cls):
            raise ValueError(f"{self.header}: {path} is not a concrete equinox module: the file is not a saved model")
        return cls
