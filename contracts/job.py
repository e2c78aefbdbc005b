"""The job as the API shows it, and its parts. The ledger's document is the ledger's own business."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from contracts.status import ErrorKind, JobStatus, NotificationState, NotifyOn, Outcome, Priority

MAX_TRACEBACK_BYTES = 16 * 1024
KEPT_ATTEMPTS = 20
MAX_RETENTION_DAYS = 3650
"""How long a job can ask to be kept after its end."""
MAX_RETRY_SECONDS = 365 * 86400
"""The longest pause between two attempts that a task can ask for."""
KEPT_NOTIFICATIONS = 20
"""Of earlier outcomes, beside those of the present run."""


class Part(BaseModel):
    """Base of everything a job consists of."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Progress(Part):
    """How far the running attempt is."""

    percent: float | None = Field(default=None, ge=0, le=100)
    done: float | None = None
    total: float | None = None
    stage: str | None = Field(default=None, max_length=128)
    message: str | None = Field(default=None, max_length=1024)
    eta_seconds: float | None = None
    updated_at: datetime


class JobError(Part):
    """Why an attempt failed."""

    kind: ErrorKind
    message: str
    type: str | None = None
    """Name of the exception class, for `task_error`."""
    traceback: str | None = None
    """For the owner; at most 16 KiB, the end is kept."""
    exit_code: int | None = None
    signal: str | None = None
    errors: list[dict[str, str]] | None = None
    """For `invalid_params`: ``[{pointer, detail}]``."""


class Attempt(Part):
    """One attempt to run the job."""

    number: int
    """Counts from 1 through the job's whole life: hand-backs and explicit retries included."""
    worker: str
    started_at: datetime
    finished_at: datetime | None = None
    outcome: Outcome | None = None
    error: JobError | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None


class JobFile(Part):
    """A file that the job produced."""

    name: str
    size: int
    content_type: str
    href: str


class Notification(Part):
    """One entry of the outbox."""

    channel: str
    to: str
    on: NotifyOn
    state: NotificationState
    at: datetime | None = None


class Job(Part):
    """A job as ``GET /jobs/{pid}`` answers it, but for the links, which the gateway adds."""

    pid: str
    task: str
    task_version: str
    status: JobStatus
    params: dict[str, Any] = Field(default_factory=dict)
    owner: str
    reference: str | None = None
    tags: list[str] = Field(default_factory=list)
    progress: Progress | None = None
    attempt: int
    """Attempts of this budget that counted so far; the one that runs is among them."""
    max_attempts: int
    attempts: list[Attempt] = Field(default_factory=list)
    """The last 20, oldest first."""
    attempts_total: int = 0
    """How many there ever were: the number of the newest."""
    locks: list[str] = Field(default_factory=list)
    priority: Priority
    created_at: datetime
    not_before: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    queue_position: int | None = None
    """1 is the next to start; None unless pending and due."""
    error: JobError | None = None
    result: Any = None
    files: list[JobFile] = Field(default_factory=list)
    notifications: list[Notification] = Field(default_factory=list)
