"""Garbage at every queue of the running stack: set aside where a person finds it, and nobody is disturbed."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import psutil
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import BasicProperties
from running_stack import RunningStack

from client import Coatcheck
from contracts import topology
from contracts.topology import DOORBELL_EXCHANGE, EVENTS_EXCHANGE, RPC_EXCHANGE

PATIENCE_SECONDS = 60.0
SERVICES = ("gateway", "compute", "results", "notifier")
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
REPLY = {"reply_to": "nobody", "correlation_id": "1"}
NOT_JSON = b"\xff{"
NO_REQUEST = b'{"args": 1}'
FLOOD = 3000
"""At each of two queues."""
FEW = 8
"""Lines: each consumer has one at once, and again when a minute has passed."""

AT_RPC: tuple[tuple[bytes, dict[str, Any]], ...] = (
    (NOT_JSON, {}),
    (NOT_JSON, JSON | REPLY),
    (NOT_JSON, {"content_type": "application/x-python-serialize", **REPLY}),
    (b'{"args": [], "kwargs": {}}', JSON),  # no reply_to
    (b'{"args": [], "kwargs": {}}', REPLY),  # no content type
    (NO_REQUEST, JSON | REPLY),
    (b"[]", JSON | REPLY),
    (b"", {}),
)
"""At an entrypoint of Nameko's own."""


@pytest.fixture
def channel(stack: RunningStack) -> Iterator[BlockingChannel]:
    """A channel to the stack's broker, whose dead-letter queue is empty."""
    with pika.BlockingConnection(pika.URLParameters(stack.state.amqp_uri)) as connection:
        channel = connection.channel()
        channel.queue_purge(topology.DEAD_LETTERS)
        yield channel


def until(condition: Callable[[], object]) -> None:
    """Wait for *condition*."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def waiting(channel: BlockingChannel) -> int:
    """How many dead letters there are."""
    return int(channel.queue_declare(topology.DEAD_LETTERS, passive=True).method.message_count)


def processes(stack: RunningStack) -> list[tuple[str, int, float]]:
    """The services as they run now; a restart changes it."""
    return [(name, stack.pid(name), psutil.Process(stack.pid(name)).create_time()) for name in SERVICES]


def bmi(stack: RunningStack) -> dict[str, Any]:
    """A job from its submission to its end."""
    with Coatcheck(stack.api, retry_seconds=PATIENCE_SECONDS) as service:
        pid = service.submit("bmi", {"name": "Ada", "weight_kg": 61.5, "height_cm": 168})["pid"]
        return service.wait(pid, timeout_seconds=PATIENCE_SECONDS)


def test_garbage_at_every_consumer_is_set_aside(stack: RunningStack, channel: BlockingChannel):
    """Every consumer of all services sets aside what it cannot read, `/queues` shows it, none ends, jobs go on."""
    before = processes(stack)
    worker = bmi(stack)["attempts"][0]["worker"]
    sent: list[tuple[str, str]] = []

    def send(exchange: str, key: str, body: bytes, **properties: Any) -> None:
        channel.basic_publish(exchange, key, body, BasicProperties(**properties), mandatory=True)
        sent.append((exchange, key))

    for method in topology.LEDGER_METHODS:
        for body in (NOT_JSON, NO_REQUEST, b"[]", b'{"kwargs": {"request": []}}'):
            send(RPC_EXCHANGE, f"ledger.{method}", body)
    for key in ("results.cancel", "results.no_such_method", "compute.describe"):
        for body, properties in AT_RPC:
            send(RPC_EXCHANGE, key, body, **properties)
    for body, properties in ((NOT_JSON, JSON), (NOT_JSON, {}), (b"[]", JSON), (b"{}", JSON)):
        send(EVENTS_EXCHANGE, topology.NOTIFICATION_DUE, body, **properties)
    for body in (NOT_JSON, b"[]", b'{"pool": 1}'):
        send(DOORBELL_EXCHANGE, "default", body)
        send(EVENTS_EXCHANGE, topology.worker_key(worker), body)
    for body in (NOT_JSON, b"[]"):
        send(EVENTS_EXCHANGE, topology.CATALOGUE_CHANGED, body)
    until(lambda: waiting(channel) == len(sent))
    with Coatcheck(stack.api) as service:
        rows = {row["name"]: row for row in service.queues()}
    assert rows[topology.DEAD_LETTERS]["depth"] == len(sent)
    assert {name for name, row in rows.items() if row["consumers"] < 1} == {topology.DEAD_LETTERS}
    assert (rows["default"]["workers"], rows["default"]["slots"], rows["default"]["running"]) == (1, 2, 0)
    letters = [channel.basic_get(topology.DEAD_LETTERS, auto_ack=True) for _ in sent]
    headers = [properties.headers for _, properties, _ in letters]
    assert sorted((found["exchange"], found["routing_key"]) for found in headers) == sorted(sent)
    assert {found["consumer"].partition("-")[0] for found in headers} == set(SERVICES)
    assert all(found["reason"] and found["time"].endswith("Z") for found in headers)
    assert {found["queue"] for found in headers} >= {topology.RESULTS_QUEUE, topology.NOTIFIER_QUEUE}
    assert all(found["queue"] for found in headers)
    assert {properties.delivery_mode for _, properties, _ in letters} == {2}
    assert bmi(stack)["result"]["bmi"] == 21.8
    assert processes(stack) == before


def test_a_flood_of_garbage_starves_nobody(stack: RunningStack, channel: BlockingChannel):
    """Thousands at once: a job goes through at the same time, the queue stays bounded, and the log is a few lines."""
    before, lines = processes(stack), said(stack)
    for _ in range(FLOOD):
        channel.basic_publish(RPC_EXCHANGE, "ledger.settle", NOT_JSON)
        channel.basic_publish(RPC_EXCHANGE, "results.ping", NO_REQUEST, BasicProperties(**(JSON | REPLY)))
    assert bmi(stack)["status"] == "succeeded"
    until(lambda: not backlog(channel))
    until(lambda: waiting(channel) == topology.DEAD_LETTER_BOUND)
    assert processes(stack) == before
    assert said(stack) - lines <= FEW


def said(stack: RunningStack) -> int:
    """Lines about dead letters in the logs of all services."""
    logs = ((stack.folder / "log" / f"{name}.log").read_text(errors="replace") for name in SERVICES)
    return sum(log.count("action=dead_letter") + log.count("Can't decode") for log in logs)


def backlog(channel: BlockingChannel) -> int:
    """What waits in the flooded queues."""
    queues = (topology.ledger_queue("settle"), topology.RESULTS_QUEUE)
    return sum(channel.queue_declare(queue, passive=True).method.message_count for queue in queues)
