"""The plan's own time, which stands still while a patient blow waits for the system to be well."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

LOOK_SECONDS = 0.1


class Pace:
    """Seconds of the plan, shared by clients and tormentor.

    On a slow machine everything takes longer to come back. Blows by the wall clock would then hit what is
    down already, and prove nothing.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lost = 0.0
        self._stood_still_at: float | None = None

    @property
    def now(self) -> float:
        """Seconds of the plan that have passed."""
        until = self._stood_still_at if self._stood_still_at is not None else time.monotonic()
        return until - self._began - self._lost

    async def reach(self, at: float) -> None:
        """Come back when the plan's time is *at*."""
        while (left := at - self.now) > 0:  # noqa: ASYNC110 -- the moment moves while it is waited for
            await asyncio.sleep(LOOK_SECONDS if self._stood_still_at is not None else left)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """No time passes inside."""
        self._stood_still_at = time.monotonic()
        try:
            yield
        finally:
            self._lost += time.monotonic() - self._stood_still_at
            self._stood_still_at = None
