"""The ledger port over RabbitMQ, in Nameko's RPC format."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel

from contracts import topology
from contracts.broker import BrokerClient, Delivery, Subscription
from contracts.dead_letters import read
from contracts.errors import CoatcheckError, NoReply, NotSent
from contracts.inspection import QueueState
from contracts.messages import (
    Catalogue,
    GetJob,
    JobPage,
    JobQuery,
    Message,
    NewJob,
    Order,
    PoolLoad,
    PoolLoads,
    Ticket,
)
from gateway import deadline
from gateway.doorbell import DoorbellRinger
from gateway.metrics import Metrics
from gateway.settings import GatewaySettings
from gateway.silence import Silence

SHORTEST_CALL_SECONDS = 0.02
"""With less time than this left there is no point in asking."""
LEDGER = topology.LEDGER_SERVICE
RESULTS = topology.RESULTS_SERVICE


class RpcLedger:
    """`gateway.ledger.Ledger` over one `BrokerClient`, which belongs to this object."""

    def __init__(self, settings: GatewaySettings, metrics: Metrics) -> None:
        self._timeout = settings.rpc_timeout_seconds
        self._metrics = metrics
        self._silences = {LEDGER: Silence(), RESULTS: Silence()}
        self._on_catalogue_changed: Callable[[], None] = lambda: None
        self._events = Subscription(
            on_message=self._on_event,
            bindings=((topology.EVENTS_EXCHANGE, topology.CATALOGUE_CHANGED),),
            on_ready=self._on_connected,
        )
        self._broker = BrokerClient(
            settings.amqp_uri.get_secret_value(),
            name="gateway",
            heartbeat=settings.heartbeat,
            subscriptions=(self._events,),
        )
        self._doorbell = DoorbellRinger(self._broker)

    def start(self, on_catalogue_changed: Callable[[], None]) -> None:
        """Begin to connect; returns at once. Only after the fork: it starts a thread.

        *on_catalogue_changed* is called in that thread whenever it may have, and must not block.
        """
        self._on_catalogue_changed = on_catalogue_changed
        self._broker.start()

    def close(self) -> None:
        """Publish what is waiting and say goodbye."""
        self._broker.close()

    @property
    def broker_trouble(self) -> str | None:
        """See `gateway.ledger.Ledger.broker_trouble`."""
        return None if self._broker.ready else self._broker.trouble

    def register(self, job: NewJob) -> Ticket:
        """See `gateway.ledger.Ledger.register`."""
        try:
            return Ticket.model_validate(self._ask(LEDGER, "register", job))
        except NoReply as error:
            detail = (
                "No answer came in time, so it is unknown whether the job was stored. "
                "Look for its pid, or repeat the request with the same Idempotency-Key."
            )
            raise NoReply(detail, {**error.members, "pid": job.pid}) from error

    def get(self, request: GetJob) -> dict[str, Any]:
        """See `gateway.ledger.Ledger.get`."""
        job: dict[str, Any] = self._ask(LEDGER, "get", request)
        return job

    def list_jobs(self, query: JobQuery) -> JobPage:
        """See `gateway.ledger.Ledger.list_jobs`."""
        return JobPage.model_validate(self._ask(RESULTS, "list_jobs", query))

    def latest(self, query: JobQuery) -> dict[str, Any]:
        """See `gateway.ledger.Ledger.latest`."""
        job: dict[str, Any] = self._ask(RESULTS, "latest", query)
        return job

    def cancel(self, order: Order) -> Ticket:
        """See `gateway.ledger.Ledger.cancel`."""
        return Ticket.model_validate(self._ask(RESULTS, "cancel", order))

    def retry(self, order: Order) -> Ticket:
        """See `gateway.ledger.Ledger.retry`."""
        return Ticket.model_validate(self._ask(RESULTS, "retry", order))

    def delete(self, order: Order) -> None:
        """See `gateway.ledger.Ledger.delete`."""
        self._ask(RESULTS, "delete", order)

    def catalogue(self) -> Catalogue:
        """See `gateway.ledger.Ledger.catalogue`."""
        return Catalogue.model_validate(self._ask(RESULTS, "catalogue"))

    def pools(self) -> list[PoolLoad]:
        """See `gateway.ledger.Ledger.pools`."""
        return PoolLoads.model_validate(self._ask(RESULTS, "pools")).pools

    def inspect(self, queues: Sequence[str]) -> dict[str, QueueState]:
        """See `gateway.ledger.Ledger.inspect`."""
        return self._broker.inspect(queues, timeout=max(deadline.remaining(self._timeout), SHORTEST_CALL_SECONDS))

    def ping(self) -> None:
        """See `gateway.ledger.Ledger.ping`."""
        self._ask(RESULTS, "ping")

    def ring(self, pool: str) -> None:
        """See `gateway.ledger.Ledger.ring`."""
        self._doorbell.ring(pool)

    def _ask(self, service: str, method: str, request: BaseModel | None = None) -> Any:
        timeout = deadline.remaining(self._timeout)
        if timeout < SHORTEST_CALL_SECONDS:
            raise NotSent("The time for this request was spent on waiting; nothing was sent.")
        silence = self._silences[service]
        if not silence.admit():
            raise NotSent("The results service does not answer at the moment; nothing was sent.")
        sent_at = time.monotonic()
        outcome = "error"
        try:
            kwargs = {} if request is None else {"request": request.model_dump(mode="json")}
            result = self._broker.call(service, method, kwargs, timeout=timeout)
            silence.heard()
            outcome = "ok"
        except NotSent:
            silence.not_sent()
            outcome = "not_sent"
            raise
        except NoReply:
            silence.gave_up(sent_at)
            outcome = "no_reply"
            raise
        except CoatcheckError:
            silence.heard()
            raise
        except BaseException:
            silence.not_sent()
            raise
        else:
            return result
        finally:
            self._metrics.rpc(method, outcome, time.monotonic() - sent_at)

    def _on_event(self, delivery: Delivery) -> None:
        read(Message, delivery.body)
        self._broker.ack(delivery)
        self._on_catalogue_changed()

    def _on_connected(self) -> None:
        self._doorbell.on_connected()
        self._on_catalogue_changed()
