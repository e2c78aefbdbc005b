"""What the bench takes as the sign of a lost broker connection."""

import pytest

from bench.counter import lost_connections


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("compute.log", '{"event": "No connection to RabbitMQ.", "action": "broker_lost", "level": "warning"}'),
        ("results.log", "Connection to broker lost, trying to re-establish connection..."),
        ("rabbitmq.log", "2026-01-01 [error] <0.1.0> closing AMQP connection <0.1.0> (127.0.0.1:1 -> 127.0.0.1:2):"),
        ("rabbitmq.log", "missed heartbeats from client, timeout: 5s"),
        ("rabbitmq.log", "client unexpectedly closed TCP connection"),
    ],
)
def test_a_lost_connection_is_found(log: str, line: str) -> None:
    """Each way in which a service or RabbitMQ tells of a broken connection is noticed, with its log's name."""
    assert lost_connections(log, ["nothing", line, "nothing"]) == [f"{log}: {line}"]


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("compute.log", '{"event": "Connected to RabbitMQ.", "action": "broker_connected"}'),
        (
            "rabbitmq.log",
            "2026-01-01 [info] <0.1.0> closing AMQP connection <0.1.0> (127.0.0.1:1 -> 127.0.0.1:2, vhost",
        ),
    ],
)
def test_a_goodbye_is_no_loss(log: str, line: str) -> None:
    """A connection that was opened or closed in the regular way is not counted."""
    assert lost_connections(log, [line]) == []
