"""The notifier's settings."""

from email.headerregistry import Address
from email.utils import parseaddr
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from contracts.settings import ServiceSettings
from results_service.notifier.allow_list import AllowList
from results_service.notifier.smtp_uri import SmtpServer

LEASE_MARGIN_SECONDS = 5.0
"""What stays of a lease, at the least, for writing down the outcome."""


class NotifierSettings(ServiceSettings):
    """What the notifier reads. Durations are seconds."""

    mongodb_uri: SecretStr = Field(default=SecretStr("mongodb://127.0.0.1:27017/?replicaSet=rs0"))
    """MongoDB, a replica set. With its password, so it never appears in a log."""
    database: str = Field(default="coatcheck", min_length=1, max_length=63)
    """The database with the collection ``jobs``."""
    outbox_timeout_seconds: float = Field(default=5.0, gt=0, le=60)
    """Seconds after which one operation on MongoDB counts as failed."""

    smtp_uri: SecretStr = Field(default=SecretStr("smtp://127.0.0.1:25"))
    """The mail server: ``smtp://[user:password@]host[:port]`` or ``smtps://…``, and ``?starttls=`` one of
    ``required`` (default with a password; the certificate is verified), ``offered`` (default without: encrypted
    if the server can, as mail servers among themselves), ``never``."""
    smtp_timeout: float = Field(default=15.0, gt=0, le=300)
    """Seconds the mail server may take to connect or to answer one command."""
    smtp_data_timeout: float = Field(default=60.0, gt=0, le=600)
    """Seconds the mail server may take to accept a mail that it has read to the end. Longer means fewer doubles
    (RFC 5321, section 4.5.3.2.6)."""
    smtp_probe_seconds: float = Field(default=60.0, gt=0, le=900)
    """Longest pause between two tries to reach a mail server that is away."""

    mail_from: str = "Coatcheck <coatcheck@localhost>"
    """Sender of every mail, ``Name <address>`` or the address alone."""
    mail_allow: str = ""
    """Who may get mail: comma separated addresses, ``@domain``, or ``*`` for everyone. Empty: nobody."""
    public_url: str = "http://127.0.0.1:8000"
    """Where readers of a mail reach the gateway; links begin with it."""

    mail_backoff_first: float = Field(default=15.0, gt=0, le=900)
    """Seconds until the second try, when the server refuses a recipient for the time being; doubles from there."""
    mail_backoff_last: float = Field(default=900.0, gt=0, le=86400)
    """Longest wait between two tries for one recipient."""
    mail_max_tries: int = Field(default=500, ge=1, le=100_000)
    """Tries after which a mail that is refused for the time being is given up. 500 are about five days (RFC 5321,
    section 4.5.4.1). A mail server that is away uses up none."""
    mail_lease_seconds: float = Field(default=120.0, gt=0, le=3600)
    """How long one notifier has a mail to itself; another takes over when it died. Clocks of notifiers must agree
    better than this."""
    mail_poll_seconds: float = Field(default=30.0, gt=0, le=3600)
    """Longest time between two looks into the outbox; wake-ups come in between."""
    mail_batch: int = Field(default=50, ge=1, le=10_000)
    """Mails sent before the loop looks up: the most that go over one SMTP connection."""

    @field_validator("smtp_uri")
    @classmethod
    def _is_smtp_uri(cls, value: SecretStr) -> SecretStr:
        SmtpServer.parse(value.get_secret_value())
        return value

    @field_validator("mail_allow")
    @classmethod
    def _is_allow_list(cls, value: str) -> str:
        AllowList.parse(value)
        return value

    @field_validator("mail_from")
    @classmethod
    def _is_sender(cls, value: str) -> str:
        name, address = parseaddr(value)
        if not address.isascii() or "@" not in address or not value.isprintable():
            raise ValueError("is not of the form Name <address>, with an ASCII address")
        Address(name, addr_spec=address)
        return value

    @field_validator("public_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("is not an http:// or https:// URL without query")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _lease_is_long_enough(self) -> Self:
        needed = self.smtp_data_timeout + 2 * self.smtp_timeout + LEASE_MARGIN_SECONDS
        if self.mail_lease_seconds < needed:
            raise ValueError(
                f"MAIL_LEASE_SECONDS must be at least SMTP_DATA_TIMEOUT + 2 * SMTP_TIMEOUT + "
                f"{LEASE_MARGIN_SECONDS:g} = {needed:g}, so that nobody else sends what is being sent"
            )
        return self
