"""Storing new jobs: the write that a 202 stands on."""

from collections.abc import Callable
from datetime import datetime

from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from contracts.clock import Clock
from contracts.errors import CoatcheckError, IdempotencyMismatch, NoReply, ValidationFailed
from contracts.ids import is_pid
from contracts.logs import logger
from contracts.messages import Idempotency, NewJob, Ticket
from contracts.status import OnConflict
from results_service.ledger import documents
from results_service.ledger.database import Database, type_of_document
from results_service.ledger.events import Events
from results_service.ledger.locks import Locks, refusal
from results_service.settings import ResultsSettings

log = logger(__name__)

ROUNDS = 5
"""Others may store, join and end jobs between a look and the write that follows from it; so often it is tried anew."""
KEPT_KEYS = 1000
"""Idempotency keys of one job; the newest are kept."""


class Register:
    """Stores what waits together with one insert; a repeated registration stores nothing twice."""

    def __init__(  # noqa: PLR0913 -- what it is wired to
        self,
        *,
        database: Database,
        clock: Clock,
        settings: ResultsSettings,
        events: Events,
        wake_at: Callable[[datetime], None],
        locks: Locks,
    ) -> None:
        self._jobs = database.jobs
        self._locks = locks
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
        starts_at: datetime = document.get("locks_due_at") or document["due_at"]
        if starts_at > now:
            self._wake_at(starts_at)
        if documents.has_mail_due(document):
            self._events.mail_due(document["_id"])

    def _insert(self, fresh: list[type_of_document]) -> set[int]:
        """Insert all that nobody is ahead of; the positions that need another look."""
        behind = self._behind(fresh)
        tried = [index for index in range(len(fresh)) if index not in behind]
        if not tried:
            return behind
        try:
            self._jobs.insert_many([fresh[index] for index in tried], ordered=False)
        except BulkWriteError as error:
            details = error.details
            if details.get("writeConcernErrors"):
                return set(range(len(fresh)))
            return behind | {tried[int(failed["index"])] for failed in details["writeErrors"]}
        except PyMongoError as error:
            log.warning("An insert of unknown outcome is looked up.", action="register_unsure", reason=str(error))
            return set(range(len(fresh)))
        return behind

    def _behind(self, fresh: list[type_of_document]) -> set[int]:
        """The positions of jobs that would take a key for which somebody waits already."""
        keys = {key for document in fresh for key in document.get("held_locks", ())}
        if not keys:
            return set()
        awaited = self._locks.awaited(keys)
        return {index for index, document in enumerate(fresh) if not awaited.isdisjoint(document.get("held_locks", ()))}

    def _look_again(self, job: NewJob, fresh: type_of_document) -> Ticket | CoatcheckError:
        """Never guess: read what the ledger has under the pid, the idempotency key, and the locks."""
        try:
            for _ in range(ROUNDS):
                found = self._jobs.find_one({"_id": job.pid}, documents.TICKET_FIELDS)
                if found is not None:
                    return documents.ticket(found, self._clock.now())
                if job.idempotency is not None and (answer := self._replay(job, job.idempotency)) is not None:
                    return answer
                if job.idempotency is None and not job.locks:
                    break
                if (answer := self._contend(job, fresh)) is not None:
                    return answer
        except PyMongoError as error:
            log.warning("A job of unknown outcome could not be looked up.", action="register_unsure", reason=str(error))
        return NoReply("MongoDB did not confirm the job; it is unknown whether it was stored.")

    def _replay(self, job: NewJob, asked: Idempotency) -> Ticket | CoatcheckError | None:
        """The answer of the job that has the idempotency key; None if the key is free."""
        now = self._clock.now()
        mine = {"owner": job.owner, "idempotency.key": asked.key}
        # A key whose time is over belongs to nobody; the condition keeps a race with its next user harmless.
        over = {"key": asked.key, "until": {"$lte": now}}
        self._jobs.update_one(mine | {"idempotency": {"$elemMatch": over}}, {"$pull": {"idempotency": over}})
        holder = self._jobs.find_one(mine, documents.TICKET_FIELDS | {"idempotency": 1})
        if holder is None:
            return None
        if all(
            entry["fingerprint"] != asked.fingerprint for entry in holder["idempotency"] if entry["key"] == asked.key
        ):
            return IdempotencyMismatch(
                f"The idempotency key {asked.key!r} was used for job {holder['_id']} with another payload."
            )
        return documents.ticket(holder, now, replayed=True)

    def _contend(self, job: NewJob, fresh: type_of_document) -> Ticket | CoatcheckError | None:
        """Store a job of which only its locks can be in the way, or say who holds them; None: look again."""
        now = self._clock.now()
        if "held_locks" in fresh and (found := self._locks.in_the_way(job.pid, job.locks)):
            if job.on_conflict is OnConflict.JOIN and (holder := _stands_for(found, job)) is not None:
                return self._join(job, holder, now)
            if job.on_conflict is not OnConflict.QUEUE:
                return refusal(found, job.locks)
            documents.wait_for_locks(fresh, since=now)
        try:
            self._jobs.insert_one(fresh)
        except DuplicateKeyError:
            return None
        self._wake(fresh, now)
        if "locks_due_at" in fresh:
            self._locks.offer(job.locks)  # who held them may have ended meanwhile, and handed on to nobody
        return documents.ticket(fresh, now)

    def _join(self, job: NewJob, holder: type_of_document, now: datetime) -> Ticket | None:
        """The holder's ticket, which has the idempotency key of *job* from now on; None if it has just ended."""
        if job.idempotency is None:
            return documents.ticket(holder, now, joined=True)
        entry = documents.idempotency(job.idempotency, now, hours=self._settings.idempotency_hours)
        try:
            joined = self._jobs.update_one(
                {"_id": holder["_id"], "held_locks": {"$all": job.locks}, "deleted_at": None},
                {"$push": {"idempotency": {"$each": [entry], "$slice": -KEPT_KEYS}}},
            )
        except DuplicateKeyError:
            return None
        return documents.ticket(holder, now, joined=True) if joined.matched_count else None


def _stands_for(found: list[type_of_document], job: NewJob) -> type_of_document | None:
    """The one job that holds all locks of *job* and runs the same task."""
    holder = found[0]
    if len(found) > 1 or holder.get("deleted_at") or (holder["owner"], holder["task"]) != (job.owner, job.task):
        return None
    return holder if set(job.locks) <= set(holder.get("held_locks", ())) else None
