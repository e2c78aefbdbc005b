"""How long to wait before the next try."""

import random

_MAX_DOUBLINGS = 32


def backoff(tries: int, *, first: float, last: float) -> float:
    """Seconds to wait after *tries* failures in a row (1 or more).

    Doubles from *first* to at most *last*, then takes off up to half at random, so that what
    failed together does not come back together.
    """
    doublings = min(max(tries, 1) - 1, _MAX_DOUBLINGS)
    return min(first * 2.0**doublings, last) * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter, not a secret
