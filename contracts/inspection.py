"""Looking at queues without touching them: how many messages wait, how many consumers listen."""

from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass

import pika
from pika.channel import Channel
from pika.exceptions import AMQPError

from contracts.errors import NoReply

NOT_FOUND = 404


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueState:
    """What the broker says of one queue."""

    messages: int
    """Those that nobody has been given yet."""
    consumers: int


class Inspection:
    """Asks for one queue after the other, on a channel of its own: asking for one that is not there closes it."""

    def __init__(self, queues: Sequence[str]) -> None:
        self._left = list(queues)
        self._states: dict[str, QueueState] = {}
        self._found: Future[dict[str, QueueState]] = Future()

    def result(self, timeout: float) -> dict[str, QueueState]:
        """The queues that there are; raises `NoReply` after *timeout* seconds, or when the connection breaks."""
        try:
            return self._found.result(timeout)
        except (FutureTimeoutError, AMQPError):
            raise NoReply("RabbitMQ did not say in time what is in its queues.") from None
        finally:
            self._found.cancel()

    def begin(self, connection: pika.SelectConnection | None) -> None:
        """In the I/O thread: ask, unless the caller has given up meanwhile."""
        if connection is not None and connection.is_open and self._found.set_running_or_notify_cancel():
            self._open(connection)

    def _open(self, connection: pika.SelectConnection) -> None:
        connection.channel(on_open_callback=self._opened)

    def _opened(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._closed)
        self._next(channel)

    def _next(self, channel: Channel) -> None:
        if self._left:
            channel.queue_declare(self._left[0], passive=True, callback=lambda frame: self._heard(channel, frame))
        else:
            channel.close()

    def _heard(self, channel: Channel, frame: pika.frame.Method) -> None:
        answer = frame.method
        self._states[self._left.pop(0)] = QueueState(messages=answer.message_count, consumers=answer.consumer_count)
        self._next(channel)

    def _closed(self, channel: Channel, reason: Exception) -> None:
        if not self._left:
            self._found.set_result(self._states)
        elif getattr(reason, "reply_code", None) == NOT_FOUND and channel.connection.is_open:
            self._left.pop(0)
            self._open(channel.connection)
        else:
            self._found.set_exception(reason)
