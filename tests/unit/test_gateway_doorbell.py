from concurrent.futures import Future
from typing import Any

from contracts.errors import NotSent
from gateway.doorbell import DoorbellRinger


class Broker:
    """What the ringer needs of a `BrokerClient`, with confirms by hand."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.confirms: list[Future[None]] = []

    def declare(self, _queue: str, _exchange: str, key: str, _arguments: dict[str, Any]) -> None:
        """Note it."""
        self.done.append(("declare", key))

    def publish(self, _exchange: str, key: str, _body: bytes) -> "Future[None]":
        """Note it; the test settles the confirm."""
        self.done.append(("publish", key))
        self.confirms.append(Future())
        return self.confirms[-1]


def test_the_queue_is_declared_once_per_pool_and_connection():
    """A bell needs a queue, and declaring it costs only once until the connection changes."""
    broker = Broker()
    ringer = DoorbellRinger(broker)
    for pool in ("a", "a", "b"):
        ringer.ring(pool)
        broker.confirms[-1].set_result(None)
    ringer.on_connected()
    ringer.ring("a")
    assert [pool for what, pool in broker.done if what == "declare"] == ["a", "b", "a"]


def test_bells_that_wait_together_are_one():
    """While a bell is on its way, any number of further ones become a single one after it."""
    broker = Broker()
    ringer = DoorbellRinger(broker)
    for _ in range(5):
        ringer.ring("a")
    assert len(broker.confirms) == 1
    broker.confirms[0].set_result(None)
    assert len(broker.confirms) == 2
    broker.confirms[1].set_result(None)
    assert len(broker.confirms) == 2
    ringer.ring("a")
    assert len(broker.confirms) == 3


def test_bells_without_confirm_are_rung_again_once_per_pool():
    """Many lost bells of a pool become one after the reconnect, and confirmed ones none."""
    broker = Broker()
    ringer = DoorbellRinger(broker)
    for pool in ("a", "a", "b"):
        ringer.ring(pool)
    broker.confirms[0].set_exception(NotSent())
    broker.confirms[1].set_result(None)
    broker.done.clear()
    ringer.on_connected()
    assert broker.done == [("declare", "a"), ("publish", "a")]
    broker.confirms[-1].set_result(None)
    broker.done.clear()
    ringer.on_connected()
    assert broker.done == []
