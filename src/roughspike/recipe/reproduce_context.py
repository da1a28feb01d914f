"""What a recipe of a published result gets to work with: seeds, length, progress, and rows that are never lost."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from roughspike.io.atomic import write_atomic

Row = dict[str, Any]
_NAME = re.compile(r"[\w.+-]+")


class Context:
    """Seeds, length of training, progress bars, and the finished rows of a recipe.

    A row is what one piece of work found: plain values, lists and mappings of them (they go through JSON). It is on the
    disk, in a file of its own, when `keep` returns, so that Ctrl-C or a killed process lose nothing finished, and
    several processes may fill one folder.

    **Arguments**

    - `folder`: of the run; rows go to its folder `rows`.
    - `seeds`: which random seeds to run. `steps`: None, or the most steps (or epochs) that a training may take.
    - `fingerprint`: rows of another one are not picked up.
    - `shown`: show progress.
    """

    def __init__(
        self, folder: Path, seeds: Sequence[int], steps: int | None = None, fingerprint: str = "", shown: bool = True
    ):
        self.folder, self.seeds, self.steps, self.shown = Path(folder), tuple(seeds), steps, shown
        self._fingerprint, self._lock = fingerprint, threading.Lock()
        self.rows: dict[str, Row] = {}
        for file in self._files():
            kept = json.loads(file.read_text(encoding="utf-8"))
            if kept["fingerprint"] == fingerprint:
                self.rows[file.stem] = kept["row"]

    def length(self, full: int) -> int:
        """How many steps (or epochs): the recipe's number, or fewer if the run is shortened."""
        return full if self.steps is None else min(full, self.steps)

    def progress(self, total: int, what: str, unit: str = "step") -> tqdm:
        """A progress bar, silent if the run is quiet; call `update(n)` and `close()`."""
        return tqdm(total=total, desc=what, unit=unit, disable=not self.shown)

    def keep(self, name: str, row: Mapping[str, Any]) -> Row:
        """Save a finished row under its name, at once. Returns it as it will be read again.

        The name says everything that the row depends on besides settings and length: variant and seed, say.

        **Raises** ValueError for a name that is no file's name.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"row names consist of letters, digits and . + - _, got {name!r}")
        content = json.dumps({"fingerprint": self._fingerprint, "row": row}, default=_plain)
        write_atomic(self.folder / "rows" / f"{name}.json", content.encode())
        with self._lock:
            self.rows[name] = json.loads(content)["row"]
        return self.rows[name]

    def row(self, name: str, make: Callable[[], Mapping[str, Any]]) -> Row:
        """The kept row of that name; if there is none, `make()` is called and its result kept."""
        return self.rows[name] if name in self.rows else self.keep(name, make())

    def forget(self) -> None:
        """Remove all rows of the folder."""
        for file in self._files():
            file.unlink()
        self.rows = {}

    def _files(self) -> list[Path]:
        return sorted((self.folder / "rows").glob("[!.]*.json"))


def _plain(value: Any) -> Any:
    """Arrays and their scalars, of NumPy or JAX, as plain values."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a row holds numbers, text, arrays, lists and mappings, got {type(value).__name__}")
