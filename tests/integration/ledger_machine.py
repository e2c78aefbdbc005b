"""Two results services over one database, beside the model: how one operation is done to both and compared."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
)
from ledger_faults import Fault, FrailDatabase
from ledger_model import Model, ModelJob
from ledger_wishes import SETTINGS
from pymongo.errors import PyMongoError

from contracts.messages import (
    Claim,
    Finish,
    Grant,
    NewJob,
    Settle,
    StateChange,
    Stop,
)
from results_service.ledger.bootstrap import Ledger
from results_service.ledger.database import Database
from results_service.notifier.outbox import Outbox


class HandClock:
    """A clock that only the rules move."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.ticks = 0.0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.ticks

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.ticks += seconds


class Heard:
    """What one service has published during one operation."""

    def __init__(self) -> None:
        self.states: list[StateChange] = []
        self.mails: list[str] = []
        self.stops: list[tuple[str, str, int]] = []
        self.rings: list[str] = []

    def jobs_changed(self, changes: list[StateChange]) -> None:
        self.states += changes

    def mail_due(self, pid: str) -> None:
        self.mails.append(pid)

    def stop(self, worker_id: str, order: Stop) -> None:
        self.stops.append((worker_id, order.pid, order.fence))

    def catalogue_changed(self) -> None:
        pass

    def ring(self, pool: str) -> None:
        self.rings.append(pool)


class Service:
    """One results service: a ledger, what it publishes, and what the model knows of its memory."""

    def __init__(self, database: Database, clock: HandClock) -> None:
        self.database = FrailDatabase(database)
        self.plan = self.database.plan
        self.clock = clock
        self.heard = Heard()
        self.restart()

    def restart(self) -> None:
        """Forget what was only in memory."""
        self.ledger = Ledger(self.database, self, SETTINGS, self.clock)  # type: ignore[arg-type]
        self.watched: dict[str, tuple[int | None, float]] = {}
        self.looked_at = self.since = float("-inf")
        self.unlisted: dict[str, dict[tuple[str, int], int]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.heard, name)  # the port `Events`


class Machine(RuleBasedStateMachine):
    """Two services, the model, and how one operation is done to both. What can be asked for stands in its subclasses."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.clock = HandClock()
        self.model = Model(SETTINGS)
        self.services = (Service(database, self.clock), Service(database, self.clock))
        self.outbox = Outbox(database.jobs, lease_seconds=60, clock=self.clock)
        self.ids = 0
        self.registered: list[NewJob] = []
        self.grants: list[tuple[str, Grant]] = []
        self.trips: list[list[Settle]] = []
        self.beats = 0
        self.slots: dict[str, tuple[int, bool]] = {}

    @initialize()
    def empty(self) -> None:
        self.database.jobs.delete_many({})
        self.database.workers.delete_many({})

    # ---- one operation

    def _call(self, on: Service, action: Callable[[], Any], fault: Fault | None = None, **interlude: Any) -> Any:
        """The answer, or the error of an unknown outcome."""
        on.heard = Heard()
        on.plan.begin(fault=fault, **interlude)
        try:
            return action()
        except PyMongoError as error:
            if fault is None:
                raise
            return error
        finally:
            on.plan.begin()

    def _play(self, steps: Iterable[None], *, unsure: bool = False, claims: Iterable[Claim] = ()) -> None:
        """Let the model do the same; when it is unknown how far the ledger came, see which step each job has reached."""
        history = [self.model.copy()]
        history.extend(self.model.copy() for _ in steps)
        history.append(self.model.jobs)
        wanted = {claim.claim_id: claim for claim in claims}
        documents = {document["_id"]: document for document in self.database.jobs.find({})}
        reached: dict[str, ModelJob] = {}
        for pid in history[0] | history[-1]:
            states = [jobs.get(pid) for jobs in history] if unsure else [history[-1].get(pid)]
            self._find(pid, states, documents.get(pid), wanted, reached)
        assert not documents.keys() - history[0].keys() - history[-1].keys(), "jobs out of nowhere"
        self.model.jobs = reached

    def _find(
        self,
        pid: str,
        states: list[ModelJob | None],
        document: dict[str, Any] | None,
        claims: dict[str, Claim],
        reached: dict[str, ModelJob],
    ) -> None:
        different: list[str] = []
        for state in reversed(states):
            if state is None:
                different = ["is there"]
                if document is None:
                    return
                continue
            if document is None:
                different = ["is not there"]
                continue
            claim = claims.get(document.get("claim_id", ""))
            job = state
            if claim is not None and document["fence"] == state.fence + 1:
                job = state.copy()
                job.claim(claim, self.clock.now())
            different = differences(self.model, job, document)
            if not different:
                job.due = (document["due_at"],) * 2
                job.place = document["rank"]
                reached[pid] = job
                return
        raise AssertionError(f"job {pid}: {'; '.join(different)}")

    def _told(self, on: Service, before: dict[str, ModelJob], *, sure: bool = True) -> None:
        """What was published is true; and unless a call failed, all that happened was published."""
        jobs = self.model.jobs
        for pid in {change.pid for change in on.heard.states} & jobs.keys():
            states = {change.status for change in on.heard.states if change.pid == pid}
            assert jobs[pid].status in states, f"published that {pid} is {states}, but it is {jobs[pid].status}"
        if not sure:
            return
        published = {change.pid for change in on.heard.states}
        for pid, job in jobs.items():
            old = before.get(pid)
            if old is not None and (old.status, old.fence) != (job.status, job.fence):
                assert pid in published, f"nobody was told that {pid} is {job.status}"
            fresh = job.mails_due > (old.mails_due if old else 0)
            assert not fresh or pid in on.heard.mails, f"nobody was told that mail of {pid} is due"

    def _finish(self, wish: dict[str, Any]) -> Finish | None:
        """A report about one of the attempts that were ever granted."""
        raise NotImplementedError

    def _claim(self, on: Service, by: str, count: int, rival: str | None = None) -> None:
        """A worker that has heard of work and can do all of it."""
        raise NotImplementedError

    def _rival(self, on: Service, kind: str | None, trips: list[Settle]) -> Callable[[], None] | None:
        """What the other service does between this one's reading and its writing; None for nothing."""
        raise NotImplementedError


def mails_of(job: ModelJob) -> Counter[tuple[str, str]]:
    return Counter((mail.on.value, mail.state.value) for mail in job.mails)


def grant_of(job: ModelJob) -> Grant:
    """What a worker is handed with the job."""
    return Grant(
        pid=job.new.pid,
        fence=job.fence,
        task=job.new.task,
        task_version=job.new.task_version,
        params=job.new.params,
        attempt=job.attempts_used,
        max_attempts=job.new.max_attempts,
        time_limit=job.new.time_limit,
        claim_id=job.claim_id or "",
        notify=bool(job.mails),
        retention_days=job.new.retention_days,
    )


def differences(model: Model, job: ModelJob, document: dict[str, Any]) -> list[str]:
    """In what the ledger's document is not what the model says."""
    error = document.get("error")
    progress = document.get("progress")
    pairs: dict[str, tuple[Any, Any]] = {
        "status": (document["status"], job.status),
        "fence": (document["fence"], job.fence),
        "attempts_used": (document["attempts_used"], job.attempts_used),
        "worker": (document.get("worker"), job.worker),
        "claim_id": (document.get("claim_id"), job.claim_id),
        "cancel": (bool(document.get("cancel_requested_at")), job.cancel_accepted),
        "deleted": (document.get("deleted_at") is not None, job.deleted),
        "result": (document.get("result"), job.result),
        "error": (error and error["kind"], job.error),
        "progress": (progress and progress["percent"], job.progress),
        "finished_at": (document.get("finished_at"), job.finished_at),
        "expires_at": (document.get("expires_at"), job.expires_at),
        "mails": (Counter((entry["on"], entry["state"]) for entry in document["notifications"]), mails_of(job)),
        "attempts_total": (document["attempts_total"], job.attempts_total),
        "locks of an ended job": (job.status.terminal and any(name.startswith("held") for name in document), False),
        "attempts": (
            [
                (
                    *(a[name] for name in ("number", "fence", "worker", "started_at")),
                    *(a.get(name) for name in ("finished_at", "outcome")),
                    (a.get("error") or {}).get("kind"),
                )
                for a in document["attempts"]
            ],
            [(a.number, a.fence, a.worker, a.started_at, a.finished_at, a.outcome, a.error) for a in job.attempts],
        ),
    }
    different = [f"{name} is {is_!r}, should be {should!r}" for name, (is_, should) in pairs.items() if is_ != should]
    if not job.due[0] <= document["due_at"] <= job.due[1]:
        different.append(f"due at {document['due_at']}, should be within {job.due}")
    elif abs(document["rank"] - model.expected_place(job, document["due_at"])) > 1:
        different.append(f"rank is {document['rank']}")
    return different
