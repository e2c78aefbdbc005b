"""What a job may have left behind in its process."""

import _thread
import os
import re
import resource
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

LEAKED_FILES = 64
"""A process that has so many more open files than at its start is replaced; fewer may be a connection kept for later."""

_KERNEL = {
    b"Umask": "umask",
    b"Uid": "user",
    b"Gid": "group",
    b"Groups": "groups",
    b"SigBlk": "blocked signals",
    b"SigIgn": "ignored signals",
    b"SigCgt": "signal handlers",
    b"Cpus_allowed_list": "processor affinity",
}
_FIELD = re.compile(rb"^(%s):\s*(.*)$" % b"|".join(_KERNEL), re.MULTILINE)
_SLICES = (
    (b"\nUmask:", b"\nState:"),
    (b"\nUid:", b"\nFDSize:"),
    (b"\nGroups:", b"\nNStgid:"),
    (b"\nSigBlk:", b"\nCapInh:"),
    (b"\nCpus_allowed_list:", b"\nMems_allowed:"),
)
"""Where those fields stand: cutting them out costs a tenth of reading them."""
_FILE_TABLE = (b"\nFDSize:", b"\nGroups:")
_LIMITS = (
    resource.RLIMIT_AS,
    resource.RLIMIT_CPU,
    resource.RLIMIT_DATA,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_NPROC,
    resource.RLIMIT_STACK,
)
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


class Leftovers:
    """Compares the process with what it was before its first job; cheap enough for every job.

    *status* is what /proc/self/status says (proc(5)).
    """

    def __init__(self, own_threads: Callable[[], int], status: bytes) -> None:
        self._own_threads = own_threads
        self._directory = os.getcwd()  # noqa: PTH109 -- compared after every job, a Path would cost more
        self._environ = dict(_environ())
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._descriptors = _standard_descriptors()
        self._files = _open_files()
        self._file_table = _cut(status, _FILE_TABLE)
        self._threads = _threads()
        self._limits = _limits()
        self._priority = os.getpriority(os.PRIO_PROCESS, 0)
        self._kernel = _FIELD.findall(status)
        self._slices = [_cut(status, ends) for ends in _SLICES]

    def found(self, status: bytes) -> list[str]:
        """What is not as it was; empty if the next job meets a clean process."""
        streams = (sys.stdin, sys.stdout, sys.stderr)
        more_files = _cut(status, _FILE_TABLE) != self._file_table and _open_files() > self._files + LEAKED_FILES
        changed = {
            "threads": _threads() - self._own_threads() > self._threads,
            "child processes": _has_children(),
            "working directory": _directory() != self._directory,
            "environment": _environ() != self._environ,
            "standard streams": streams != self._streams or _standard_descriptors() != self._descriptors,
            "open files": more_files,
            "alarm": any(signal.getitimer(timer)[0] for timer in _TIMERS),
            "resource limits": _limits() != self._limits,
            "priority": os.getpriority(os.PRIO_PROCESS, 0) != self._priority,
        }
        found = [what for what, is_so in changed.items() if is_so]
        if [_cut(status, ends) for ends in _SLICES] != self._slices:
            found += [_KERNEL[name] for name, value in _FIELD.findall(status) if (name, value) not in self._kernel]
        return found


def _cut(status: bytes, ends: tuple[bytes, bytes]) -> bytes:
    return status[status.find(ends[0]) : status.find(ends[1])]


def _threads() -> int:
    """Of Python, however they were started. A library's own, in C, are its business."""
    return max(threading.active_count() - 1, _thread._count())  # noqa: SLF001 -- nothing else counts the bare ones


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 -- see above
    except FileNotFoundError:
        return None


def _environ() -> Mapping[Any, Any]:
    """The environment as bytes: decoding every name and value after every job would cost 30 µs."""
    raw: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
    return raw


def _standard_descriptors() -> list[tuple[int, int] | None]:
    """Which files the descriptors 0 to 2 stand for, whatever `sys` thinks."""
    found: list[tuple[int, int] | None] = []
    for number in range(3):
        try:
            state = os.fstat(number)
        except OSError:
            found.append(None)
        else:
            found.append((state.st_dev, state.st_ino))
    return found


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- a Path per entry would cost more


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(kind) for kind in _LIMITS]
