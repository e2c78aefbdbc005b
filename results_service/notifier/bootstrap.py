"""Wires the notifier: settings in, a send loop out."""

import threading
from dataclasses import dataclass
from email.utils import parseaddr

from contracts.clock import Clock, SystemClock
from results_service.ledger.database import Database
from results_service.notifier.courier import Courier
from results_service.notifier.loop import SendLoop
from results_service.notifier.mail import MailRenderer
from results_service.notifier.outbox import Outbox
from results_service.notifier.patient_outbox import PatientOutbox
from results_service.notifier.settings import NotifierSettings
from results_service.notifier.smtp import SmtpSender
from results_service.notifier.smtp_uri import SmtpServer


@dataclass(frozen=True, kw_only=True, slots=True)
class Notifier:
    """What runs, and what has to be closed after it."""

    loop: SendLoop
    database: Database


def bootstrap(settings: NotifierSettings, clock: Clock | None = None) -> Notifier:
    """Build everything; connects to nothing yet."""
    clock = clock or SystemClock()
    stopping = threading.Event()
    database = Database(
        settings.mongodb_uri.get_secret_value(), settings.database, timeout_seconds=settings.outbox_timeout_seconds
    )
    outbox = Outbox(database.jobs, lease_seconds=settings.mail_lease_seconds, clock=clock)
    courier = Courier(
        outbox=PatientOutbox(outbox, clock=clock, stopping=stopping),
        render=MailRenderer(sender=settings.mail_from, public_url=settings.public_url, clock=clock).render,
        sender=SmtpSender(
            SmtpServer.parse(settings.smtp_uri.get_secret_value()),
            sender=parseaddr(settings.mail_from)[1],
            timeout_seconds=settings.smtp_timeout,
            data_timeout_seconds=settings.smtp_data_timeout,
            clock=clock,
        ),
        settings=settings,
        clock=clock,
        stopping=stopping,
    )
    return Notifier(loop=SendLoop(courier, clock=clock, stopping=stopping), database=database)
