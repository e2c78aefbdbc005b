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


def kill_all(groups: Iterable[int]) -> int:
    """Kill each process group, its leader and every process below the leader; how many were told."""
    told = 0
    for group in groups:
        below = descendants(group)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
            told += 1
        for process_id in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process_id, signal.SIGKILL)
    return told


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
