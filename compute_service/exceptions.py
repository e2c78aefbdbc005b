"""What a task may raise, what may be raised in it, and what is said about a task that cannot be."""

from __future__ import annotations

from contracts.job import MAX_RETRY_SECONDS


class TaskDefinitionError(TypeError):
    """A task that cannot be offered as it is written; names the function and the fault."""


class Retry(Exception):
    """Try this job again, in *after* seconds if given, as far as its budget of attempts allows.

    Raises `ValueError` if *after* is negative or more than a year.
    """

    def __init__(self, message: str = "The task asked to be tried again.", *, after: float | None = None) -> None:
        if after is not None and not 0 <= after <= MAX_RETRY_SECONDS:
            msg = f"Retry(after={after!r}): seconds that are zero or more, and a year at most"
            raise ValueError(msg)
        super().__init__(message)
        self.after = after


class InvalidParams(Exception):
    """The parameters cannot work, for a reason that annotations cannot say. Never retried.

    *pointer* is an RFC 6901 pointer into the parameters, such as ``/sequences/0``.
    """

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer


class Stopped(BaseException):
    """The running task has to end. Not an `Exception`, so that ``except Exception`` lets it pass."""


class Cancelled(Stopped):
    """Somebody cancelled the job. Tidy up and let it pass: soon the process is killed."""


class TimeLimitExceeded(Stopped):
    """The time limit passed. Tidy up, or return what there is: soon the process is killed."""
