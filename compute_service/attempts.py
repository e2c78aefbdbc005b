"""How one attempt stands, and what its end means: the decisions of a slot, without its process."""

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from contracts.job import JobError, Progress
from contracts.messages import Finish, Grant
from contracts.status import ErrorKind, Outcome

MIB = 1024 * 1024


class Ending(StrEnum):
    """Why somebody wants the attempt to end."""

    CANCELLED = "cancelled"
    """The job was cancelled: ask, then kill."""
    SUPERSEDED = "superseded"
    """A newer claim owns the job: kill, and say nothing."""
    HANDED_BACK = "handed_back"
    """The worker stops: kill, and give the job back."""


@dataclass(kw_only=True, slots=True)
class AttemptState:
    """A running attempt. Moments are seconds of the monotonic clock."""

    grant: Grant
    memory_limit_mb: int | None = None
    time_limit_at: float = 0.0
    ending: Ending | None = None
    kill_at: float | None = None
    """When the grace of a signal that was sent is over."""
    signalled: bool = False
    """The child was interrupted; it is not trusted with another job."""
    killed_for: ErrorKind | None = None
    memory_poll_at: float = 0.0
    peak_memory_bytes: int | None = None
    killed: bool = False
    pipe_broken: bool = False
    """The task closed the pipe, or wrote into it."""
    progress: Progress | None = None
    """The newest that left the child."""

    def wake_at(self) -> float:
        """When something has to be done even if the child is silent."""
        moments = [self.kill_at if self.kill_at is not None else self.time_limit_at]
        if self.memory_limit_mb is not None:
            moments.append(self.memory_poll_at)
        return min(moments)


def reported(attempt: AttemptState, worker_id: str, report: dict[str, Any]) -> Finish | None:
    """The finish of an attempt whose child sent its report; None if there is nothing to say."""
    if attempt.ending is Ending.SUPERSEDED:
        return None
    grant = attempt.grant
    outcome = Outcome(report["outcome"])
    if attempt.ending is Ending.CANCELLED:
        outcome = Outcome.CANCELLED
    plain = outcome is Outcome.CANCELLED
    unsent = report["progress"]
    return Finish(
        pid=grant.pid,
        fence=grant.fence,
        worker_id=worker_id,
        outcome=outcome,
        result=None if plain else report["result"],
        error=None if plain or report["error"] is None else JobError.model_validate(report["error"]),
        retriable=False if plain else report["retriable"],
        retry_after_seconds=None if plain else report["retry_after_seconds"],
        progress=attempt.progress if unsent is None else Progress.model_validate(unsent),
        cpu_seconds=report["cpu_seconds"],
        peak_memory_bytes=_highest(report["peak_memory_bytes"], attempt.peak_memory_bytes),
        notify=grant.notify,
        locked=grant.locked,
        retention_days=grant.retention_days,
    )


def died(attempt: AttemptState, worker_id: str, exit_code: int | None, cpu_seconds: float | None) -> Finish | None:
    """The finish of an attempt whose child ended without a report; None if there is nothing to say."""
    if attempt.ending is Ending.SUPERSEDED:
        return None
    outcome, error = Outcome.FAILED, None
    if attempt.ending is Ending.CANCELLED:
        outcome = Outcome.CANCELLED
    elif attempt.killed_for is not None:
        error = _limit_error(attempt)
    elif attempt.ending is Ending.HANDED_BACK:
        outcome = Outcome.HANDED_BACK
    elif attempt.pipe_broken:
        message = "The job closed the pipe between its process and the worker, or wrote into it. It was killed."
        error = JobError(kind=ErrorKind.CRASHED, message=message)
    else:
        error = _crash_error(exit_code)
    return Finish(
        pid=attempt.grant.pid,
        fence=attempt.grant.fence,
        worker_id=worker_id,
        outcome=outcome,
        error=error,
        retriable=error is not None,
        progress=attempt.progress,
        cpu_seconds=cpu_seconds,
        peak_memory_bytes=attempt.peak_memory_bytes,
        notify=attempt.grant.notify,
        locked=attempt.grant.locked,
        retention_days=attempt.grant.retention_days,
    )


def unstarted(grant: Grant, worker_id: str, ending: Ending) -> Finish:
    """The finish of an attempt that was granted and never began: cancelled or handed back."""
    return Finish(
        pid=grant.pid,
        fence=grant.fence,
        worker_id=worker_id,
        outcome=Outcome(ending.value),
        notify=grant.notify,
        locked=grant.locked,
        retention_days=grant.retention_days,
    )


def refused(finish: Finish, reason: str) -> Finish:
    """What to report instead when the ledger does not take *finish*."""
    error = JobError(kind=ErrorKind.INVALID_RESULT, message=f"The ledger did not take the result: {reason}")
    return Finish(
        pid=finish.pid,
        fence=finish.fence,
        worker_id=finish.worker_id,
        outcome=Outcome.FAILED,
        error=error,
        notify=finish.notify,
        locked=finish.locked,
        retention_days=finish.retention_days,
    )


def _limit_error(attempt: AttemptState) -> JobError:
    if attempt.killed_for is ErrorKind.OUT_OF_MEMORY:
        used = (attempt.peak_memory_bytes or 0) // MIB
        message = f"The job's processes used {used} MiB; {attempt.memory_limit_mb} MiB are allowed. They were killed."
        return JobError(kind=ErrorKind.OUT_OF_MEMORY, message=message)
    limit = attempt.grant.time_limit
    return JobError(kind=ErrorKind.TIMEOUT, message=f"The time limit of {limit:g} s passed; the job was killed.")


def _crash_error(exit_code: int | None) -> JobError:
    if exit_code is not None and exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = str(-exit_code)
        return JobError(kind=ErrorKind.CRASHED, message=f"The job's process was killed by {name}.", signal=name)
    message = f"The job's process ended with exit code {exit_code} before the task returned."
    return JobError(kind=ErrorKind.CRASHED, message=message, exit_code=exit_code)


def _highest(*numbers: int | None) -> int | None:
    return max((number for number in numbers if number is not None), default=None)
