"""A keep-alive HTTP/1.1 connection that costs next to nothing, so that the load generator is not what is measured.

It knows just what both sides answer with: a status line, headers, and a body of ``Content-Length`` bytes.
"""

import json
import socket
from types import TracebackType
from typing import Any, Self

TIMEOUT_SECONDS = 30.0
READ_BYTES = 64 * 1024
HEAD_END = b"\r\n\r\n"


class Refused(Exception):
    """The other side answered with something that the bench cannot go on with."""


class Connection:
    """One socket, one request at a time; opens again when the server has closed it."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._host = f"{host}:{port}"
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Send one request; returns status and body.

        Raises `OSError` when the server is away and `Refused` for an answer without a length.
        """
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept: application/json\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        message = head.encode("ascii") + b"\r\n" + body
        kept = self._socket is not None
        try:
            return self._exchange(message)
        except (ConnectionError, EOFError):
            self.close()
            if not kept or method != "GET":
                raise
            return self._exchange(message)  # the server had closed an idle connection

    def json(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
        """Like `request`, the body parsed."""
        status, content = self.request(method, path, body)
        value: dict[str, Any] = json.loads(content)
        return status, value

    def _exchange(self, message: bytes) -> tuple[int, bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, TIMEOUT_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(message)
        received = b""
        while HEAD_END not in received:
            received += self._read()
        head, _, content = received.partition(HEAD_END)
        status, length, closes = parse_head(head)
        while len(content) < length:
            content += self._read()
        if closes:
            self.close()
        return status, content

    def _read(self) -> bytes:
        chunk = self._socket.recv(READ_BYTES) if self._socket else b""
        if not chunk:
            raise EOFError("The server closed the connection in the middle of an answer.")
        return chunk


def parse_head(head: bytes) -> tuple[int, int, bool]:
    """Status, length of the body in bytes, and whether the server will close the connection.

    Raises `Refused` if the head is none or tells no length.
    """
    status_line, _, fields = head.decode("latin-1").partition("\r\n")
    parts = status_line.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in fields.split("\r\n"))}
    try:
        return int(parts[1]), int(headers["content-length"]), headers.get("connection", "").lower() == "close"
    except (IndexError, KeyError, ValueError):
        raise Refused(f"An answer that cannot be read: {status_line!r}.") from None
