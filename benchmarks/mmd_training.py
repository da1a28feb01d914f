"""Training by the MMD of the signature kernel and by the expected signature: how far, in how many steps, at what cost.

The two problems of `examples/signature_mmd_training.py` at 100 steps each, both losses.

    python benchmarks/mmd_training.py [figure.svg]
"""

from __future__ import annotations

import sys
from pathlib import Path

import measure

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import signature_mmd_training as example


def main() -> None:
    example.STEPS = example.NET_STEPS = 100
    example.NET_LOSSES = tuple(example.LOSSES)
    rows = [{"name": name} | row for name, row in example.main().items()]
    measure.write("mmd_training", {"machine": measure.machine(), "rows": rows})


if __name__ == "__main__":
    main()
