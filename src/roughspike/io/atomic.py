"""Atomic writing: a file is either the old one or the whole new one, never half of it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends without an exception.

    The block writes the file at the path it is given. Then the bytes are forced to the disk and the file takes the
    place of `path` in one step (`os.replace`). If the block, the disk or the replacement fails, the temporary file
    is removed, `path` keeps its old content, and the exception goes on. Missing parent folders are created.

    **Arguments**

    - `path`: the file to write.

    **Returns** a context manager whose value is the temporary path; it has the same suffix as `path`.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "rate.txt") as temporary:
    ...     _ = temporary.write_text("93 Hz")
    >>> (folder / "rate.txt").read_text()
    '93 Hz'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        yield temporary
        _force_to_disk(temporary)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _force_folder_to_disk(target.parent)


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` so that a crash or a full disk leaves the old file intact.

    **Arguments**

    - `path`: the file to write; missing parent folders are created.
    - `data`: its whole new content.

    **Raises** OSError if the disk refuses; `path` is then unchanged.

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "a" / "model.bin"
    >>> write_atomic(file, b"123")
    >>> file.read_bytes()
    b'123'
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _force_to_disk(path: Path) -> None:
    # read-write, since Windows refuses to flush a descriptor opened for reading only
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _force_folder_to_disk(folder: Path) -> None:
    # The rename itself lives in the folder. Some systems cannot open folders; the file is complete either way.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
