"""Makes the toy models importable by name, as a user's own module is: saved models name their classes."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
