"""The effect log: what tasks really did, written outside the system by the tasks themselves.

One file per job, opened with O_APPEND, one JSON line per start, sign of life and end of an attempt.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

FOLDER_VARIABLE = "CHAOS_EFFECTS"
START, BEAT, END = "start", "beat", "end"


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """One line."""

    kind: str
    attempt: int
    process: int
    """Process id of the child."""
    born: int
    """When the kernel started that process, so that a process id used again is another process."""
    parent: int
    """Process id of the worker."""
    wall: float
    mono: float
    """The machine's monotonic clock, which all processes share."""
    detail: str = ""
    """Of an end: how. Of a start: earlier attempts of the job that still lived, as process ids."""

    def shown(self, since: float) -> str:
        """For a person; times in seconds after *since*."""
        return (
            f"{self.mono - since:9.3f}  {self.kind:<5} attempt {self.attempt} in process {self.process} "
            f"of worker process {self.parent} {self.detail}"
        )


class EffectLog:
    """The lines of all jobs, in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, pid: str, effect: Effect) -> None:
        """Write one line with one system call."""
        line = json.dumps({name: getattr(effect, name) for name in Effect.__slots__}) + "\n"
        file = os.open(self._folder / f"{pid}.jsonl", os.O_APPEND | os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def read(self, pid: str) -> list[Effect]:
        """The lines of one job, in order."""
        try:
            lines = (self._folder / f"{pid}.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [Effect(**json.loads(line)) for line in lines]

    def pids(self) -> Iterator[str]:
        """The jobs that have lines."""
        return (file.stem for file in self._folder.glob("*.jsonl"))


class Attempt:
    """One attempt that writes its own lines; used as a context manager around a task's work."""

    def __init__(self, pid: str, number: int) -> None:
        self._log = EffectLog(Path(os.environ[FOLDER_VARIABLE]))
        self._pid = pid
        self._number = number

    def __enter__(self) -> Self:
        self._write(START, " ".join(map(str, self._still_alive())))
        return self

    def __exit__(self, kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self._write(END, "returned" if kind is None else kind.__name__)

    def beat(self) -> None:
        """It still runs."""
        self._write(BEAT)

    def work(self, seconds: float) -> None:
        """Take so long, with a sign of life every 0.2 s."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            self.beat()

    def _still_alive(self) -> list[int]:
        """Processes of earlier attempts that have not ended, neither by their own word nor by the kernel's."""
        open_ended: dict[tuple[int, int], int] = {}
        for line in self._log.read(self._pid):
            if line.kind == START:
                open_ended[line.process, line.born] = line.attempt
            elif line.kind == END:
                open_ended.pop((line.process, line.born), None)
        open_ended.pop((os.getpid(), born(os.getpid())), None)
        return [process for process, since in open_ended if born(process) == since]

    def _write(self, kind: str, detail: str = "") -> None:
        process = os.getpid()
        effect = Effect(
            kind=kind,
            attempt=self._number,
            process=process,
            born=born(process),
            parent=os.getppid(),
            wall=time.time(),
            mono=time.monotonic(),
            detail=detail,
        )
        self._log.append(self._pid, effect)


def born(process: int) -> int:
    """When the kernel started a process, in its ticks since boot; 0 if it does not run (proc(5), field 22)."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


@dataclass(kw_only=True, slots=True)
class Span:
    """One start, and what followed it in the same process."""

    start: Effect
    last: float
    """The last sign of life, on the monotonic clock."""
    how: str | None = None
    """How it ended, if it came to say so."""


def spans(lines: list[Effect]) -> list[Span]:
    """Every start of a job, in order."""
    found: list[Span] = []
    newest: dict[tuple[int, int], Span] = {}
    for line in lines:
        who = (line.process, line.born)
        if line.kind == START:
            newest[who] = Span(start=line, last=line.mono)
            found.append(newest[who])
        elif who in newest:
            newest[who].last = line.mono
            newest[who].how = line.detail if line.kind == END else None
    return found
