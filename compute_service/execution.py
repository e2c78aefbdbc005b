"""One attempt inside the child: parameters in, outcome out."""

import time
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from compute_service.definition import TaskDefinition
from compute_service.exceptions import Cancelled, InvalidParams, Stopped
from compute_service.interrupts import Interrupts
from compute_service.job import Job
from compute_service.outcomes import TaskOutcome, failed, invalid_params, raised, stopped_by_limit
from contracts import bounds, codec
from contracts.status import ErrorKind, Outcome

INVALID_RESULT = "The task returned what its annotation does not allow: "


def execute(  # noqa: PLR0911 -- one per way to end
    definition: TaskDefinition, params: Mapping[str, Any], job: Job, interrupts: Interrupts
) -> TaskOutcome:
    """Validate *params*, call the task, validate what it returns.

    Raises `MemoryError`, which can be described only when there is memory again, and nothing else.
    """
    try:
        arguments = dict(definition.params.model_validate(params).__dict__)
    except ValidationError as error:
        return invalid_params(error, params)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 -- a validator of the task may raise anything
        return raised(error, definition)
    if definition.job_parameter is not None:
        arguments[definition.job_parameter] = job
    began = time.monotonic()
    try:
        try:
            interrupts.begin(job)
            value = definition.function(**arguments)
        finally:
            interrupts.end()
    except Cancelled:
        interrupts.end()
        return TaskOutcome(outcome=Outcome.CANCELLED)
    except Stopped as stop:
        interrupts.end()
        seconds = time.monotonic() - began
        return stopped_by_limit(ErrorKind.TIMEOUT, f"The time limit passed; stopped after {seconds:.1f} s.", stop)
    except MemoryError:
        raise
    except InvalidParams as error:
        return invalid_params(error, params)
    except BaseException as error:  # noqa: BLE001 -- SystemExit and the like end the attempt, not the child
        return raised(error, definition)
    return _succeeded(definition, value)


def _succeeded(definition: TaskDefinition, value: Any) -> TaskOutcome:
    try:
        result = definition.result.dump_python(
            definition.result.validate_python(value), mode="json", by_alias=True, warnings="error"
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the result"
        return failed(ErrorKind.INVALID_RESULT, f"{INVALID_RESULT}{where}: {first['msg']}")
    except PydanticSerializationError as error:
        return failed(ErrorKind.INVALID_RESULT, f"{INVALID_RESULT}{error}")
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 -- a validator or serializer of the result may raise anything
        return failed(ErrorKind.INVALID_RESULT, f"{INVALID_RESULT}{error!r}")
    for fault in bounds.faults(result):
        where = fault.pointer or "the result"
        return failed(ErrorKind.INVALID_RESULT, f"The result cannot be stored: {where}: {fault.detail}")
    return TaskOutcome(outcome=Outcome.SUCCEEDED, result=result)


def encode(report: dict[str, Any]) -> bytes:
    """The frame of *report*; a result above its bound becomes an `invalid_result`."""
    try:
        encoded = codec.dumps(report)
        if len(encoded) <= bounds.MAX_JSON_BYTES:
            return encoded
        size = len(codec.dumps(report["result"]))
    except (TypeError, ValueError, RecursionError) as error:
        refusal = failed(ErrorKind.INVALID_RESULT, f"The result is not JSON: {error}")
    else:
        if size <= bounds.MAX_JSON_BYTES:
            return encoded
        fault = f"The result has {size} bytes of JSON; {bounds.MAX_JSON_BYTES} are allowed. Return a summary."
        refusal = failed(ErrorKind.INVALID_RESULT, fault)
    return codec.dumps({**report, **members(refusal)})


def members(outcome: TaskOutcome) -> dict[str, Any]:
    """*outcome* as members of the report frame."""
    return {
        "outcome": outcome.outcome,
        "result": outcome.result,
        "error": None if outcome.error is None else outcome.error.model_dump(mode="json"),
        "retriable": outcome.retriable,
        "retry_after_seconds": outcome.retry_after_seconds,
    }
