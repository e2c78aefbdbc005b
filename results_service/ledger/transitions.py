"""The state machine: which update each event means. Pure; the conditions stand with the writes."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from contracts.job import KEPT_ATTEMPTS, KEPT_NOTIFICATIONS, JobError
from contracts.messages import Finish
from contracts.status import ErrorKind, JobStatus, NotificationState, NotifyOn, Outcome, Priority
from results_service.ledger.documents import rank
from results_service.settings import ResultsSettings

OUTCOME_STATUS = {
    Outcome.SUCCEEDED: JobStatus.SUCCEEDED,
    Outcome.FAILED: JobStatus.FAILED,
    Outcome.CANCELLED: JobStatus.CANCELLED,
}
OF_ONE_RUN = (
    "not_before", "started_at", "finished_at", "expires_at", "error", "result", "progress", "cancel_requested_at",
)  # fmt: skip
"""What a job forgets when it is run again; its attempts stay on record."""
RUN_AGAIN_FIELDS = dict.fromkeys(
    ("status", "priority", "notifications", "error", "started_at", "finished_at", "fence", "locks"), 1
)


@dataclass(kw_only=True, slots=True)
class Update:
    """An update operator document and the array filters it speaks of."""

    operators: dict[str, dict[str, Any]]
    array_filters: list[Mapping[str, Any]]
    status: JobStatus


def claimed(document: dict[str, Any], *, claim_id: str, worker_id: str, now: datetime) -> dict[str, Any]:
    """Pending → running, under the next fence; the attempt is on record before it starts."""
    fence = document["fence"] + 1
    number = document.get("attempts_total", 0) + 1
    attempt = {"number": number, "fence": fence, "worker": worker_id, "started_at": now}
    changes: dict[str, Any] = {
        "status": JobStatus.RUNNING,
        "fence": fence,
        "claim_id": claim_id,
        "worker": worker_id,
        "started_at": now,
    }
    return {
        "$set": changes,
        "$inc": {"attempts_used": 1, "attempts_total": 1},
        "$push": {"attempts": {"$each": [attempt], "$slice": -KEPT_ATTEMPTS}},
        "$unset": {"progress": ""},
    }


def ended(status: JobStatus, *, now: datetime, settings: ResultsSettings, retention_days: float | None) -> Update:
    """Any active state → *status*: the outcome's mail becomes due in the same write.

    So do its locks become free. The job is kept for its own *retention_days* from now on, or for the setting's.
    """
    retention = timedelta(days=settings.retention_days if retention_days is None else retention_days)
    return Update(
        operators={
            "$set": {
                "status": status,
                "finished_at": now,
                "expires_at": now + retention,
                "notifications.$[told].state": NotificationState.DUE,
                "notifications.$[told].due_at": now,
                "notifications.$[missed].state": NotificationState.SKIPPED,
            },
            "$unset": {"held_locks": "", "locks_due_at": ""},
        },
        array_filters=[
            {"told.on": status, "told.state": NotificationState.WAITING},
            {"missed.on": {"$ne": status}, "missed.state": NotificationState.WAITING},
        ],
        status=status,
    )


def waiting_again(due_at: datetime, priority: Priority, *, step_seconds: float) -> Update:
    """Running → pending: another attempt at *due_at*."""
    return Update(
        operators={
            "$set": {
                "status": JobStatus.PENDING,
                "due_at": due_at,
                "not_before": due_at,
                "rank": rank(due_at, priority, step_seconds),
            }
        },
        array_filters=[],
        status=JobStatus.PENDING,
    )


def record_attempt(
    update: Update, fence: int, *, outcome: Outcome, now: datetime, finish: Finish | None = None
) -> None:
    """Complete the attempt's record in the same write that ends it.

    ``settled_fence`` remembers that the worker has reported, so that a repeated report changes nothing.
    """
    record: dict[str, Any] = {"outcome": outcome, "finished_at": now}
    if finish is not None:
        record |= {"cpu_seconds": finish.cpu_seconds, "peak_memory_bytes": finish.peak_memory_bytes}
        if finish.error is not None:
            record["error"] = finish.error.model_dump()
        else:  # that the worker was given up meanwhile is no longer how the attempt ended
            update.operators.setdefault("$unset", {})["attempts.$[attempt].error"] = ""
        if finish.progress is not None:
            update.operators["$set"]["progress"] = finish.progress.model_dump()
        update.operators["$set"]["settled_fence"] = fence
    for name, value in record.items():
        update.operators["$set"][f"attempts.$[attempt].{name}"] = value
    update.array_filters.append({"attempt.fence": fence})


def finished(finish: Finish, *, now: datetime, settings: ResultsSettings) -> Update:
    """Running → the terminal state that the worker reports."""
    status = OUTCOME_STATUS[finish.outcome]
    update = ended(status, now=now, settings=settings, retention_days=finish.retention_days)
    if finish.outcome is Outcome.SUCCEEDED:
        update.operators["$set"]["result"] = finish.result
    if finish.error is not None:
        update.operators["$set"]["error"] = finish.error.model_dump()
    record_attempt(update, finish.fence, outcome=finish.outcome, now=now, finish=finish)
    return update


def cancelled_instead(finish: Finish, document: dict[str, Any], *, now: datetime, settings: ResultsSettings) -> Update:
    """Running → cancelled, whatever the worker reports: a cancel was accepted before."""
    days = document.get("retention_days")
    update = ended(JobStatus.CANCELLED, now=now, settings=settings, retention_days=days)
    record_attempt(update, finish.fence, outcome=Outcome.CANCELLED, now=now, finish=finish)
    return update


def retried(finish: Finish, document: dict[str, Any], *, now: datetime, settings: ResultsSettings) -> Update:
    """Running → pending after a failure that the budget still covers, with back-off."""
    wanted = finish.retry_after_seconds
    pause = back_off(document, settings) if wanted is None else wanted
    update = waiting_again(
        now + timedelta(seconds=pause), Priority(document["priority"]), step_seconds=settings.priority_step_seconds
    )
    record_attempt(update, finish.fence, outcome=Outcome.FAILED, now=now, finish=finish)
    return update


def handed_back(finish: Finish, document: dict[str, Any], *, now: datetime, settings: ResultsSettings) -> Update:
    """Running → pending at once and in its old place; the attempt does not count."""
    update = waiting_again(
        document["due_at"], Priority(document["priority"]), step_seconds=settings.priority_step_seconds
    )
    del update.operators["$set"]["not_before"]
    update.operators["$inc"] = {"attempts_used": -1}
    record_attempt(update, finish.fence, outcome=Outcome.HANDED_BACK, now=now, finish=finish)
    return update


def lost(document: dict[str, Any], error: JobError, *, now: datetime, settings: ResultsSettings) -> Update:
    """Running → pending (or failed, when the budget is spent): the worker was given up."""
    days = document.get("retention_days")
    if document.get("cancel_requested_at"):
        update = ended(JobStatus.CANCELLED, now=now, settings=settings, retention_days=days)
    elif document["attempts_used"] >= document["max_attempts"]:
        update = ended(JobStatus.FAILED, now=now, settings=settings, retention_days=days)
        update.operators["$set"]["error"] = error.model_dump()
    else:
        # The first loss is most likely no fault of the job, and it has waited for the lease already.
        pause = back_off(document, settings) if _lost_before(document) else 0.0
        update = waiting_again(
            now + timedelta(seconds=pause), Priority(document["priority"]), step_seconds=settings.priority_step_seconds
        )
    record_attempt(update, document["fence"], outcome=Outcome.FAILED, now=now)
    update.operators["$set"]["attempts.$[attempt].error"] = error.model_dump()
    return update


def run_again(document: dict[str, Any], *, now: datetime, settings: ResultsSettings) -> dict[str, Any]:
    """Failed or cancelled → pending at once, with a new budget, on the owner's order.

    It takes its locks anew in the same write. Raises the fence: what the worker of an earlier attempt may still say belongs to the outcome that stands
    in the attempts now. *document* needs `RUN_AGAIN_FIELDS`.
    """
    return {
        "$set": {
            "status": JobStatus.PENDING,
            "due_at": now,
            "rank": rank(now, Priority(document["priority"]), settings.priority_step_seconds),
            "attempts_used": 0,
            "notifications": rearmed(document),
            **({"held_locks": document["locks"]} if document.get("locks") else {}),
        },
        "$inc": {"fence": 1},
        "$unset": dict.fromkeys(OF_ONE_RUN, ""),
    }


def rearmed(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The outbox for another run: every outcome is waited for again, and what was told stays as history.

    A mail that is still due keeps with it the outcome it tells of, which the job forgets now.
    """
    accepted: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    waiting: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in document["notifications"]:
        if entry["on"] == NotifyOn.ACCEPTED:
            accepted.append(entry)
            continue
        whom = {name: entry[name] for name in ("channel", "to", "on")}
        waiting[tuple(whom.values())] = whom | {"tries": 0, "state": NotificationState.WAITING}
        if entry["state"] == NotificationState.DUE and "outcome" not in entry:
            told.append(entry | {"outcome": _outcome(document)})
        elif entry["state"] != NotificationState.SKIPPED:
            told.append(entry)
    return [*accepted, *told[-KEPT_NOTIFICATIONS:], *waiting.values()]


def _outcome(document: dict[str, Any]) -> dict[str, Any]:
    """What a mail tells of an outcome, under the names of the job's own fields."""
    error = document.get("error")
    return {
        "error": error and {name: error[name] for name in ("kind", "message")},
        "started_at": document.get("started_at"),
        "finished_at": document.get("finished_at"),
        "fence": document["fence"],
    }


def _lost_before(document: dict[str, Any]) -> bool:
    """Whether an earlier attempt lost its worker as well, as far as the attempts are on record."""
    errors = (attempt.get("error") for attempt in document["attempts"])
    return any(error["kind"] == ErrorKind.WORKER_LOST for error in errors if error)


def back_off(document: dict[str, Any], settings: ResultsSettings) -> float:
    """Seconds before the next attempt: exponential, capped, with jitter of up to a half.

    The job's own back-off goes before the settings; a first pause of its own lifts the setting's cap.
    """
    first = document.get("first_retry_seconds", settings.first_retry_seconds)
    last = document.get("last_retry_seconds", max(settings.last_retry_seconds, first))
    exponent = min(document["attempts_used"] - 1, 32)
    longest: float = min(first * 2**exponent, last)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 -- jitter, not a secret
