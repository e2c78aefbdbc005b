"""One long job on a broker that has little patience with unacknowledged messages."""

import contextlib
import threading
from pathlib import Path

import pika
import pika.exceptions
from running_stack import RunningStack

from client import Coatcheck

PATIENCE_SECONDS = 60
"""The broker's ``consumer_timeout``; it looks about once a minute."""
SPARE_SECONDS = 120.0
CLOSED = "RabbitMQ closed a channel"


def make_impatient(stack: RunningStack) -> None:
    """Have the private broker of *stack*, which is not started yet, close what acknowledges too late."""
    folder: Path = stack.folder / "rabbitmq" / "conf.d"
    folder.mkdir(parents=True)
    (folder / "patience.conf").write_text(f"consumer_timeout = {PATIENCE_SECONDS * 1000}\n")


class Hoarder:
    """A consumer that never acknowledges: shows that the broker means it."""

    def __init__(self, uri: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(uri))
        self._channel = self._connection.channel()
        queue = self._channel.queue_declare("", exclusive=True).method.queue
        self._channel.basic_consume(queue, lambda *_: None)
        self._channel.basic_publish("", queue, b"mine")
        self.punished = threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True)
        self._thread.start()

    def _hold(self) -> None:
        with contextlib.suppress(pika.exceptions.AMQPError):  # the stack stops
            while self._channel.is_open:
                self._connection.process_data_events(1)
            self.punished.set()


def run(stack: RunningStack, seconds: int) -> None:
    """A job of *seconds* runs once and ends once, and no service loses a channel by it."""
    hoarder = Hoarder(stack.state.amqp_uri)
    with Coatcheck(stack.api, retry_seconds=SPARE_SECONDS) as service:
        pid = service.submit("wait", {"message": "done", "seconds": seconds})["pid"]
        seen: set[tuple[int, str]] = set()
        job = service.wait(
            pid,
            timeout_seconds=seconds + SPARE_SECONDS,
            on_change=lambda job: seen.add((job["attempt"], job["status"])),
        )
    assert job["result"]["message"] == "done"
    assert job["result"]["waited_seconds"] >= seconds
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["succeeded"]
    assert seen <= {(0, "pending"), (1, "running"), (1, "succeeded")}
    assert hoarder.punished.is_set(), "the broker was patient, so this proves nothing"
    for log in sorted((stack.folder / "log").glob("*.log")):
        assert CLOSED not in log.read_text(errors="replace"), log
