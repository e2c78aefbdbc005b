"""The doorbell: tells the workers of a pool that work waits, without making anyone wait for it."""

import threading
from concurrent.futures import Future

from contracts import codec, topology
from contracts.broker import BrokerClient
from contracts.logs import logger
from contracts.messages import Doorbell

log = logger(__name__)


class DoorbellRinger:
    """Rings over *broker*; a bell that RabbitMQ did not confirm is rung again after the reconnect.

    One bell says as much as ten. So while one is on its way to a pool, further ones are only
    remembered, and one more is rung when it has been confirmed; and bells that failed are kept as
    the set of their pools.
    """

    def __init__(self, broker: BrokerClient) -> None:
        self._broker = broker
        self._lock = threading.Lock()
        self._declared: set[str] = set()
        self._owed: set[str] = set()
        self._under_way: set[str] = set()
        self._again: set[str] = set()

    def ring(self, pool: str) -> None:
        """Have a bell rung in *pool* after this moment; returns at once."""
        with self._lock:
            if pool in self._under_way:
                self._again.add(pool)
                return
            self._under_way.add(pool)
        if pool not in self._declared:
            self._declared.add(pool)
            self._broker.declare(
                topology.doorbell_queue(pool), topology.DOORBELL_EXCHANGE, pool, topology.doorbell_arguments()
            )
        body = codec.dumps(Doorbell(pool=pool).model_dump(mode="json"))
        confirmed = self._broker.publish(topology.DOORBELL_EXCHANGE, pool, body)
        confirmed.add_done_callback(lambda future: self._on_settled(pool, future))

    def on_connected(self) -> None:
        """A new connection: queues have to be declared on it, and owed bells rung."""
        self._declared.clear()
        with self._lock:
            owed, self._owed = self._owed, set()
        for pool in owed:
            self.ring(pool)

    def _on_settled(self, pool: str, future: "Future[None]") -> None:
        error = future.exception()
        with self._lock:
            self._under_way.discard(pool)
            again = pool in self._again
            self._again.discard(pool)
            if error is not None:
                self._owed.add(pool)
        if error is None:
            if again:
                self.ring(pool)
            return
        log.info(
            "A doorbell was not confirmed; it will be rung again.", action="ring_failed", pool=pool, why=str(error)
        )
