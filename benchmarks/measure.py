"""How the benchmarks measure: least process CPU time of several repeats after warm-up, and facts of the machine."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_compilation_cache", False)  # the time of a first call is that of compiling
RESULTS = Path(__file__).parent / "results"


def cpu_seconds(function: Callable[[], Any], repeats: int = 7, at_least: float = 0.02) -> float:
    """Least process CPU time of a call, over `repeats` groups of calls that last `at_least` seconds each."""
    jax.block_until_ready(function())
    calls, least = 1, float("inf")
    while True:
        begin = time.process_time()
        for _ in range(calls):
            jax.block_until_ready(function())
        spent = time.process_time() - begin
        if spent >= at_least or calls >= 64:
            break
        calls *= 2
    for _ in range(repeats):
        begin = time.process_time()
        for _ in range(calls):
            jax.block_until_ready(function())
        least = min(least, (time.process_time() - begin) / calls)
    return least


def first_call_seconds(function: Callable[[], Any]) -> float:
    """Wall time of the first call: tracing, compiling, running."""
    begin = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - begin


def machine() -> dict[str, Any]:
    """What a reader needs to judge the numbers; nothing that names the machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "backend": jax.default_backend(),
        "huge_pages": huge_pages(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def huge_pages() -> bool:
    """Was the process told to ask for huge pages? Else more than 32 MB are fetched page by page in every call."""
    return "glibc.malloc.hugetlb=1" in os.environ.get("GLIBC_TUNABLES", "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def write(name: str, result: dict[str, Any]) -> Path:
    """Write a result beside the scripts; one with huge pages beside the one without."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}{'_huge_pages' if huge_pages() else ''}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows as text; the first one is the head."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])
