"""What `contracts.broker` is built of: its parameters, a connection that sends at once, deliveries, subscriptions."""

import uuid
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pika
from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from contracts.errors import NoReply, Unavailable

CONNECT_TIMEOUT_SECONDS = 5.0
PERSISTENT = 2

Script = Generator[Callable[[Callable[..., None]], object], Any, None]
"""Steps of a set-up: each is given the callback that brings the script on."""


def advance(script: Script, answer: object = None) -> None:
    """Run *script* to its next step; the step's callback brings it here again."""
    try:
        step = script.send(answer)
    except StopIteration:
        return
    step(lambda *answers: advance(script, answers[0] if answers else None))


def parameters(uri: str, *, name: str, heartbeat: int) -> pika.URLParameters:
    """How to connect: one try at a time, each with a time-out, under a *name* that the broker shows."""
    made = pika.URLParameters(uri)
    made.heartbeat = heartbeat
    made.socket_timeout = made.stack_timeout = CONNECT_TIMEOUT_SECONDS
    made.connection_attempts = 1
    made.client_properties = {"connection_name": name}
    return made


def rpc_request(correlation_id: str, timeout: float | None) -> BasicProperties:
    """The properties of a request that dies after *timeout* seconds, or that outlives its caller."""
    return BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        correlation_id=correlation_id,
        expiration=None if timeout is None else str(int(timeout * 1000)),
        delivery_mode=PERSISTENT if timeout is None else None,
    )


def dead_letter(original: BasicProperties, headers: dict[str, str]) -> BasicProperties:
    """The properties of the copy that is set aside: it outlives the broker, and does not expire."""
    return BasicProperties(
        content_type=original.content_type,
        content_encoding=original.content_encoding,
        correlation_id=original.correlation_id,
        delivery_mode=PERSISTENT,
        headers=headers,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One message from a queue. `ack` may be called from any thread, once."""

    body: bytes
    properties: BasicProperties
    redelivered: bool
    tag: int
    channel: Channel

    @classmethod
    def of(cls, channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> "Delivery":
        """What pika hands to a consumer."""
        return cls(
            body=body,
            properties=properties,
            redelivered=bool(method.redelivered),
            tag=int(method.delivery_tag),
            channel=channel,
        )


@dataclass(kw_only=True, slots=True, eq=False)
class Subscription:
    """A queue to consume, declared and bound anew on every connection.

    ``on_message`` runs in the I/O thread and must not block. A message over which it raises,
    `contracts.dead_letters.Unreadable` or unforeseen, is set aside and acknowledged for it.
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


def prepare(
    subscription: Subscription, connection: pika.SelectConnection, on_closed: Callable[[Channel, Exception], None]
) -> Script:
    """Give *subscription* a channel with its queue, declared and bound; whoever deletes that queue closes it."""
    channel = yield lambda done: connection.channel(on_open_callback=done)
    channel.add_on_close_callback(on_closed)
    channel.add_on_cancel_callback(lambda _: channel.close(reply_text="somebody deleted the queue"))
    yield lambda done: channel.basic_qos(prefetch_count=subscription.prefetch, callback=done)
    private = not subscription.queue
    declared = yield lambda done: channel.queue_declare(
        subscription.queue,
        durable=not private,
        exclusive=private,
        auto_delete=private,
        arguments=subscription.arguments,
        callback=done,
    )
    subscription.declared = declared.method.queue
    for exchange, key in subscription.bindings:
        yield lambda done, e=exchange, k=key: channel.queue_bind(subscription.declared, e, k, callback=done)  # type: ignore[misc]
    subscription.channel, subscription.consumer_tag = channel, None


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


class Confirms:
    """The publishes that the broker has not confirmed yet, in the order of one channel."""

    def __init__(self) -> None:
        self._published = 0
        self._waiting: dict[int, Future[None]] = {}

    def begin(self, future: "Future[None]") -> None:
        """The next message of the channel is the one that *future* stands for."""
        self._published += 1
        self._waiting[self._published] = future

    def settle(self, frame: Any) -> None:
        """The broker has taken or refused one message or all up to one."""
        method = frame.method
        first = min(self._waiting, default=method.delivery_tag) if method.multiple else method.delivery_tag
        for tag in range(first, method.delivery_tag + 1):
            if (future := self._waiting.pop(tag, None)) is None:
                continue
            if isinstance(method, Basic.Ack):
                future.set_result(None)
            else:
                future.set_exception(Unavailable("RabbitMQ refused the message."))

    def fail_all(self) -> None:
        """The channel is gone, and the next one counts from one again."""
        waiting, self._waiting, self._published = self._waiting, {}, 0
        for future in waiting.values():
            future.set_exception(NoReply("The connection to RabbitMQ broke before it confirmed."))
