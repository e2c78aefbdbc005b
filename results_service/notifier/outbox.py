"""The outbox: the ``notifications`` of the job documents, as the notifier sees them.

Each entry goes ``due → sent | failed | suppressed``. Who works on one holds its lease: a random id,
with ``due_at`` moved to the end of the lease, so that the entry becomes due again by itself if its
holder dies. Every later write asks for that id, so a holder that was superseded changes nothing.
"""

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection

from contracts.clock import Clock
from contracts.status import NotificationState, NotifyOn

EMAIL = "email"
MAX_REASON_LENGTH = 512
CANDIDATES = 16
"""Entries looked at in one query when leasing one of them."""

_SHOWN = (
    "task", "task_version", "status", "params", "result", "error", "created_at", "started_at", "finished_at",
    "reference", "deleted_at", "fence", "notifications",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """One entry that is ours until the lease ends."""

    id: str
    pid: str
    on: NotifyOn
    to: str
    tries: int
    """How often it was leased, this time included."""
    job: Mapping[str, Any]
    """The job's document, without the parts that no mail shows; if it was run again since, as it was."""
    since: float
    """On the monotonic clock, before the lease was written."""


class Outbox:
    """Finds, leases and marks entries. Every method raises `pymongo.errors.PyMongoError` when MongoDB is away."""

    def __init__(self, jobs: Collection[dict[str, Any]], *, lease_seconds: float, clock: Clock) -> None:
        self._jobs = jobs
        self._lease_time = timedelta(seconds=lease_seconds)
        self._clock = clock

    def lease(self, *, take_over: bool) -> Lease | None:
        """Lease an e-mail that is due, one of those that wait longest; None if there is none.

        Without *take_over*, entries whose holder let its lease run out are left alone.
        """
        while page := self._candidates(take_over=take_over):
            random.shuffle(page)  # so that several notifiers rarely reach for the same one
            for pid in page:
                if lease := self._lease_one(pid, take_over=take_over):
                    return lease
            if len(page) < CANDIDATES:
                break
        return None

    def _candidates(self, *, take_over: bool) -> list[str]:
        # No sort: the index yields the oldest first, and sorting would pull every due document into memory.
        due = {"notifications.due_at": {"$lte": self._clock.now()}} | self._due(take_over=take_over)
        return [job["_id"] for job in self._jobs.find(due, projection={"_id": 1}, limit=CANDIDATES)]

    def _lease_one(self, pid: str, *, take_over: bool) -> Lease | None:
        since, lease_id = self._clock.monotonic(), uuid.uuid4().hex
        # The positional $ is only sound with a single condition on the array.
        job = self._jobs.find_one_and_update(
            {"_id": pid} | self._due(take_over=take_over),
            {
                "$set": {
                    "notifications.$.lease": lease_id,
                    "notifications.$.due_at": self._clock.now() + self._lease_time,
                },
                "$inc": {"notifications.$.tries": 1},
            },
            projection=_SHOWN,
            return_document=ReturnDocument.AFTER,
        )
        if job is None:
            return None
        mine = next(entry for entry in job["notifications"] if entry.get("lease") == lease_id)
        return Lease(
            id=lease_id,
            pid=pid,
            on=NotifyOn(mine["on"]),
            to=mine["to"],
            tries=mine["tries"],
            job=job | mine.get("outcome", {}),
            since=since,
        )

    def _due(self, *, take_over: bool) -> dict[str, Any]:
        entry = {
            "channel": EMAIL,
            "state": NotificationState.DUE.value,
            "due_at": {"$lte": self._clock.now()},
        }
        return {"notifications": {"$elemMatch": entry if take_over else entry | {"lease": None}}}

    def settle(self, lease: Lease, state: NotificationState, reason: str | None = None) -> bool:
        """Write the final *state*; False if the lease is no longer ours, and nothing was written."""
        return self._write(
            lease,
            {
                "$set": {
                    "notifications.$.state": state.value,
                    "notifications.$.at": self._clock.now(),
                    "notifications.$.lease": None,
                    "notifications.$.reason": reason and reason[:MAX_REASON_LENGTH],
                },
                "$unset": {"notifications.$.due_at": ""},
            },
        )

    def put_back(self, lease: Lease, *, seconds: float, reason: str, counted: bool) -> bool:
        """Give the entry back, due again in *seconds*; unless *counted*, the try is taken off again.

        False if the lease is no longer ours, and nothing was written.
        """
        return self._write(
            lease,
            {
                "$set": {
                    "notifications.$.due_at": self._clock.now() + timedelta(seconds=seconds),
                    "notifications.$.lease": None,
                    "notifications.$.reason": reason[:MAX_REASON_LENGTH],
                },
                "$inc": {"notifications.$.tries": 0 if counted else -1},
            },
        )

    def next_due(self) -> datetime | None:
        """When the next entry that is not due yet will be, leases that may run out included."""
        now = self._clock.now()
        job = self._jobs.find_one(
            {
                "notifications.due_at": {"$gt": now},
                "notifications": {"$elemMatch": {"channel": EMAIL, "due_at": {"$gt": now}}},
            },
            projection={"notifications.due_at": 1},
        )
        moments = [entry["due_at"] for entry in (job or {}).get("notifications", []) if "due_at" in entry]
        return min((moment for moment in moments if moment > now), default=None)

    def _write(self, lease: Lease, update: dict[str, Any]) -> bool:
        mine = {"lease": lease.id, "state": NotificationState.DUE.value}
        return (
            self._jobs.update_one({"_id": lease.pid, "notifications": {"$elemMatch": mine}}, update).matched_count == 1
        )
