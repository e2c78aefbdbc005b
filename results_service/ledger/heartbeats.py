"""Workers that say they are alive, what their jobs have done, and what they should stop."""

from collections.abc import Callable
from typing import Any

from pymongo import UpdateOne

from contracts.clock import Clock
from contracts.logs import logger
from contracts.messages import Finish, Heartbeat, HeartbeatReply, Stop
from contracts.status import JobStatus, Outcome
from results_service.ledger.database import Database

log = logger(__name__)

MISSED_BEATS = 2
"""So many beats in a row must leave a job out before it is taken back."""


MAX_UNLISTED = 1024
"""Workers whose unlisted jobs are remembered."""


class Heartbeats:
    """One bulk write for the workers, one for the progress of all their jobs, one read."""

    def __init__(self, database: Database, clock: Clock, hand_back: Callable[[Finish], None]) -> None:
        self._jobs = database.jobs
        self._workers = database.workers
        self._clock = clock
        self._hand_back = hand_back
        self._unlisted: dict[str, dict[tuple[str, int], int]] = {}

    def __call__(self, beats: list[Heartbeat]) -> list[HeartbeatReply]:
        """One reply per heartbeat, in order."""
        now = self._clock.now()
        written = self._workers.bulk_write(
            [
                UpdateOne(
                    {"_id": beat.worker_id},
                    {
                        "$set": beat.model_dump(exclude={"worker_id", "schema_version", "running", "claiming"})
                        | {"seen_at": now, "running": [job.pid for job in beat.running]}
                    },
                    upsert=True,
                )
                for beat in beats
            ],
            ordered=False,
        )
        unknown = written.upserted_ids or {}
        progress = [
            UpdateOne(
                {"_id": job.pid, "fence": job.fence, "status": JobStatus.RUNNING},
                {"$set": {"progress": job.progress.model_dump()}},
            )
            for beat in beats
            for job in beat.running
            if job.progress
        ]
        if progress:
            self._jobs.bulk_write(progress, ordered=False)
        documents = self._documents(beats)
        return [
            HeartbeatReply(stop=self._orders(beat, documents), announce=index in unknown)
            for index, beat in enumerate(beats)
        ]

    def _documents(self, beats: list[Heartbeat]) -> dict[str, dict[str, Any]]:
        """The jobs that these workers hold, as the ledger or as they themselves say."""
        listed = [job.pid for beat in beats for job in beat.running]
        held = {"status": JobStatus.RUNNING, "worker": {"$in": [beat.worker_id for beat in beats]}}
        found = self._jobs.find(
            {"$or": [{"_id": {"$in": listed}}, held]} if listed else held,
            {"fence": 1, "settled_fence": 1, "status": 1, "worker": 1, "claim_id": 1, "cancel_requested_at": 1},
        )
        return {document["_id"]: document for document in found}

    def _orders(self, beat: Heartbeat, documents: dict[str, dict[str, Any]]) -> list[Stop]:
        """What this worker should stop; on the way, take back what it never heard of."""
        orders = []
        for job in beat.running:
            document = documents.get(job.pid)
            if document is None or document["fence"] != job.fence:
                orders.append(Stop(pid=job.pid, fence=job.fence, reason="superseded"))
            elif document.get("cancel_requested_at") or document["status"] == JobStatus.CANCELLED:
                orders.append(Stop(pid=job.pid, fence=job.fence, reason="cancelled"))
            elif JobStatus(document["status"]).terminal and document.get("settled_fence") != job.fence:
                # The worker was given up and the budget spent: what it still runs has its outcome.
                orders.append(Stop(pid=job.pid, fence=job.fence, reason="superseded"))
        listed = {job.pid for job in beat.running}
        before = self._unlisted.pop(beat.worker_id, {})
        missing = {
            (pid, document["fence"]): before.get((pid, document["fence"]), 0) + 1
            for pid, document in documents.items()
            if document["worker"] == beat.worker_id
            and document["status"] == JobStatus.RUNNING
            and document["claim_id"] != beat.claiming
            and pid not in listed
        }
        for (pid, fence), beats in missing.items():
            if beats > MISSED_BEATS:
                log.warning("A worker does not know a job it was given.", action="take_back", pid=pid, fence=fence)
                self._hand_back(
                    Finish(
                        pid=pid,
                        fence=fence,
                        worker_id=beat.worker_id,
                        outcome=Outcome.HANDED_BACK,
                        notify=True,  # it ends the job if a cancel was accepted
                    )
                )
        if missing:
            if len(self._unlisted) >= MAX_UNLISTED:  # workers that fell silent just then; the sweep takes their jobs
                self._unlisted.pop(next(iter(self._unlisted)))
            self._unlisted[beat.worker_id] = missing
        return orders
