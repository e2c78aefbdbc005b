"""Keeps one program alive: starts it again, with back-off, whenever it ends by itself."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from local_stack.process import Process, Program, how_it_ended, last_lines

FIRST_PAUSE_SECONDS = 0.5
STEADY_SECONDS = 60.0
"""After so long a run the back-off begins anew."""


class Keeper:
    """One program of the stack. Lives on the event loop of the main thread."""

    def __init__(
        self,
        program: Program,
        logs: Path,
        *,
        say: Callable[[str], None],
        started: Callable[[], None],
        longest_pause_seconds: float,
    ) -> None:
        self.program = program
        self.log = logs / f"{program.name}.log"
        self.process: Process | None = None
        self.deaths = 0
        """How often it ended by itself."""
        self._say = say
        self._started = started
        self._longest_pause = longest_pause_seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it and keep it."""
        self._spawn()
        self._task = asyncio.create_task(self._keep())

    def last_words(self) -> str:
        """The end of its log."""
        return last_lines(self.log)

    async def stop(self, seconds: float | None = None) -> None:
        """SIGTERM, then SIGKILL after *seconds* (default: its own); leaves nothing of it."""
        if self._task is not None:
            self._task.cancel()
        if self.process is None:
            return
        process, family = self.process, self.process.family()
        process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.program.stop_seconds if seconds is None else seconds):
                await ended(process)
        await asyncio.to_thread(process.bury, family)
        self.process = None

    def kill(self) -> None:
        """End it at once; blocks until it is buried."""
        if self._task is not None:
            self._task.cancel()
        if self.process is not None:
            self.process.bury(self.process.family())
            self.process = None

    def _spawn(self) -> None:
        self.process = Process(self.program, self.log)
        self._started()

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while self.process is not None:
            since = time.monotonic()
            await ended(self.process)
            self.deaths += 1
            if time.monotonic() - since > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            how = how_it_ended(self.process.exit_code() or 0)
            self.process.bury([])
            self._say(f"{self.program.name} {how}; starting it again in {pause:g} s (log: {self.log})")
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._longest_pause)
            self._spawn()


async def ended(process: Process) -> None:
    """Come back when *process* has ended."""
    if process.exit_code() is not None:
        return
    handle = os.pidfd_open(process.pid)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    process.wait(1.0)
