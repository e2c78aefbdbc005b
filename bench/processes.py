"""CPU time and memory of all processes of one side, told apart by role.

The bench adopts orphans of what it starts (a subreaper, prctl(2)), so everything that one side runs
is below the bench in the process tree, whoever forked it; and nothing outlives the bench unseen.
"""

import ctypes
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping

import psutil

PR_SET_CHILD_SUBREAPER = 36
KILL_AFTER_SECONDS = 5.0

OUTSIDE = frozenset({"load generator", "supervisor", "smtp sink", "epmd"})
"""Roles that are no part of a side: what drives it, what a real installation has elsewhere
(a supervisor, a mail server), and the name server that all Erlang nodes of a machine share."""

ROLES = tuple(
    (re.compile(pattern), role)
    for pattern, role in (
        (r"bench\.load", "load generator"),
        (r"beam\.smp|rabbitmq-server", "rabbitmq"),
        (r"(^|/)mongod( |$)", "mongod"),
        (r"(^|/)epmd( |$)", "epmd"),
        (r"gunicorn", "gateway"),
        (r"celery", "worker"),
        (r"compute_service\.child", "child"),
        (r"compute_service", "compute"),
        (r"notifier", "notifier"),
        (r"results_service", "results"),
        (r"smtp_sink", "smtp sink"),
        (r"local_stack", "supervisor"),
    )
)
"""What in a command line tells the role; the first match counts. Others are what their parent is."""


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def role_of(command: list[str], inherited: str) -> str:
    """The role of a process from its command line, or *inherited* if that says nothing."""
    line = " ".join(command)
    for pattern, role in ROLES:
        if pattern.search(line):
            return role
    return inherited


def descendants() -> Iterator[tuple[psutil.Process, str]]:
    """Every process below this one, with its role, parents first."""
    below = defaultdict(list)
    for process in psutil.Process().children(recursive=True):
        try:
            below[process.ppid()].append(process)
        except psutil.NoSuchProcess:
            continue
    waiting = [(process, "other") for process in below[os.getpid()]]
    while waiting:
        process, inherited = waiting.pop()
        try:
            role = role_of(process.cmdline(), inherited)
        except psutil.Error:
            role = inherited
        yield process, role
        waiting.extend((child, role) for child in below[process.pid])


def cpu_seconds() -> dict[str, float]:
    """CPU time by role since each process began, user and system, that of reaped children included."""
    seconds: dict[str, float] = defaultdict(float)
    for process, role in descendants():
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        seconds[role] += times.user + times.system + times.children_user + times.children_system
    return dict(seconds)


def memory_bytes() -> dict[str, int]:
    """Proportional set size by role: pages shared by several processes count once in the sum."""
    sizes: dict[str, int] = defaultdict(int)
    for process, role in descendants():
        try:
            sizes[role] += process.memory_full_info().pss
        except psutil.Error:
            continue
    return dict(sizes)


def inside(by_role: Mapping[str, float]) -> float:
    """The sum over the roles that are part of a side."""
    return sum(value for role, value in by_role.items() if role not in OUTSIDE)


def spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """CPU seconds by role between two readings."""
    return {role: after.get(role, 0.0) - before.get(role, 0.0) for role in sorted({*before, *after})}


def end_descendants() -> list[str]:
    """End whatever is left below this process and reap it; returns what had to be ended."""
    left = []
    for process, role in descendants():
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                left.append(f"{role} {process.pid}")
                process.terminate()
        except psutil.Error:
            continue
    deadline = time.monotonic() + KILL_AFTER_SECONDS
    while psutil.Process().children(recursive=True):
        reap()
        if time.monotonic() > deadline:
            for process, _role in descendants():
                process.kill()
        time.sleep(0.02)
    return left


def reap() -> None:
    """Collect children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            continue
    except ChildProcessError:
        return
