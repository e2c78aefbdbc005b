"""A Nameko entrypoint that serves what waits together in one call: group commit.

Nameko's own RPC entrypoint spends a worker thread and a database write on every message. Here the
requests that arrive while a batch is under way form the next one, and one call of the service
method answers all of them. Batches of one method never overlap, so each method has one worker, an
instance of the service class, for as long as the service lives. The wire format stays Nameko's, so
any Nameko client can call.

    @batch
    def register(self, requests: list[Request]) -> list[object]: ...

The method gets the decoded requests and returns one answer each, in order: a message, or an error
to be raised on the caller's side.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nameko.containers import WorkerContext
from nameko.extensions import Entrypoint, SharedExtension
from pika.spec import BasicProperties

from contracts import codec, topology
from contracts.broker import BrokerClient, Delivery, Subscription
from contracts.dead_letters import Unreadable
from contracts.errors import to_wire
from contracts.logs import logger
from contracts.messages import Message
from contracts.settings import load
from results_service.settings import ResultsSettings

log = logger(__name__)

DRAIN_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request of a batch."""

    body: dict[str, Any]
    """The caller's ``request`` argument; not yet validated."""
    redelivered: bool
    """It may have been served before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A request, and what its answer needs."""

    request: Request
    delivery: Delivery
    received: float


class BatchServer(SharedExtension):
    """The connection that the batch entrypoints of one service share."""

    @cached_property
    def settings(self) -> ResultsSettings:
        """Read once per service."""
        return load(ResultsSettings)

    @cached_property
    def client(self) -> BrokerClient:
        """The connection; the lanes subscribe while the service is being set up."""
        return BrokerClient(
            self.settings.amqp_uri.get_secret_value(), name="results", heartbeat=self.settings.heartbeat
        )

    def open(self) -> None:
        """Begin to serve."""
        self.client.start()

    def stop(self) -> None:
        """Nameko: the lanes are empty and the dependencies have stopped."""
        self.client.close()


class Batch(Entrypoint):
    """One method of the service `topology.LEDGER_SERVICE`, with a queue of its own."""

    server = BatchServer()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._waiting: deque[Waiting] = deque()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._stopped = threading.Event()

    def setup(self) -> None:
        """Nameko: the method's name is known now."""
        key = f"{topology.LEDGER_SERVICE}.{self.method_name}"
        self.subscription = Subscription(
            on_message=self._receive,
            queue=topology.ledger_queue(self.method_name),
            bindings=((topology.RPC_EXCHANGE, key),),
            prefetch=2 * self.server.settings.batch_size,
        )
        self.server.client.subscribe(self.subscription)

    def start(self) -> None:
        """Nameko: serve from now on."""
        self.container.spawn_managed_thread(self._serve, identifier=f"batch-{self.method_name}")

    def stop(self) -> None:
        """Nameko: take no more, answer what was taken."""
        self.server.client.pause(self.subscription)
        self._stopping.set()
        self._wake.set()
        self._stopped.wait(DRAIN_SECONDS)

    def _receive(self, delivery: Delivery) -> None:
        """In the I/O thread: take one message in; raises `Unreadable` if it is none."""
        try:
            body = codec.loads(delivery.body)["kwargs"]["request"]
        except (ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"no request: {error!r}") from None
        if not isinstance(body, dict):
            raise Unreadable("no request: it is no object")
        request = Request(body=body, redelivered=delivery.redelivered)
        self._waiting.append(Waiting(request=request, delivery=delivery, received=time.monotonic()))
        self._wake.set()

    def _serve(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch = self._take()
                if batch:
                    self._run(batch)
            if self._stopping.is_set():
                self._stopped.set()
                return

    def _take(self) -> list[Waiting]:
        """The next batch, without the requests whose callers have given up meanwhile."""
        batch: list[Waiting] = []
        now = time.monotonic()
        while self._waiting and len(batch) < self.server.settings.batch_size:
            waiting = self._waiting.popleft()
            expiration = waiting.delivery.properties.expiration
            if expiration is not None and (now - waiting.received) * 1000 > int(expiration):
                self.server.client.ack(waiting.delivery)
            else:
                batch.append(waiting)
        return batch

    def _run(self, batch: list[Waiting]) -> None:
        answers: list[Any]
        try:
            answers = self._method([waiting.request for waiting in batch])
        except Exception as error:
            log.exception("A batch failed.", action="batch_failed", method=self.method_name, requests=len(batch))
            answers = [error] * len(batch)
        for waiting, answer in zip(batch, answers, strict=True):
            self._reply(waiting, answer)

    @cached_property
    def _method(self) -> Callable[[list[Request]], list[Any]]:
        """The service method, on the lane's own worker."""
        service = self.container.service_cls()
        context = WorkerContext(self.container, service, self)
        for provider in self.container.dependencies:
            setattr(service, provider.attr_name, provider.get_dependency(context))
        method: Callable[[list[Request]], list[Any]] = getattr(service, self.method_name)
        return method

    def _reply(self, waiting: Waiting, answer: Any) -> None:
        result, error = None, None
        if isinstance(answer, Exception):
            error = to_wire(answer)
        else:
            result = answer.model_dump() if isinstance(answer, Message) else answer
        properties = waiting.delivery.properties
        client = self.server.client
        if properties.reply_to:
            client.send(
                topology.RPC_EXCHANGE,
                properties.reply_to,
                codec.dumps({"result": result, "error": error}),
                BasicProperties(
                    content_type="application/json",
                    content_encoding="utf-8",
                    correlation_id=properties.correlation_id,
                ),
            )
        client.ack(waiting.delivery)


batch: Callable[..., Any] = Batch.decorator
"""Decorates a service method; see the module."""
