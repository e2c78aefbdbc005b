"""The messages between the services: what each request and reply carries.

Every message names its ``schema_version``. Fields may be added, and readers ignore those they do
not know; a change that an old reader would misread raises the version, and readers refuse a
version above their own.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.catalogue import CatalogueEntry, TaskDescriptor
from contracts.job import MAX_RETENTION_DAYS, MAX_RETRY_SECONDS, JobError, Progress
from contracts.status import JobStatus, NotifyOn, OnConflict, Outcome, Priority

SCHEMA_VERSION = 1

MAX_FINISHES = 64
"""How many attempts one message can report."""

RetrySeconds = Annotated[float, Field(ge=0, le=MAX_RETRY_SECONDS)]
RetentionDays = Annotated[float, Field(gt=0, le=MAX_RETENTION_DAYS)]


class Message(BaseModel):
    """Base of every message."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION


# ---- submitting: gateway → ledger.register


class Idempotency(Message):
    """The caller's key, and what it stands for."""

    key: str
    fingerprint: str
    """SHA-256 over task, params and options: the same key with another one is refused."""


class Notify(Message):
    """Whom to tell, and when."""

    email: str | None = None
    on: list[NotifyOn]


class NewJob(Message):
    """A validated submission."""

    pid: str
    owner: str
    task: str
    task_version: str
    pool: str
    params: dict[str, Any]
    priority: Priority = Priority.NORMAL
    reference: str | None = None
    tags: list[str] = Field(default_factory=list)
    not_before: datetime | None = None
    max_attempts: int
    time_limit: float
    first_retry_seconds: RetrySeconds | None = None
    last_retry_seconds: RetrySeconds | None = None
    retention_days: RetentionDays | None = None
    locks: list[str] = Field(default_factory=list)
    """Keys that no other active job may hold at the same time."""
    on_conflict: OnConflict = OnConflict.REJECT
    notify: Notify | None = None
    idempotency: Idempotency | None = None


class Ticket(Message):
    """The answer to a registration: the job is stored."""

    pid: str
    task: str
    status: JobStatus
    created_at: datetime
    due: bool
    """Whether it could start now: then the doorbell of its pool is rung."""
    replayed: bool = False
    """The idempotency key had this job already."""
    joined: bool = False
    """It is another job, which holds the locks and stands for this one."""


# ---- running: compute → ledger.settle, ledger.heartbeat


class Claim(Message):
    """A worker has free slots. Repeated with the same ``claim_id`` it gets the same grants."""

    claim_id: str
    worker_id: str
    pool: str
    tasks: list[str]
    count: int = Field(ge=1, le=256)
    heard: bool = True
    """There is reason to think that work waits: a bell, a new connection, a free slot that is new.
    Without, the ledger looks only if there was more when it looked last."""


class Grant(Message):
    """One job, handed to one worker, under one fence."""

    pid: str
    fence: int
    task: str
    task_version: str
    params: dict[str, Any]
    attempt: int
    max_attempts: int
    time_limit: float
    claim_id: str
    notify: bool = False
    """Somebody wants to be told of the outcome; echoed in `Finish`."""
    locked: bool = False
    """The job holds locks; echoed in `Finish`."""
    retention_days: RetentionDays | None = None
    """How long the ended job is kept, if not for the usual time; echoed in `Finish`."""


class Finish(Message):
    """How an attempt ended. Sent once per fence, after the child's pipe was read to the end."""

    pid: str
    fence: int
    worker_id: str
    outcome: Outcome
    result: Any = None
    error: JobError | None = None
    retriable: bool = False
    """Whether another attempt, if the budget has one, makes sense."""
    retry_after_seconds: RetrySeconds | None = None
    """The task's own wish; otherwise the ledger's back-off."""
    progress: Progress | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    notify: bool = False
    """`Grant.notify`, given back: spares the ledger a look before it wakes the notifier."""
    locked: bool = False
    """`Grant.locked`, given back: spares the ledger a look for those who wait for the locks."""
    retention_days: RetentionDays | None = None
    """`Grant.retention_days`, given back: spares the ledger a look before it ends the job."""


class Settle(Message):
    """One trip to the ledger: what ended, what is wanted next."""

    finishes: list[Finish] = Field(default_factory=list, max_length=MAX_FINISHES)
    claim: Claim | None = None
    repeated: bool = False
    """An answer to the same finishes or claim may have been lost."""


class Verdict(Message):
    """What became of a finish."""

    pid: str
    fence: int
    finish: Literal["stored", "superseded", "unknown"]
    """``superseded``: a newer claim owns the job. ``unknown``: the job is gone."""
    status: JobStatus | None = None
    """What the job is now."""


class Settled(Message):
    """The answer: the finishes are stored (or void), and these jobs are yours."""

    verdicts: list[Verdict] = Field(default_factory=list)
    """One per finish, in order."""
    grants: list[Grant] = Field(default_factory=list)
    more: bool = False
    """More work may be due in the pool."""


class RunningJob(Message):
    """A job that a worker holds, with its newest progress if that changed."""

    pid: str
    fence: int
    progress: Progress | None = None


class Heartbeat(Message):
    """A worker is alive: one every few seconds."""

    worker_id: str
    host: str
    process_id: int
    pool: str
    tasks: list[str]
    slots: int
    beat: int
    """Rises with every heartbeat; a beat that stands still is a worker that died."""
    started_at: datetime
    draining: bool = False
    running: list[RunningJob] = Field(default_factory=list)
    claiming: str | None = None
    """The claim whose answer has not come: what it was granted is missing in ``running``, and is not lost."""


class Stop(Message):
    """A job that a worker must stop."""

    pid: str
    fence: int
    reason: Literal["cancelled", "superseded"]


class HeartbeatReply(Message):
    """What the ledger wants of the worker."""

    stop: list[Stop] = Field(default_factory=list)
    announce: bool = False
    """The ledger does not know this worker's tasks: announce them."""


class Announcement(Message):
    """What a worker can run: compute → results.announce."""

    worker_id: str
    tasks: list[TaskDescriptor]


# ---- asking: gateway → ledger.get, results.*


class GetJob(Message):
    """One job by its pid."""

    pid: str
    owner: str


class Order(Message):
    """Cancel, delete or retry one job."""

    pid: str
    owner: str


class JobQuery(Message):
    """Which jobs to list; newest first."""

    owner: str
    status: list[JobStatus] = Field(default_factory=list)
    task: str | None = None
    tag: str | None = None
    reference: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    limit: int = Field(default=50, ge=1, le=200)
    after_pid: str | None = None
    """The last pid of the page before."""


class JobPage(Message):
    """A page of jobs in the API's form, and the pid to go on after."""

    jobs: list[dict[str, Any]]
    next_pid: str | None = None


class PoolLoad(Message):
    """How much waits and runs in one pool, over all owners."""

    pool: str
    due: int
    """Jobs that wait for a slot."""
    scheduled: int
    """Jobs that wait for their time."""
    running: int
    workers: int
    """Workers that are alive."""
    slots: int
    """Of all of them together."""


class PoolLoads(Message):
    """Every pool in which a job waits or runs or a worker lives."""

    pools: list[PoolLoad]


class Catalogue(Message):
    """All tasks that are accepted; ``version`` changes whenever they do."""

    version: str
    tasks: list[CatalogueEntry]


# ---- events


class StateChange(Message):
    """A job is now in another state."""

    pid: str
    status: JobStatus
    fence: int


class JobsChanged(Message):
    """What one write of the ledger has changed; look there for the rest."""

    changes: list[StateChange]


class NotificationDue(Message):
    """A job has mail that is due."""

    pid: str


class Doorbell(Message):
    """Work waits in a pool."""

    pool: str
