"""How the load generator reads answers."""

import pytest

from bench.wire import Refused, parse_head


def test_head_with_length() -> None:
    """Status and length are read whatever the case of the header names."""
    assert parse_head(b"HTTP/1.1 202 ACCEPTED\r\nServer: x\r\ncontent-LENGTH: 17") == (202, 17, False)


def test_head_that_closes() -> None:
    """A server that will close the connection is believed."""
    assert parse_head(b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0") == (200, 0, True)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nServer: x", b"HTTP/1.1", b"nonsense\r\nContent-Length: 1"])
def test_head_that_cannot_be_read(head: bytes) -> None:
    """An answer without a length, or that is none, is refused instead of waited for."""
    with pytest.raises(Refused):
        parse_head(head)
