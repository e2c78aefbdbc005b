"""The entrypoint that turns an event into a wake-up, whatever state the broker is in."""

from typing import Any

from eventlet import Timeout
from eventlet.greenthread import GreenThread
from eventlet.support.greenlets import GreenletExit
from nameko.events import SERVICE_POOL, EventHandler
from nameko.messaging import QueueConsumer

from contracts.clock import SystemClock
from results_service.notifier.outage import Outage

MAX_WAITING_EVENTS = 16
"""Events kept for notifiers that are away; one says as much as a hundred, and the sweep needs none."""
GOODBYE_SECONDS = 2.0


class PatientQueueConsumer(QueueConsumer):
    """Nameko's consumer, which can also be stopped while the broker is away, and logs an outage once."""

    def __init__(self) -> None:
        super().__init__()
        self._outage = Outage("RabbitMQ", SystemClock())
        self._gt: GreenThread | None

    def on_connection_error(self, exc: Exception, interval: float) -> None:  # noqa: ARG002 -- kombu's signature
        """Called by kombu before each further try to connect."""
        self._outage.down(str(exc))

    def on_consume_ready(self, connection: Any, channel: Any, consumers: Any, **kwargs: Any) -> None:
        """Called by kombu when messages can come (again)."""
        self._outage.up()
        super().on_consume_ready(connection, channel, consumers, **kwargs)

    def unregister_provider(self, provider: EventHandler) -> None:
        """Stop consuming. Without a connection nothing is left to cancel, so that is not waited for."""
        with Timeout(GOODBYE_SECONDS, False):  # noqa: FBT003 -- eventlet's way to say "do not raise"
            super().unregister_provider(provider)
            return
        self._providers.discard(provider)
        self._last_provider_unregistered.send()
        if self._gt is not None:
            self._gt.kill()

    def stop(self) -> None:
        """End the consumer's thread."""
        try:
            super().stop()
        except GreenletExit:
            return


class WakeUp(EventHandler):
    """One event wakes one notifier of those that run. The queue is bounded; its oldest go first."""

    queue_consumer = PatientQueueConsumer()

    def __init__(self, source_service: str, event_type: str, **kwargs: Any) -> None:
        super().__init__(source_service, event_type, handler_type=SERVICE_POOL, **kwargs)

    def setup(self) -> None:
        """Build the queue's declaration."""
        super().setup()
        self.queue.max_length = MAX_WAITING_EVENTS


wake_up_on = WakeUp.decorator
