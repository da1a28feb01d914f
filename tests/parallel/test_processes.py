"""Two processes over the loopback: the same results, one set of files, and a lost process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

WORKER = Path(__file__).with_name("worker.py")


def both(task: str, out: Path) -> tuple[list[int], list[str], float]:
    """Run two workers to their ends: exit codes, what they said, and seconds from the first end to the last."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    workers = [
        subprocess.Popen([sys.executable, WORKER, task, out, str(k), port], stderr=subprocess.PIPE, text=True,
                         stdout=subprocess.DEVNULL, env=environment)
        for k in (0, 1)
    ]  # fmt: skip
    try:
        said = ["", workers[1].communicate(timeout=600)[1]]
        begin = time.monotonic()
        said[0] = workers[0].communicate(timeout=120)[1]
    finally:
        for worker in workers:
            worker.kill()
    return [worker.returncode for worker in workers], said, time.monotonic() - begin


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    one = subprocess.run([sys.executable, WORKER, "one", tmp_path / "one.npz"], capture_output=True, text=True)
    assert one.returncode == 0, one.stderr[-2000:]
    codes, said, _ = both("simulate", tmp_path / "two.npz")
    assert codes == [0, 0], said
    one, two = np.load(tmp_path / "one.npz"), np.load(tmp_path / "two.npz")
    for name in ("times", "threshold", "flags"):
        np.testing.assert_array_equal(two[name], one[name])
    for name in ("loss", "gradient", "current"):
        np.testing.assert_allclose(two[name], one[name], rtol=2e-6)


def test_a_lost_process_does_not_hang_the_other_and_the_checkpoint_is_good_on_any_number(tmp_path):
    codes, said, seconds = both("killed", tmp_path)
    assert codes[1] == -signal.SIGKILL and codes[0] not in (0, -signal.SIGKILL)
    assert "fit lost another process after step" in said[0] and "start all processes again with resume=True" in said[0]
    assert seconds < 20
    resumed = subprocess.run([sys.executable, WORKER, "resume", tmp_path], capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    found = np.load(tmp_path / "resumed.npz")
    assert found["first"] == 20 or found["first"] == 30
    np.testing.assert_allclose(found["resumed"], found["whole"], rtol=1e-6)


def test_processes_that_disagree_say_in_what(tmp_path):
    codes, said, _ = both("unlike", tmp_path)
    assert 0 not in codes
    assert all(
        "the processes disagree in steps, optimiser: call fit with the same arguments" in text for text in said
    ), said
