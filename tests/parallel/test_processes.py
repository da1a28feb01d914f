"""Two processes over the loopback: the same results, one set of files, and a lost process."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
from two_processes import WORKER, both


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
