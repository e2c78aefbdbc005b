"""The mail server, as one URI says it."""

from dataclasses import dataclass, field
from typing import Literal, cast, get_args
from urllib.parse import parse_qs, unquote, urlsplit

StartTls = Literal["required", "offered", "never"]

_PORTS = {"smtp": 25, "smtps": 465}
_SUBMISSION_PORT = 587


@dataclass(frozen=True, kw_only=True, slots=True)
class SmtpServer:
    """Where mail is handed in, and how."""

    host: str
    port: int
    tls: bool
    """TLS from the first byte (``smtps``)."""
    starttls: StartTls
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, uri: str) -> "SmtpServer":
        """Read ``smtp[s]://[user:password@]host[:port][?starttls=…]``.

        Without a port: 465 for ``smtps``, 587 with a user, else 25. Raises `ValueError`, whose text
        does not contain the password.
        """
        parts = urlsplit(uri)
        if parts.scheme not in _PORTS or not parts.hostname or parts.path not in {"", "/"} or parts.fragment:
            raise ValueError("is not of the form smtp://[user:password@]host[:port] or smtps://…")
        try:
            port = parts.port
        except ValueError:
            raise ValueError("has a port that is none") from None
        options = parse_qs(parts.query, keep_blank_values=True)
        starttls = options.pop("starttls", ["required" if parts.username else "offered"])[-1]
        if options or starttls not in get_args(StartTls):
            raise ValueError(f"knows one option only, starttls, out of {', '.join(get_args(StartTls))}")
        return cls(
            host=parts.hostname,
            port=port or (_SUBMISSION_PORT if parts.username and parts.scheme == "smtp" else _PORTS[parts.scheme]),
            tls=parts.scheme == "smtps",
            starttls=cast("StartTls", starttls),
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )
