"""The broker client over a real RabbitMQ: what is sent, what is confirmed, what is never sent."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pika
import pytest
from conftest import Servers

from contracts import amqp, topology
from contracts.broker import BrokerClient, Delivery, Subscription
from contracts.errors import NoReply, NotSent, Unavailable
from contracts.inspection import QueueState

PATIENCE_SECONDS = 30.0


@pytest.fixture
def client_of(fresh_vhost: str) -> Iterator[Callable[..., BrokerClient]]:
    """Makes clients that are ready."""
    made: list[BrokerClient] = []

    def make(*subscriptions: Subscription) -> BrokerClient:
        client = BrokerClient(fresh_vhost, name="test", heartbeat=5, subscriptions=subscriptions)
        made.append(client)
        client.start()
        assert client.wait_ready(PATIENCE_SECONDS)
        return client

    yield make
    for client in made:
        client.close()


class Inbox:
    """A queue at which requests to ``nobody`` arrive, and what has arrived there."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._news = threading.Condition()
        self.subscription = Subscription(
            on_message=self._take, queue="inbox", bindings=((topology.RPC_EXCHANGE, "nobody.*"),)
        )

    def _take(self, delivery: Delivery) -> None:
        with self._news:
            self.keys.append(str(delivery.properties.correlation_id))
            self._news.notify()

    def wait_for(self, key: str) -> None:
        """Wait until *key* has arrived."""
        with self._news:
            assert self._news.wait_for(lambda: key in self.keys, PATIENCE_SECONDS)


class HeldPause(threading.Event):
    """The client's event for stopping, which also times its pause between two connections: here the test ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.over = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.begun.set()
        return self.over.wait(PATIENCE_SECONDS)


class CutCalls(amqp.Calls):
    """Loses the connection in the very moment at which a caller has found it there."""

    def __init__(self, cut: Callable[[], None]) -> None:
        super().__init__()
        self._cut = cut
        self.begun: list[str] = []

    def begin(self) -> "tuple[str, Future[Any]]":
        correlation_id, future = super().begin()
        self.begun.append(correlation_id)
        self._cut()
        return correlation_id, future


def test_a_request_given_up_while_the_connection_was_away_is_not_sent(
    client_of: Callable[..., BrokerClient], servers: Servers, fresh_vhost: str
):
    """After the reconnect only the request that must be served anyway goes out, not the one whose caller has left.

    To see it fail, take `Calls.waits` out of `BrokerClient.call`.
    """
    vhost = fresh_vhost.rpartition("/")[2]
    inbox = Inbox()
    client = client_of(inbox.subscription)
    client._stopping = pause = HeldPause()

    def cut() -> None:
        if not pause.begun.is_set():
            servers.drop_vhost(vhost)
            servers.make_vhost(vhost)
            assert pause.begun.wait(PATIENCE_SECONDS)

    client._calls = calls = CutCalls(cut)
    with pytest.raises(NoReply):
        client.call("nobody", "given-up", {}, timeout=0.3)
    client._ready.set()  # what the next caller, too, saw a moment ago
    with pytest.raises(NoReply):
        client.call("nobody", "persistent", {}, timeout=0.3, expires=False)
    pause.over.set()
    inbox.wait_for(calls.begun[1])
    assert inbox.keys == [calls.begun[1]]


def test_a_request_that_reaches_no_queue_fails_at_once(client_of: Callable[..., BrokerClient]):
    """Requests are mandatory: the caller hears `NotSent` long before its time-out.

    To see it fail, take ``mandatory=True`` out of `BrokerClient.call`.
    """
    with pytest.raises(NotSent, match="nobody"):
        client_of().call("nobody", "here", {}, timeout=PATIENCE_SECONDS)


def test_what_the_broker_refuses_is_not_confirmed(client_of: Callable[..., BrokerClient], fresh_vhost: str):
    """A publish with confirm ends well when the broker has the message, and badly when it did not take it."""
    client = client_of()
    with pika.BlockingConnection(pika.URLParameters(fresh_vhost)) as connection:
        arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
        connection.channel().queue_declare("small", durable=True, arguments=arguments)
    client.publish("", "small", b"1").result(PATIENCE_SECONDS)
    with pytest.raises(Unavailable, match="refused"):
        client.publish("", "small", b"2").result(PATIENCE_SECONDS)


def test_a_message_that_breaks_its_consumer_comes_once(client_of: Callable[..., BrokerClient], fresh_vhost: str):
    """An unforeseen error over one message makes a dead letter of it; the connection and the next message are well."""
    heard: list[bytes] = []
    done = threading.Event()

    def stumble(delivery: Delivery) -> None:
        heard.append(delivery.body)
        if delivery.body == b"stone":
            raise KeyError("foot")
        client.ack(delivery)
        done.set()

    client = client_of(Subscription(on_message=stumble, queue="path"))
    for body in (b"stone", b"grass"):
        client.publish("", "path", body).result(PATIENCE_SECONDS)
    assert done.wait(PATIENCE_SECONDS)
    assert heard == [b"stone", b"grass"]
    with pika.BlockingConnection(pika.URLParameters(fresh_vhost)) as connection:
        _, properties, body = connection.channel().basic_get(topology.DEAD_LETTERS, auto_ack=True)
    assert (body, properties.headers["reason"]) == (b"stone", "KeyError('foot')")


def test_queues_are_looked_at_without_being_made(client_of: Callable[..., BrokerClient], fresh_vhost: str):
    """Messages and consumers of the queues that there are; one that is missing is left out, and stays missing."""
    client = client_of(Subscription(on_message=lambda _: None, queue="heard"))
    client.declare("unheard", topology.EVENTS_EXCHANGE, "unheard", {})
    for _ in range(3):
        client.publish("", "unheard", b"").result(PATIENCE_SECONDS)
    queues = ("missing", "heard", "unheard", "missing too")
    for _ in range(2):
        assert client.inspect(queues, timeout=PATIENCE_SECONDS) == {
            "heard": QueueState(messages=0, consumers=1),
            "unheard": QueueState(messages=3, consumers=0),
        }
    assert client.inspect((), timeout=PATIENCE_SECONDS) == {}


def test_without_a_broker_nobody_is_asked():
    """Queues cannot be looked at while RabbitMQ is away: said at once."""
    client = BrokerClient("amqp://127.0.0.1:1/", name="test", heartbeat=5)
    client.start()
    with pytest.raises(NotSent, match="not reachable"):
        client.inspect(("heard",), timeout=PATIENCE_SECONDS)
    client.close()


def test_a_consumer_whose_queue_was_deleted_comes_back(client_of: Callable[..., BrokerClient], fresh_vhost: str):
    """Somebody deletes the queue: it is declared anew and consumed again."""
    heard = threading.Event()
    again = threading.Event()
    subscription = Subscription(on_message=lambda _: heard.set(), queue="path", on_ready=again.set)
    client = client_of(subscription)
    assert again.wait(PATIENCE_SECONDS)
    again.clear()
    with pika.BlockingConnection(pika.URLParameters(fresh_vhost)) as connection:
        connection.channel().queue_delete("path")
    assert again.wait(PATIENCE_SECONDS)
    client.publish("", "path", b"").result(PATIENCE_SECONDS)
    assert heard.wait(PATIENCE_SECONDS)
