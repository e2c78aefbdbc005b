"""The states of a job and the other closed vocabularies of the API, the database and the events."""

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands. The last three are terminal."""

    PENDING = "pending"
    """Stored; waits for a slot, its time, or its next attempt."""
    RUNNING = "running"
    """Claimed by a worker."""
    SUCCEEDED = "succeeded"
    """Ended with a result."""
    FAILED = "failed"
    """Ended with an error; the budget of attempts is spent or the error is final."""
    CANCELLED = "cancelled"
    """Ended because somebody asked for it."""

    @property
    def terminal(self) -> bool:
        """Whether the job has its outcome."""
        return self in TERMINAL


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})
ACTIVE = frozenset({JobStatus.PENDING, JobStatus.RUNNING})
RETRYABLE = frozenset({JobStatus.FAILED, JobStatus.CANCELLED})
"""Terminal states that an explicit retry leaves again."""


class ErrorKind(StrEnum):
    """Why an attempt failed."""

    TASK_ERROR = "task_error"
    """The task raised."""
    INVALID_PARAMS = "invalid_params"
    """The task's own validators refused the parameters; never retried."""
    INVALID_RESULT = "invalid_result"
    """The task returned something that its annotation or the bounds do not allow."""
    TIMEOUT = "timeout"
    """The time limit passed."""
    OUT_OF_MEMORY = "out_of_memory"
    """The memory limit was reached."""
    CRASHED = "crashed"
    """The child process died; the exit code or signal is kept."""
    WORKER_LOST = "worker_lost"
    """The worker that ran the attempt was given up."""


class Outcome(StrEnum):
    """How one attempt ended, as its worker reports it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    HANDED_BACK = "handed_back"
    """The worker drains and gives the job back; does not count as an attempt."""


class OnConflict(StrEnum):
    """What becomes of a submission whose lock keys another active job holds."""

    REJECT = "reject"
    """It is refused."""
    QUEUE = "queue"
    """It is accepted, and starts when the keys are free, in order."""
    JOIN = "join"
    """The job that holds them all stands for it, if it runs the same task; otherwise refused."""


class Priority(StrEnum):
    """Which of two due jobs goes first; ageing lets a low one pass in the end."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class NotifyOn(StrEnum):
    """The moments at which somebody can be told."""

    ACCEPTED = "accepted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class NotificationState(StrEnum):
    """Where one entry of a job's outbox stands."""

    WAITING = "waiting"
    """Its moment has not come."""
    DUE = "due"
    """To be sent, now or after a back-off."""
    SENT = "sent"
    """The mail server has accepted it."""
    FAILED = "failed"
    """Given up: the server refuses it for good, or every try was used."""
    SUPPRESSED = "suppressed"
    """Not sent, because the recipient is not on the allow-list."""
    SKIPPED = "skipped"
    """Its moment cannot come any more: the job ended otherwise."""
