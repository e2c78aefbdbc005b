"""The results service: thin entrypoints over the ledger. Run it with ``nameko run``."""

from typing import Any

from pymongo.errors import PyMongoError

from contracts import codec, logs
from contracts.errors import CoatcheckError
from contracts.logs import logger
from contracts.messages import Announcement, GetJob, Heartbeat, JobQuery, NewJob, Order, PoolLoads, Settle
from contracts.nameko_amqp import rpc
from contracts.settings import load
from results_service.batch import Request, batch
from results_service.dependencies import LedgerProvider, sweep_timer
from results_service.ledger.bootstrap import Ledger
from results_service.serving import answer_all, answer_one, away
from results_service.settings import ResultsSettings

PROBE_SECONDS = 1.0
"""How long RabbitMQ may take to confirm a message before the sweep calls it away."""

_settings = load(ResultsSettings)
logs.configure(level=_settings.log_level, fmt=_settings.log_format, service="results")
log = logger(__name__)


class ResultsService:
    """Owns the ledger. The hot methods are served in batches under the RPC name ``ledger``."""

    name = "results"

    ledger: Ledger = LedgerProvider()

    # ---- the hot path: ledger.*

    @batch
    def register(self, requests: list[Request]) -> list[Any]:
        """NewJob → Ticket. The reply means: stored, by a majority, in the journal."""
        return answer_all(NewJob, requests, lambda jobs, _: self.ledger.register(jobs))

    @batch
    def settle(self, requests: list[Request]) -> list[Any]:
        """Settle → Settled. What ended is stored, what is due is handed out."""
        return answer_all(
            Settle,
            requests,
            lambda trips, again: self.ledger.settle(
                trips, repeated=[trip.repeated or more for trip, more in zip(trips, again, strict=True)]
            ),
        )

    @batch
    def heartbeat(self, requests: list[Request]) -> list[Any]:
        """Heartbeat → HeartbeatReply."""
        return answer_all(Heartbeat, requests, lambda beats, _: self.ledger.heartbeat(beats))

    @batch
    def get(self, requests: list[Request]) -> list[Any]:
        """GetJob → the job in the API's form."""
        return answer_all(GetJob, requests, lambda wanted, _: self.ledger.queries.get(wanted))

    # ---- everything else: results.*

    @rpc(expected_exceptions=CoatcheckError)
    def list_jobs(self, request: dict[str, Any]) -> Any:
        """JobQuery → JobPage."""
        return _plain(answer_one(JobQuery, request, self.ledger.queries.list_jobs).model_dump())

    @rpc(expected_exceptions=CoatcheckError)
    def latest(self, request: dict[str, Any]) -> Any:
        """JobQuery → the newest job that matches."""
        return _plain(answer_one(JobQuery, request, self.ledger.queries.latest))

    @rpc(expected_exceptions=CoatcheckError)
    def cancel(self, request: dict[str, Any]) -> Any:
        """Order → Ticket."""
        return _plain(answer_one(Order, request, self.ledger.orders.cancel).model_dump())

    @rpc(expected_exceptions=CoatcheckError)
    def retry(self, request: dict[str, Any]) -> Any:
        """Order → Ticket."""
        return _plain(answer_one(Order, request, self.ledger.orders.retry).model_dump())

    @rpc(expected_exceptions=CoatcheckError)
    def delete(self, request: dict[str, Any]) -> None:
        """Order → nothing; the job is hidden from now on."""
        answer_one(Order, request, self.ledger.orders.delete)

    @rpc(expected_exceptions=CoatcheckError)
    def announce(self, request: dict[str, Any]) -> None:
        """Announcement → nothing; the catalogue knows the tasks."""
        answer_one(Announcement, request, self.ledger.catalogue.announce)

    @rpc(expected_exceptions=CoatcheckError)
    def catalogue(self) -> Any:
        """→ Catalogue."""
        try:
            return _plain(self.ledger.catalogue.read().model_dump())
        except PyMongoError as error:
            raise away(error) from None

    @rpc(expected_exceptions=CoatcheckError)
    def pools(self) -> Any:
        """→ PoolLoads."""
        try:
            return PoolLoads(pools=self.ledger.pools()).model_dump()
        except PyMongoError as error:
            raise away(error) from None

    @rpc(expected_exceptions=CoatcheckError)
    def ping(self) -> dict[str, str]:
        """→ what this service depends on, with ``ok``; raises when MongoDB is away."""
        try:
            self.ledger.database.ping()
        except PyMongoError as error:
            raise away(error) from None
        return {"mongodb": "ok"}

    @sweep_timer
    def sweep(self) -> None:
        """Repair what lost messages left undone."""
        try:
            next_due = self.ledger.sweep(broker_ready=self.ledger.events.broker_answers(PROBE_SECONDS))
        except PyMongoError as error:
            log.warning("The sweep waits for MongoDB.", action="sweep_skipped", reason=str(error)[:500])
            return
        if next_due is not None:
            self.ledger.alarm.set(next_due)


def _plain(value: object) -> Any:
    """*value* as plain JSON values, for Nameko's own serializer."""
    return codec.loads(codec.dumps(value))
