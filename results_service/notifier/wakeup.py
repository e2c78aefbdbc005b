"""The send loop as part of a Nameko container, and the entrypoint that wakes it."""

import contextlib
from typing import Any

from eventlet import Timeout, spawn
from eventlet.greenthread import GreenThread
from eventlet.support.greenlets import GreenletExit
from nameko.events import SERVICE_POOL, EventHandler
from nameko.extensions import DependencyProvider, SharedExtension
from nameko.messaging import QueueConsumerStopped

from contracts.clock import SystemClock
from contracts.dead_letters import read
from contracts.logs import logger
from contracts.messages import NotificationDue
from contracts.nameko_amqp import CarefulQueueConsumer
from contracts.settings import load
from results_service.notifier.bootstrap import Notifier, bootstrap
from results_service.notifier.loop import SendLoop
from results_service.notifier.outage import Outage
from results_service.notifier.settings import NotifierSettings

log = logger(__name__)

MAX_WAITING_EVENTS = 16
"""Events kept for notifiers that are away; one says as much as a hundred, and the sweep needs none."""
GOODBYE_SECONDS = 2.0
STOP_SECONDS = 10.0
"""How long SIGTERM waits for the mail under way."""


class PatientQueueConsumer(CarefulQueueConsumer):
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
        log.info("Connected to RabbitMQ.", action="broker_connected")
        super().on_consume_ready(connection, channel, consumers, **kwargs)

    def unregister_provider(self, provider: EventHandler) -> None:
        """Stop consuming at once: a wake-up that is lost costs nothing, and nothing waits for the broker."""
        if not self._consumers_ready.ready():
            self._consumers_ready.send_exception(QueueConsumerStopped())
        self._providers.discard(provider)
        self._last_provider_unregistered.send()
        if self._gt is not None:
            spawn(self._gt.kill)

    def stop(self) -> None:
        """Wait until the connection is closed, but not for ever."""
        with Timeout(GOODBYE_SECONDS, False), contextlib.suppress(GreenletExit):  # noqa: FBT003 -- do not raise
            super().stop()

    def _handle_thread_exited(self, gt: GreenThread) -> None:
        with contextlib.suppress(GreenletExit):
            super()._handle_thread_exited(gt)


class RunningLoop(SharedExtension):
    """The send loop in a green thread of the container; the entrypoint and the dependency share it."""

    notifier: Notifier

    def setup(self) -> None:
        """Wire everything; nothing is contacted yet."""
        self.notifier = bootstrap(load(NotifierSettings))

    def start(self) -> None:
        """Start to deliver, whether the broker is there or not."""
        self.container.spawn_managed_thread(self.notifier.loop.run, identifier="send_loop")
        log.info("The notifier runs.", action="notifier_started")

    def stop(self) -> None:
        """Finish the mail under way. Nameko calls this after the entrypoints have stopped."""
        if not self.notifier.loop.wait_ended(STOP_SECONDS):
            log.warning("The mail under way was not finished; it is sent again later.", action="mail_abandoned")
        self.notifier.database.close()
        log.info("The notifier has stopped.", action="notifier_stopped")


class SendLoopProvider(DependencyProvider):
    """Gives the service the loop."""

    running = RunningLoop()

    def get_dependency(self, worker_ctx: Any) -> SendLoop:  # noqa: ARG002 -- nameko's signature
        """The loop, to be woken."""
        return self.running.notifier.loop


class WakeUp(EventHandler):
    """One event wakes one notifier of those that run. The queue is bounded; its oldest go first."""

    queue_consumer = PatientQueueConsumer()
    running = RunningLoop()

    def __init__(self, source_service: str, event_type: str, **kwargs: Any) -> None:
        super().__init__(source_service, event_type, handler_type=SERVICE_POOL, **kwargs)

    def setup(self) -> None:
        """Build the queue's declaration."""
        super().setup()
        self.queue.max_length = MAX_WAITING_EVENTS

    def check(self, _body: object, message: Any) -> None:
        """Called for each event before it wakes anybody; raises `contracts.dead_letters.Unreadable`."""
        read(NotificationDue, message.body)

    def stop(self) -> None:
        """The first that Nameko calls on SIGTERM: begin no more mail, hear no more events."""
        self.running.notifier.loop.wind_down()
        super().stop()


wake_up_on = WakeUp.decorator
