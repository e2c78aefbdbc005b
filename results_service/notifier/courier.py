"""One pass over what is due: lease, render, send, write down. The decisions of the notifier."""

import threading
from collections.abc import Callable
from email.message import EmailMessage
from typing import Protocol

from contracts.clock import Clock
from contracts.logs import logger
from contracts.status import NotificationState
from results_service.notifier.allow_list import AllowList
from results_service.notifier.backoff import backoff
from results_service.notifier.mail import envelope_address
from results_service.notifier.outage import Outage
from results_service.notifier.outbox import Lease
from results_service.notifier.patient_outbox import PatientOutbox
from results_service.notifier.settings import LEASE_MARGIN_SECONDS, NotifierSettings
from results_service.notifier.smtp import Refused, RefusedForNow, ServerAway

log = logger(__name__)

FIRST_PROBE_SECONDS = 1.0
type_of_render = Callable[[Lease], EmailMessage]


class Sender(Protocol):
    """What the courier needs of `smtp.SmtpSender`."""

    def send(self, mail: EmailMessage, *, to: str, data_before: float) -> None:
        """See `smtp.SmtpSender.send`."""

    def close(self) -> None:
        """See `smtp.SmtpSender.close`."""


class Courier:
    """Takes what is due from the outbox to the mail server, one mail after the other."""

    def __init__(  # noqa: PLR0913 -- what it is wired to, by name
        self,
        *,
        outbox: PatientOutbox,
        render: type_of_render,
        sender: Sender,
        settings: NotifierSettings,
        clock: Clock,
        stopping: threading.Event,
    ) -> None:
        self._outbox = outbox
        self._render = render
        self._sender = sender
        self._settings = settings
        self._clock = clock
        self._stopping = stopping
        self._allowed = AllowList.parse(settings.mail_allow)
        self._smtp = Outage("The mail server", clock)
        self._probe_at = 0.0

    def deliver_due(self) -> float:
        """Deliver at most one batch; answers the seconds until the next look is worth while.

        Raises `PyMongoError` when MongoDB is away. What goes wrong with mails or with the mail
        server is written into the outbox instead.
        """
        try:
            for _ in range(self._settings.mail_batch):
                if self._stopping.is_set():
                    return 0.0
                if (pause := self._probe_at - self._clock.monotonic()) > 0:
                    return min(pause, self._settings.mail_poll_seconds)
                lease = self._outbox.lease()
                if lease is None:
                    return self._outbox.seconds_until_next_due(self._settings.mail_poll_seconds)
                self._deliver(lease)
        finally:
            self._sender.close()
        return 0.0

    def _deliver(self, lease: Lease) -> None:
        if not self._allowed.allows(lease.to):
            self._settle(lease, NotificationState.SUPPRESSED, "the recipient is not on the allow-list")
            return
        try:
            to = envelope_address(lease.to)
        except ValueError:
            self._settle(lease, NotificationState.FAILED, "the recipient is not an e-mail address")
            return
        data_before = (
            lease.since + self._settings.mail_lease_seconds - self._settings.smtp_data_timeout - LEASE_MARGIN_SECONDS
        )
        try:
            self._sender.send(self._render(lease), to=to, data_before=data_before)
        except Refused as refusal:
            self._smtp.up()
            self._settle(lease, NotificationState.FAILED, str(refusal))
        except RefusedForNow as refusal:
            self._smtp.up()
            self._try_later(lease, str(refusal))
        except ServerAway as trouble:
            self._smtp.down(str(trouble))
            pause = backoff(self._smtp.failures, first=FIRST_PROBE_SECONDS, last=self._settings.smtp_probe_seconds)
            self._probe_at = self._clock.monotonic() + pause
            self._outbox.put_back(
                lease, seconds=max(pause, self._settings.mail_backoff_first), reason=str(trouble), counted=False
            )
        except Exception as error:  # a document that cannot be rendered must not hold up the others
            log.exception("A mail could not be made.", action="mail_broken", pid=lease.pid, on=lease.on)
            self._try_later(lease, f"{type(error).__name__} while the mail was made")
        else:
            self._smtp.up()
            self._settle(lease, NotificationState.SENT, None)

    def _try_later(self, lease: Lease, reason: str) -> None:
        settings = self._settings
        if lease.tries >= settings.mail_max_tries:
            self._settle(lease, NotificationState.FAILED, reason)
            return
        pause = backoff(lease.tries, first=settings.mail_backoff_first, last=settings.mail_backoff_last)
        self._outbox.put_back(lease, seconds=pause, reason=reason, counted=True)
        log.info(
            "A mail is tried again later.",
            action="mail_put_back",
            pid=lease.pid,
            on=lease.on,
            tries=lease.tries,
            seconds=round(pause, 1),
            reason=reason,
        )

    def _settle(self, lease: Lease, state: NotificationState, reason: str | None) -> None:
        if self._outbox.settle(lease, state, reason):
            log.info(
                "A mail is settled.",
                action=f"mail_{state}",
                pid=lease.pid,
                on=lease.on,
                tries=lease.tries,
                reason=reason,
            )
