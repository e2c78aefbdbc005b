"""What `contracts.broker` is built of: its parameters, a connection that sends at once, deliveries, subscriptions."""

import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pika
from pika.channel import Channel
from pika.spec import BasicProperties

CONNECT_TIMEOUT_SECONDS = 5.0


def parameters(uri: str, *, name: str, heartbeat: int) -> pika.URLParameters:
    """How to connect: one try at a time, each with a time-out, under a *name* that the broker shows."""
    made = pika.URLParameters(uri)
    made.heartbeat = heartbeat
    made.socket_timeout = made.stack_timeout = CONNECT_TIMEOUT_SECONDS
    made.connection_attempts = 1
    made.client_properties = {"connection_name": name}
    return made


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One message from a queue. `ack` may be called from any thread, once."""

    body: bytes
    properties: BasicProperties
    redelivered: bool
    tag: int
    channel: Channel


@dataclass(kw_only=True, slots=True, eq=False)
class Subscription:
    """A queue to consume, declared and bound anew on every connection.

    ``on_message`` runs in the I/O thread and must not block.
    """

    on_message: Callable[[Delivery], None]
    queue: str = ""
    """Empty: a private queue, named by the broker, gone with the connection."""
    bindings: tuple[tuple[str, str], ...] = ()
    """Pairs of exchange and routing key."""
    arguments: dict[str, Any] | None = None
    prefetch: int = 256
    on_ready: Callable[[], None] | None = None
    """Called in the I/O thread whenever the subscription is in force (again)."""
    active: bool = True
    """Whether it is meant to consume; see `BrokerClient.pause`."""
    channel: Channel | None = None
    consumer_tag: str | None = None
    declared: str = ""


class Connection(pika.SelectConnection):
    """Hands all that is published together to the socket in one piece, and at once.

    pika itself spends a system call on each frame, three for a small message, and sends none before
    its loop has turned once more to ask whether the socket takes them.
    """

    _held: list[bytes] | None = None

    def hold(self) -> None:
        """Keep back what is written, until `let_go`."""
        self._held = []

    def let_go(self) -> None:
        """Write what was kept back."""
        held, self._held = self._held, None
        if not held or self.is_closed:
            return
        super()._adapter_emit_data(b"".join(held))
        if self._transport is not None and self._transport.get_write_buffer_size() > 0:
            self._transport._on_socket_writable()  # noqa: SLF001 -- what the loop would call after its turn

    def _adapter_emit_data(self, data: bytes) -> None:
        if self._held is None:
            super()._adapter_emit_data(data)
        else:
            self._held.append(data)


class Calls:
    """The requests that wait for a reply, by correlation id."""

    def __init__(self) -> None:
        self._waiting: dict[str, Future[Any]] = {}

    def begin(self) -> "tuple[str, Future[Any]]":
        """A new correlation id, and the future of its reply."""
        correlation_id, future = uuid.uuid4().hex, Future[Any]()
        self._waiting[correlation_id] = future
        return correlation_id, future

    def waits(self, correlation_id: str) -> bool:
        """Whether the caller still wants the reply."""
        return correlation_id in self._waiting

    def forget(self, correlation_id: str) -> None:
        """Nobody waits any more."""
        self._waiting.pop(correlation_id, None)

    def reply(self, correlation_id: str, result: Any) -> None:
        """The answer has come; dropped if nobody waits for it."""
        if (future := self._waiting.pop(correlation_id, None)) is not None:
            future.set_result(result)

    def fail(self, correlation_id: str, error: Exception) -> None:
        """There will be no result."""
        if (future := self._waiting.pop(correlation_id, None)) is not None:
            future.set_exception(error)

    def fail_all(self, error: Callable[[], Exception]) -> None:
        """The connection is gone: nobody gets an answer."""
        for correlation_id in list(self._waiting):
            self.fail(correlation_id, error())
