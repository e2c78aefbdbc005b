"""Looking at jobs. What is deleted is not there, and another owner's job is not either."""

from typing import Any

from contracts.clock import Clock
from contracts.errors import CoatcheckError, NotFound
from contracts.messages import GetJob, JobPage, JobQuery
from contracts.status import JobStatus
from results_service.ledger import documents
from results_service.ledger.database import Database, type_of_document

LONGEST_COUNTED_QUEUE = 1000
"""A place in the queue is counted no further."""


class Queries:
    """Reads for the gateway."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._jobs = database.jobs
        self._clock = clock

    def get(self, requests: list[GetJob]) -> list[dict[str, Any] | CoatcheckError]:
        """One answer per request, in order: the job, or `NotFound`. One read for all."""
        found = {
            document["_id"]: document
            for document in self._jobs.find({"_id": {"$in": [request.pid for request in requests]}})
        }
        answers: list[dict[str, Any] | CoatcheckError] = []
        for request in requests:
            document = found.get(request.pid)
            if document is None or document["owner"] != request.owner or document.get("deleted_at"):
                answers.append(NotFound(f"There is no job {request.pid}."))
            else:
                answers.append(documents.view(document, self._queue_position(document)))
        return answers

    def list_jobs(self, query: JobQuery) -> JobPage:
        """A page, newest first, without params and results."""
        found = list(
            self._jobs.find(_conditions(query), documents.VIEW_WITHOUT_PAYLOAD).sort("_id", -1).limit(query.limit + 1)
        )
        page = found[: query.limit]
        return JobPage(
            jobs=[documents.summary(document) for document in page],
            next_pid=page[-1]["_id"] if len(found) > query.limit else None,
        )

    def latest(self, query: JobQuery) -> dict[str, Any]:
        """The newest job that matches, whole; raises `NotFound`."""
        document = self._jobs.find_one(_conditions(query), sort=[("_id", -1)])
        if document is None:
            raise NotFound("No job matches.")
        return documents.view(document, self._queue_position(document))

    def _queue_position(self, document: type_of_document) -> int | None:
        """1 is the next to start; None for what does not wait for a slot."""
        now = self._clock.now()
        if document["status"] != JobStatus.PENDING or document["due_at"] > now:
            return None
        ahead = {
            "pool": document["pool"],
            "status": JobStatus.PENDING,
            "due_at": {"$lte": now},
            "$or": [
                {"rank": {"$lt": document["rank"]}},
                {"rank": document["rank"], "_id": {"$lt": document["_id"]}},
            ],
        }
        return self._jobs.count_documents(ahead, limit=LONGEST_COUNTED_QUEUE) + 1


def _conditions(query: JobQuery) -> dict[str, Any]:
    conditions: dict[str, Any] = {"owner": query.owner, "deleted_at": None}
    if query.status:
        conditions["status"] = {"$in": list(query.status)}
    if query.task is not None:
        conditions["task"] = query.task
    if query.tag is not None:
        conditions["tags"] = query.tag
    if query.reference is not None:
        conditions["reference"] = query.reference
    pids: dict[str, str] = {}
    if query.created_after is not None:  # the pid carries the time of creation
        pids["$gte"] = documents.first_pid(query.created_after)
    bounds = [documents.first_pid(query.created_before)] if query.created_before is not None else []
    bounds += [query.after_pid] if query.after_pid is not None else []
    if bounds:
        pids["$lt"] = min(bounds)
    if pids:
        conditions["_id"] = pids
    return conditions
