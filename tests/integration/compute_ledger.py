"""A ledger in memory behind the real broker: what a worker needs of the results service, and no more."""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from pika.spec import BasicProperties

from contracts import codec, topology
from contracts.broker import BrokerClient, Delivery, Subscription
from contracts.messages import (
    Announcement,
    Claim,
    Doorbell,
    Finish,
    Grant,
    Heartbeat,
    HeartbeatReply,
    Settle,
    Settled,
    Stop,
    Verdict,
)

PATIENCE_SECONDS = 30.0


class MemoryLedger:
    """Serves settle, heartbeat and announce over RabbitMQ; rings the doorbell when work is added."""

    def __init__(self, uri: str, *, pool: str = "default", ring: bool = True) -> None:
        self.changed = threading.Condition()
        self.waiting: deque[dict[str, Any]] = deque()
        self.granted: dict[str, list[Grant]] = {}
        self.finishes: list[Finish] = []
        self.beats: list[Heartbeat] = []
        self.claims: list[Claim] = []
        self.announcements: list[Announcement] = []
        self.stop_by_beat: list[Stop] = []
        self.lost_replies = 0
        """So many replies to settle are not sent, although the work was done."""
        self._fences = itertools.count(1)
        self._pool = pool
        self._ring = ring
        served = {
            "ledger.settle": (topology.ledger_queue("settle"), self._settle),
            "ledger.heartbeat": (topology.ledger_queue("heartbeat"), self._heartbeat),
            "results.announce": ("rpc-results", self._announce),
        }
        self.client = BrokerClient(
            uri,
            name="memory-ledger",
            heartbeat=30,
            subscriptions=tuple(
                Subscription(on_message=self._serve(handle), queue=queue, bindings=((topology.RPC_EXCHANGE, key),))
                for key, (queue, handle) in served.items()
            ),
        )
        self.client.start()
        assert self.client.wait_ready(PATIENCE_SECONDS)
        self.client.declare(
            topology.doorbell_queue(pool), topology.DOORBELL_EXCHANGE, pool, topology.doorbell_arguments()
        )

    def close(self) -> None:
        """Leave the broker."""
        self.client.close()

    def add(self, pid: str, task: str, *, time_limit: float = 60, **params: Any) -> None:
        """A job is due."""
        with self.changed:
            self.waiting.append({"pid": pid, "task": task, "params": params, "time_limit": time_limit})
        if self._ring:
            self.ring()

    def ring(self) -> None:
        """Work waits."""
        bell = Doorbell(pool=self._pool).model_dump(mode="json")
        self.client.send(topology.DOORBELL_EXCHANGE, self._pool, codec.dumps(bell))

    def tell_to_stop(self, worker_id: str, stop: Stop) -> None:
        """The event that a job was cancelled."""
        body = codec.dumps(stop.model_dump(mode="json"))
        self.client.send(topology.EVENTS_EXCHANGE, topology.worker_key(worker_id), body)

    def wait_for(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until *condition* holds; it is looked at whenever a message was served."""
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE_SECONDS), f"{what} did not come true"

    def finish_of(self, pid: str) -> Finish | None:
        """The last finish of a job."""
        return next((finish for finish in reversed(self.finishes) if finish.pid == pid), None)

    def grant_of(self, pid: str) -> Grant | None:
        """The last grant of a job."""
        return next((grant for grants in self.granted.values() for grant in grants if grant.pid == pid), None)

    def _serve(self, handle: Callable[[dict[str, Any]], Any]) -> Callable[[Delivery], None]:
        def serve(delivery: Delivery) -> None:
            request = codec.loads(delivery.body)["kwargs"]["request"]
            with self.changed:
                result = handle(request)
                self.changed.notify_all()
            self.client.ack(delivery)
            if result is not ...:
                properties = BasicProperties(correlation_id=delivery.properties.correlation_id)
                body = codec.dumps({"result": result, "error": None})
                self.client.send(topology.RPC_EXCHANGE, delivery.properties.reply_to, body, properties)

        return serve

    def _settle(self, request: dict[str, Any]) -> Any:
        settle = Settle.model_validate(request)
        self.finishes += settle.finishes
        verdicts = [Verdict(pid=finish.pid, fence=finish.fence, finish="stored") for finish in settle.finishes]
        grants: list[Grant] = []
        if settle.claim is not None:
            self.claims.append(settle.claim)
            grants = self._grant(settle.claim)
        settled = Settled(verdicts=verdicts, grants=grants, more=bool(self.waiting))
        if self.lost_replies:
            self.lost_replies -= 1
            return ...
        return settled.model_dump(mode="json")

    def _grant(self, claim: Claim) -> list[Grant]:
        if claim.claim_id not in self.granted:
            grants = []
            while self.waiting and len(grants) < claim.count:
                job = self.waiting.popleft()
                grants.append(
                    Grant(
                        **job,
                        fence=next(self._fences),
                        task_version="1",
                        attempt=1,
                        max_attempts=3,
                        claim_id=claim.claim_id,
                    )
                )
            self.granted[claim.claim_id] = grants
        return self.granted[claim.claim_id]

    def _heartbeat(self, request: dict[str, Any]) -> Any:
        self.beats.append(Heartbeat.model_validate(request))
        running = {(job.pid, job.fence) for job in self.beats[-1].running}
        stops = [stop for stop in self.stop_by_beat if (stop.pid, stop.fence) in running]
        return HeartbeatReply(stop=stops).model_dump(mode="json")

    def _announce(self, request: dict[str, Any]) -> None:
        self.announcements.append(Announcement.model_validate(request))


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Wait for a condition outside the ledger."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.02)
