"""The progress of a fit on the standard error: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Shows loss, held-out score, gradient norm, steps a second and the time left.

    **Arguments**

    - `steps`: how many steps the run will have.
    - `start`: how many of them are done.
    - `shown`: False writes nothing.
    - `score`: what the held-out score is.
    """

    def __init__(self, steps: int, start: int = 0, shown: bool = True, score: str = "bits per spike"):
        self._score = "held-out bits/spike" if score == "bits per spike" else "held-out minus loss"
        self._steps, self._first, self._done = steps, start, start
        self._begin = self._last_line = time.monotonic()
        self._lines = shown and not sys.stderr.isatty()
        self._bar = None
        if shown and not self._lines:
            self._bar = tqdm(total=steps, initial=start, desc="fit", unit="step", file=sys.stderr, dynamic_ncols=True)

    def update(self, done: int, loss: float, gradient_norm: float, held_out: float) -> None:
        """Report that `done` steps are done; NaN figures are left out."""
        figures = [("loss", loss, ".4f"), (self._score, held_out, ".3f"), ("gradient", gradient_norm, ".2g")]
        text = ", ".join(f"{name} {value:{form}}" for name, value, form in figures if not math.isnan(value))
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(done - self._done)
        self._done = done
        now = time.monotonic()
        if self._lines and (now - self._last_line > _SECONDS_BETWEEN_LINES or done == self._steps):
            self._last_line = now
            print(f"fit: step {done}/{self._steps}, {text}, {self._speed(now)}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Write one line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(f"fit: {text}", file=sys.stderr)
        elif self._lines:
            print(f"fit: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar's line."""
        if self._bar is not None:
            self._bar.close()

    def _speed(self, now: float) -> str:
        rate = (self._done - self._first) / max(now - self._begin, 1e-9)
        if rate <= 0:
            return "0 steps/s"
        return f"{rate:.3g} steps/s, {(self._steps - self._done) / rate:.0f} s left"
