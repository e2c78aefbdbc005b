"""How much waits and runs in each pool: for operators, so it is asked seldom and may cost some reads."""

from datetime import timedelta
from typing import Any

from contracts.clock import Clock
from contracts.messages import PoolLoad
from contracts.status import JobStatus
from results_service.ledger.database import Database
from results_service.settings import ResultsSettings

COUNTED_JOBS = 100_000
"""Waiting jobs of one pool are counted no further."""
MAX_POOLS = 100
"""Pools with waiting jobs that are looked at."""


class Pools:
    """Reads for ``GET /queues``, over all owners."""

    def __init__(self, database: Database, clock: Clock, settings: ResultsSettings) -> None:
        self._jobs = database.jobs
        self._workers = database.workers
        self._clock = clock
        self._alive = timedelta(seconds=settings.lease_seconds)

    def __call__(self) -> list[PoolLoad]:
        """Every pool in which a job waits or runs or a worker lives, by name; raises `PyMongoError`."""
        now = self._clock.now()
        staffed = {
            found["_id"]: found
            for found in self._workers.aggregate(
                [
                    {"$match": {"seen_at": {"$gte": now - self._alive}}},
                    {"$group": {"_id": "$pool", "workers": {"$sum": 1}, "slots": {"$sum": "$slots"}}},
                ]
            )
        }
        running = {
            found["_id"]: found["jobs"]
            for found in self._jobs.aggregate(
                [
                    {"$match": {"status": JobStatus.RUNNING}},
                    {"$group": {"_id": "$pool", "jobs": {"$sum": 1}}},
                ],
                hint="worker",
            )
        }
        return [
            PoolLoad(
                pool=pool,
                due=self._count(pool, {"$lte": now}),
                scheduled=self._count(pool, {"$gt": now}),
                running=running.get(pool, 0),
                workers=staffed.get(pool, {}).get("workers", 0),
                slots=staffed.get(pool, {}).get("slots", 0),
            )
            for pool in sorted({*staffed, *running, *self._with_waiting_jobs()})
        ]

    def _with_waiting_jobs(self) -> list[str]:
        """Their names, each found by one step into the index of claims behind the one before."""
        pools: list[str] = []
        behind: dict[str, Any] = {}
        while len(pools) < MAX_POOLS and (
            job := self._jobs.find_one(
                {"status": JobStatus.PENDING} | behind, {"pool": 1}, sort=[("pool", 1)], hint="claim"
            )
        ):
            pools.append(job["pool"])
            behind = {"pool": {"$gt": job["pool"]}}
        return pools

    def _count(self, pool: str, due_at: dict[str, Any]) -> int:
        waiting = {"pool": pool, "status": JobStatus.PENDING, "due_at": due_at}
        return self._jobs.count_documents(waiting, limit=COUNTED_JOBS, hint="claim")
