"""The client of the broker: one connection, one I/O thread, many callers.

pika's objects may only be touched by the thread that runs their loop. So every caller leaves a
closure in `BrokerClient._todo` and wakes the loop; replies come back through futures. The same code
serves the gateway (native threads) and the Nameko services (where eventlet makes every thread and
socket cooperative).

When the connection breaks, everything that waits for a reply fails at once with `NoReply`, and the
client connects again with a jittered back-off, declares everything anew, and goes on.
"""

import random
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import pika
from pika.channel import Channel
from pika.exceptions import AMQPError
from pika.spec import Basic, BasicProperties

from contracts import codec, topology
from contracts.amqp import (
    Calls,
    Confirms,
    Connection,
    Delivery,
    Script,
    Subscription,
    advance,
    dead_letter,
    parameters,
    prepare,
    rpc_request,
)
from contracts.dead_letters import DeadLetters, Unreadable
from contracts.errors import NoReply, NotSent, from_wire
from contracts.inspection import Inspection, QueueState
from contracts.logs import logger

__all__ = ["BrokerClient", "Delivery", "Subscription"]

log = logger(__name__)

FIRST_RETRY_SECONDS = 0.2
LAST_RETRY_SECONDS = 5.0


class BrokerClient:
    """RPC, events and subscriptions over one connection that heals itself."""

    def __init__(self, uri: str, *, name: str, heartbeat: int, subscriptions: tuple[Subscription, ...] = ()) -> None:
        self._parameters = parameters(uri, name=name, heartbeat=heartbeat)
        self._name = name
        self._subscriptions = list(subscriptions)
        self._todo: deque[tuple[Callable[[], None], Callable[[Exception], None]]] = deque()
        self._calls = Calls()
        self._confirms = Confirms()
        self._dead_letters = DeadLetters(name)
        self._lock = threading.Lock()
        self._woken = False
        self._draining = False
        self._io_thread: int | None = None
        """The system's id of the I/O thread; under eventlet, of all threads."""
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._blocked = False
        self._connection: Connection | None = None
        self._plain: Channel | None = None
        self._confirmed: Channel | None = None
        self._reply_queue = ""
        self._last_error = "not connected yet"
        self._thread = threading.Thread(target=self._run, name=f"broker-{name}", daemon=True)

    # ---- what callers use, from any thread

    def subscribe(self, subscription: Subscription) -> None:
        """Add a subscription; only before `start`."""
        self._subscriptions.append(subscription)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def wait_ready(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds until everything is declared and subscribed."""
        return self._ready.wait(timeout)

    @property
    def ready(self) -> bool:
        """Whether requests can be sent at this moment."""
        return self._ready.is_set() and not self._blocked

    @property
    def trouble(self) -> str:
        """Why the client is not `ready`, as a clause."""
        if self._blocked:
            return "RabbitMQ blocks publishers (it is short of memory or disk)"
        return f"RabbitMQ is not reachable ({self._last_error})"

    def call(
        self,
        service: str,
        method: str,
        kwargs: dict[str, Any],
        *,
        timeout: float,
        expires: bool = True,
    ) -> Any:
        """Call ``service.method`` in Nameko's wire format and return its result.

        With *expires*, the request dies in its queue when the caller has given up after *timeout*
        seconds; without, it is persistent and will be served even if the caller is long gone.
        Raises what the other side raised, `NotSent` if nothing left this process, `NoReply` if
        it is unknown what became of the request.
        """
        if not self.ready:
            raise NotSent(f"{self.trouble}; nothing was sent.")
        correlation_id, future = self._calls.begin()
        body = codec.dumps({"args": [], "kwargs": kwargs})
        properties = rpc_request(correlation_id, timeout if expires else None)

        def send() -> None:
            if expires and not self._calls.waits(correlation_id):
                return  # given up while the connection was away: it must not take effect now
            if self._plain is None:
                self._calls.fail(correlation_id, NotSent(f"{self.trouble}; nothing was sent."))
                return
            properties.reply_to = self._reply_queue
            self._plain.basic_publish(topology.RPC_EXCHANGE, f"{service}.{method}", body, properties, mandatory=True)

        self._submit(send, lambda error: self._calls.fail(correlation_id, NotSent(f"{error}; nothing was sent.")))
        try:
            return future.result(timeout)
        except FutureTimeoutError:
            raise NoReply(f"{service}.{method} did not answer within {timeout:g} s.") from None
        finally:
            self._calls.forget(correlation_id)

    def send(self, exchange: str, key: str, body: bytes, properties: BasicProperties | None = None) -> None:
        """Publish and forget: for wake-ups and replies, whose loss is repaired elsewhere."""

        def publish() -> None:
            if self._plain is not None:
                self._plain.basic_publish(exchange, key, body, properties)

        self._submit(publish)

    def publish(
        self, exchange: str, key: str, body: bytes, properties: BasicProperties | None = None
    ) -> "Future[None]":
        """Publish with a publisher confirm: the future ends when the broker has the message.

        It fails with `contracts.errors.Unavailable` if the broker refuses or the connection breaks before.
        """
        future: Future[None] = Future()

        def publish() -> None:
            if self._confirmed is None:
                future.set_exception(NotSent())
                return
            self._confirms.begin(future)
            self._confirmed.basic_publish(exchange, key, body, properties)

        self._submit(publish, lambda _: None if future.done() else future.set_exception(NotSent()))
        return future

    def inspect(self, queues: Sequence[str], *, timeout: float) -> dict[str, QueueState]:
        """What the broker says of *queues*, without those that there are not; raises `NotSent` or `NoReply`."""
        if not self.ready:
            raise NotSent(f"{self.trouble}; nothing was asked.")
        inspection = Inspection(queues)
        self._submit(lambda: inspection.begin(self._connection))
        return inspection.result(timeout)

    def declare(self, queue: str, exchange: str, key: str, arguments: dict[str, Any]) -> None:
        """Declare a durable queue and bind it, before something is published to it."""

        def declare() -> None:
            if self._confirmed is not None:
                self._confirmed.queue_declare(queue, durable=True, arguments=arguments)
                self._confirmed.queue_bind(queue, exchange, key)

        self._submit(declare)

    def ack(self, delivery: Delivery) -> None:
        """Acknowledge; harmless if the connection that delivered it is gone (it will come again)."""

        def ack() -> None:
            if delivery.channel.is_open:
                delivery.channel.basic_ack(delivery.tag)

        self._submit(ack)

    def pause(self, subscription: Subscription) -> None:
        """Take no more messages; what is already on its way still arrives."""
        subscription.active = False
        self._submit(lambda: self._apply(subscription))

    def resume(self, subscription: Subscription) -> None:
        """Consume again."""
        subscription.active = True
        self._submit(lambda: self._apply(subscription))

    def close(self, timeout: float = 5.0) -> None:
        """Publish what is waiting, say goodbye, end the thread."""
        self._stopping.set()
        self._submit(self._say_goodbye)
        self._thread.join(timeout)

    # ---- the I/O thread

    def _submit(self, action: Callable[[], None], failed: Callable[[Exception], None] = lambda _: None) -> None:
        """Have *action* run in the I/O thread; *failed* hears of it if the connection is closing under it.

        Nobody needs to hear of a lost wake-up, reply or acknowledgement.
        """
        self._todo.append((action, failed))
        if threading.get_native_id() == self._io_thread:
            self._drain()  # pika yields nowhere but in its loop, so no other green thread is inside it
            return
        with self._lock:
            if self._woken or self._connection is None:
                return
            self._woken = True
            self._connection.ioloop.add_callback_threadsafe(self._drain)

    def _drain(self) -> None:
        with self._lock:
            self._woken = False
            connection = self._connection
        if self._draining:
            return  # called by one of the actions: its turn comes in the loop below
        self._draining = True
        if connection is not None:
            connection.hold()
        try:
            while self._todo:
                action, failed = self._todo.popleft()
                try:
                    action()
                except AMQPError as error:
                    failed(error)
        finally:
            self._draining = False
            if connection is not None:
                connection.let_go()

    def _run(self) -> None:
        delay = FIRST_RETRY_SECONDS
        self._io_thread = threading.get_native_id()
        while not self._stopping.is_set():
            try:
                connection = Connection(
                    self._parameters,
                    on_open_callback=lambda opened: advance(self._setup(opened)),
                    on_open_error_callback=self._on_closed,
                    on_close_callback=self._on_closed,
                )
                with self._lock:
                    self._connection, self._woken = connection, False
                connection.add_on_connection_blocked_callback(lambda *_: self._on_blocked(blocked=True))
                connection.add_on_connection_unblocked_callback(lambda *_: self._on_blocked(blocked=False))
                connection.ioloop.start()
            except Exception:
                log.exception(
                    "The connection to RabbitMQ broke unexpectedly.", action="broker_error", client=self._name
                )
            was_ready = self._ready.is_set()
            self._forget_connection()
            delay = FIRST_RETRY_SECONDS if was_ready else min(delay * 2, LAST_RETRY_SECONDS)
            self._stopping.wait(delay * random.uniform(0.5, 1.0))  # noqa: S311 -- jitter, not a secret
        self._drain()

    def _setup(self, connection: pika.SelectConnection) -> Script:
        plain = yield lambda done: connection.channel(on_open_callback=done)
        plain.add_on_close_callback(self._on_channel_closed)
        plain.add_on_return_callback(self._on_returned)
        for exchange, kind in topology.EXCHANGES:
            yield lambda done, e=exchange, k=kind: plain.exchange_declare(e, k, durable=True, callback=done)  # type: ignore[misc]
        reply_queue = f"rpc.reply-{self._name}-{uuid.uuid4()}"
        yield lambda done: plain.queue_declare(reply_queue, exclusive=True, auto_delete=True, callback=done)
        yield lambda done: plain.queue_bind(reply_queue, topology.RPC_EXCHANGE, reply_queue, callback=done)
        yield lambda done: plain.basic_consume(reply_queue, self._on_reply, auto_ack=True, callback=done)
        confirmed = yield lambda done: connection.channel(on_open_callback=done)
        confirmed.add_on_close_callback(self._on_channel_closed)
        yield lambda done: confirmed.confirm_delivery(self._confirms.settle, callback=done)
        yield lambda done: confirmed.queue_declare(
            topology.DEAD_LETTERS, durable=True, arguments=topology.dead_letter_arguments(), callback=done
        )
        for subscription in self._subscriptions:
            yield from prepare(subscription, connection, self._on_channel_closed)
        self._reply_queue, self._plain, self._confirmed = reply_queue, plain, confirmed
        for subscription in self._subscriptions:
            self._apply(subscription)
        self._last_error = ""
        self._ready.set()
        log.info("Connected to RabbitMQ.", action="broker_connected", client=self._name)
        for subscription in self._subscriptions:
            if subscription.on_ready:
                subscription.on_ready()
        self._drain()

    def _apply(self, subscription: Subscription) -> None:
        """Make the consumer what `Subscription.active` says."""
        channel = subscription.channel
        if channel is None or not channel.is_open:
            return
        if subscription.active and subscription.consumer_tag is None:

            def deliver(ch: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
                delivery = Delivery.of(ch, method, properties, body)
                try:
                    subscription.on_message(delivery)
                except Exception as error:  # noqa: BLE001 -- a message that breaks its consumer must not come again
                    copied = self._set_aside(error, subscription.declared, method, properties, body)
                    copied.add_done_callback(lambda _: self.ack(delivery))

            subscription.consumer_tag = channel.basic_consume(subscription.declared, deliver)
        elif not subscription.active and subscription.consumer_tag is not None:
            channel.basic_cancel(subscription.consumer_tag)
            subscription.consumer_tag = None

    def _set_aside(
        self, error: Exception, queue: str, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> "Future[None]":
        """Publish a dead letter (see `contracts.dead_letters`); the future ends when that is done."""
        origin = {"exchange": method.exchange, "routing_key": method.routing_key, "queue": queue}
        headers = self._dead_letters.headers(error, **origin)
        if headers is None:
            (enough := Future[None]()).set_result(None)
            return enough
        return self.publish("", topology.DEAD_LETTERS, body, dead_letter(properties, headers))

    def _on_reply(self, _channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        try:
            reply = codec.loads(body)
            if reply["error"]:
                self._calls.fail(properties.correlation_id, from_wire(reply["error"]))
            else:
                self._calls.reply(properties.correlation_id, reply["result"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._set_aside(Unreadable(f"no reply: {error!r}"), self._reply_queue, method, properties, body)

    def _on_returned(self, _channel: Channel, method: Basic.Return, properties: BasicProperties, _body: bytes) -> None:
        """Nobody has ever declared the queue: the service has not been started yet."""
        if properties.correlation_id:
            error = NotSent(f"Nothing serves {method.routing_key} yet; nothing was sent.")
            self._calls.fail(properties.correlation_id, error)

    def _on_blocked(self, *, blocked: bool) -> None:
        self._blocked = blocked
        log.warning("RabbitMQ blocks or unblocks publishers.", action="broker_blocked", blocked=blocked)

    def _on_channel_closed(self, channel: Channel, reason: Exception) -> None:
        """A closed channel means a declaration that clashes or a broker in trouble: start afresh."""
        if channel.connection.is_open:
            log.error("RabbitMQ closed a channel.", action="channel_closed", client=self._name, reason=str(reason))
            self._ready.clear()
            channel.connection.close()

    def _on_closed(self, connection: pika.SelectConnection, reason: Exception) -> None:
        error = str(reason) or repr(reason)
        if not self._stopping.is_set() and error != self._last_error:  # an outage is one line, not one per try
            log.warning("No connection to RabbitMQ.", action="broker_lost", client=self._name, reason=error)
        self._last_error = error
        connection.ioloop.stop()

    def _forget_connection(self) -> None:
        self._ready.clear()
        with self._lock:
            connection, self._connection = self._connection, None
        self._plain = self._confirmed = None
        self._blocked = False
        for subscription in self._subscriptions:
            subscription.channel = subscription.consumer_tag = None
        self._calls.fail_all(lambda: NoReply("The connection to RabbitMQ broke before the answer came."))
        self._confirms.fail_all()
        self._drain()
        if connection is not None:
            connection.ioloop.close()

    def _say_goodbye(self) -> None:
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
