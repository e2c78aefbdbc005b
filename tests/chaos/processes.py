"""The processes of a run, found by the mark that they all carry in their environment."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.chaos.tasks import MARK_VARIABLE, STRAY


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A process that carries the mark."""

    process: int
    command: str


def marked(mark: str, *, strays_only: bool = False) -> list[Found]:
    """Every live process with *mark*, but this one; *strays_only*: those that tasks have left behind."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        if (strays_only or carries(int(entry.name), mark)) and (command := _command(entry)):
            if strays_only and not command.startswith(f"{STRAY}:{mark}:"):
                continue
            found.append(Found(process=int(entry.name), command=command))
    return found


def carries(process: int, mark: str) -> bool:
    """Whether a process was started with *mark* in its environment; so its id is not another's by now."""
    try:
        environment = Path(f"/proc/{process}/environ").read_bytes()
    except OSError:
        return False
    return f"{MARK_VARIABLE}={mark}".encode() in environment.split(b"\0")


def children_of_worker(worker: int) -> list[int]:
    """The processes in which a worker runs tasks."""
    with contextlib.suppress(psutil.Error):
        below = psutil.Process(worker).children()
        return sorted(child.pid for child in below if "compute_service.child" in _command(Path(f"/proc/{child.pid}")))
    return []


def ports_of(process: int) -> set[int]:
    """The local ports of its connections and of those of the processes below it."""
    ports: set[int] = set()
    with contextlib.suppress(psutil.Error):
        one = psutil.Process(process)
        for member in (one, *one.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                ports |= {connection.laddr.port for connection in member.net_connections("tcp") if connection.raddr}
    return ports


def _command(entry: Path) -> str:
    """The command line; empty for what has ended and only waits to be reaped."""
    try:
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
