"""The outbox as the courier uses it: outcomes are written however long that takes."""

import threading
from collections.abc import Callable

from pymongo.errors import PyMongoError

from contracts.clock import Clock
from contracts.logs import logger
from contracts.status import NotificationState
from results_service.notifier.outbox import Lease, Outbox

log = logger(__name__)

WRITE_AGAIN_SECONDS = 1.0
WRITE_AFTER_STOP_SECONDS = 6.0
"""How long an outcome is still tried to be written once the service is asked to stop."""
TAKE_OVER_AFTER_SECONDS = 10.0
"""How long MongoDB must have been well before the mails of others, whose lease has run out, are taken over: after
an outage, whoever has sent a mail gets to write that down first."""


class PatientOutbox:
    """An `Outbox` that survives outages of MongoDB between a mail and its mark."""

    def __init__(self, outbox: Outbox, *, clock: Clock, stopping: threading.Event) -> None:
        self._outbox = outbox
        self._clock = clock
        self._stopping = stopping
        self._pause = threading.Event()
        self._well_since: float | None = None

    def lease(self) -> Lease | None:
        """See `Outbox.lease`; raises `PyMongoError`."""
        before = self._clock.monotonic()
        try:
            lease = self._outbox.lease(take_over=self._may_take_over())
        except PyMongoError:
            self._well_since = None
            raise
        if self._well_since is None:
            self._well_since = before
        return lease

    def seconds_until_next_due(self, at_most: float) -> float:
        """When `lease` may find something again; raises `PyMongoError`."""
        moment = self._outbox.next_due()
        if not self._may_take_over():
            at_most = min(at_most, TAKE_OVER_AFTER_SECONDS)
        if moment is None:
            return at_most
        return min(max((moment - self._clock.now()).total_seconds(), 0.0), at_most)

    def settle(self, lease: Lease, state: NotificationState, reason: str | None) -> bool:
        """See `Outbox.settle`; comes back when that is written, or given up on a stop."""
        return self._write(lease, lambda: self._outbox.settle(lease, state, reason))

    def put_back(self, lease: Lease, *, seconds: float, reason: str, counted: bool) -> bool:
        """See `Outbox.put_back`; comes back when that is written, or given up on a stop."""
        return self._write(lease, lambda: self._outbox.put_back(lease, seconds=seconds, reason=reason, counted=counted))

    def _may_take_over(self) -> bool:
        return self._well_since is not None and self._clock.monotonic() - self._well_since >= TAKE_OVER_AFTER_SECONDS

    def _write(self, lease: Lease, write: Callable[[], bool]) -> bool:
        """Do not rest until it is written: forgetting that a mail was sent would send it twice."""
        bound = log.bind(pid=lease.pid, on=lease.on)
        give_up_at: float | None = None
        waiting = False
        while True:
            try:
                written = write()
            except PyMongoError as error:
                self._well_since = None
                if not waiting:
                    waiting = True
                    bound.warning(
                        "The outcome of a mail cannot be written; trying on.", action="outcome_waits", reason=str(error)
                    )
                now = self._clock.monotonic()
                if self._stopping.is_set():
                    give_up_at = give_up_at or now + WRITE_AFTER_STOP_SECONDS
                if give_up_at is not None and now >= give_up_at:
                    bound.exception("The outcome of a mail is lost; it may be sent twice.", action="outcome_lost")
                    return False
                self._pause.wait(WRITE_AGAIN_SECONDS)
                continue
            if not written:
                bound.warning("The outcome of a mail stands already, or its lease was lost.", action="mail_superseded")
            return written
