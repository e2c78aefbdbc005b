"""Cancelling, deleting, and running again."""

from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from contracts.clock import Clock
from contracts.errors import NotCancellable, NotFound, NotRetryable, Unavailable
from contracts.messages import Order, StateChange, Stop, Ticket
from contracts.status import RETRYABLE, JobStatus
from results_service.ledger import documents, transitions
from results_service.ledger.database import Database, type_of_document
from results_service.ledger.events import Events
from results_service.ledger.locks import Locks, refusal
from results_service.settings import ResultsSettings

ROUNDS = 5
"""A job can change its state between two conditional writes; so many times it is tried anew."""
RESTLESS = f"changed its state {ROUNDS} times during the request; try again."

ORDER_FIELDS = documents.TICKET_FIELDS | {"fence": 1, "worker": 1, "locks": 1, "notifications.state": 1}


class Orders:
    """What an owner can ask of a job."""

    def __init__(
        self, database: Database, clock: Clock, settings: ResultsSettings, events: Events, locks: Locks
    ) -> None:
        self._jobs = database.jobs
        self._locks = locks
        self._clock = clock
        self._settings = settings
        self._events = events

    def cancel(self, order: Order) -> Ticket:
        """End a pending job now, have a running one stopped; repeating it is harmless.

        Raises `NotFound`, and `NotCancellable` if the job has succeeded or failed.
        """
        document = self._stop(order, also_set={}, also_unset={})
        if document["status"] in (JobStatus.SUCCEEDED, JobStatus.FAILED):
            raise NotCancellable(
                f"Job {order.pid} has already {document['status']}.", {"job_status": document["status"]}
            )
        return documents.ticket(document, self._clock.now())

    def delete(self, order: Order) -> None:
        """Forget a job: it is hidden at once, and gone when nothing needs it any more.

        Raises `NotFound`.
        """
        hidden = {"deleted_at": self._clock.now()}
        self._stop(order, also_set=hidden, also_unset={"idempotency": ""})

    def retry(self, order: Order) -> Ticket:
        """Have a job that failed or was cancelled run again, at once and with a new budget.

        What is asked for twice at the same time happens once. Raises `NotFound`, `NotRetryable`
        if the job is active or has succeeded, and `Conflict` if another job holds one of its locks.
        """
        mine = {"_id": order.pid, "owner": order.owner, "deleted_at": None}
        for _ in range(ROUNDS):
            before = self._jobs.find_one(mine, transitions.RUN_AGAIN_FIELDS)
            if before is None:
                raise NotFound(f"There is no job {order.pid}.")
            if before["status"] not in RETRYABLE:
                raise NotRetryable(
                    f"Job {order.pid} is {before['status']}; only a job that failed or was cancelled can run again.",
                    {"job_status": before["status"]},
                )
            now = self._clock.now()
            # The notifier may change an entry of the outbox between the read and the write.
            as_read = {name: before[name] for name in ("status", "fence", "notifications")}
            try:
                waiting = self._jobs.find_one_and_update(
                    mine | as_read,
                    transitions.run_again(before, now=now, settings=self._settings),
                    ORDER_FIELDS | {"pool": 1},
                    return_document=ReturnDocument.AFTER,
                )
            except DuplicateKeyError:
                if found := self._locks.in_the_way(order.pid, before["locks"]):
                    raise refusal(found, before["locks"]) from None
                continue  # who held it has ended meanwhile
            if waiting is not None:
                change = StateChange(pid=order.pid, status=JobStatus.PENDING, fence=waiting["fence"])
                self._events.jobs_changed([change])
                self._events.ring(waiting["pool"])
                return documents.ticket(waiting, now)
        raise Unavailable(f"Job {order.pid} {RESTLESS}")

    def _stop(self, order: Order, *, also_set: dict[str, Any], also_unset: dict[str, Any]) -> type_of_document:
        mine = {"_id": order.pid, "owner": order.owner, "deleted_at": None}
        unset = {"$unset": also_unset} if also_unset else {}
        known = self._jobs.find_one(mine, {"retention_days": 1})
        if known is None:
            raise NotFound(f"There is no job {order.pid}.")
        days = known.get("retention_days")
        for _ in range(ROUNDS):
            now = self._clock.now()
            end = transitions.ended(JobStatus.CANCELLED, now=now, settings=self._settings, retention_days=days)
            end.operators["$set"] |= also_set
            end.operators["$unset"] |= also_unset
            cancelled = self._jobs.find_one_and_update(
                mine | {"status": JobStatus.PENDING},
                end.operators,
                ORDER_FIELDS,
                array_filters=end.array_filters,
                return_document=ReturnDocument.AFTER,
            )
            if cancelled is not None:
                change = StateChange(pid=order.pid, status=JobStatus.CANCELLED, fence=cancelled["fence"])
                self._events.jobs_changed([change])
                if documents.has_mail_due(cancelled):
                    self._events.mail_due(order.pid)
                if cancelled.get("locks"):
                    self._locks.freed_by([order.pid])
                return cancelled
            running = self._jobs.find_one_and_update(
                mine | {"status": JobStatus.RUNNING},
                {"$min": {"cancel_requested_at": now}} | ({"$set": also_set} if also_set else {}) | unset,
                ORDER_FIELDS,
                return_document=ReturnDocument.AFTER,
            )
            if running is not None:
                stop = Stop(pid=order.pid, fence=running["fence"], reason="cancelled")
                self._events.stop(running["worker"], stop)
                return running
            ended = self._jobs.find_one(mine, ORDER_FIELDS)
            if ended is None:
                raise NotFound(f"There is no job {order.pid}.")
            if not JobStatus(ended["status"]).terminal:
                continue
            as_read = mine | {"status": ended["status"]}  # a retry may have come first: then it is active again
            if not also_set or self._jobs.update_one(as_read, {"$set": also_set} | unset).matched_count:
                return ended
        raise Unavailable(f"Job {order.pid} {RESTLESS}")
