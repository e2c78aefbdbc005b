"""What owners ask for: registering, cancelling, deleting, running again."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)
from ledger_faults import Fault
from ledger_machine import Machine, Service
from ledger_model import UNDONE, ModelJob
from ledger_wishes import MOST_JOBS, ORDERS, OWNERS, fault, pick, service, submission
from pymongo.errors import PyMongoError

from contracts.errors import IdempotencyMismatch, NoReply, NotCancellable, NotFound, NotRetryable
from contracts.messages import (
    Finish,
    Idempotency,
    NewJob,
    Notify,
    Order,
    Settle,
    Ticket,
)
from contracts.status import JobStatus, Outcome


class Owners(Machine):
    """Requests that come from a gateway."""

    # ---- registering

    def _pid(self, shuffle: int) -> str:
        """A UUIDv7 of this moment; within a millisecond the order is not that of the calls."""
        self.ids += 1
        text = f"{int(self.clock.time.timestamp() * 1000):012x}7{shuffle:03x}8{self.ids:015x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    @precondition(lambda self: len(self.model.jobs) < MOST_JOBS)
    @rule(on=service, submissions=st.lists(submission, min_size=1, max_size=3), fault=fault)
    def register(self, on: int, submissions: list[dict[str, Any]], fault: Fault | None) -> None:
        jobs = []
        for wish in submissions:
            job = NewJob(
                pid=self._pid(wish["shuffle"]),
                owner=wish["owner"],
                task=wish["task"],
                task_version="1",
                pool="p",
                params={"n": self.ids},
                priority=wish["priority"],
                max_attempts=wish["max_attempts"],
                time_limit=60.0,
                retention_days=wish["retention_days"],
                not_before=None if wish["wait"] is None else self.clock.now() + timedelta(seconds=wish["wait"]),
                notify=None if wish["on"] is None else Notify(email="ada@example.org", on=wish["on"]),
                idempotency=None
                if wish["key"] is None
                else Idempotency(key=wish["key"][0], fingerprint=wish["key"][1]),
            )
            jobs += [job, job] if wish["twice"] else [job]
        self.registered += jobs
        self._register(self.services[on], jobs, fault)

    @precondition(lambda self: self.registered)
    @rule(on=service, which=pick, fault=fault)
    def register_again(self, on: int, which: int, fault: Fault | None) -> None:
        job = self.registered[-1 - which % len(self.registered)]
        known = job.pid in self.model.jobs
        if known or job.idempotency is not None:  # not what was deleted, or never stored: that would be a new job
            self._register(self.services[on], [job], fault)

    def _register(self, on: Service, jobs: list[NewJob], fault: Fault | None) -> None:
        now = self.clock.now()
        answers = self._call(on, lambda: on.ledger.register(jobs), fault)
        before = self.model.copy()
        stored = {document["_id"] for document in self.database.jobs.find({}, {"_id": 1})}
        unknown = [isinstance(answer, NoReply) for answer in answers]
        assert fault is not None or not any(unknown), "nothing failed, but the outcome is said to be unknown"
        expected: list[tuple[str, bool] | None] = []

        def steps() -> Iterator[None]:
            for job, unsure in zip(jobs, unknown, strict=True):
                # Unknown is unknown; the job is there or it is not.
                expected.append(None if unsure and job.pid not in stored else self.model.register(job, now))
                yield

        self._play(steps())
        for job, answer, ticket in zip(jobs, answers, expected, strict=True):
            if isinstance(answer, NoReply):
                continue
            if ticket is None:
                assert isinstance(answer, IdempotencyMismatch), f"{job.pid}: {answer!r}"
                continue
            assert isinstance(answer, Ticket), f"{job.pid}: {answer!r}"
            assert (answer.pid, answer.replayed) == ticket
            there = self.model.jobs[answer.pid]
            assert (answer.status, answer.due) == (there.status, there.waits(now))
        self._told(on, before, sure=fault is None)

    # ---- orders

    @precondition(lambda self: self.model.jobs)
    @rule(
        on=service,
        kind=st.sampled_from(("cancel", "delete")),
        which=pick,
        owner=st.sampled_from((None, None, None, None, *OWNERS)),
        fault=fault,
        rival=st.sampled_from((None, "retry", "retry", "claim", "same", "cancel", "delete")),
        at=st.sampled_from((4, 4, 3, 2, 1)),
    )
    def order(  # noqa: PLR0913, PLR0917 -- a rule takes what it draws
        self, on: int, kind: str, which: int, owner: str | None, fault: Fault | None, rival: str | None, at: int
    ) -> None:
        pids = sorted(self.model.jobs)
        job = self.model.jobs[pids[which % len(pids)]]
        self._order(self.services[on], kind, job.new.pid, owner or job.owner, fault, self._against(job, rival, at))

    @precondition(lambda self: any(job.status in UNDONE and not job.deleted for job in self.model.jobs.values()))
    @rule(on=service, which=pick, fault=fault, rival=st.sampled_from((None, *ORDERS)), at=st.sampled_from((1, 1, 0)))
    def retry(self, on: int, which: int, fault: Fault | None, rival: str | None, at: int) -> None:
        jobs = [job for _, job in sorted(self.model.jobs.items()) if job.status in UNDONE and not job.deleted]
        job = jobs[which % len(jobs)]
        self._order(self.services[on], "retry", job.new.pid, job.owner, fault, self._against(job, rival, at))

    def _against(self, job: ModelJob, rival: str | None, at: int) -> tuple[str | None, int, list[Settle]]:
        """What comes between the calls of an order, and before which one."""
        held = [grant for _, grant in self.grants if grant.pid == job.new.pid]
        finish = [
            Finish(
                pid=grant.pid,
                fence=grant.fence,
                worker_id="w",
                outcome=Outcome.SUCCEEDED,
                notify=grant.notify,
                retention_days=grant.retention_days,
            )
            for grant in held[-1:]
        ]
        if rival in ORDERS:
            found = Finish(pid=job.new.pid, fence=0, worker_id="w", outcome=Outcome.SUCCEEDED)
            finish = finish or [found]
        return rival, at, [Settle(finishes=finish)]

    def _order(  # noqa: PLR0913, PLR0917 -- as the rules that call it
        self,
        on: Service,
        kind: str,
        pid: str,
        owner: str,
        fault: Fault | None = None,
        rival: tuple[str | None, int, list[Settle]] = (None, 0, []),
    ) -> None:
        now = self.clock.now()
        order = Order(pid=pid, owner=owner)

        def act() -> Any:
            try:
                return getattr(on.ledger.orders, kind)(order)
            except (NotFound, NotCancellable, NotRetryable) as refusal:
                return refusal

        interlude = self._rival(on, rival[0], rival[2])
        answer = self._call(on, act, fault, interlude=interlude, at=rival[1])
        before = self.model.copy()
        expected: list[Any] = []

        def steps() -> Iterator[None]:
            expected.append(getattr(self.model, kind)(pid, owner, now))
            yield

        unsure = isinstance(answer, PyMongoError)
        self._play(steps(), unsure=unsure)
        self._told(on, before, sure=not unsure)
        if unsure:
            return
        if kind == "delete":
            assert (answer is None) is expected[0], repr(answer)
        elif expected[0] is None:
            assert isinstance(answer, NotFound)
        elif kind == "retry" and expected[0] is not JobStatus.PENDING:
            assert isinstance(answer, NotRetryable)
        elif expected[0] in (JobStatus.SUCCEEDED, JobStatus.FAILED):
            assert isinstance(answer, NotCancellable)
        else:
            assert (answer.pid, answer.status) == (pid, expected[0])
        job = self.model.jobs.get(pid)
        if job is not None and job.status is JobStatus.RUNNING and expected[0] and kind != "retry":
            assert on.heard.stops == [(job.worker, pid, job.fence)]
