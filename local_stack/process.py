"""One program in a process group of its own, that ends with us at the latest."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from local_stack.problems import StackProblem

KEPT_LOG_BYTES = 10 * 1024 * 1024
"""A log that is larger is set aside as ``.1``, over the one before."""
KILL_SECONDS = 2.0
"""How long the kernel may take to bury a killed group."""
POLL_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What to run, and how long it may take to stop."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to our own environment."""
    port: int | None = None
    """Where it listens as soon as the next program of the same server may start."""
    stop_seconds: float = 4.0
    """Between SIGTERM and SIGKILL."""


class Process:
    """A running program. It dies with the thread that started it, even if that is killed."""

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        with log.open("ab") as output:
            try:
                self._popen = subprocess.Popen(  # noqa: S603 - the commands are ours
                    ["setpriv", "--pdeathsig", "KILL", "--", *program.command],  # noqa: S607
                    env={**os.environ, **program.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    process_group=0,
                )
            except FileNotFoundError:
                raise StackProblem("setpriv is missing: install the package util-linux.") from None

    @property
    def pid(self) -> int:
        """Process id, and id of the process group."""
        return self._popen.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._popen.poll()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within *seconds*."""
        try:
            self._popen.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.exit_code() is None:
            self._popen.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End its whole group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def stop(self, seconds: float | None = None) -> None:
        """SIGTERM, then SIGKILL after *seconds* (default: its own); nothing of it is left."""
        family = self.family()
        self.terminate()
        self.wait(self.program.stop_seconds if seconds is None else seconds)
        self.bury(family)

    def family(self) -> list[psutil.Process]:
        """Everything it has started so far, also what left its group."""
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def bury(self, family: list[psutil.Process]) -> None:
        """Kill the group and what else is left of *family*, and wait for the end."""
        self.kill()
        for left in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()  # psutil has checked that the pid is still the same process
        deadline = time.monotonic() + KILL_SECONDS
        self.wait(KILL_SECONDS)
        while any(map(_runs, family)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def _runs(process: psutil.Process) -> bool:
    """Whether it still does anything; what nobody has reaped yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def rotate(log: Path, limit: int = 0) -> None:
    """Set the log aside if it is larger than *limit* bytes. The writer, which appends, may go on."""
    if log.exists() and log.stat().st_size > limit:
        old = log.with_suffix(log.suffix + ".1")
        with log.open("r+b") as current, old.open("wb") as kept:
            current.seek(max(0, current.seek(0, os.SEEK_END) - KEPT_LOG_BYTES))
            while block := current.read(1024 * 1024):
                kept.write(block)
            current.truncate(0)


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log."""
    with log.open("rb") as lines:
        lines.seek(max(0, lines.seek(0, os.SEEK_END) - 8192))
        return b"\n".join(lines.read().splitlines()[-count:]).decode(errors="replace")


def how_it_ended(code: int) -> str:
    """An exit code as a person says it."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
