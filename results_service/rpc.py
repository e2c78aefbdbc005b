"""Nameko's ``@rpc``, back soon after an outage of RabbitMQ.

Nameko leaves it to kombu how often to try: 2 seconds more after every failure, up to 30. After a minute without
a broker nobody would be served for another quarter of a minute.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nameko.messaging import QueueConsumer
from nameko.rpc import Rpc, RpcConsumer

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 5.0


class PromptQueueConsumer(QueueConsumer):
    """A consumer that never waits longer than `LAST_RETRY_SECONDS` between two tries to connect."""

    @contextmanager
    def establish_connection(self) -> Iterator[Any]:
        """Called by kombu whenever it needs a connection; comes back with one that is open."""
        with self.create_connection() as connection:
            connection.ensure_connection(
                self.on_connection_error,
                self.connect_max_retries,
                interval_start=FIRST_RETRY_SECONDS,
                interval_step=FIRST_RETRY_SECONDS,
                interval_max=LAST_RETRY_SECONDS,
            )
            yield connection


class PromptRpcConsumer(RpcConsumer):
    """The consumer of a service's RPC queue."""

    queue_consumer = PromptQueueConsumer()


class PromptRpc(Rpc):
    """The entrypoint."""

    rpc_consumer = PromptRpcConsumer()


rpc = PromptRpc.decorator
"""Decorates a service method, as Nameko's own does."""
