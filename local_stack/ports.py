"""Ports on loopback for private servers."""

import random
import socket

from local_stack.problems import StackProblem

LOOPBACK = "127.0.0.1"
CANDIDATES = range(20_000, 32_000)
"""Below the range from which the kernel takes ports for outgoing connections."""
TRIES = 1_000
_reserved: list[socket.socket] = []


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on *port* now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def is_open(port: int, host: str = LOOPBACK) -> bool:
    """Whether somebody answers on *port*."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def pick(preferred: int | None = None, *, but_not: int | None = None) -> int:
    """The *preferred* port if it is free, else a random one; ours as long as this process lives."""
    candidates = [random.choice(CANDIDATES) for _ in range(TRIES)]  # noqa: S311 - spreads servers, guards nothing
    if preferred is not None:
        candidates.insert(0, preferred)
    for port in candidates:
        if port != but_not and is_free(port) and _reserve(port):
            return port
    raise StackProblem(f"No free port found between {CANDIDATES.start} and {CANDIDATES.stop}: stop what uses them.")


def _reserve(port: int) -> bool:
    """Whether no other process that picks ports like us has this one, which its server may not have opened yet.

    An abstract socket is the lock: it is as wide as the ports (the network namespace) and goes with its process.
    """
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0coatcheck-port-{port}")
    except OSError:
        lock.close()
        return False
    _reserved.append(lock)
    return True
