"""What came of calling a task: a result, or the error of a failed attempt."""

import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from compute_service.definition import TaskDefinition
from compute_service.exceptions import InvalidParams, Retry
from compute_service.text import clean, last_bytes
from contracts.bounds import escape
from contracts.job import MAX_TRACEBACK_BYTES, JobError
from contracts.status import ErrorKind, Outcome

MAX_ERROR_MESSAGE = 2000
MAX_ERROR_TYPE = 200
MAX_ERRORS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOutcome:
    """How the call ended, as the child sees it."""

    outcome: Outcome
    result: Any = None
    error: JobError | None = None
    retriable: bool = False
    retry_after_seconds: float | None = None


def failed(kind: ErrorKind, message: str, *, errors: list[dict[str, str]] | None = None) -> TaskOutcome:
    """A failure that another attempt would only repeat."""
    error = JobError(kind=kind, message=clean(message, MAX_ERROR_MESSAGE), errors=errors)
    return TaskOutcome(outcome=Outcome.FAILED, error=error)


def stopped_by_limit(kind: ErrorKind, message: str, exception: BaseException | None = None) -> TaskOutcome:
    """A limit was reached; another attempt may fare better."""
    trace = None if exception is None else _traceback(exception)
    error = JobError(kind=kind, message=message, traceback=trace)
    return TaskOutcome(outcome=Outcome.FAILED, error=error, retriable=True)


def raised(exception: BaseException, definition: TaskDefinition) -> TaskOutcome:
    """The task raised; whether another attempt makes sense is what its definition says."""
    error = JobError(
        kind=ErrorKind.TASK_ERROR,
        message=clean(exception, MAX_ERROR_MESSAGE) or type(exception).__name__,
        type=clean(type(exception).__qualname__, MAX_ERROR_TYPE),
        traceback=_traceback(exception),
    )
    return TaskOutcome(
        outcome=Outcome.FAILED,
        error=error,
        retriable=isinstance(exception, (Retry, *definition.retry_on)),
        retry_after_seconds=exception.after if isinstance(exception, Retry) else None,
    )


def invalid_params(error: ValidationError | InvalidParams, params: Mapping[str, Any]) -> TaskOutcome:
    """The task's own validators refused the parameters."""
    if isinstance(error, InvalidParams):
        errors = [
            {"pointer": clean(error.pointer, MAX_ERROR_MESSAGE), "detail": clean(error.detail, MAX_ERROR_MESSAGE)}
        ]
    else:
        errors = [
            {
                "pointer": pointer(fault["loc"], params, missing=fault["type"] == "missing"),
                "detail": clean(fault["msg"], MAX_ERROR_MESSAGE),
            }
            for fault in error.errors(include_url=False, include_input=False, include_context=False)[:MAX_ERRORS]
        ]
    first = errors[0]
    where = first["pointer"] or "the parameters"
    return failed(ErrorKind.INVALID_PARAMS, f"{where}: {first['detail']}", errors=errors)


def pointer(location: Sequence[int | str], document: Any, *, missing: bool = False) -> str:
    """The RFC 6901 pointer of pydantic's *location* in *document*.

    pydantic also names the branches of unions and the validators on the way; what the document does
    not have is left out, but for the last token where the fault is that it is *missing*.
    """
    tokens: list[str] = []
    here = document
    for position, token in enumerate(location):
        in_dict = isinstance(here, dict) and token in here
        in_list = isinstance(here, list) and isinstance(token, int) and token < len(here)
        if in_dict or in_list:
            here = here[token]
        elif not (missing and position == len(location) - 1):
            continue
        tokens.append(escape(str(token)))
    return clean("".join(f"/{token}" for token in tokens), MAX_ERROR_MESSAGE)


def _traceback(exception: BaseException) -> str:
    """The traceback without the frames of the child itself; the end is kept."""
    trace = exception.__traceback__
    inner = trace.tb_next if trace is not None else None
    try:
        lines: Iterable[str] = traceback.format_exception(type(exception), exception, inner or trace)
    except Exception:  # noqa: BLE001 -- a broken __str__ must not cost the job its report
        lines = traceback.format_tb(inner or trace)
    return last_bytes("".join(lines), MAX_TRACEBACK_BYTES)
