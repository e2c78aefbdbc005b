"""Puts one worker together: settings in, pool, heart, broker and children out."""

import socket
from typing import Any

from compute_service.groups import ProcessGroups
from compute_service.heart import Heart
from compute_service.ledger import BrokerBells, BrokerLedger
from compute_service.pool import Pool
from compute_service.settings import ComputeSettings
from compute_service.slots import Slot
from contracts import topology
from contracts.broker import BrokerClient, Delivery, Subscription
from contracts.clock import SystemClock
from contracts.dead_letters import read
from contracts.ids import new_id
from contracts.logs import logger
from contracts.messages import Doorbell, Stop

log = logger(__name__)

MAX_HOST = 100
CLOSE_SECONDS = 5.0


class Worker:
    """One worker: `start` it, `drain` or `kill` it, once."""

    def __init__(self, settings: ComputeSettings) -> None:
        self.worker_id = f"{socket.gethostname()[:MAX_HOST]}-{new_id()}"
        self._settings = settings
        self._groups = ProcessGroups()
        doorbell = Subscription(
            on_message=self._on_bell,
            queue=topology.doorbell_queue(settings.pool),
            bindings=((topology.DOORBELL_EXCHANGE, settings.pool),),
            arguments=topology.doorbell_arguments(),
            prefetch=topology.DOORBELL_BOUND,
            active=False,
            on_ready=lambda: self.pool.connected(),  # noqa: PLW0108 -- there is no pool yet
        )
        stops = Subscription(
            on_message=self._on_stop,
            bindings=((topology.EVENTS_EXCHANGE, topology.worker_key(self.worker_id)),),
        )
        self._client = BrokerClient(
            settings.amqp_uri.get_secret_value(),
            name=f"compute-{self.worker_id}",
            heartbeat=settings.heartbeat,
            subscriptions=(doorbell, stops),
        )
        ledger = BrokerLedger(self._client, timeout_seconds=settings.ledger_timeout_seconds)
        self.pool: Pool[Delivery] = Pool(
            worker_id=self.worker_id,
            settings=settings,
            ledger=ledger,
            bells=BrokerBells(self._client, doorbell, settings.pool),
            make_slot=lambda on_progress: Slot(
                worker_id=self.worker_id, settings=settings, groups=self._groups, on_progress=on_progress
            ),
        )
        self._heart = Heart(
            pool=self.pool,
            ledger=ledger,
            pool_name=settings.pool,
            slots=settings.slots,
            interval_seconds=settings.worker_heartbeat_seconds,
            started_at=SystemClock().now(),
            after_beat=self._tend,
        )

    def start(self) -> None:
        """Start the children, then listen; raises `ChildFailedError` if the tasks cannot be loaded."""
        self._groups.start()
        try:
            self.pool.start()
        except BaseException:
            self.kill()
            raise
        self._client.start()
        self.pool.spawn("heart", self._heart.beat_for_ever)
        log.info(
            "The worker has started.",
            action="worker_started",
            worker=self.worker_id,
            pool=self._settings.pool,
            slots=self._settings.slots,
            tasks=[task.name for task in self.pool.tasks],
        )

    def begin_drain(self) -> None:
        """Take no more work; returns at once."""
        self.pool.begin_drain()

    def drain(self) -> None:
        """Finish or hand back what runs, end every process, say goodbye."""
        self.pool.drain()
        self._groups.stop()
        self._client.close(CLOSE_SECONDS)
        log.info("The worker has stopped.", action="worker_stopped", worker=self.worker_id)

    def kill(self) -> None:
        """End every process, without waiting for any job; what ran is handed back."""
        self.pool.hand_back()
        self.pool.kill()
        self._groups.stop()

    def describe(self) -> dict[str, Any]:
        """Who this is and what it runs."""
        with self.pool.lock:
            return {
                "worker_id": self.worker_id,
                "pool": self._settings.pool,
                "slots": self._settings.slots,
                "draining": self.pool.draining,
                "tasks": [task.name for task in self.pool.tasks],
                "running": [entry.grant.pid for entry in self.pool.roster],
            }

    def _tend(self) -> None:
        self._groups.check_guardian()
        self._groups.end_orphans()

    def _on_bell(self, delivery: Delivery) -> None:
        read(Doorbell, delivery.body)
        self.pool.bell(delivery)

    def _on_stop(self, delivery: Delivery) -> None:
        stop = read(Stop, delivery.body)
        self._client.ack(delivery)
        self.pool.stop(stop)
