"""What a lost message left undone. Any results service may sweep: each repair is a conditional write."""

from datetime import datetime, timedelta

from pymongo.errors import PyMongoError

from contracts.clock import Clock
from contracts.job import JobError
from contracts.logs import logger
from contracts.messages import StateChange
from contracts.status import TERMINAL, ErrorKind, JobStatus, NotificationState, Outcome
from results_service.ledger import transitions
from results_service.ledger.catalogue import CatalogueKeeper
from results_service.ledger.database import Database, type_of_document
from results_service.ledger.documents import NEVER
from results_service.ledger.events import Events
from results_service.ledger.leases import Leases
from results_service.ledger.locks import Locks
from results_service.metrics import LedgerMetrics
from results_service.settings import ResultsSettings

log = logger(__name__)

SWEPT_AT_ONCE = 1000
NEVER_HEARD = -1
"""The beat of a worker that holds jobs and is on no record."""
KEEP_TASKS_SECONDS = 600


class Sweep:
    """Gives up silent workers, rings for forgotten work, and clears away what has had its time."""

    def __init__(  # noqa: PLR0913 -- what it is wired to
        self,
        *,
        database: Database,
        clock: Clock,
        settings: ResultsSettings,
        events: Events,
        catalogue: CatalogueKeeper,
        locks: Locks,
        metrics: LedgerMetrics,
    ) -> None:
        self._metrics = metrics
        self._jobs = database.jobs
        self._workers = database.workers
        self._clock = clock
        self._settings = settings
        self._events = events
        self._catalogue = catalogue
        self._locks = locks
        self._leases = Leases(clock, lease_seconds=settings.lease_seconds)
        self._kept_tasks_at = float("-inf")

    def __call__(self, *, broker_ready: bool) -> datetime | None:
        """Sweep once; returns when the next scheduled job becomes due or the next lease ends, if one is known.

        Silence of a worker counts only while this process has seen ledger and broker healthy:
        an outage of ours must not run anybody's job twice. Raises `PyMongoError`.
        """
        if not broker_ready:
            self._leases.interrupt()
            return None
        try:
            self._give_up_silent_workers()
            self._locks.hand_on()
            self._ring_for_due_jobs()
            self._remove_expired()
            self._remove_tombstones()
            if self._clock.monotonic() - self._kept_tasks_at >= KEEP_TASKS_SECONDS:
                self._catalogue.still_served()
                self._kept_tasks_at = self._clock.monotonic()
            moments = (self._next_due(), self._locks.next_due(), self._lease_end())
            return min((moment for moment in moments if moment), default=None)
        except PyMongoError:
            self._leases.interrupt()
            raise

    # ---- workers

    def _give_up_silent_workers(self) -> None:
        beats = {worker["_id"]: worker["beat"] for worker in self._workers.find({}, {"beat": 1})}
        # A worker that died before its first beat, or a sweep that died while giving one up, leaves only jobs.
        for worker_id in self._jobs.distinct("worker", {"status": JobStatus.RUNNING}):
            beats.setdefault(worker_id, NEVER_HEARD)
        for worker_id in self._leases.overdue(beats):
            self._give_up(worker_id, beats[worker_id])

    def _lease_end(self) -> datetime | None:
        left = self._leases.seconds_left()
        return None if left is None else self._clock.now() + timedelta(seconds=left)

    def _give_up(self, worker_id: str, beat: int) -> None:
        """Its jobs may run elsewhere. Their fences stay: until the next claim, its finish still counts."""
        log.warning("A worker has fallen silent and is given up.", action="worker_lost", worker=worker_id)
        known = self._workers.find_one({"_id": worker_id}, {"beat": 1})
        if (known["beat"] if known else NEVER_HEARD) != beat:
            return  # it has come back this very moment
        error = JobError(
            kind=ErrorKind.WORKER_LOST,
            message=f"Worker {worker_id} was not heard of for {self._settings.lease_seconds:g} s.",
        )
        pools = set()
        for document in self._jobs.find({"status": JobStatus.RUNNING, "worker": worker_id}):
            if self._lose(document, error):
                pools.add(document["pool"])
        # Last: as long as the worker is on record, a sweep that was interrupted here is done again.
        self._workers.delete_one({"_id": worker_id, "beat": beat})
        for pool in pools:
            self._events.ring(pool)
        self._events.catalogue_changed()

    def _lose(self, document: type_of_document, error: JobError) -> bool:
        """End the attempt, unless it ended meanwhile; a cancel that comes in between is seen by the second try."""
        attempt = {"_id": document["_id"], "fence": document["fence"], "status": JobStatus.RUNNING}
        found: type_of_document | None = document
        while found is not None:
            update = transitions.lost(found, error, now=self._clock.now(), settings=self._settings)
            result = self._jobs.update_one(
                attempt | {"cancel_requested_at": found.get("cancel_requested_at")},
                update.operators,
                array_filters=update.array_filters,
            )
            if result.matched_count:
                self._metrics.attempt_ended(Outcome.FAILED, error)
                change = StateChange(pid=document["_id"], status=update.status, fence=document["fence"])
                self._events.jobs_changed([change])
                if document["notifications"] and update.status.terminal:
                    self._events.mail_due(document["_id"])
                return True
            found = self._jobs.find_one(attempt)
        return False

    # ---- doorbells

    def _ring_for_due_jobs(self) -> None:
        """A bell for each free slot of each pool in which work is due."""
        free: dict[str, int] = {}
        for worker in self._workers.find({"draining": False}, {"pool": 1, "slots": 1, "running": 1}):
            free[worker["pool"]] = free.get(worker["pool"], 0) + max(0, worker["slots"] - len(worker["running"]))
        for pool, slots in free.items():
            due = {"pool": pool, "status": JobStatus.PENDING, "due_at": {"$lte": self._clock.now()}}
            # one at least: what a worker last said of its free slots is seconds old
            for _ in range(self._jobs.count_documents(due, limit=max(1, slots))):
                self._events.ring(pool)

    def _next_due(self) -> datetime | None:
        later = {"status": JobStatus.PENDING, "due_at": {"$gt": self._clock.now(), "$lt": NEVER}}
        document = self._jobs.find_one(later, {"due_at": 1}, sort=[("due_at", 1)])
        return document["due_at"] if document else None

    # ---- clearing away

    def _remove_expired(self) -> None:
        """An ended job whose time is over is hidden, but not before everybody was told of it."""
        expired = {
            "expires_at": {"$lte": self._clock.now()},
            "deleted_at": None,
            "notifications.state": {"$ne": NotificationState.DUE},
        }
        for document in self._jobs.find(expired, {"owner": 1}).limit(SWEPT_AT_ONCE):
            self._jobs.update_one({"_id": document["_id"]} | expired, {"$set": {"deleted_at": self._clock.now()}})

    def _remove_tombstones(self) -> None:
        """A deleted job goes when its attempt has ended and its mail is settled."""
        self._jobs.delete_many(
            {
                "deleted_at": {"$exists": True},
                "status": {"$in": sorted(TERMINAL)},
                "notifications.state": {"$nin": [NotificationState.DUE, NotificationState.WAITING]},
            }
        )
