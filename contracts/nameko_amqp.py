"""Nameko's own consumers, made safe against what they cannot read, and back soon after an outage.

Only for services that run under Nameko. As they are, a body that is no JSON is dropped and logged whole, and a request without ``reply_to``
or with another content type ends the process, which the broker then hands to the next one. Here
both are set aside like everything else that cannot be read (`contracts.dead_letters`).

How often to connect again Nameko leaves to kombu: 2 seconds more after every failure, up to 30. After a
minute without a broker nobody would be served for another quarter of a minute.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol

from kombu.entity import Queue
from kombu.message import Message
from kombu.messaging import Producer
from nameko.constants import DEFAULT_HEARTBEAT, HEARTBEAT_CONFIG_KEY
from nameko.messaging import QueueConsumer
from nameko.rpc import Rpc, RpcConsumer

from contracts import topology
from contracts.amqp import PERSISTENT
from contracts.dead_letters import DeadLetters, Unreadable

JSON = "application/json"
BYTES = "application/octet-stream"
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 5.0


class Provider(Protocol):
    """An entrypoint, or what stands for several, of `CarefulQueueConsumer`."""

    queue: Queue

    def check(self, body: object, message: Message) -> None:
        """Raise `Unreadable` if the message must not get further."""


class _StoppedWaitingError(Exception):
    """The service stops while there is no broker."""


class CarefulQueueConsumer(QueueConsumer):
    """Sets aside what cannot be decoded and what its provider's `Provider.check` refuses.

    Never waits longer than `LAST_RETRY_SECONDS` between two tries to connect, and not at all for a broker
    that it would only need in order to stop.
    """

    def setup(self) -> None:
        """Nameko: the container is known now."""
        self._dead_letters = DeadLetters(self.container.service_name)
        super().setup()

    def run(self, _tokens: int = 1, **kwargs: Any) -> None:
        """Nameko: consume until stopped."""
        with suppress(_StoppedWaitingError):
            super().run(_tokens, **kwargs)

    @contextmanager
    def establish_connection(self) -> Iterator[Any]:
        """Called by kombu whenever it needs a connection; comes back with one that is open."""
        with self.create_connection() as connection:
            connection.ensure_connection(
                self.on_connection_error,
                self.connect_max_retries,
                interval_start=FIRST_RETRY_SECONDS,
                interval_step=FIRST_RETRY_SECONDS,
                interval_max=LAST_RETRY_SECONDS,
                callback=self._leave_if_stopping,
            )
            yield connection

    def _leave_if_stopping(self) -> None:
        """Called by kombu every second without a connection; Nameko looks whom to let go only with one."""
        leaving: dict[Any, Any] = dict(self._pending_remove_providers)
        self._pending_remove_providers.clear()
        for provider, left in leaving.items():
            self._consumers.pop(provider, None)
            left.send()
        if leaving and not self._consumers:
            self.should_stop = True
        if self.should_stop:
            raise _StoppedWaitingError

    def consume(
        self, limit: int | None = None, timeout: float | None = None, safety_interval: float = 1.0, **kwargs: Any
    ) -> Iterator[None]:
        """Called by kombu, which looks after the heartbeat only when nothing came for *safety_interval* seconds.

        The server's own heartbeats come twice in their interval and count as something.
        """
        heartbeat = self.container.config.get(HEARTBEAT_CONFIG_KEY, DEFAULT_HEARTBEAT)
        pause = min(safety_interval, heartbeat / 4)
        consumed: Iterator[None] = super().consume(limit, timeout, pause, **kwargs)
        return consumed

    def on_consume_ready(self, connection: Any, channel: Any, consumers: Any, **kwargs: Any) -> None:
        """Called by kombu when messages can come (again)."""
        Queue(
            topology.DEAD_LETTERS, durable=True, queue_arguments=topology.dead_letter_arguments(), channel=channel
        ).declare()
        super().on_consume_ready(connection, channel, consumers, **kwargs)

    def get_consumers(self, consumer_cls: Any, channel: Any) -> Any:
        """Called by kombu for each connection."""
        consumers = super().get_consumers(consumer_cls, channel)
        for provider, consumer in self._consumers.items():
            consumer.on_decode_error = partial(self._undecodable, provider)
        return consumers

    def _undecodable(self, provider: Provider, message: Message, error: Exception) -> None:
        """Called by kombu for a body that is not what its content type says."""
        self._set_aside(message, provider.queue.name, Unreadable(f"cannot be decoded: {error}"))

    def handle_message(self, provider: Provider, body: object, message: Message) -> None:
        """Called by kombu for each message, in the thread of the connection."""
        try:
            provider.check(body, message)
        except Unreadable as error:
            refusal = error
        else:
            super().handle_message(provider, body, message)
            return
        self._set_aside(message, provider.queue.name, refusal)

    def _set_aside(self, message: Message, queue: str, error: Unreadable) -> None:
        """Publish a copy on the channel it came by; what breaks the connection brings it back anew."""
        origin = message.delivery_info
        headers = self._dead_letters.headers(
            error, exchange=origin["exchange"], routing_key=origin["routing_key"], queue=queue
        )
        if headers is not None:
            Producer(message.channel).publish(
                message.body or b"",  # an empty one comes as text
                exchange="",
                routing_key=topology.DEAD_LETTERS,
                content_type=message.content_type or BYTES,
                content_encoding=message.content_encoding or "binary",
                delivery_mode=PERSISTENT,
                headers=headers,
            )
        self.ack_message(message)


class CarefulRpcConsumer(RpcConsumer):
    """Hands on only what can be answered."""

    queue_consumer = CarefulQueueConsumer()

    def check(self, body: object, message: Message) -> None:
        """See `Provider.check`."""
        if message.content_type != JSON:
            raise Unreadable(f"no request: its content type is {message.content_type}, not {JSON}")
        if not message.properties.get("reply_to"):
            raise Unreadable("no request: it does not say where the reply goes")
        if not (isinstance(body, dict) and isinstance(body.get("args"), list) and isinstance(body.get("kwargs"), dict)):
            raise Unreadable("no request: its body is not an object with args and kwargs")


class CarefulRpc(Rpc):
    """Nameko's RPC entrypoint on these consumers."""

    rpc_consumer = CarefulRpcConsumer()


rpc = CarefulRpc.decorator
"""Decorates a service method, as ``nameko.rpc.rpc`` does."""
