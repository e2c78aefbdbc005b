"""What the person who started the stack sees: one line per step, live on a terminal."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

REFRESH_SECONDS = 0.2


class Step:
    """Something that takes a while."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self._since = time.monotonic()

    def line(self, mark: str, style: str) -> Text:
        """The step as one line, with the seconds it has taken so far."""
        elapsed = f"{time.monotonic() - self._since:5.1f} s"
        return Text.assemble((mark, style), f" {self.title:<24}", (elapsed, "dim"), f"  {self.detail}")


class Screen:
    """Prints to standard output. Without a terminal every line is final and in plain text."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._steps: list[Step] = []
        self._live: Live | None = None

    def say(self, text: str = "", style: str = "") -> None:
        """Lines above the steps that are under way."""
        self._print(Text(text, style=style))

    def warn(self, text: str) -> None:
        """Something that happened by itself."""
        self._print(Text.assemble(("! ", "bold yellow"), text))

    @contextlib.asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """Keep the steps that are under way moving at the bottom of a terminal."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            self._live = live
            painter = asyncio.create_task(self._paint())
            try:
                yield
            finally:
                painter.cancel()
                self._live = None

    @contextlib.asynccontextmanager
    async def step(self, title: str) -> AsyncIterator[Step]:
        """A step that is under way inside the block; its line says how it went."""
        step = Step(title)
        self._steps.append(step)
        if self._live is None:
            self._print(Text(f"… {title}"))
        try:
            yield step
        except BaseException as error:
            self._end(step)
            if isinstance(error, Exception):
                self._print(step.line("✗", "bold red"))
            raise
        self._end(step)
        self._print(step.line("✓", "bold green"))

    def _end(self, step: Step) -> None:
        self._steps.remove(step)
        if self._live is not None:
            self._live.update(self._under_way())

    def _under_way(self) -> Text:
        return Text("\n").join(step.line("…", "yellow") for step in self._steps)

    def _print(self, line: Text) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone; the stack still stops in order
            self._console.print(line)

    async def _paint(self) -> None:
        while self._live is not None:
            self._live.update(self._under_way(), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)
