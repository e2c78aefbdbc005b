"""The Nameko service: ``nameko run --config results_service/notifier/config.yaml results_service.notifier.service``."""

from typing import Any

from nameko.extensions import DependencyProvider

from contracts import logs
from contracts.logs import logger
from contracts.settings import load
from contracts.topology import NOTIFICATION_DUE, RESULTS_SERVICE
from results_service.notifier.bootstrap import Notifier, bootstrap
from results_service.notifier.loop import SendLoop
from results_service.notifier.settings import NotifierSettings
from results_service.notifier.wakeup import wake_up_on

_settings = load(NotifierSettings)
logs.configure(level=_settings.log_level, fmt=_settings.log_format, service="notifier")
log = logger(__name__)

STOP_SECONDS = 10.0
"""How long SIGTERM waits for the mail under way."""


class SendLoopProvider(DependencyProvider):
    """Runs the send loop in a green thread of the container."""

    notifier: Notifier

    def setup(self) -> None:
        """Wire everything; nothing is contacted yet."""
        self.notifier = bootstrap(_settings)

    def start(self) -> None:
        """Start to deliver, whether the broker is there or not."""
        self.container.spawn_managed_thread(self.notifier.loop.run, identifier="send_loop")
        log.info("The notifier runs.", action="notifier_started")

    def stop(self) -> None:
        """Finish the mail under way."""
        if not self.notifier.loop.stop(STOP_SECONDS):
            log.warning("The mail under way was not finished; it is sent again later.", action="mail_abandoned")
        self.notifier.database.close()
        log.info("The notifier has stopped.", action="notifier_stopped")

    def get_dependency(self, worker_ctx: Any) -> SendLoop:  # noqa: ARG002 -- nameko's signature
        """The loop, to be woken."""
        return self.notifier.loop


class NotifierService:
    """Sends the mail that is due."""

    name = "notifier"

    send_loop = SendLoopProvider()

    @wake_up_on(RESULTS_SERVICE, NOTIFICATION_DUE)
    def on_notification_due(self, _event: object) -> None:
        """A job may have mail that is due. What the event says does not matter: the outbox knows."""
        self.send_loop.wake()
