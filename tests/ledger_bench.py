"""A ledger on a real MongoDB with a clock that only the test moves, and the calls that its tests repeat."""

from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.ids import new_id
from contracts.job import JobError
from contracts.messages import (
    Claim,
    Finish,
    GetJob,
    Grant,
    Heartbeat,
    NewJob,
    RunningJob,
    Settle,
    Settled,
    StateChange,
    Stop,
    Verdict,
)
from contracts.status import ErrorKind, Outcome
from results_service.ledger.bootstrap import Ledger
from results_service.ledger.database import Database
from results_service.ledger.leases import RECONNECT_SECONDS
from results_service.settings import ResultsSettings

LEASE_SECONDS = 15.0
"""The default, which the tests have."""


class ManualClock:
    """A clock that only the test moves; it starts near the real time, from which pids come."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
        self.ticks = 0.0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.ticks

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.ticks += seconds


class RecordedEvents:
    """Keeps what the ledger would have published."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []
        self.mails: list[str] = []
        self.stops: list[tuple[str, Stop]] = []
        self.rings: list[str] = []
        self.catalogue_changes = 0

    def jobs_changed(self, changes: list[StateChange]) -> None:
        self.states += [(change.pid, change.status) for change in changes]

    def mail_due(self, pid: str) -> None:
        self.mails.append(pid)

    def stop(self, worker_id: str, order: Stop) -> None:
        self.stops.append((worker_id, order))

    def catalogue_changed(self) -> None:
        self.catalogue_changes += 1

    def ring(self, pool: str) -> None:
        self.rings.append(pool)


class Bench:
    """A ledger and the few calls that the tests repeat."""

    def __init__(self, database: Database) -> None:
        self.clock = ManualClock()
        self.events = RecordedEvents()
        self.database = database
        self.ledger = Ledger(database, self.events, ResultsSettings(first_retry_seconds=1), self.clock)  # type: ignore[arg-type]
        self.beats = 0

    def new(self, **changes: Any) -> NewJob:
        fields: dict[str, Any] = {
            "pid": new_id(),
            "owner": "local",
            "task": "bmi",
            "task_version": "1",
            "pool": "default",
            "params": {"weight_kg": 70},
            "max_attempts": 3,
            "time_limit": 60.0,
        }
        return NewJob(**(fields | changes))

    def register(self, **changes: Any) -> str:
        ticket = self.ledger.register([self.new(**changes)])[0]
        if isinstance(ticket, Exception):
            raise ticket
        return ticket.pid

    def claim(self, count: int = 1, worker: str = "w1", tasks: tuple[str, ...] = ("bmi",)) -> list[Grant]:
        claim = Claim(claim_id=new_id(), worker_id=worker, pool="default", tasks=list(tasks), count=count)
        return self.settle(Settle(claim=claim)).grants

    def settle(self, request: Settle) -> Settled:
        return self.ledger.settle([request], repeated=[request.repeated])[0]

    def finish(self, grant: Grant, outcome: Outcome = Outcome.SUCCEEDED, **changes: Any) -> Verdict:
        finish = Finish(
            pid=grant.pid,
            fence=grant.fence,
            worker_id="w1",
            outcome=outcome,
            notify=grant.notify,
            locked=grant.locked,
            **changes,
        )
        return self.settle(Settle(finishes=[finish])).verdicts[0]

    def fail(self, grant: Grant, *, retriable: bool = True) -> Verdict:
        error = JobError(kind=ErrorKind.CRASHED, message="killed by signal 9", signal="SIGKILL")
        return self.finish(grant, Outcome.FAILED, error=error, retriable=retriable)

    def beat(self, *running: RunningJob, worker: str = "w1", claiming: str | None = None) -> list[Stop]:
        self.beats += 1
        return (
            self.ledger.heartbeat(
                [
                    Heartbeat(
                        worker_id=worker,
                        host="here",
                        process_id=1,
                        pool="default",
                        tasks=["bmi"],
                        slots=2,
                        beat=self.beats,
                        started_at=self.clock.now(),
                        running=list(running),
                        claiming=claiming,
                    )
                ]
            )[0]
        ).stop

    def watch(self, seconds: float) -> None:
        """Time passes, and the sweep looks again and again, as the service has it do."""
        for _ in range(int(seconds)):
            self.ledger.sweep(broker_ready=True)
            self.clock.advance(1)
        self.ledger.sweep(broker_ready=True)

    def fall_silent(self, *running: RunningJob, worker: str = "w1") -> None:
        """One last beat, and then nothing for as long as the lease."""
        self.watch(RECONNECT_SECONDS)
        self.beat(*running, worker=worker)
        self.watch(LEASE_SECONDS)

    def job(self, pid: str) -> dict[str, Any]:
        answer = self.ledger.queries.get([GetJob(pid=pid, owner="local")])[0]
        if isinstance(answer, Exception):
            raise answer
        return answer
