"""One trip to the ledger for a worker: what ended is stored, what is due is handed out.

All that waits together becomes one read of candidates and one bulk write. A bulk write does not
say which of its conditional operations won, only how many; when that is not all of them, one more
read tells. A finish repeated under its fence, and a claim repeated under its claim id, get the
answer they missed.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pymongo import UpdateOne

from contracts.clock import Clock
from contracts.logs import logger
from contracts.messages import Claim, Finish, Grant, Settle, Settled, StateChange, Verdict
from contracts.status import ACTIVE, JobStatus, Outcome
from results_service.ledger import documents, transitions
from results_service.ledger.database import Database, type_of_document
from results_service.ledger.events import Events
from results_service.ledger.locks import Locks
from results_service.ledger.transitions import Update
from results_service.metrics import LedgerMetrics
from results_service.settings import ResultsSettings

log = logger(__name__)

DECISION_FIELDS = {
    "attempts_used": 1,
    "max_attempts": 1,
    "priority": 1,
    "due_at": 1,
    "first_retry_seconds": 1,
    "last_retry_seconds": 1,
}
MAX_DRY = 1024
"""Pools, each with a set of tasks, that are remembered as empty."""
VERDICT_FIELDS = {
    "status": 1,
    "fence": 1,
    "settled_fence": 1,
    "cancel_requested_at": 1,
    "claim_id": 1,
    "retention_days": 1,
}


@dataclass(kw_only=True, slots=True)
class Choice:
    """The jobs that one claim tries to get."""

    claim: Claim
    candidates: list[type_of_document] = field(default_factory=list)
    more: bool = False


class Settling:
    """Finishes and claims, grouped."""

    def __init__(  # noqa: PLR0913 -- what it is wired to
        self,
        *,
        database: Database,
        clock: Clock,
        settings: ResultsSettings,
        events: Events,
        wake_at: Callable[[datetime], None],
        locks: Locks,
        metrics: LedgerMetrics,
    ) -> None:
        self._metrics = metrics
        self._locks = locks
        self._jobs = database.jobs
        self._clock = clock
        self._settings = settings
        self._events = events
        self._wake_at = wake_at
        self._dry: set[tuple[str, tuple[str, ...]]] = set()
        """Pools, with the tasks asked for, in which nothing was left at the last look. A hint only: a
        claim of somebody who has heard of work looks in any case."""

    def __call__(self, requests: list[Settle], *, repeated: list[bool]) -> list[Settled]:
        """One answer per request, in order; *repeated* says which may have been served before.

        Raises `PyMongoError` when the outcome is unknown: every request may then be repeated.
        """
        now = self._clock.now()
        finishes = [finish for request in requests for finish in request.finishes]
        updates = self._decide(finishes, now)
        grants = self._granted_before(requests, repeated)
        choices = self._choose([r.claim for r in requests if r.claim and r.claim.claim_id not in grants], now)
        operations = [
            UpdateOne(
                _open_attempt(finish) | {"cancel_requested_at": None},
                update.operators,
                array_filters=update.array_filters,
            )
            for finish, update in zip(finishes, updates, strict=True)
        ]
        operations += [
            UpdateOne(
                _as_read(candidate),
                transitions.claimed(
                    candidate, claim_id=choice.claim.claim_id, worker_id=choice.claim.worker_id, now=now
                ),
            )
            for choice in choices.values()
            for candidate in choice.candidates
        ]
        all_won = not operations or self._jobs.bulk_write(operations, ordered=False).matched_count == len(operations)
        after = {} if all_won else self._read_back(finishes, choices)
        verdicts = {
            (finish.pid, finish.fence): self._verdict(finish, update, after.get(finish.pid), now, sure=all_won)
            for finish, update in zip(finishes, updates, strict=True)
        }
        self._tell(finishes, verdicts)
        for claim_id, choice in choices.items():
            won = [c for c in choice.candidates if all_won or after.get(c["_id"], {}).get("claim_id") == claim_id]
            choice.more |= len(won) < len(choice.candidates)
            grants[claim_id] = [_granted(candidate, claim_id) for candidate in won]
        self._events.jobs_changed(
            [
                StateChange(pid=grant.pid, status=JobStatus.RUNNING, fence=grant.fence)
                for claim_id in choices
                for grant in grants[claim_id]
            ]
        )
        return [_answer(request, verdicts, grants, choices) for request in requests]

    # ---- what a finish means

    def _decide(self, finishes: list[Finish], now: datetime) -> list[Update]:
        """The update each finish asks for. The fence pins what is read here until it is written."""
        pids = [finish.pid for finish in finishes if _open_ended(finish)]
        found = self._jobs.find({"_id": {"$in": pids}}, DECISION_FIELDS) if pids else ()
        before = {document["_id"]: document for document in found}
        updates = []
        for finish in finishes:
            document = before.get(finish.pid)
            if not _open_ended(finish):  # whatever another attempt of the same job reports beside it
                updates.append(transitions.finished(finish, now=now, settings=self._settings))
            elif document is None:  # gone; this matches nothing
                gone = transitions.ended(JobStatus.FAILED, now=now, settings=self._settings, retention_days=None)
                updates.append(gone)
            elif finish.outcome is Outcome.HANDED_BACK:
                updates.append(transitions.handed_back(finish, document, now=now, settings=self._settings))
            elif document["attempts_used"] < document["max_attempts"]:
                updates.append(transitions.retried(finish, document, now=now, settings=self._settings))
            else:
                updates.append(transitions.finished(finish, now=now, settings=self._settings))
        return updates

    def _verdict(
        self, finish: Finish, update: Update, after: type_of_document | None, now: datetime, *, sure: bool
    ) -> Verdict:
        """What became of one finish."""
        if sure:
            return self._stored(finish, update)
        if after is None:
            return Verdict(pid=finish.pid, fence=finish.fence, finish="unknown")
        status = JobStatus(after["status"])
        if after.get("settled_fence") == finish.fence:
            return Verdict(pid=finish.pid, fence=finish.fence, finish="stored", status=status)
        if after["fence"] != finish.fence or status.terminal:
            return Verdict(pid=finish.pid, fence=finish.fence, finish="superseded", status=status)
        # Its fence is current and yet the write did not match: a cancel was accepted before.
        instead = transitions.cancelled_instead(finish, after, now=now, settings=self._settings)
        self._jobs.update_one(_open_attempt(finish), instead.operators, array_filters=instead.array_filters)
        return self._stored(finish, instead)

    def _stored(self, finish: Finish, update: Update) -> Verdict:
        self._metrics.attempt_ended(finish.outcome, finish.error)
        if update.status is JobStatus.PENDING:
            self._wake_at(update.operators["$set"]["due_at"])
        return Verdict(pid=finish.pid, fence=finish.fence, finish="stored", status=update.status)

    def _tell(self, finishes: list[Finish], verdicts: dict[tuple[str, int], Verdict]) -> None:
        """Wake those who wait for the outcomes; also when they are told for the second time."""
        changes = [
            StateChange(pid=verdict.pid, status=verdict.status, fence=verdict.fence)
            for verdict in verdicts.values()
            if verdict.finish == "stored" and verdict.status is not None
        ]
        self._events.jobs_changed(changes)
        wanted = {finish.pid for finish in finishes if finish.notify}
        for change in changes:
            if change.pid in wanted and change.status.terminal:
                self._events.mail_due(change.pid)
        locked = {finish.pid for finish in finishes if finish.locked}
        if ended := [change.pid for change in changes if change.pid in locked and change.status.terminal]:
            self._locks.freed_by(ended)

    # ---- what a claim gets

    def _granted_before(self, requests: list[Settle], repeated: list[bool]) -> dict[str, list[Grant]]:
        """The grants of claims that were served before and whose answer was lost."""
        again = [r.claim for r, repeat in zip(requests, repeated, strict=True) if r.claim and repeat]
        if not again:
            return {}
        held: dict[str, list[Grant]] = defaultdict(list)
        for document in self._jobs.find(
            {
                "status": JobStatus.RUNNING,
                "worker": {"$in": [claim.worker_id for claim in again]},
                "claim_id": {"$in": [claim.claim_id for claim in again]},
            },
            documents.GRANT_FIELDS,
        ):
            held[document["claim_id"]].append(documents.grant(document))
        return dict(held)

    def _choose(self, claims: list[Claim], now: datetime) -> dict[str, Choice]:
        """Deal the best due jobs to the claims, each job to one of them."""
        choices = {claim.claim_id: Choice(claim=claim) for claim in claims}
        groups: dict[tuple[str, tuple[str, ...]], list[Choice]] = defaultdict(list)
        for choice in choices.values():
            groups[choice.claim.pool, tuple(sorted(choice.claim.tasks))].append(choice)
        taken: list[str] = []
        for (pool, tasks), group in groups.items():
            if (pool, tasks) in self._dry and not any(choice.claim.heard for choice in group):
                continue
            wanted = sum(choice.claim.count for choice in group)
            query: dict[str, Any] = {
                "pool": pool,
                "status": JobStatus.PENDING,
                "due_at": {"$lte": now},
                "task": {"$in": list(tasks)},
            }
            if taken:
                query["_id"] = {"$nin": taken}
            due = list(
                self._jobs.find(query, documents.GRANT_FIELDS)
                .sort([("rank", 1), ("_id", 1)])
                .limit(wanted + 1)
                .hint("claim")
            )
            more, due = len(due) > wanted, due[:wanted]
            self._remember((pool, tasks), dry=not more)
            taken += [document["_id"] for document in due]
            for choice in group:
                choice.candidates, due = due[: choice.claim.count], due[choice.claim.count :]
                choice.more = more
        return choices

    def _remember(self, pool_and_tasks: tuple[str, tuple[str, ...]], *, dry: bool) -> None:
        if not dry:
            self._dry.discard(pool_and_tasks)
            return
        if len(self._dry) >= MAX_DRY:
            self._dry.clear()  # costs each of them one look
        self._dry.add(pool_and_tasks)

    def _read_back(self, finishes: list[Finish], choices: dict[str, Choice]) -> dict[str, type_of_document]:
        pids = {finish.pid for finish in finishes}
        pids |= {candidate["_id"] for choice in choices.values() for candidate in choice.candidates}
        return {document["_id"]: document for document in self._jobs.find({"_id": {"$in": list(pids)}}, VERDICT_FIELDS)}


def _open_ended(finish: Finish) -> bool:
    """Whether it takes a look at the job to say what the report means."""
    return finish.retriable or finish.outcome is Outcome.HANDED_BACK


def _open_attempt(finish: Finish) -> dict[str, Any]:
    """The job as long as this fence is the current one and its worker has not reported yet.

    That includes a job whose worker was given up but which nobody has claimed since.
    """
    return {
        "_id": finish.pid,
        "fence": finish.fence,
        "status": {"$in": sorted(ACTIVE)},
        "settled_fence": {"$ne": finish.fence},
    }


def _as_read(candidate: type_of_document) -> dict[str, Any]:
    """The candidate as long as nobody has claimed it, and the worker given up before has not reported after all."""
    return {
        "_id": candidate["_id"],
        "status": JobStatus.PENDING,
        "fence": candidate["fence"],
        "settled_fence": candidate.get("settled_fence"),
    }


def _granted(candidate: type_of_document, claim_id: str) -> Grant:
    """The grant that `transitions.claimed` makes of a candidate."""
    changes = {
        "claim_id": claim_id,
        "fence": candidate["fence"] + 1,
        "attempts_used": candidate["attempts_used"] + 1,
    }
    return documents.grant(candidate | changes)


def _answer(
    request: Settle,
    verdicts: dict[tuple[str, int], Verdict],
    grants: dict[str, list[Grant]],
    choices: dict[str, Choice],
) -> Settled:
    claim = request.claim
    choice = choices.get(claim.claim_id) if claim else None
    return Settled(
        verdicts=[verdicts[finish.pid, finish.fence] for finish in request.finishes],
        grants=grants.get(claim.claim_id, []) if claim else [],
        more=choice.more if choice else False,
    )
