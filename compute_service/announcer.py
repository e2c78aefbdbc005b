"""Tells the ledger what the worker can run: at its start, and whenever the ledger asks."""

import random
import threading

from compute_service.ports import Ledger
from contracts.catalogue import TaskDescriptor
from contracts.errors import CoatcheckError
from contracts.logs import logger
from contracts.messages import Announcement

log = logger(__name__)

FIRST_RETRY_SECONDS = 0.2
LAST_RETRY_SECONDS = 15.0
IDLE_SECONDS = 60.0


class Announcer:
    """Announces until the ledger has accepted it, with a growing pause between tries."""

    def __init__(self, worker_id: str, ledger: Ledger) -> None:
        self._worker_id = worker_id
        self._ledger = ledger
        self._changed = threading.Condition()
        self._wanted = True
        self._stopped = False

    def want(self) -> None:
        """Announce (again). Does not block."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Announce no more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def announce_for_ever(self, tasks: list[TaskDescriptor]) -> None:
        """The work of the announcing thread; ends after `stop`."""
        announcement = Announcement(worker_id=self._worker_id, tasks=tasks)
        delay = FIRST_RETRY_SECONDS
        while True:
            with self._changed:
                while not (self._wanted or self._stopped):
                    self._changed.wait(IDLE_SECONDS)
                if self._stopped:
                    return
                self._wanted = False
            try:
                self._ledger.announce(announcement)
                delay = FIRST_RETRY_SECONDS
            except CoatcheckError as error:
                log.info("The catalogue was not accepted yet.", action="announce_unanswered", reason=str(error))
                with self._changed:
                    self._wanted = True
                    pause = delay * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter, not a secret
                    self._changed.wait_for(lambda: self._stopped, pause)
                delay = min(delay * 2, LAST_RETRY_SECONDS)
