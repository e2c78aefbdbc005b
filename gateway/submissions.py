"""From the body of a submission to a `NewJob`: the envelope, the options, the idempotency key."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from contracts import bounds, codec
from contracts.bounds import MAX_LOCK_BYTES, MAX_LOCKS, Fault, escape
from contracts.catalogue import TASK_NAME
from contracts.errors import TooLarge, ValidationFailed
from contracts.ids import new_id
from contracts.job import MAX_RETENTION_DAYS
from contracts.messages import Idempotency, NewJob, Notify
from contracts.status import NotifyOn, OnConflict, Priority
from gateway.addresses import MAX_CHARACTERS, address
from gateway.catalogue import Offer
from gateway.lock_keys import lock_keys
from gateway.moments import moment
from gateway.validation import MAX_FAULTS, shorten

MAX_TAGS = 16
WORST_GROWTH = 6
"""How much longer a JSON text can get when it is written anew: ``é`` becomes ``\\u00e9``."""
PARAMS = "/params"
_KEY = re.compile(r'"([\x21\x23-\x7e]{1,255})"|((?!")[\x21-\x7e]{1,255})')


def _email(text: str) -> str:
    try:
        return address(text)
    except ValueError as error:
        raise PydanticCustomError("email", "is not an e-mail address: {why}", {"why": str(error)}) from None


def _unique(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("unique", "has to be without repetitions")
    return values


def _moment(value: object) -> object:
    if not isinstance(value, str):
        raise PydanticCustomError("moment", "has to be a time as text (RFC 3339)")
    try:
        return moment(value)
    except ValueError as error:
        raise PydanticCustomError("moment", "{why}", {"why": str(error)}) from None


def _short(key: str) -> str:
    if len(key.encode()) > bounds.MAX_LOCK_BYTES:
        raise PydanticCustomError("bytes", "has more than {most} bytes", {"most": bounds.MAX_LOCK_BYTES})
    return key


UNIQUE = {"uniqueItems": True}
Moment = Annotated[AwareDatetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
Email = Annotated[
    str,
    Field(max_length=MAX_CHARACTERS, json_schema_extra={"format": "email"}),
    AfterValidator(_email),
]


class Envelope(BaseModel):
    """Base of what a client sends: unknown fields and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NotifyOptions(Envelope):
    """Whom to tell, and when."""

    email: Email = Field(description="Where to send the mail.")
    on: Annotated[
        list[Annotated[NotifyOn, Field(strict=False)]],
        Field(min_length=1, json_schema_extra={**UNIQUE, "example": ["succeeded", "failed"]}),
        AfterValidator(_unique),
    ] = Field(
        default=[NotifyOn.SUCCEEDED, NotifyOn.FAILED, NotifyOn.CANCELLED],
        description="The moments to be told of.",
    )


class Options(Envelope):
    """What can be said about a job beside its params."""

    notify: NotifyOptions | None = Field(default=None, description="Send an e-mail when something happens.")
    reference: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, description="Your own number for this job; jobs can be found by it."
    )
    not_before: Moment | None = Field(default=None, description="Do not start earlier than this.")
    max_attempts: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="How often to try; at most what the task allows, which is the default."
    )
    time_limit: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Seconds one attempt may take; at most what the task allows, which is the default."
    )
    retention_days: Annotated[float, Field(gt=0, le=MAX_RETENTION_DAYS)] | None = Field(
        default=None, description="Days to keep the job after its end; otherwise the task or the service decides."
    )
    priority: Annotated[Priority, Field(strict=False)] = Field(
        default=Priority.NORMAL, description="Which of two jobs that wait goes first."
    )
    tags: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]],
        Field(max_length=MAX_TAGS, json_schema_extra=UNIQUE),
        AfterValidator(_unique),
    ] = Field(default=[], description="Labels; jobs can be found by them.")
    locks: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_LOCK_BYTES), AfterValidator(_short)]],
        Field(max_length=MAX_LOCKS, json_schema_extra={**UNIQUE, "example": []}),
        AfterValidator(_unique),
    ] = Field(default=[], description="Keys of your own choice. Two active jobs never hold the same one.")
    on_conflict: Annotated[OnConflict, Field(strict=False)] = Field(
        default=OnConflict.REJECT,
        description="If another active job holds a key: `reject` (409), `queue` (start when it is free), or `join` "
        "(200 with the job that holds them all, if it runs the same task).",
    )


class TaskSubmission(Options):
    """The body of ``POST /tasks/{task}/jobs``."""

    params: dict[str, Any]


class Submission(TaskSubmission):
    """The body of ``POST /jobs``."""

    task: str = Field(pattern=TASK_NAME, description="The name of a task of the catalogue.")


S = TypeVar("S", bound=TaskSubmission)
T = TypeVar("T")


def parse(kind: type[S], body: bytes) -> S:
    """Read *body* as a *kind*; raises `ValidationFailed` with every fault, or `TooLarge`."""
    try:
        value = codec.loads(body)
    except ValueError as error:
        raise ValidationFailed("The body is not JSON.", _members([Fault(pointer="", detail=str(error))])) from None
    # The params stand one level down in the body; their own depth is what counts.
    if found := list(_bounded(bounds.faults(value, depth=-1))):
        raise ValidationFailed("The body contains values that cannot be stored.", _members(found))
    if not isinstance(value, dict):
        fault = Fault(pointer="", detail="has to be a JSON object")
        raise ValidationFailed("The body has to be a JSON object.", _members([fault]))
    try:
        submission = kind.model_validate(value)
    except ValidationError as error:
        raise ValidationFailed("The submission is not valid.", _members(_faults(error))) from None
    if len(body) * WORST_GROWTH > bounds.MAX_JSON_BYTES and len(codec.dumps(submission.params)) > bounds.MAX_JSON_BYTES:
        raise TooLarge(f"The params take more than {bounds.MAX_JSON_BYTES} bytes as JSON.")
    return submission


def new_job(submission: TaskSubmission, offer: Offer, *, owner: str, key: str | None) -> NewJob:
    """The job that *submission* asks for; raises `ValidationFailed` if the task does not allow it."""
    entry = offer.entry
    found = offer.params.faults(submission.params, PARAMS)
    max_attempts, time_limit = submission.max_attempts, submission.time_limit
    if max_attempts is not None and max_attempts > entry.max_attempts:
        found.append(Fault(pointer="/max_attempts", detail=f"is more than the task's {entry.max_attempts}"))
    if time_limit is not None and time_limit > entry.time_limit:
        found.append(Fault(pointer="/time_limit", detail=f"is more than the task's {entry.time_limit:g} seconds"))
    locks: list[str] = []
    if not found:
        locks, found = lock_keys(entry, submission.params, submission.locks)
    if found:
        raise ValidationFailed(f"The submission does not fit the task {entry.name}.", _members(found))
    notify = submission.notify
    return NewJob(
        pid=new_id(),
        owner=owner,
        task=entry.name,
        task_version=entry.version,
        pool=entry.pool,
        params=submission.params,
        priority=submission.priority,
        reference=submission.reference,
        tags=submission.tags,
        locks=locks,
        on_conflict=submission.on_conflict,
        not_before=submission.not_before,
        max_attempts=max_attempts or entry.max_attempts,
        time_limit=time_limit or entry.time_limit,
        first_retry_seconds=entry.first_retry_seconds,
        last_retry_seconds=entry.last_retry_seconds,
        retention_days=submission.retention_days or entry.retention_days,
        notify=None if notify is None else Notify(email=notify.email, on=notify.on),
        idempotency=None if key is None else Idempotency(key=key, fingerprint=fingerprint(entry.name, submission)),
    )


def idempotency_key(header: str | None) -> str | None:
    """The key in an ``Idempotency-Key`` header, quoted or bare; raises `ValidationFailed`."""
    if header is None:
        return None
    if (match := _KEY.fullmatch(header)) is None:
        detail = "has to be 1 to 255 visible ASCII characters, bare or in double quotes"
        fault = {"header": "Idempotency-Key", "detail": detail}
        raise ValidationFailed(f"The header Idempotency-Key {detail}.", {"errors": [fault]})
    return match[1] or match[2]


def fingerprint(task: str, submission: TaskSubmission) -> str:
    """SHA-256 of what is asked for, so that the same key with something else can be refused."""
    content = submission.model_dump(mode="json", exclude={"task"})
    return hashlib.sha256(codec.dumps(_in_order([task, content]))).hexdigest()


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _in_order(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_in_order(member) for member in value]
    return value


def _faults(error: ValidationError) -> list[Fault]:
    found = []
    for fault in _bounded(error.errors(include_url=False, include_input=False)):
        pointer = "".join(f"/{escape(str(token))}" for token in fault["loc"])
        detail = {"missing": "is required", "extra_forbidden": "is not a known field"}.get(fault["type"], fault["msg"])
        found.append(Fault(pointer=pointer, detail=shorten(detail)))
    return found


def _bounded(faults: Iterable[T]) -> Iterator[T]:
    return islice(faults, MAX_FAULTS)


def _members(faults: list[Fault]) -> dict[str, Any]:
    return {"errors": [{"pointer": fault.pointer, "detail": fault.detail} for fault in faults]}
