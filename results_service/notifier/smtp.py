"""Hands mails to the mail server, over one connection while there is something to send."""

import contextlib
import smtplib
import socket
import ssl
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from typing import Never

from contracts.clock import Clock
from contracts.errors import CoatcheckError, Unavailable
from results_service.notifier.smtp_uri import SmtpServer

OK = 250
OK_AND_FORWARDED = 251
GOING_DOWN = 421
GOODBYE_SECONDS = 2.0

_PERMANENT = range(500, 600)


class Refused(CoatcheckError):
    """The mail server will never take this mail."""


class RefusedForNow(CoatcheckError):
    """The mail server does not take this mail yet; it is worth another try."""


class ServerAway(Unavailable):
    """The mail server cannot be used by anybody at the moment; no fault of this mail."""


class SmtpSender:
    """A connection to the mail server that is opened when needed. Not safe for several threads."""

    def __init__(
        self, server: SmtpServer, *, sender: str, timeout_seconds: float, data_timeout_seconds: float, clock: Clock
    ) -> None:
        self._server = server
        self._sender = sender
        self._timeout = timeout_seconds
        self._data_timeout = data_timeout_seconds
        self._clock = clock
        self._connection: smtplib.SMTP | None = None

    def send(self, mail: EmailMessage, *, to: str, data_before: float) -> None:
        """Return when the server has accepted *mail* for *to*.

        The mail itself is not sent after *data_before* on the monotonic clock. Raises `Refused`,
        `RefusedForNow`, or `ServerAway`; after the last one it can be that the server has accepted
        the mail and its answer was lost.
        """
        with self._trouble_means_away():
            connection = self._ready_connection()
            self._check(connection.mail(self._sender, self._options(to)), of_recipient=False)
            self._check(connection.rcpt(to), of_recipient=True)
            if self._clock.monotonic() > data_before:
                raise ServerAway("the server was so slow that the lease on the mail has nearly run out")
            self._wait_at_most(connection, self._data_timeout)
            try:
                answer = connection.data(mail.as_bytes(policy=SMTP.clone(utf8=not to.isascii())))
            except smtplib.SMTPDataError as error:
                answer = error.smtp_code, _bytes(error.smtp_error)
            self._wait_at_most(connection, self._timeout)
            self._check(answer, of_recipient=True)

    def close(self) -> None:
        """Say goodbye, if there is a connection. Never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._wait_at_most(connection, GOODBYE_SECONDS)
                connection.quit()
            connection.close()

    @contextlib.contextmanager
    def _trouble_means_away(self) -> Iterator[None]:
        try:
            yield
        except (Refused, RefusedForNow):
            raise
        except ServerAway:
            self.close()
            raise
        except smtplib.SMTPResponseException as error:
            self.close()
            raise ServerAway(_sentence(error.smtp_code, _bytes(error.smtp_error))) from error
        except (OSError, smtplib.SMTPException) as error:
            self.close()
            raise ServerAway(f"{type(error).__name__}: {error}") from error

    def _ready_connection(self) -> smtplib.SMTP:
        """The open connection if it still works, else a new one."""
        if self._connection is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                if self._connection.rset()[0] == OK:
                    return self._connection
            self.close()
        self._connection = self._connect()
        return self._connection

    def _connect(self) -> smtplib.SMTP:
        server, name = self._server, socket.gethostname()
        if server.tls:
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host,
                server.port,
                local_hostname=name,
                timeout=self._timeout,
                context=ssl.create_default_context(),
            )
        else:
            connection = smtplib.SMTP(server.host, server.port, local_hostname=name, timeout=self._timeout)
        try:
            connection.ehlo_or_helo_if_needed()
            if not server.tls and server.starttls != "never":
                _encrypt(connection, required=server.starttls == "required")
            if server.user is not None:
                connection.login(server.user, server.password or "")
        except BaseException:
            connection.close()
            raise
        return connection

    def _options(self, to: str) -> list[str]:
        if to.isascii():
            return []
        if self._connection is None or not self._connection.has_extn("smtputf8"):
            raise Refused("the server does not take addresses beyond ASCII (SMTPUTF8)")
        return ["SMTPUTF8", "BODY=8BITMIME"]

    def _check(self, answer: tuple[int, bytes], *, of_recipient: bool) -> None:
        """Raise what a reply other than OK means (RFC 5321, section 4.2.1)."""
        code, text = answer
        if code not in {OK, OK_AND_FORWARDED}:
            _fail(code, _sentence(code, text), of_recipient=of_recipient)

    @staticmethod
    def _wait_at_most(connection: smtplib.SMTP, seconds: float) -> None:
        if connection.sock is not None:
            connection.sock.settimeout(seconds)


def _fail(code: int, sentence: str, *, of_recipient: bool) -> Never:
    if code == GOING_DOWN or not of_recipient:
        raise ServerAway(sentence)
    if code in _PERMANENT:
        raise Refused(sentence)
    raise RefusedForNow(sentence)


def _encrypt(connection: smtplib.SMTP, *, required: bool) -> None:
    if connection.has_extn("starttls"):
        connection.starttls(context=_context(verified=required))
        connection.ehlo()
    elif required:
        raise ServerAway("the server does not offer STARTTLS, which SMTP_URI requires")


def _context(*, verified: bool) -> ssl.SSLContext:
    """For STARTTLS. Unverified is still better than plain text, which is what it replaces (RFC 7435)."""
    context = ssl.create_default_context()
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _sentence(code: int, text: bytes) -> str:
    return f"{code} {' '.join(text.decode(errors='replace').split())}"
