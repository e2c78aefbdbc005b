"""What is set aside, and how much is said about it."""

from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from contracts import topology
from contracts.dead_letters import MAX_REASON, WINDOW_SECONDS, DeadLetters, Unreadable, read
from contracts.messages import Stop

ORIGIN = {"exchange": "nameko-rpc", "routing_key": "ledger.get", "queue": "rpc-ledger.get"}


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2030, 1, 31, 8, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds


@pytest.mark.parametrize("body", [b"", b"\xff", b"{", b"[]", b"{}", b'{"pid": 1}', b"NaN", b"[" * 100_000])
def test_what_is_no_message_is_unreadable(body: bytes):
    """Whatever is wrong with a body, the consumer hears one kind of error with a reason."""
    with pytest.raises(Unreadable, match="no Stop: "):
        read(Stop, body)


def test_a_dead_letter_says_why_where_and_when():
    """The headers name reason, origin, consumer and time; the reason is bounded, a bug is named by its kind."""
    letters = DeadLetters("compute", HandClock())
    assert letters.headers(Unreadable("x" * 1000), **ORIGIN) == {
        "reason": "x" * MAX_REASON,
        "consumer": "compute",
        "time": "2030-01-31T08:00:00.000Z",
        **ORIGIN,
    }
    assert (letters.headers(KeyError("pool"), **ORIGIN) or {})["reason"] == "KeyError('pool')"


def test_a_flood_is_one_line_and_no_more_letters_than_the_queue_holds():
    """Per window: one line in the log, a bounded number of letters; the next line says how many there were."""
    clock = HandClock()
    letters = DeadLetters("compute", clock)
    with capture_logs() as lines:
        kept = [letters.headers(Unreadable("no"), **ORIGIN) for _ in range(topology.DEAD_LETTER_BOUND + 7)]
        clock.seconds = WINDOW_SECONDS
        again = letters.headers(Unreadable("no"), **ORIGIN)
    assert kept[-7:] == [None] * 7
    assert None not in kept[:-7]
    assert again is not None
    assert [line["in_last_window"] for line in lines] == [0, topology.DEAD_LETTER_BOUND + 7]
