"""Ports on loopback for private servers."""

import random
import socket
from collections.abc import Iterable

from local_stack.problems import StackProblem

LOOPBACK = "127.0.0.1"
CANDIDATES = range(20_000, 32_000)
"""Below the range from which the kernel takes ports for outgoing connections."""
TRIES = 1_000


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


def pick(preferred: int | None = None, taken: Iterable[int] = ()) -> int:
    """The *preferred* port if it is free, else a random one; none of *taken*."""
    refused = set(taken)
    if preferred is not None and preferred not in refused and is_free(preferred):
        return preferred
    for _ in range(TRIES):
        port = random.choice(CANDIDATES)  # noqa: S311 - spreads servers, guards nothing
        if port not in refused and is_free(port):
            return port
    raise StackProblem(f"No free port found between {CANDIDATES.start} and {CANDIDATES.stop}: stop what uses them.")
