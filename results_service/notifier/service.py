"""The Nameko service: ``nameko run --config results_service/notifier/config.yaml results_service.notifier.service``."""

import logging

from contracts import logs
from contracts.settings import load
from contracts.topology import NOTIFICATION_DUE, RESULTS_SERVICE
from results_service.notifier.settings import NotifierSettings
from results_service.notifier.wakeup import SendLoopProvider, wake_up_on

_settings = load(NotifierSettings)
logs.configure(level=_settings.log_level, fmt=_settings.log_format, service="notifier")
logging.getLogger("kombu.mixins").setLevel(logging.ERROR)  # an outage of the broker is logged once, by us


class NotifierService:
    """Sends the mail that is due."""

    name = "notifier"

    send_loop = SendLoopProvider()

    @wake_up_on(RESULTS_SERVICE, NOTIFICATION_DUE)
    def on_notification_due(self, _event: object) -> None:
        """A job may have mail that is due. What the event says does not matter: the outbox knows."""
        self.send_loop.wake()
