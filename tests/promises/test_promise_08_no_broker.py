"""Promise 8, at its worst moment: services are stopped while RabbitMQ is away."""

import os
import signal

import psutil
from breaking import away, eventually
from running_stack import MakeStack

SERVICES = ("results", "compute", "notifier", "gateway")
STOP_SECONDS = 30.0
"""Longer than a drain without work, a fraction of what an orchestrator waits before it kills."""


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone; the frozen supervisor cannot collect it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_services_stop_without_a_broker(new_stack: MakeStack) -> None:
    """SIGTERM while RabbitMQ is away ends every service by itself, also those that were connected before.

    Break: contracts/nameko_amqp.py `callback=self._leave_if_stopping`, deleted.
    """
    stack = new_stack(HEARTBEAT="2", DRAIN_SECONDS="2")
    stack.start()
    with away(stack, "rabbitmq"):
        processes = [psutil.Process(stack.pid(name)) for name in SERVICES]
        for process in processes:
            os.kill(process.pid, signal.SIGTERM)
        for process in processes:
            eventually(lambda process=process: has_ended(process), f"{process} has ended", STOP_SECONDS)  # type: ignore[misc]
