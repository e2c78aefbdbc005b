"""What the ledger promises, without a database: a dictionary of jobs, one method per thing that can happen.

Written from the promises, not from the ledger's code, so that the two can be held against each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from contracts.job import KEPT_ATTEMPTS, KEPT_NOTIFICATIONS
from contracts.messages import Claim, Finish, NewJob
from contracts.status import ErrorKind, JobStatus, NotificationState, NotifyOn, Outcome, Priority
from results_service.settings import ResultsSettings

MISSED_BEATS = 3
"""A job that its worker leaves out of so many beats in a row is taken back."""
UNSETTLED = (NotificationState.DUE, NotificationState.WAITING)
UNDONE = (JobStatus.FAILED, JobStatus.CANCELLED)
STEPS = {Priority.HIGH: -1, Priority.NORMAL: 0, Priority.LOW: 1}
MILLISECOND = timedelta(milliseconds=1)


@dataclass(kw_only=True)
class ModelAttempt:
    """One claim of a job, and what came of it."""

    number: int
    fence: int
    worker: str
    started_at: datetime
    finished_at: datetime | None = None
    outcome: Outcome | None = None
    error: ErrorKind | None = None

    def end(self, outcome: Outcome, now: datetime, error: ErrorKind | None) -> None:
        """The last word on this attempt so far."""
        self.outcome, self.finished_at, self.error = outcome, now, error


@dataclass(kw_only=True)
class Mail:
    """One entry of the outbox."""

    on: NotifyOn
    state: NotificationState


@dataclass(kw_only=True)
class ModelJob:
    """A job as the design describes it."""

    new: NewJob
    due: tuple[datetime, datetime]
    """The earliest and the latest moment at which it may start; the same once the ledger has chosen."""
    mails: list[Mail]
    retention: timedelta
    key_until: datetime | None
    status: JobStatus = JobStatus.PENDING
    fence: int = 0
    attempts_used: int = 0
    attempts_total: int = 0
    attempts: list[ModelAttempt] = field(default_factory=list)
    reported: set[int] = field(default_factory=set)
    """Fences whose worker has reported, or whose claim the ledger took back."""
    stopped: set[int] = field(default_factory=set)
    """Fences whose attempt was told to stop by a cancel."""
    place: int = 0
    worker: str | None = None
    claim_id: str | None = None
    cancel_accepted: bool = False
    deleted: bool = False
    progress: float | None = None
    result: Any = None
    error: ErrorKind | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None

    def copy(self) -> "ModelJob":
        """The same, independent of this one."""
        return replace(
            self,
            mails=[replace(mail) for mail in self.mails],
            attempts=[replace(attempt) for attempt in self.attempts],
            reported=set(self.reported),
            stopped=set(self.stopped),
        )

    @property
    def owner(self) -> str:
        return self.new.owner

    @property
    def mail_settled(self) -> bool:
        return not any(mail.state in UNSETTLED for mail in self.mails)

    @property
    def mails_due(self) -> int:
        return sum(mail.state is NotificationState.DUE for mail in self.mails)

    def waits(self, now: datetime) -> bool:
        """Whether it could start now."""
        return self.status is JobStatus.PENDING and self.due[1] <= now

    def fits(self, claim: Claim) -> bool:
        """Whether the worker can run it."""
        return self.new.pool == claim.pool and self.new.task in claim.tasks

    def end(self, status: JobStatus, now: datetime) -> None:
        """The one outcome of this run of the budget."""
        assert not self.status.terminal, f"a second outcome of {self.new.pid}: {status} after {self.status}"
        self.status, self.finished_at, self.expires_at = status, now, now + self.retention
        for mail in self.mails:
            if mail.state is NotificationState.WAITING:
                mail.state = NotificationState.DUE if mail.on.value == status.value else NotificationState.SKIPPED

    def run_again(self, now: datetime) -> None:
        """A new budget, and everybody is told again; what was claimed before can change nothing any more."""
        self.status, self.due, self.fence, self.attempts_used = JobStatus.PENDING, (now, now), self.fence + 1, 0
        self.result = self.error = self.progress = self.finished_at = self.expires_at = None
        self.cancel_accepted = False
        accepted = [mail for mail in self.mails if mail.on is NotifyOn.ACCEPTED]
        outcomes = [mail for mail in self.mails if mail.on is not NotifyOn.ACCEPTED]
        told = [mail for mail in outcomes if mail.state is not NotificationState.SKIPPED][-KEPT_NOTIFICATIONS:]
        anew = [Mail(on=on, state=NotificationState.WAITING) for on in sorted({mail.on for mail in outcomes})]
        self.mails = [*accepted, *told, *anew]

    def claim(self, claim: Claim, now: datetime) -> None:
        """Pending → running under the next fence."""
        assert self.waits(now), f"{self.new.pid} was granted although it does not wait: {self.status}, {self.due}"
        assert self.fits(claim), f"{self.new.pid} was granted to a worker that cannot run it"
        assert not self.cancel_accepted, f"{self.new.pid} starts after its cancel was accepted"
        assert self.attempts_used < self.new.max_attempts, f"{self.new.pid} starts beyond its budget"
        self.status, self.fence, self.worker, self.claim_id = (
            JobStatus.RUNNING,
            self.fence + 1,
            claim.worker_id,
            claim.claim_id,
        )
        self.attempts_used += 1
        self.attempts_total += 1
        self.progress = None
        attempt = ModelAttempt(number=self.attempts_total, fence=self.fence, worker=claim.worker_id, started_at=now)
        self.attempts = [*self.attempts, attempt][-KEPT_ATTEMPTS:]


class Model:
    """All jobs, and what is known of the workers."""

    def __init__(self, settings: ResultsSettings) -> None:
        self.settings = settings
        self.jobs: dict[str, ModelJob] = {}
        self.beats: dict[str, int] = {}

    def copy(self) -> dict[str, ModelJob]:
        """All jobs as they are now."""
        return {pid: job.copy() for pid, job in self.jobs.items()}

    # ---- the owner's side

    def register(self, new: NewJob, now: datetime) -> tuple[str, bool] | None:
        """The pid that the caller gets and whether its key had it before; None if the key is another payload's."""
        if new.pid in self.jobs:
            return new.pid, False
        if new.idempotency is not None:
            for pid, job in self.jobs.items():
                held = job.new.idempotency
                mine = held is not None and job.owner == new.owner and held.key == new.idempotency.key
                if mine and job.key_until is not None and job.key_until > now and not job.deleted:
                    return (pid, True) if held and held.fingerprint == new.idempotency.fingerprint else None
        due = max(new.not_before, now) if new.not_before else now
        mails = []
        if new.notify is not None and new.notify.email is not None:
            mails = [
                Mail(on=on, state=NotificationState.DUE if on is NotifyOn.ACCEPTED else NotificationState.WAITING)
                for on in new.notify.on
            ]
        key_until = now + timedelta(hours=self.settings.idempotency_hours) if new.idempotency else None
        kept = timedelta(days=new.retention_days or self.settings.retention_days)
        self.jobs[new.pid] = ModelJob(new=new, due=(due, due), mails=mails, retention=kept, key_until=key_until)
        return new.pid, False

    def visible(self, pid: str, owner: str) -> ModelJob | None:
        """What an owner sees under a pid; None is 404."""
        job = self.jobs.get(pid)
        return job if job is not None and job.owner == owner and not job.deleted else None

    def cancel(self, pid: str, owner: str, now: datetime) -> JobStatus | None:
        """The status after the request; None is 404, succeeded and failed are refusals."""
        job = self.visible(pid, owner)
        if job is None:
            return None
        if job.status is JobStatus.PENDING:
            job.end(JobStatus.CANCELLED, now)
        elif job.status is JobStatus.RUNNING:
            job.cancel_accepted = True
        if job.status in (JobStatus.RUNNING, JobStatus.CANCELLED):
            job.stopped.add(job.fence)
        return job.status

    def delete(self, pid: str, owner: str, now: datetime) -> bool:
        """Whether there was something to delete."""
        job = self.visible(pid, owner)
        if job is None:
            return False
        self.cancel(pid, owner, now)
        job.deleted = True
        return True

    def retry(self, pid: str, owner: str, now: datetime) -> JobStatus | None:
        """Pending if it runs again; None is 404, any other status a refusal."""
        job = self.visible(pid, owner)
        if job is None:
            return None
        if job.status in UNDONE:
            job.run_again(now)
            return JobStatus.PENDING
        return job.status if job.status.terminal else JobStatus.RUNNING

    # ---- the worker's side

    def finish(self, finish: Finish, now: datetime) -> tuple[set[str], JobStatus | None]:
        """What the verdict may be, and the status after it. At most one report per fence counts."""
        job = self.jobs.get(finish.pid)
        if job is None:
            return {"unknown"}, None
        if finish.fence in job.reported:
            return ({"stored"} if finish.fence == job.fence else {"stored", "superseded"}), job.status
        if finish.fence != job.fence or job.status.terminal:
            return {"superseded"}, job.status
        job.reported.add(finish.fence)
        outcome = Outcome.CANCELLED if job.cancel_accepted else finish.outcome
        job.attempts[-1].end(outcome, now, finish.error.kind if finish.error else None)
        if finish.progress is not None:
            job.progress = finish.progress.percent
        if job.cancel_accepted:
            job.end(JobStatus.CANCELLED, now)
        elif finish.outcome is Outcome.HANDED_BACK:
            job.status = JobStatus.PENDING
            job.attempts_used -= 1
        elif finish.outcome is Outcome.FAILED and finish.retriable and job.attempts_used < job.new.max_attempts:
            job.status = JobStatus.PENDING
            wish = finish.retry_after_seconds
            job.due = self._back_off(job, now) if wish is None else (now + timedelta(seconds=wish),) * 2
        else:
            job.end(JobStatus(finish.outcome.value), now)
            job.result = finish.result
            job.error = finish.error.kind if finish.error else None
        return {"stored"}, job.status

    def progress(self, pid: str, fence: int, percent: float) -> None:
        """Counts only for the attempt that runs."""
        job = self.jobs.get(pid)
        if job is not None and job.status is JobStatus.RUNNING and job.fence == fence:
            job.progress = percent

    def stop(self, pid: str, fence: int) -> set[str | None]:
        """What a worker that lists this attempt may be told; None is: go on."""
        job = self.jobs.get(pid)
        if job is None or job.fence != fence:
            return {"superseded"}
        if job.cancel_accepted or job.status is JobStatus.CANCELLED:
            return {"cancelled", "superseded"} if fence in job.reported else {"cancelled"}
        if fence in job.reported:  # its own report, or a claim that was taken back
            return {"superseded", None}
        return {"superseded"} if job.status.terminal else {None}

    # ---- the sweep

    def give_up(self, worker: str, now: datetime) -> Iterator[None]:
        """The worker is lost: each of its attempts counts as failed. Fences stay, so its finish may still come."""
        for job in self.jobs.values():
            if job.worker != worker or job.status is not JobStatus.RUNNING:
                continue
            job.attempts[-1].end(Outcome.FAILED, now, ErrorKind.WORKER_LOST)
            if job.cancel_accepted:
                job.end(JobStatus.CANCELLED, now)
            elif job.attempts_used >= job.new.max_attempts:
                job.end(JobStatus.FAILED, now)
                job.error = ErrorKind.WORKER_LOST
            else:
                job.status = JobStatus.PENDING
                again = any(attempt.error is ErrorKind.WORKER_LOST for attempt in job.attempts[:-1])
                job.due = self._back_off(job, now) if again else (now, now)
            yield

    def expire(self, now: datetime) -> Iterator[None]:
        """What has had its time is hidden; nothing active and nothing with mail still due."""
        for job in self.jobs.values():
            if job.status.terminal and job.mail_settled and job.expires_at and job.expires_at <= now:
                job.deleted = True
                yield

    def bury(self) -> Iterator[None]:
        """Tombstones go when the attempt has ended and the mail is settled."""
        for pid in [p for p, j in self.jobs.items() if j.deleted and j.status.terminal and j.mail_settled]:
            del self.jobs[pid]
            yield

    def next_due(self, now: datetime) -> datetime | None:
        """The earliest moment for which something is scheduled."""
        later = [j.due[0] for j in self.jobs.values() if j.status is JobStatus.PENDING and j.due[0] > now]
        return min(later, default=None)

    def ahead(self, job: ModelJob, now: datetime) -> int:
        """How many jobs of the pool start before this one."""
        place = (job.place, job.new.pid)
        same = (j for j in self.jobs.values() if j.new.pool == job.new.pool and j.waits(now))
        return sum((other.place, other.new.pid) < place for other in same)

    def expected_place(self, job: ModelJob, due_at: datetime) -> float:
        """Priority with ageing, in milliseconds: one step of priority is worth so many seconds of waiting."""
        return (due_at.timestamp() + STEPS[job.new.priority] * self.settings.priority_step_seconds) * 1000

    def _back_off(self, job: ModelJob, now: datetime) -> tuple[datetime, datetime]:
        """Exponential with a cap, and jitter of up to a half."""
        longest = min(
            self.settings.first_retry_seconds * 2 ** (job.attempts_used - 1), self.settings.last_retry_seconds
        )
        return now + timedelta(seconds=longest / 2) - MILLISECOND, now + timedelta(seconds=longest)
