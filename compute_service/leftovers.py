"""What a job may have left behind in its process."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any


class Leftovers:
    """Compares the process with what it was before its first job; cheap enough for every job."""

    def __init__(self, own_threads: Callable[[], int]) -> None:
        self._own_threads = own_threads
        self._directory = os.getcwd()  # noqa: PTH109 -- compared after every job, a Path would cost more
        self._umask = _umask()
        self._environ = dict(_environ())
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._threads = threading.active_count()

    def found(self) -> list[str]:
        """What is not as it was; empty if the next job meets a clean process."""
        found = []
        if threading.active_count() - self._own_threads() > self._threads:
            found.append("threads")
        if _has_children():
            found.append("child processes")
        if _directory() != self._directory:
            found.append("working directory")
        if _environ() != self._environ:
            found.append("environment")
        if (sys.stdin, sys.stdout, sys.stderr) != self._streams:
            found.append("standard streams")
        if _umask() != self._umask:
            found.append("umask")
        if signal.getitimer(signal.ITIMER_REAL)[0]:
            found.append("alarm")
        return found


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


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _environ() -> Mapping[Any, Any]:
    """The environment as bytes: decoding every name and value after every job would cost 30 µs."""
    raw: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
    return raw
