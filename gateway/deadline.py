"""How long the request that this thread serves may still wait for others.

A request may need more than one RPC (the catalogue, then the ledger); together they stay within
one limit, so that every answer comes within two seconds (design, promise 10).
"""

import time
from contextvars import ContextVar

_ends: ContextVar[float] = ContextVar("deadline", default=float("inf"))


def begin(seconds: float) -> None:
    """Give this thread's request *seconds* from now."""
    _ends.set(time.monotonic() + seconds)


def remaining(limit: float) -> float:
    """Seconds that are left, at most *limit*; outside of a request it is *limit*. May be negative."""
    return min(limit, _ends.get() - time.monotonic())
