"""The heart: tells the ledger that the worker lives and what it runs, and hears what to stop."""

import os
import socket
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from compute_service.pool import Pool
from compute_service.ports import Ledger
from contracts.errors import CoatcheckError
from contracts.logs import logger
from contracts.messages import Heartbeat, HeartbeatReply

log = logger(__name__)

SOONEST_SECONDS = 0.5
"""Between two beats, however much there is to tell."""


class Heart:
    """Beats at its interval, and earlier when a job has new progress."""

    def __init__(  # noqa: PLR0913 -- what a heartbeat carries
        self,
        *,
        pool: Pool[Any],
        ledger: Ledger,
        pool_name: str,
        slots: int,
        interval_seconds: float,
        started_at: datetime,
        after_beat: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._pool_name = pool_name
        self._slots = slots
        self._interval = interval_seconds
        self._started_at = started_at
        self._after_beat = after_beat
        self._host = socket.gethostname()
        self._beat = 0
        self._last = float("-inf")
        self._draining_said = False
        self._draining_told = False

    def beat_for_ever(self) -> None:
        """The work of the heart's thread; ends when the pool has stopped."""
        pool = self._pool
        while True:
            with pool.lock:
                while not pool.stopped and (left := self._due_at() - time.monotonic()) > 0:
                    pool.beat_wanted.wait(left)
                if pool.stopped:
                    return
                heartbeat = self._compose()
            self._last = time.monotonic()
            try:
                reply = self._ledger.heartbeat(heartbeat)
            except CoatcheckError as error:
                log.debug("A heartbeat was not answered.", action="beat_unanswered", reason=str(error))
            else:
                self._heard(heartbeat, reply)
            self._after_beat()

    def _due_at(self) -> float:
        pool = self._pool
        if pool.draining and not self._draining_said:
            return self._last
        # A job whose grant is on its way is not listed; beats in quick succession would look as if it were lost.
        untold = pool.draining and not self._draining_told
        early = untold or (pool.roster.news and not pool.claim_unresolved)
        return self._last + (min(SOONEST_SECONDS, self._interval) if early else self._interval)

    def _compose(self) -> Heartbeat:
        pool = self._pool
        self._beat += 1
        self._draining_said |= pool.draining
        return Heartbeat(
            worker_id=pool.worker_id,
            host=self._host,
            process_id=os.getpid(),
            pool=self._pool_name,
            tasks=[task.name for task in pool.tasks],
            slots=self._slots,
            beat=self._beat,
            started_at=self._started_at,
            draining=pool.draining,
            running=pool.roster.listing(),
            claiming=pool.claim_unresolved,
        )

    def _heard(self, heartbeat: Heartbeat, reply: HeartbeatReply) -> None:
        pool = self._pool
        with pool.lock:
            pool.roster.told(heartbeat.running)
            self._draining_told |= heartbeat.draining
        for stop in reply.stop:
            pool.stop(stop)
        if reply.announce:
            pool.announce()
