"""Messages over a pipe: a mark of two bytes, a length of four, big-endian, then that much JSON."""

import socket
import struct
from typing import Any

from contracts import codec

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Far above parameters and results (256 KiB each); a catalogue of many tasks has to fit as well."""
READ_BYTES = 65536

_HEAD = struct.Struct(">2sI")
_MARK = b"\xc7\x0a"
"""Without it, stray bytes that look like a length would make the reader wait for frames to fill it."""


class BrokenFrameError(Exception):
    """What came is not a frame: something else wrote into the pipe."""


class FrameSocket:
    """One end of the pipe. Reading and writing may be two threads' business, each only one's."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = bytearray()
        self._timeout: float | None = None
        end.settimeout(None)

    def send(self, message: dict[str, Any]) -> None:
        """Send *message* whole; raises `OSError` if the other end is gone, `ValueError` if it is no JSON."""
        self.send_encoded(codec.dumps(message))

    def send_encoded(self, body: bytes) -> None:
        """Like `send`, for what is JSON already."""
        if len(body) > MAX_FRAME_BYTES:
            msg = f"a frame of {len(body)} bytes; {MAX_FRAME_BYTES} are allowed"
            raise ValueError(msg)
        self._socket.sendall(_HEAD.pack(_MARK, len(body)) + body)

    def receive(self, timeout: float | None = None) -> dict[str, Any]:
        """The next message.

        Raises `TimeoutError` if none is complete within about *timeout* seconds (what has arrived
        is kept), `EOFError` when the other end is closed, `BrokenFrameError` for anything else.
        """
        if timeout != self._timeout:
            self._socket.settimeout(timeout)
            self._timeout = timeout
        while True:
            message = self._take()
            if message is not None:
                return message
            try:
                chunk = self._socket.recv(READ_BYTES)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                raise EOFError
            self._buffer += chunk

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _take(self) -> dict[str, Any] | None:
        if not _MARK.startswith(self._buffer[: len(_MARK)]):
            msg = "bytes that are no frame"
            raise BrokenFrameError(msg)
        if len(self._buffer) < _HEAD.size:
            return None
        _, length = _HEAD.unpack_from(self._buffer)
        if length > MAX_FRAME_BYTES:
            msg = f"a frame that says it has {length} bytes"
            raise BrokenFrameError(msg)
        end = _HEAD.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_HEAD.size : end])
        del self._buffer[:end]
        try:
            message = codec.loads(body)
        except ValueError as error:
            msg = f"a frame that is no JSON: {error}"
            raise BrokenFrameError(msg) from None
        if not isinstance(message, dict):
            msg = "a frame that is no object"
            raise BrokenFrameError(msg)
        return message
