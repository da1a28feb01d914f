"""Atomic writing leaves the old file intact when anything fails."""

import errno
import os
from pathlib import Path

import pytest

from roughspike.io.atomic import atomic_path, write_atomic


def test_writes_and_replaces(tmp_path):
    file = tmp_path / "new_folder" / "model.bin"
    write_atomic(file, b"one")
    write_atomic(file, b"two")
    assert file.read_bytes() == b"two"
    assert [p.name for p in file.parent.iterdir()] == ["model.bin"]


def test_full_disk_on_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "model.bin"
    write_atomic(file, b"old")

    def full(self, data):
        with open(self, "wb") as stream:
            stream.write(data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(file, b"new content")
    assert file.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.bin"]


@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_failing_system_call_leaves_the_old_file(tmp_path, monkeypatch, name):
    file = tmp_path / "model.bin"
    write_atomic(file, b"old")

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(file, b"new")
    assert file.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.bin"]


def test_interrupt_inside_the_block_leaves_the_old_file(tmp_path):
    file = tmp_path / "spikes.npz"
    write_atomic(file, b"old")
    with pytest.raises(KeyboardInterrupt), atomic_path(file) as temporary:
        assert temporary.suffix == ".npz" and temporary.parent == tmp_path
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["spikes.npz"]
