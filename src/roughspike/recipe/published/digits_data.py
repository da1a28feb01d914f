"""Handwritten digits: from scikit-learn, or MNIST from the user's files; as spike times, the darker the earlier."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_PARTS = {"train": ("x_train", "y_train"), "test": ("x_test", "y_test")}
_IDX = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
_REMEDY = (
    "put the four IDX files of MNIST (gzipped or not) into a folder, or x_train, y_train, x_test, y_test into an NPZ "
    "file, copy the recipe's TOML file and give its [data] the right source"
)


class Images(NamedTuple):
    """Ink of each pixel in [0, 1], (count, pixels), and labels."""

    ink: np.ndarray
    labels: np.ndarray


def load_digits(own: dict[str, Any]) -> dict[str, Images]:
    """Training, validation and test images of a fixed random split.

    **Arguments**: `own`: source, sizes of the parts, seed of the split.

    **Raises** ValueError naming the remedy if files or scikit-learn are missing, or there are too few images.
    """
    if own["source"] == "scikit-learn":
        images = _scikit_learn()
        order = np.random.default_rng(own["split"]).permutation(len(images.labels))
        stops = np.cumsum([0, own["train"], own["validation"], own["test"]])
        _check(len(order), int(stops[-1]), "images")
        rows = dict(zip(("train", "validation", "test"), map(slice, stops, stops[1:]), strict=False))
        return {name: Images(*(x[order[row]] for x in images)) for name, row in rows.items()}
    both = read_mnist(Path(own["source"]))
    first, last = (
        np.random.default_rng(own["split"]).permutation(len(both[part].labels)) for part in ("train", "test")
    )
    stop = own["train"] + own["validation"]
    _check(len(first), stop, "training images")
    _check(len(last), own["test"], "test images")
    parts = {"train": first[: own["train"]], "validation": first[own["train"] : stop]}
    found = {name: Images(*(x[rows] for x in both["train"])) for name, rows in parts.items()}
    return found | {"test": Images(*(x[last[: own["test"]]] for x in both["test"]))}


def spike_times(ink: np.ndarray, latest: float) -> np.ndarray:
    """One spike per pixel at (1 - ink) latest, none without ink: (count, pixels, 1)."""
    return np.where(ink > 0, (1 - ink) * latest, np.inf)[..., None].astype(np.float32)


def read_mnist(path: Path) -> dict[str, Images]:
    """Training and test images from a folder with IDX files, or from an NPZ file.

    **Raises** ValueError for a path that holds neither, or contents that are no images with labels.
    """
    if path.is_dir():
        arrays = {key: _idx(path, name) for key, name in _IDX.items()}
    elif path.is_file():
        with np.load(path, allow_pickle=False) as file:
            missing = sorted(set(_IDX) - set(file.files))
            if missing:
                raise ValueError(f"{path} has no array {missing[0]}: {_REMEDY}")
            arrays = {key: file[key] for key in _IDX}
    else:
        raise ValueError(f"there is no file or folder {path}: {_REMEDY}")
    return {part: _images(path, *(arrays[key] for key in keys)) for part, keys in _PARTS.items()}


def _images(path: Path, images: np.ndarray, labels: np.ndarray) -> Images:
    if len(images) != len(labels) or images.ndim < 2 or labels.ndim != 1:
        raise ValueError(f"{path}: images {images.shape} and labels {labels.shape} do not belong together: {_REMEDY}")
    flat = images.reshape(len(images), -1).astype(np.float32)
    return Images(flat / (255 if flat.max() > 1 else 1), labels.astype(np.int64))


def _idx(folder: Path, name: str) -> np.ndarray:
    """An IDX file: two zero bytes, type (8: bytes), number of axes, their lengths (big-endian), then the numbers."""
    for file, opened in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if file.is_file():
            with opened(file, "rb") as stream:
                content = stream.read()
            break
    else:
        raise ValueError(f"{folder} has no file {name} or {name}.gz: {_REMEDY}")
    axes = content[3] if len(content) > 4 else 0
    if content[:3] != b"\0\0\x08" or axes not in (1, 3) or len(content) < 4 + 4 * axes:
        raise ValueError(f"{file} is no IDX file of bytes: {_REMEDY}")
    shape = tuple(np.frombuffer(content, ">u4", axes, 4).tolist())
    if len(content) != 4 + 4 * axes + int(np.prod(shape)):
        raise ValueError(f"{file} should hold {shape} bytes of data and does not: it is cut short; download it again")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _scikit_learn() -> Images:
    try:
        from sklearn.datasets import load_digits as load
    except ModuleNotFoundError as error:
        raise ValueError("scikit-learn holds these digits: pip install 'roughspike[digits]'") from error
    found: Any = load()
    return Images((found.data / 16).astype(np.float32), found.target)


def _check(count: int, wanted: int, what: str) -> None:
    if count < wanted:
        raise ValueError(f"there are {count} {what}, and the recipe wants {wanted}: lower train, validation or test")
