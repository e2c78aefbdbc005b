"""What the notifier talks to, under a test's control: a mail server that misbehaves, a cable that can be cut, jobs."""

import asyncio
import contextlib
import email
import os
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd import smtp
from aiosmtpd.controller import Controller

from contracts import codec
from contracts.clock import SystemClock
from contracts.ids import new_id
from local_stack import ports

ROOT = Path(__file__).parents[2]
POLL_SECONDS = 0.02


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until *condition* is true and answer it; fails after *seconds*."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        pause.wait(POLL_SECONDS)
    return found


class MailServer:
    """A real SMTP server. What it does depends on the recipient's local part.

    ``refused``: 550. ``later``: 450 the first time. ``unwanted``: 554 after the mail. ``dropped``: hangs up the
    first time, in the middle. ``slow``: the mail is read, the answer waits for `gate`. All others: accepted.
    """

    def __init__(self, **options: Any) -> None:
        self.port = ports.pick()
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.connections = 0
        self.gate = threading.Event()
        self.reading = threading.Event()
        self.on_accepted: Callable[[], None] = lambda: None
        self._seen: set[str] = set()
        self._options = options
        self._controller: Controller | None = None

    @property
    def uri(self) -> str:
        """Where it is, running or not."""
        return f"smtp://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin to listen."""
        self._controller = Controller(
            self, hostname="127.0.0.1", port=self.port, enable_SMTPUTF8=True, ready_timeout=20, **self._options
        )
        self._controller.start()

    def stop(self) -> None:
        """Vanish."""
        self.gate.set()
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    @contextlib.contextmanager
    def running(self) -> Iterator["MailServer"]:
        """Listen for the length of a block."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    async def handle_EHLO(  # noqa: N802
        self, _server: smtp.SMTP, session: smtp.Session, _envelope: smtp.Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """A client came."""
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_RCPT(  # noqa: N802
        self, server: smtp.SMTP, _session: smtp.Session, envelope: smtp.Envelope, address: str, _options: list[str]
    ) -> str:
        """Answer RCPT TO."""
        behaviour = address.partition("@")[0]
        first = address not in self._seen
        self._seen.add(address)
        if behaviour == "refused":
            return "550 5.1.1 no such user"
        if behaviour == "later" and first:
            return "450 4.2.0 greylisted"
        if behaviour == "dropped" and first:
            server.transport.close()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: smtp.SMTP, _session: smtp.Session, envelope: smtp.Envelope) -> str:  # noqa: N802
        """Answer the end of the mail."""
        recipient = envelope.rcpt_tos[0]
        behaviour = recipient.partition("@")[0]
        if behaviour == "unwanted":
            return "554 5.7.1 looks like spam"
        self.reading.set()
        if behaviour == "slow":
            await asyncio.get_running_loop().run_in_executor(None, self.gate.wait, 60)
        self.recipients.append(recipient)
        self.mails.append(email.message_from_bytes(envelope.original_content, policy=policy.SMTP))  # type: ignore[arg-type]
        self.on_accepted()
        return "250 OK"


class Cable:
    """A TCP relay to *target* that can be cut and mended."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._whole = threading.Event()
        self._whole.set()
        self._closed = threading.Event()
        self._pairs: list[socket.socket] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection; new ones are closed at once."""
        with self._lock:
            self._whole.clear()
            for end in self._pairs:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._pairs.clear()

    def mend(self) -> None:
        """Let connections through again."""
        self._whole.set()

    def close(self) -> None:
        """Take it away."""
        self._closed.set()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                continue
            with self._lock:
                if not self._whole.is_set():
                    near.close()
                    far.close()
                    continue
                self._pairs += [near, far]
            threading.Thread(target=self._relay, args=(near, far), daemon=True).start()

    @staticmethod
    def _relay(near: socket.socket, far: socket.socket) -> None:
        with near, far, selectors.DefaultSelector() as selector:
            far.settimeout(None)
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            with contextlib.suppress(OSError):
                while True:
                    for key, _ in selector.select():
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                        if not data:
                            return
                        key.data.sendall(data)


class NotifierProcess:
    """The notifier under ``nameko run``, as it is deployed."""

    def __init__(self, log: Path, **environment: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("nameko")),
                    "run",
                    "--config",
                    "results_service/notifier/config.yaml",
                    "results_service.notifier.service",
                ],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "MAIL_ALLOW": "*", "LOG_FORMAT": "json", **environment},
                stdout=output,
                stderr=output,
            )

    def lines(self, action: str) -> list[dict[str, Any]]:
        """What it has logged with this ``action``."""
        found = []
        for line in self._log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                entry = codec.loads(line)
                if isinstance(entry, dict) and entry.get("action") == action:
                    found.append(entry)
        return found

    def wait_started(self) -> "NotifierProcess":
        """Wait until the send loop runs."""
        eventually(lambda: self.lines("notifier_started"))
        return self

    def terminate(self, seconds: float = 15.0) -> int:
        """SIGTERM; answers the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def end(self) -> None:
        """Whatever it takes."""
        self.process.kill()
        self.process.wait(10)


def self_signed(folder: Path) -> ssl.SSLContext:
    """For a server: a certificate that nobody has signed, kept in *folder*."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def job_with_mail(to: str, *, on: str = "succeeded", due: bool = True, **fields: Any) -> dict[str, Any]:
    """A job as the ledger stores it, with one entry in its outbox."""
    now = SystemClock().now()
    entry = {"channel": "email", "to": to, "on": on, "tries": 0} | (
        {"state": "due", "due_at": now} if due else {"state": "waiting"}
    )
    return {
        "_id": new_id(),
        "task": "bmi",
        "task_version": "1",
        "status": "succeeded",
        "params": {"name": "Ada"},
        "result": {"bmi": 21.8},
        "created_at": now,
        "started_at": now,
        "finished_at": now,
        "fence": 1,
        "notifications": [entry],
    } | fields
