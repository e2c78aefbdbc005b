"""Wires the ledger together; tests override what they own."""

import threading
from collections.abc import Callable
from datetime import datetime

from contracts.broker import BrokerClient
from contracts.clock import Clock, SystemClock
from contracts.messages import Finish, Settle
from results_service.ledger.catalogue import CatalogueKeeper
from results_service.ledger.database import Database
from results_service.ledger.events import Events
from results_service.ledger.heartbeats import Heartbeats
from results_service.ledger.locks import Locks
from results_service.ledger.orders import Orders
from results_service.ledger.pools import Pools
from results_service.ledger.queries import Queries
from results_service.ledger.register import Register
from results_service.ledger.settle import Settling
from results_service.ledger.sweep import Sweep
from results_service.metrics import LedgerMetrics
from results_service.settings import ResultsSettings


class Alarm:
    """The moment for which the sweep should wake, moved up by whoever schedules something earlier."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Event()
        self._at: datetime | None = None

    def set(self, moment: datetime) -> None:
        """Wake at *moment*, unless an earlier one is set."""
        if self._at is None or moment < self._at:
            self._at = moment
            self._changed.set()

    def wait(self, longest_seconds: float, stopping: Callable[[], bool]) -> None:
        """Wait for the moment, at most *longest_seconds*, or until stopping."""
        end = self._clock.monotonic() + longest_seconds
        while not stopping() and (left := end - self._clock.monotonic()) > 0:
            if self._at is not None:
                left = min(left, (self._at - self._clock.now()).total_seconds())
            if left <= 0:
                break
            self._changed.wait(left)
            self._changed.clear()
        self._at = None

    def interrupt(self) -> None:
        """Have `wait` look at its conditions again."""
        self._changed.set()


class Ledger:
    """Every method of the ledger, and what they share."""

    def __init__(
        self, database: Database, events: Events, settings: ResultsSettings, clock: Clock | None = None
    ) -> None:
        clock = clock or SystemClock()
        self.database = database
        self.settings = settings
        self.events = events
        self.metrics = LedgerMetrics()
        self.alarm = Alarm(clock)
        self.locks = Locks(database, clock, events)
        self.register = Register(
            database=database, clock=clock, settings=settings, events=events, wake_at=self.alarm.set, locks=self.locks
        )
        self.settle = Settling(
            database=database,
            clock=clock,
            settings=settings,
            events=events,
            wake_at=self.alarm.set,
            locks=self.locks,
            metrics=self.metrics,
        )
        self.heartbeat = Heartbeats(database, clock, self._hand_back)
        self.orders = Orders(database, clock, settings, events, self.locks)
        self.queries = Queries(database, clock)
        self.pools = Pools(database, clock, settings)
        self.catalogue = CatalogueKeeper(database, clock, settings, events)
        self.sweep = Sweep(
            database=database,
            clock=clock,
            settings=settings,
            events=events,
            catalogue=self.catalogue,
            locks=self.locks,
            metrics=self.metrics,
        )

    def _hand_back(self, finish: Finish) -> None:
        self.settle([Settle(finishes=[finish])], repeated=[False])


def bootstrap(client: BrokerClient, settings: ResultsSettings) -> Ledger:
    """The ledger over the real MongoDB and the real broker."""
    database = Database(
        settings.mongodb_uri.get_secret_value(), settings.database, timeout_seconds=settings.mongodb_timeout_seconds
    )
    return Ledger(database, Events(client), settings)
