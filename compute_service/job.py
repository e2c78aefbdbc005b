"""The running job, as a task sees it."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from compute_service.text import clean
from contracts.clock import SystemClock
from contracts.job import Progress

T = TypeVar("T")

MAX_STAGE = 128
MAX_MESSAGE = 1024


class Job:
    """One attempt of one job.

    A task that has a parameter annotated with `Job` gets it. In a test of the task make your own:
    ``Job()``; what it reports goes to *report*, which gets a callable that builds the newest progress.
    """

    def __init__(
        self,
        *,
        pid: str = "",
        attempt: int = 1,
        report: Callable[[Callable[[], Progress]], None] | None = None,
    ) -> None:
        self.pid = pid
        """The job's id."""
        self.attempt = attempt
        """1 for the first attempt."""
        self.cancelled = False
        """Whether somebody asked to cancel; `Cancelled` was raised in the task once as well."""
        self._report = report
        self._stage: str | None = None
        self._stage_began = time.monotonic()
        self._first_done = 0.0

    def progress(
        self,
        done: float | None = None,
        total: float | None = None,
        message: str | None = None,
        *,
        stage: str | None = None,
    ) -> None:
        """Say how far the job is: *done* of *total*, in any unit.

        Cheap enough for every row of a loop: at most ten reports a second leave the process, and
        the newest always does. The time that remains is estimated per stage.
        """
        if self._report is None:
            return
        now = time.monotonic()
        done, total = _finite(done), _finite(total)
        if stage != self._stage:
            self._stage, self._stage_began, self._first_done = stage, now, done or 0.0
        began, first = self._stage_began, self._first_done
        moment = SystemClock().now()

        def build() -> Progress:
            percent = eta = None
            if done is not None and total is not None and total > 0:
                percent = round(min(max(100 * done / total, 0.0), 100.0), 2)
                if done > first and now > began:
                    eta = round(max(total - done, 0.0) * (now - began) / (done - first), 1)
            return Progress(
                percent=percent,
                done=done,
                total=total,
                stage=clean(stage, MAX_STAGE) if stage is not None else None,
                message=clean(message, MAX_MESSAGE) if message is not None else None,
                eta_seconds=eta,
                updated_at=moment,
            )

        self._report(build)

    def track(
        self,
        items: Iterable[T],
        *,
        total: float | None = None,
        message: str | None = None,
        stage: str | None = None,
    ) -> Iterator[T]:
        """Yield *items* and report each one as done when the loop asks for the next."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        self.progress(0, total, message, stage=stage)
        for done, item in enumerate(items, start=1):
            yield item
            self.progress(done, total, message, stage=stage)


def _finite(number: float | None) -> float | None:
    return number if number is None or math.isfinite(number) else None
