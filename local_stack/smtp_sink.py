"""A real SMTP server that keeps what arrives in a Maildir and sends nothing on."""

import argparse
import asyncio
import contextlib
import signal
import smtplib
import sys
from collections.abc import Sequence
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP

from local_stack.ports import LOOPBACK
from local_stack.process import Program

KEPT_MAILS = 1_000
"""The oldest go first."""
MAX_MAIL_BYTES = 1024 * 1024
PROBE_SECONDS = 2.0


class SmtpSink:
    """The sink as a program of the stack."""

    title = "SMTP sink"

    def __init__(self, folder: Path, *, port: int) -> None:
        self.folder = folder
        self.port = port

    def uri(self) -> str:
        """Where it listens."""
        return f"smtp://{LOOPBACK}:{self.port}"

    @property
    def programs(self) -> Sequence[Program]:
        """The server."""
        command = (sys.executable, "-m", "local_stack.smtp_sink", str(self.folder), "--port", str(self.port))
        return (Program(name="smtp", command=command, stop_seconds=1.0),)

    def ready(self) -> bool:
        """Whether it greets."""
        return fault(self.uri()) is None


class Keep(Mailbox):
    """Files every mail, and forgets the oldest."""

    def handle_message(self, message: Message) -> None:
        """Called once per mail, before the client hears 250."""
        super().handle_message(message)
        arrived = sorted(Path(self.mail_dir, "new").iterdir(), key=lambda mail: mail.stat().st_mtime)
        for old in arrived[:-KEPT_MAILS]:
            old.unlink(missing_ok=True)


def fault(uri: str) -> str | None:
    """What keeps a client from handing mail to the server at *uri*; None if nothing does."""
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "is no SMTP URI"
    try:
        if parts.scheme == "smtps":
            smtplib.SMTP_SSL(host, port or smtplib.SMTP_SSL_PORT, timeout=PROBE_SECONDS).close()
        else:
            smtplib.SMTP(host, port or smtplib.SMTP_PORT, timeout=PROBE_SECONDS).close()
    except (OSError, smtplib.SMTPException):
        return "does not answer"
    return None


async def serve(folder: Path, port: int) -> None:
    """Take mail until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, done.set)
    keep = Keep(folder)
    server = await loop.create_server(
        lambda: SMTP(keep, loop=loop, data_size_limit=MAX_MAIL_BYTES, enable_SMTPUTF8=True), LOOPBACK, port
    )
    await done.wait()
    server.close()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m local_stack.smtp_sink", description=__doc__)
    parser.add_argument("folder", type=Path, help="the Maildir; made if it is not there")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    arguments.folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.folder, arguments.port))


if __name__ == "__main__":
    main()
