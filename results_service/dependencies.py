"""What the service class gets from Nameko: the ledger, and the sweep that keeps it in order."""

import random
import threading
from typing import Any

import eventlet
from eventlet import wsgi
from nameko.extensions import DependencyProvider, Entrypoint
from prometheus_client import make_wsgi_app
from pymongo.errors import PyMongoError

from contracts.logs import logger
from results_service.batch import BatchServer
from results_service.ledger.bootstrap import Ledger, bootstrap
from results_service.ledger.leases import LOOKS_PER_LEASE

log = logger(__name__)

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 5.0
SCRAPE_SECONDS = 10
"""How long a connection of Prometheus may take over one request."""
SCRAPES = 16
"""How many such connections may be open at the same time."""


class LedgerProvider(DependencyProvider):
    """Connects to MongoDB, and opens the counter only when the indexes are in force."""

    server = BatchServer()

    def setup(self) -> None:
        """Nameko: wire the ledger; nothing is contacted yet."""
        self.ledger = bootstrap(self.server.client, self.server.settings)
        self._stopping = threading.Event()

    def start(self) -> None:
        """Nameko: prepare in the background, so that the service starts while MongoDB is away."""
        self.container.spawn_managed_thread(self._prepare, identifier="prepare-ledger")
        if self.server.settings.metrics_port:
            self.container.spawn_managed_thread(self._serve_metrics, identifier="metrics")

    def stop(self) -> None:
        """Nameko: no worker uses the ledger any more."""
        self._stopping.set()
        self.ledger.database.close()

    def get_dependency(self, worker_ctx: Any) -> Ledger:  # noqa: ARG002 -- Nameko's signature
        """The ledger; safe for concurrent workers."""
        return self.ledger

    def _serve_metrics(self) -> None:
        settings = self.server.settings
        wsgi.server(
            eventlet.listen((settings.metrics_host, settings.metrics_port)),
            make_wsgi_app(self.ledger.metrics.registry),
            log_output=False,
            max_size=SCRAPES,
            socket_timeout=SCRAPE_SECONDS,
        )

    def _prepare(self) -> None:
        delay = FIRST_RETRY_SECONDS
        while not self._stopping.is_set():
            try:
                self.ledger.database.prepare()
            except PyMongoError as error:
                log.warning(
                    "MongoDB is not reachable; the service waits for it.", action="ledger_away", reason=str(error)
                )
                self._stopping.wait(delay * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter, not a secret
                delay = min(delay * 2, LAST_RETRY_SECONDS)
            else:
                self.server.open()
                return


class SweepTimer(Entrypoint):
    """Runs a method every ``sweep_seconds``, several times per lease, and when the ledger's alarm is set for."""

    server = BatchServer()

    def setup(self) -> None:
        """Nameko: nothing to prepare."""
        self._stopping = threading.Event()

    def start(self) -> None:
        """Nameko: begin to sweep."""
        self._thread = self.container.spawn_managed_thread(self._run, identifier="sweep")

    def stop(self) -> None:
        """Nameko: no more sweeps; one under way is finished."""
        self._stopping.set()
        self._ledger.alarm.interrupt()

    @property
    def _ledger(self) -> Ledger:
        return next(p.ledger for p in self.container.dependencies if isinstance(p, LedgerProvider))

    def _run(self) -> None:
        ledger, settings = self._ledger, self.server.settings
        longest = min(settings.sweep_seconds, settings.lease_seconds / LOOKS_PER_LEASE)
        while not self._stopping.is_set():
            ledger.alarm.wait(longest, self._stopping.is_set)
            if self._stopping.is_set():
                return
            done = threading.Event()

            def finished(_worker: object, result: Any, exc_info: Any, done: threading.Event = done) -> tuple[Any, Any]:
                done.set()
                return result, exc_info

            self.container.spawn_worker(self, (), {}, handle_result=finished)
            done.wait()


sweep_timer = SweepTimer.decorator
"""Decorates the method that sweeps."""
