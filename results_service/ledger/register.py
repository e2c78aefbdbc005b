"""Storing new jobs: the write that a 202 stands on."""

from collections.abc import Callable
from datetime import datetime

from pymongo.errors import BulkWriteError, PyMongoError

from contracts.clock import Clock
from contracts.errors import CoatcheckError, IdempotencyMismatch, NoReply, ValidationFailed
from contracts.ids import is_pid
from contracts.logs import logger
from contracts.messages import NewJob, Ticket
from results_service.ledger import documents
from results_service.ledger.database import Database, type_of_document
from results_service.ledger.events import Events
from results_service.settings import ResultsSettings

log = logger(__name__)

DUPLICATE_KEY = 11000


class Register:
    """Stores what waits together with one insert; a repeated registration stores nothing twice."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        settings: ResultsSettings,
        events: Events,
        wake_at: Callable[[datetime], None],
    ) -> None:
        self._jobs = database.jobs
        self._events = events
        self._wake_at = wake_at
        self._clock = clock
        self._settings = settings

    def __call__(self, jobs: list[NewJob]) -> list[Ticket | CoatcheckError]:
        """One answer per job, in order: a ticket, or why the job was not stored."""
        now = self._clock.now()
        refused: dict[int, CoatcheckError] = {
            index: ValidationFailed(f"{job.pid!r} is not a UUIDv7.")
            for index, job in enumerate(jobs)
            if not is_pid(job.pid)
        }
        positions = [index for index in range(len(jobs)) if index not in refused]
        fresh = [
            documents.new_document(
                jobs[index],
                now,
                step_seconds=self._settings.priority_step_seconds,
                idempotency_hours=self._settings.idempotency_hours,
            )
            for index in positions
        ]
        unsure = self._insert(fresh)
        answers: list[Ticket | CoatcheckError] = []
        stored = dict(zip(positions, range(len(fresh)), strict=True))
        for index, job in enumerate(jobs):
            if index in refused:
                answers.append(refused[index])
            elif stored[index] in unsure:
                answers.append(self._look_again(job, fresh[stored[index]]))
            else:
                answers.append(documents.ticket(fresh[stored[index]], now))
                self._wake(fresh[stored[index]], now)
        return answers

    def _wake(self, document: type_of_document, now: datetime) -> None:
        if document["due_at"] > now:
            self._wake_at(document["due_at"])
        if documents.has_mail_due(document):
            self._events.mail_due(document["_id"])

    def _insert(self, fresh: list[type_of_document]) -> set[int]:
        """Insert all; the positions whose outcome the answer does not tell."""
        if not fresh:
            return set()
        try:
            self._jobs.insert_many(fresh, ordered=False)
        except BulkWriteError as error:
            details = error.details
            if details.get("writeConcernErrors"):
                return set(range(len(fresh)))
            return {int(failed["index"]) for failed in details["writeErrors"]}
        except PyMongoError as error:
            log.warning("An insert of unknown outcome is looked up.", action="register_unsure", reason=str(error))
            return set(range(len(fresh)))
        return set()

    def _look_again(self, job: NewJob, fresh: type_of_document) -> Ticket | CoatcheckError:
        """Never guess: read what the ledger has under the pid, then under the idempotency key."""
        now = self._clock.now()
        try:
            found = self._jobs.find_one({"_id": job.pid}, documents.TICKET_FIELDS)
            if found is not None:
                return documents.ticket(found, now)
            if job.idempotency is None:
                return NoReply("MongoDB did not confirm the job; it is unknown whether it was stored.")
            return self._replay(job, fresh)
        except PyMongoError:
            return NoReply("MongoDB did not confirm the job; it is unknown whether it was stored.")

    def _replay(self, job: NewJob, fresh: type_of_document) -> Ticket | CoatcheckError:
        assert job.idempotency is not None  # noqa: S101 -- for the type checker
        now = self._clock.now()
        key = {"owner": job.owner, "idempotency.key": job.idempotency.key}
        # A key whose time is over belongs to nobody; the condition keeps a race with its next user harmless.
        self._jobs.update_one(key | {"idempotency.until": {"$lte": now}}, {"$unset": {"idempotency": ""}})
        holder = self._jobs.find_one(key, documents.TICKET_FIELDS | {"idempotency": 1})
        if holder is None:
            self._jobs.insert_one(fresh)
            self._wake(fresh, now)
            return documents.ticket(fresh, now)
        if holder["idempotency"]["fingerprint"] != job.idempotency.fingerprint:
            return IdempotencyMismatch(
                f"The idempotency key {job.idempotency.key!r} was used for job {holder['_id']} with another payload."
            )
        return documents.ticket(holder, now, replayed=True)
