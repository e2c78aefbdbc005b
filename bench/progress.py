"""Tells the person at the terminal what is under way: one line that changes, or a line now and then in a log."""

import sys
import time
from types import TracebackType
from typing import Self

LINE_SECONDS = 2.0
"""Between two lines where the output is no terminal."""
CLEAR = "\r\033[K"


class Progress:
    """One stage under way; `say` as often as you like."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._start = time.monotonic()
        self._said = 0.0
        self._live = sys.stdout.isatty()

    def __enter__(self) -> Self:
        self.say("", force=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _value: BaseException | None, _tb: TracebackType | None
    ) -> None:
        how = "done" if kind is None else "broken off"
        sys.stdout.write(f"{CLEAR if self._live else ''}{self._title}: {how} in {self.seconds:.1f} s\n")
        sys.stdout.flush()

    @property
    def seconds(self) -> float:
        """Since the stage began."""
        return time.monotonic() - self._start

    def say(self, detail: str, *, force: bool = False) -> None:
        """Show where the stage stands."""
        now = time.monotonic()
        if not (self._live or force or now - self._said >= LINE_SECONDS):
            return
        self._said = now
        line = f"{self._title}: {detail or 'begins'} ({self.seconds:.0f} s)"
        sys.stdout.write(f"{CLEAR}{line}" if self._live else f"{line}\n")
        sys.stdout.flush()
