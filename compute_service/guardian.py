"""The guardian: when its parent dies, it kills what the parent ran. ``python -m compute_service.guardian``.

The parent holds the only writing end of its standard input and writes a line ``+ID`` for each child
process it starts and ``-ID`` for each that has ended. End of file means that the parent is gone,
however it went; then every child still known is killed, with its process group and everything below.

It lives in a session of its own and ignores the signals that end a service, since its work begins
where theirs ends. Only the standard library, so that it stays small.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterable

from compute_service.procfs import descendants

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


FREEZE_ROUNDS = 100
"""Looks for what was started while the others were being stopped."""


def kill_all(leaders: Iterable[int]) -> None:
    """Kill each of these processes, its process group and every process below it.

    All are stopped before the first is killed: what is stopped starts nothing that would be missed.
    """
    for leader in leaders:
        stopped: set[int] = set()
        _send(leader, signal.SIGSTOP)
        for _ in range(FREEZE_ROUNDS):
            new = set(descendants(leader)) - stopped
            for process_id in new:
                _send(process_id, signal.SIGSTOP, group=False)
            stopped |= new
            if not new:
                break
        for process_id in stopped:
            _send(process_id, signal.SIGKILL, group=False)
        _send(leader, signal.SIGKILL)


def _send(process_id: int, number: signal.Signals, *, group: bool = True) -> None:
    for send in (os.kill, os.killpg) if group else (os.kill,):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(process_id, number)


def main() -> None:
    """Keep the list until the parent is gone, then kill what is on it."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        mark, group = line[:1], int(line[1:])
        if mark == b"+":
            groups.add(group)
        else:
            groups.discard(group)
    kill_all(groups)


if __name__ == "__main__":
    main()
