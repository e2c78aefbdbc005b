"""The one clock, injectable so that tests can own time."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the services need to know about time."""

    def now(self) -> datetime:
        """The wall clock: aware, UTC, whole milliseconds (what MongoDB keeps)."""

    def monotonic(self) -> float:
        """Seconds that never go back; for measuring, never for storing."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """See `Clock.now`."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()


def rfc3339(moment: datetime) -> str:
    """*moment* as RFC 3339 text in UTC with milliseconds and ``Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
