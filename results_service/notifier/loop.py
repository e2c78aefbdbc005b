"""The one send loop of the process: asleep until something is due or somebody wakes it."""

import threading

from pymongo.errors import PyMongoError

from contracts.clock import Clock
from contracts.logs import logger
from results_service.notifier.backoff import backoff
from results_service.notifier.courier import Courier
from results_service.notifier.outage import Outage

log = logger(__name__)

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 5.0
UNFORESEEN_SECONDS = 5.0


class SendLoop:
    """Runs the courier again and again. Many wake-ups at once are one look into the outbox."""

    def __init__(self, courier: Courier, *, clock: Clock, stopping: threading.Event) -> None:
        self._courier = courier
        self._stopping = stopping
        self._awake = threading.Event()
        self._ended = threading.Event()
        self._mongodb = Outage("MongoDB", clock)

    def run(self) -> None:
        """Deliver until `wind_down`; raises nothing."""
        try:
            while not self._stopping.is_set():
                self._awake.clear()
                self._awake.wait(self._round())
        finally:
            self._ended.set()

    def wake(self) -> None:
        """Something may be due. Returns at once."""
        self._awake.set()

    def wind_down(self) -> None:
        """Begin no more mail, and end after the one under way. Returns at once."""
        self._stopping.set()
        self._awake.set()

    def wait_ended(self, timeout: float) -> bool:
        """After `wind_down`: wait for the end of `run`; False if that took longer than *timeout* seconds."""
        return self._ended.wait(timeout)

    def _round(self) -> float:
        try:
            pause = self._courier.deliver_due()
        except PyMongoError as error:
            self._mongodb.down(str(error))
            return backoff(self._mongodb.failures, first=FIRST_RETRY_SECONDS, last=LAST_RETRY_SECONDS)
        except Exception:
            log.exception("The send loop stumbled; it goes on.", action="loop_error")
            return UNFORESEEN_SECONDS
        self._mongodb.up()
        return pause
