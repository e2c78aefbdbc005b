"""What a job looks like in MongoDB, and how it is shown to the rest of the world."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import DBRef

from contracts import codec
from contracts.job import Attempt
from contracts.messages import Grant, Idempotency, NewJob, Ticket
from contracts.status import JobStatus, NotificationState, NotifyOn, Priority

SCHEMA = 1
"""Version of the document; raised when an old reader would misread a new document."""

AGEING_STEPS = {Priority.HIGH: -1, Priority.NORMAL: 0, Priority.LOW: 1}

NEVER = datetime(9999, 12, 31, tzinfo=UTC)
"""``due_at`` of a job that waits for locks: nobody claims it. ``locks_due_at`` says since when it may take them."""

TICKET_FIELDS = {"task": 1, "status": 1, "created_at": 1, "due_at": 1, "deleted_at": 1}
GRANT_FIELDS = {
    "fence": 1,
    "settled_fence": 1,
    "task": 1,
    "task_version": 1,
    "params": 1,
    "attempts_used": 1,
    "attempts_total": 1,
    "max_attempts": 1,
    "time_limit": 1,
    "retention_days": 1,
    "claim_id": 1,
    "status": 1,
    "notifications.state": 1,
    "held_locks": 1,
}
VIEW_WITHOUT_PAYLOAD = {"params": 0, "result": 0}

_PLAIN = ("task", "task_version", "owner", "priority", "max_attempts")
_ONLY_IF_GIVEN = ("not_before", "reference", "first_retry_seconds", "last_retry_seconds", "retention_days")
_NULLABLE = ("reference", "progress", "not_before", "started_at", "finished_at", "expires_at", "error", "result")
_ATTEMPT_FIELDS = tuple(Attempt.model_fields)
_NOTIFICATION_FIELDS = ("channel", "to", "on", "state")


@codec.encode.register
def _(value: DBRef) -> Any:
    """Pymongo reads an object with a member ``$ref`` as a reference; to us it is what the caller sent."""
    return value.as_doc()


def _object(value: Any) -> dict[str, Any]:
    return value.as_doc() if isinstance(value, DBRef) else value


def created_at(pid: str) -> datetime:
    """The moment a pid was made: the first 48 bits of a UUIDv7, in milliseconds (RFC 9562)."""
    return datetime.fromtimestamp((uuid.UUID(pid).int >> 80) / 1000, UTC)


def first_pid(moment: datetime) -> str:
    """The smallest pid that can have been made at *moment*."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return str(uuid.UUID(int=(milliseconds << 80)))


def rank(due_at: datetime, priority: Priority, step_seconds: float) -> int:
    """The place in the queue, in milliseconds: lower goes first.

    A constant per job, so that ageing needs no rewriting: a job of a lower priority goes ahead of
    one that became due *step_seconds* later.
    """
    return int((due_at.timestamp() + AGEING_STEPS[priority] * step_seconds) * 1000)


def new_document(job: NewJob, now: datetime, *, step_seconds: float, idempotency_hours: float) -> dict[str, Any]:
    """The document of a job that has just been accepted."""
    due_at = max(job.not_before, now) if job.not_before else now
    document: dict[str, Any] = {
        "_id": job.pid,
        "schema": SCHEMA,
        "owner": job.owner,
        "task": job.task,
        "task_version": job.task_version,
        "pool": job.pool,
        "params": job.params,
        "priority": job.priority,
        "rank": rank(due_at, job.priority, step_seconds),
        "status": JobStatus.PENDING,
        "created_at": created_at(job.pid),
        "due_at": due_at,
        "max_attempts": job.max_attempts,
        "time_limit": job.time_limit,
        "attempts_used": 0,
        "attempts_total": 0,
        "fence": 0,
        "attempts": [],
        "notifications": _outbox(job, now),
    }
    for name in _ONLY_IF_GIVEN:
        if (value := getattr(job, name)) is not None:
            document[name] = value
    if job.tags:
        document["tags"] = job.tags
    if job.idempotency:
        document["idempotency"] = [idempotency(job.idempotency, now, hours=idempotency_hours)]
    if job.locks:
        document["locks"] = job.locks
        if due_at > now:
            wait_for_locks(document, since=due_at)
        else:
            document["held_locks"] = job.locks
    return document


def wait_for_locks(document: dict[str, Any], *, since: datetime) -> None:
    """Make of a new document one that waits for its locks; it may take them from *since* on."""
    document.pop("held_locks", None)
    document |= {"due_at": NEVER, "locks_due_at": since}


def idempotency(asked: Idempotency, now: datetime, *, hours: float) -> dict[str, Any]:
    """One entry of a job's idempotency keys: its own, and those of submissions that joined it."""
    return {"key": asked.key, "fingerprint": asked.fingerprint, "until": now + timedelta(hours=hours)}


def _outbox(job: NewJob, now: datetime) -> list[dict[str, Any]]:
    if job.notify is None or job.notify.email is None:
        return []
    entries = []
    for moment in job.notify.on:
        entry: dict[str, Any] = {"channel": "email", "to": job.notify.email, "on": moment, "tries": 0}
        if moment is NotifyOn.ACCEPTED:
            entry |= {"state": NotificationState.DUE, "due_at": now}
        else:
            entry |= {"state": NotificationState.WAITING}
        entries.append(entry)
    return entries


def has_mail_due(document: dict[str, Any]) -> bool:
    """Whether an entry of the outbox waits to be sent."""
    return any(entry["state"] == NotificationState.DUE for entry in document.get("notifications", ()))


def ticket(document: dict[str, Any], now: datetime, *, replayed: bool = False, joined: bool = False) -> Ticket:
    """The answer to a registration."""
    return Ticket(
        pid=document["_id"],
        task=document["task"],
        status=document["status"],
        created_at=document["created_at"],
        due=document["status"] == JobStatus.PENDING and document["due_at"] <= now,
        replayed=replayed,
        joined=joined,
    )


def grant(document: dict[str, Any]) -> Grant:
    """What a worker needs to run the job."""
    return Grant(
        pid=document["_id"],
        fence=document["fence"],
        task=document["task"],
        task_version=document["task_version"],
        params=_object(document["params"]),
        attempt=document["attempts_used"],
        max_attempts=document["max_attempts"],
        time_limit=document["time_limit"],
        claim_id=document["claim_id"],
        notify=bool(document["notifications"]),
        locked="held_locks" in document,
        retention_days=document.get("retention_days"),
    )


def summary(document: dict[str, Any]) -> dict[str, Any]:
    """The job as a list shows it: without its params and its result."""
    shown = view(document)
    del shown["params"], shown["result"]
    return shown


def view(document: dict[str, Any], queue_position: int | None = None) -> dict[str, Any]:
    """The job in the form of `contracts.job.Job`, ready for JSON.

    Built by hand: this is the answer to every poll.
    """
    shown: dict[str, Any] = {"pid": document["_id"], "status": document["status"]}
    for name in _PLAIN:
        shown[name] = document[name]
    for name in _NULLABLE:
        shown[name] = document.get(name)
    shown["params"] = document.get("params", {})
    shown["created_at"] = document["created_at"]
    shown["tags"] = document.get("tags", [])
    shown["locks"] = document.get("locks", [])
    shown["files"] = []
    shown["attempt"] = document["attempts_used"]
    shown["attempts_total"] = document.get("attempts_total", len(document["attempts"]))
    shown["attempts"] = [{name: attempt.get(name) for name in _ATTEMPT_FIELDS} for attempt in document["attempts"]]
    shown["queue_position"] = queue_position
    shown["notifications"] = [
        {name: entry[name] for name in _NOTIFICATION_FIELDS} | {"at": entry.get("at")}
        for entry in document["notifications"]
    ]
    return shown
