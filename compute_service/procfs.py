"""What the kernel says about processes: proc(5). A process that is gone is simply not there."""

import os
from collections.abc import Iterable

_PAGE = os.sysconf("SC_PAGE_SIZE")


def children(process_id: int) -> list[int]:
    """The direct children of a process, of all its threads; zombies included."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{process_id}/task"):  # noqa: PTH208 -- polled; a Path per entry costs more
            found += map(int, _read(f"/proc/{process_id}/task/{thread}/children").split())
    except OSError:
        pass
    return found


def descendants(process_id: int) -> list[int]:
    """All processes below one, whatever their group or session."""
    found: list[int] = []
    todo = children(process_id)
    while todo:
        found += todo
        todo = [below for one in todo for below in children(one)]
    return found


def resident_bytes(process_ids: Iterable[int]) -> int:
    """Resident memory of several processes together; what they share counts for each."""
    total = 0
    for process_id in process_ids:
        fields = _read(f"/proc/{process_id}/statm").split()
        total += int(fields[1]) * _PAGE if fields else 0
    return total


def _read(path: str) -> str:
    try:
        with open(path) as file:  # noqa: PTH123 -- see children
            return file.read()
    except OSError:
        return ""
