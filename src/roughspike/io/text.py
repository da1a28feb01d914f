"""Columns of a text file, with the line number of every row, so that a complaint can name the line."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

COMMENT = "#"


@dataclasses.dataclass(frozen=True)
class TextTable:
    """The cells of a delimited text file.

    **Attributes**

    - `path`: where it came from.
    - `names`: the header, lower case, or None if the first row is already data.
    - `rows`: the cells of every data row, stripped.
    - `lines`: the 1-based line number of every data row.
    - `comments`: the text of every line that starts with `#`, without the `#`.
    """

    path: Path
    names: tuple[str, ...] | None
    rows: list[list[str]]
    lines: np.ndarray
    comments: tuple[str, ...]

    @property
    def num_columns(self) -> int:
        """Number of columns: of the header, else of the first row."""
        if self.names is not None:
            return len(self.names)
        return len(self.rows[0]) if self.rows else 0

    def numbers(self, column: int) -> np.ndarray:
        """Column number `column` as float64.

        **Raises** ValueError that names the line and the cell if a cell is not a finite number.
        """
        try:
            values = np.array([row[column] for row in self.rows], dtype=np.float64)
        except ValueError:
            values = np.array([_number_or_none(row[column]) for row in self.rows], dtype=object)
            bad = next(k for k, value in enumerate(values) if value is None)
            raise ValueError(
                f"{self.path}, line {self.lines[bad]}: {self.rows[bad][column]!r} in column {self.label(column)} is "
                "not a number: write a plain decimal number, or delete the line"
            ) from None
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(
                f"{self.path}, line {self.lines[bad]}: column {self.label(column)} is NaN or infinite "
                f"({self.rows[bad][column]}): fix or delete the line"
            )
        return values

    def label(self, column: int) -> str:
        """The name of a column for messages: its header in quotes, or its number counted from 1."""
        return f"{self.names[column]!r}" if self.names is not None else f"{column + 1}"


def read_table(path: Path) -> TextTable:
    """Read a UTF-8 text file of comma, semicolon, tab or blank separated columns.

    Empty lines are skipped, lines that start with `#` are comments, and the first remaining line is a header unless
    all its cells are numbers.

    **Raises** ValueError if the file does not exist, is not text, has no line but comments, or a row has another
    number of cells than the first.
    """
    text = _read_text(path)
    comments: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    delimiter: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line:
            continue
        if line.startswith(COMMENT):
            comments.append(line[len(COMMENT) :].strip())
            continue
        if not rows:
            delimiter = next((mark for mark in (",", ";", "\t") if mark in line), None)
        rows.append([cell.strip() for cell in line.split(delimiter)])
        lines.append(number)
    if not rows:
        raise ValueError(f"{path} is empty: it needs a header line (such as 'time_s') and a line per row")
    names = None
    if any(_number_or_none(cell) is None for cell in rows[0]):
        names = tuple(cell.strip("\"'").lower() for cell in rows[0])
    width = len(rows[0])
    for row, number in zip(rows, lines, strict=True):
        if len(row) != width:
            raise ValueError(
                f"{path}, line {number}: {len(row)} cells where the first line has {width}: every line needs the "
                "same columns, separated in the same way"
            )
    skip = 0 if names is None else 1
    return TextTable(path, names, rows[skip:], np.array(lines[skip:], dtype=np.int64), tuple(comments))


def existing_file(path: str | Path) -> Path:
    """`path` as a Path. Raises ValueError, naming the remedy, if no file is there."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"no such file: {path} (looked in {Path.cwd()}): check the path and its spelling")
    if not path.is_file():
        raise ValueError(f"{path} is a folder, not a file: pass the path of one file")
    return path


def find_column(table: TextTable, candidates: Sequence[str]) -> int | None:
    """Index of the first of `candidates` that the header holds, or None."""
    names = table.names or ()
    return next((names.index(name) for name in candidates if name in names), None)


def _read_text(path: Path) -> str:
    try:
        # "-sig": spreadsheets like to begin a CSV with a byte order mark
        return existing_file(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: save it as a UTF-8 CSV file, or as .npz") from None


def _number_or_none(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
