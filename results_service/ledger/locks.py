"""Locks: no two active jobs hold the same key.

A job holds its keys in its own document, under a unique index: taken all or none by one write, and
given up by the very write that ends the job. A job that waits for keys is pending and due never; who
ends a holder, or the sweep, hands the keys on to those who wait, in the order of the queue.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pymongo.errors import DuplicateKeyError, PyMongoError

from contracts.clock import Clock
from contracts.errors import Conflict
from contracts.logs import logger
from contracts.status import JobStatus
from results_service.ledger.database import Database, type_of_document
from results_service.ledger.events import Events

log = logger(__name__)

NAMED_AT_ONCE = 100
"""So many of the jobs in the way are named in one refusal."""
SERVED_AT_ONCE = 1000
"""So many of those who wait are looked at in one go; the sweep goes on."""

BLOCKING_FIELDS = {
    "task": 1, "status": 1, "progress": 1, "locks": 1, "held_locks": 1, "owner": 1, "deleted_at": 1, "created_at": 1,
    "due_at": 1,
}  # fmt: skip


class Locks:
    """Who holds which key, and who is next."""

    def __init__(self, database: Database, clock: Clock, events: Events) -> None:
        self._jobs = database.jobs
        self._clock = clock
        self._events = events

    def in_the_way(self, pid: str, keys: list[str]) -> list[type_of_document]:
        """The jobs that hold one of *keys*, and those that wait for one already; majority-read."""
        waits = {"status": JobStatus.PENDING, "locks_due_at": {"$lte": self._clock.now()}, "locks": {"$in": keys}}
        query = {"$or": [{"held_locks": {"$in": keys}}, waits], "_id": {"$ne": pid}}
        return list(self._jobs.find(query, BLOCKING_FIELDS).sort("_id", 1).limit(NAMED_AT_ONCE))

    def awaited(self, keys: Iterable[str]) -> set[str]:
        """Which of *keys* somebody waits for: they are not free, even if nobody holds them this moment."""
        wanted = list(keys)
        waits = {"status": JobStatus.PENDING, "locks_due_at": {"$lte": self._clock.now()}, "locks": {"$in": wanted}}
        found = self._jobs.find(waits, {"locks": 1}).limit(SERVED_AT_ONCE)
        return {key for document in found for key in document["locks"]} & set(wanted)

    def freed_by(self, pids: list[str]) -> None:
        """These jobs have ended and held keys: hand them on. What fails here is done by the sweep."""
        try:
            freed = {
                key for job in self._jobs.find({"_id": {"$in": pids}}, {"locks": 1}) for key in job.get("locks", ())
            }
        except PyMongoError as error:
            log.warning("Free locks wait for the sweep.", action="locks_not_handed_on", reason=str(error))
        else:
            self.offer(freed)

    def offer(self, keys: Iterable[str]) -> None:
        """Hand on what is free of *keys*. What fails here is done by the sweep."""
        try:
            self.hand_on(keys)
        except PyMongoError as error:
            log.warning("Free locks wait for the sweep.", action="locks_not_handed_on", reason=str(error))

    def hand_on(self, keys: Iterable[str] | None = None) -> None:
        """Give keys that are free to those who wait for one of *keys* (default: any), in the order of the queue.

        Among them nobody overtakes: who waits for a key keeps it from all who come later, also while
        another of its keys is not free yet. Raises `PyMongoError`.
        """
        now = self._clock.now()
        query: dict[str, Any] = {"status": JobStatus.PENDING, "locks_due_at": {"$lte": now}}
        if keys is not None:
            query["locks"] = {"$in": list(keys)}
        spoken_for: set[str] = set()
        pools = set()
        in_order = self._jobs.find(query, {"locks": 1, "pool": 1}).sort([("rank", 1), ("_id", 1)])
        for waiting in in_order.limit(SERVED_AT_ONCE):
            if spoken_for.isdisjoint(waiting["locks"]) and self._take(waiting, now):
                pools.add(waiting["pool"])
            spoken_for.update(waiting["locks"])
        for pool in pools:
            self._events.ring(pool)

    def next_due(self) -> datetime | None:
        """When the next scheduled job may take its locks."""
        later = {"status": JobStatus.PENDING, "locks_due_at": {"$gt": self._clock.now()}}
        document = self._jobs.find_one(later, {"locks_due_at": 1}, sort=[("locks_due_at", 1)])
        return document["locks_due_at"] if document else None

    def _take(self, waiting: type_of_document, now: datetime) -> bool:
        try:
            taken = self._jobs.update_one(
                {"_id": waiting["_id"], "status": JobStatus.PENDING, "locks_due_at": {"$exists": True}},
                {"$set": {"held_locks": waiting["locks"], "due_at": now}, "$unset": {"locks_due_at": ""}},
            )
        except DuplicateKeyError:
            return False
        return bool(taken.matched_count)


def refusal(found: list[type_of_document], keys: list[str]) -> Conflict:
    """Why a job with *keys* is not taken: *found* are in its way."""
    blocking = _named(found, keys)
    names = ", ".join(entry["pid"] for entry in blocking[:3]) + (" and others" if len(blocking) > 3 else "")  # noqa: PLR2004
    return Conflict(f"Job {names} holds or waits for a lock that this job needs.", {"blocking": blocking})


def _named(found: list[type_of_document], keys: list[str]) -> list[dict[str, Any]]:
    wanted = set(keys)
    return [
        {
            "pid": document["_id"],
            "task": document["task"],
            "status": document["status"],
            "progress": document.get("progress"),
            "keys": sorted(wanted.intersection(document["locks"])),
        }
        for document in found
    ]
