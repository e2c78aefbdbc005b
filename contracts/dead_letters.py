"""Messages that their consumer cannot read: set aside in a queue of their own, for a person to look at.

The consumer publishes a copy to `contracts.topology.DEAD_LETTERS` and acknowledges the original, so
that one bad message is neither lost without a trace nor delivered for ever. The copy has the body as
it came; its headers say why and where from.
"""

from typing import TypeVar

from contracts import codec, topology
from contracts.clock import Clock, SystemClock, rfc3339
from contracts.logs import logger
from contracts.messages import Message

log = logger(__name__)

M = TypeVar("M", bound=Message)

MAX_REASON = 300
"""Characters."""
WINDOW_SECONDS = 60.0
"""However much garbage comes: one consumer says so once in this time, and sets aside no more than the
queue holds. What goes beyond that would only push out the same from before, and costs the others."""


class Unreadable(Exception):
    """A message that its consumer cannot read; the sentence says why."""


def read(kind: type[M], body: bytes) -> M:
    """*body* as a message of *kind*; raises `Unreadable`."""
    try:
        return kind.model_validate(codec.loads(body))
    except ValueError as error:
        raise Unreadable(f"no {kind.__name__}: {error}") from None


class DeadLetters:
    """Decides about one consumer's dead letters, and says in the log that there are some."""

    def __init__(self, consumer: str, clock: Clock | None = None) -> None:
        self._consumer = consumer
        self._clock = clock or SystemClock()
        self._window_began = float("-inf")
        self._count = 0
        """In this window."""

    def headers(self, error: Exception, *, exchange: str, routing_key: str, queue: str) -> dict[str, str] | None:
        """The headers of one dead letter, over which its consumer raised *error*; to be called once for each.

        None if there are too many of them: then the message is only to be acknowledged.
        """
        foreseen = isinstance(error, Unreadable)
        reason = (str(error) if foreseen else repr(error))[:MAX_REASON]
        now = self._clock.monotonic()
        if now - self._window_began >= WINDOW_SECONDS:
            log.warning(
                "A message that cannot be read was set aside.",
                action="dead_letter",
                reason=reason,
                queue=queue,
                routing_key=routing_key,
                in_last_window=self._count,
                exc_info=None if foreseen else error,
            )
            self._window_began, self._count = now, 0
        self._count += 1
        if self._count > topology.DEAD_LETTER_BOUND:
            return None
        return {
            "reason": reason,
            "exchange": exchange,
            "routing_key": routing_key,
            "queue": queue,
            "consumer": self._consumer,
            "time": rfc3339(self._clock.now()),
        }
