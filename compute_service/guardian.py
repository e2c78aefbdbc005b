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

from compute_service.procfs import children

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


FREEZE_ROUNDS = 200
"""Looks for what was started while the others were being stopped."""
QUIET_ROUNDS = 3
"""So many looks in a row must find nothing new: one may miss what changes its parent at that moment (proc(5))."""


def kill_all(leaders: Iterable[int]) -> None:
    """Kill each of these processes, its process group and every process below it.

    All are stopped before the first is killed: what is stopped starts nothing that would be missed.
    """
    for leader in leaders:
        _send(leader, signal.SIGSTOP)
        stopped: set[int] = set()
        quiet = 0
        for _ in range(FREEZE_ROUNDS):
            new = _stop_below(leader, stopped)  # what loses its parent becomes a child of the leader
            quiet = 0 if new else quiet + 1
            if quiet == QUIET_ROUNDS:
                break
        for process_id in stopped:
            _send(process_id, signal.SIGKILL, group=False)
        _send(leader, signal.SIGKILL)


def _stop_below(process_id: int, stopped: set[int]) -> bool:
    """Stop what is below *process_id* and not *stopped* yet, each at once when it is found; whether there was any."""
    new = [child for child in children(process_id) if child not in stopped]
    for child in new:
        _send(child, signal.SIGSTOP, group=False)
        stopped.add(child)
        _stop_below(child, stopped)
    return bool(new)


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
