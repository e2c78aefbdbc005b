"""The plan's own time, which stands still while a patient blow waits for the system to be well."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

LOOK_SECONDS = 0.1
SHORT_SECONDS = 100.0


class Pace:
    """Seconds of the plan, shared by clients and tormentor.

    On a slow machine everything takes longer to come back. Blows by the wall clock would then hit what is
    down already, and prove nothing. In real time the torment takes no longer than was asked for, or than
    `SHORT_SECONDS`; what the plan has left then is not done.
    """

    def __init__(self, seconds: float) -> None:
        self._began = time.monotonic()
        self._over_at = self._began + max(seconds, SHORT_SECONDS)
        self._lost = 0.0
        self._stood_still_at: float | None = None

    @property
    def now(self) -> float:
        """Seconds of the plan that have passed."""
        until = self._stood_still_at if self._stood_still_at is not None else time.monotonic()
        return until - self._began - self._lost

    @property
    def left(self) -> float:
        """Seconds of real time that the torment may still take."""
        return self._over_at - time.monotonic()

    async def reach(self, at: float) -> bool:
        """Come back when the plan's time is *at*; False if the real time is over before."""
        while (left := at - self.now) > 0:
            if self.left <= 0:
                return False
            await asyncio.sleep(LOOK_SECONDS if self._stood_still_at is not None else min(left, self.left))
        return True

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """No time passes inside."""
        self._stood_still_at = time.monotonic()
        try:
            yield
        finally:
            self._lost += time.monotonic() - self._stood_still_at
            self._stood_still_at = None
