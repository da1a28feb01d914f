"""Runs the program of tests/parallel in two processes over the loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

WORKER = Path(__file__).parents[1] / "parallel" / "worker.py"


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
