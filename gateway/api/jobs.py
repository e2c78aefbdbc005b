"""Jobs: submit, find, read, cancel, run again, forget."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from flask import Response, request

from contracts.clock import rfc3339
from contracts.errors import JobCancelled, JobFailed, NotFound
from contracts.ids import is_pid
from contracts.logs import logger
from contracts.messages import GetJob, Order, Ticket
from contracts.status import JobStatus
from gateway.api.resource import JSON, NO_HEADERS, NO_STORE, Resource, answer
from gateway.catalogue import Offer
from gateway.ledger import OWNER
from gateway.queries import LATEST_PARAMETERS, LIST_PARAMETERS, encode_cursor, job_query
from gateway.services import Services
from gateway.submissions import Submission, TaskSubmission, idempotency_key, new_job, parse

log = logger(__name__)

LOOK_AGAIN_SECONDS = "1"
STORED = "The job is stored. Ask for it by its pid."
REPLAYED = "This Idempotency-Key has a job already: here it is."
CANCELLING = "The cancellation is stored: the job will end as cancelled."
RETRYING = "The job waits to run again, with a new budget of attempts."


def submit(services: Services, submission: TaskSubmission, offer: Offer) -> Response:
    """Store a job and wake its pool: 202 means that it is stored."""
    key = idempotency_key(request.headers.get("Idempotency-Key"))
    job = new_job(submission, offer, owner=OWNER, key=key)
    ticket = services.ledger.register(job)
    if ticket.due:
        services.ledger.ring(job.pool)
    log.debug("A job was accepted.", action="job_accepted", pid=ticket.pid, task=job.task, replayed=ticket.replayed)
    if ticket.joined:
        joined = find(services, ticket.pid)
        return answer(joined, headers={"Location": joined["links"]["self"]})
    if ticket.replayed:
        return accepted(services, ticket, REPLAYED, {"Idempotency-Replayed": "true"})
    return accepted(services, ticket, STORED)


class Jobs(Resource):
    """``/jobs``."""

    def post(self) -> Response:
        """Submit a job of any task."""
        submission = parse(Submission, self.json_body())
        return submit(self.services, submission, self.services.catalogue.task(submission.task))

    def get(self) -> Response:
        """List jobs, newest first."""
        query = job_query(request.args, allowed=LIST_PARAMETERS, owner=OWNER)
        page = self.services.ledger.list_jobs(query)
        base = self.services.links.base()
        links = self.services.links
        jobs = [{**job, "links": links.job(job["pid"], job["status"], base)} for job in page.jobs]
        return answer({"jobs": jobs, "next": None if page.next_pid is None else encode_cursor(page.next_pid)})


class LatestJob(Resource):
    """``/jobs/latest``."""

    def get(self) -> Response:
        """The newest job."""
        job = self.services.ledger.latest(job_query(request.args, allowed=LATEST_PARAMETERS, owner=OWNER))
        job["links"] = self.services.links.job(job["pid"], job["status"])
        return answer(job)


class Job(Resource):
    """``/jobs/{pid}``."""

    def get(self, pid: str) -> Response:
        """The job."""
        return answer(find(self.services, pid))

    def delete(self, pid: str) -> Response:
        """Cancel if active, then forget."""
        self.services.ledger.delete(order(pid))
        log.info("A job was deleted.", action="job_deleted", pid=pid)
        # Swagger 2.0 documents media types per operation, so an answer without content keeps the one of the others.
        return Response(status=HTTPStatus.NO_CONTENT, headers={"Cache-Control": NO_STORE}, content_type=JSON)


class JobResult(Resource):
    """``/jobs/{pid}/result``."""

    def get(self, pid: str) -> Response:
        """The result alone; while there is none, the job."""
        job = find(self.services, pid)
        status = JobStatus(job["status"])
        if status is JobStatus.SUCCEEDED:
            return answer(job["result"])
        if status is JobStatus.FAILED:
            raise JobFailed(members={"pid": pid, "error": job.get("error")})
        if status is JobStatus.CANCELLED:
            raise JobCancelled(members={"pid": pid, "error": job.get("error")})
        return answer(job, HTTPStatus.ACCEPTED, {"Retry-After": LOOK_AGAIN_SECONDS})


class JobCancellation(Resource):
    """``/jobs/{pid}/cancel``."""

    def post(self, pid: str) -> Response:
        """Ask for cancellation."""
        ticket = self.services.ledger.cancel(order(pid))
        log.info("A cancellation was accepted.", action="cancel_accepted", pid=pid)
        return accepted(self.services, ticket, CANCELLING)


class JobRetry(Resource):
    """``/jobs/{pid}/retry``."""

    def post(self, pid: str) -> Response:
        """Run it again."""
        ticket = self.services.ledger.retry(order(pid))
        log.info("A job runs again.", action="retry_accepted", pid=pid)
        return accepted(self.services, ticket, RETRYING)


def accepted(services: Services, ticket: Ticket, message: str, headers: Mapping[str, str] = NO_HEADERS) -> Response:
    """202: what was asked for is stored, and here is where to follow it."""
    links = services.links.job(ticket.pid, ticket.status)
    body = {
        "pid": ticket.pid,
        "status": ticket.status,
        "created_at": rfc3339(ticket.created_at),
        "message": message,
        "links": links,
    }
    return answer(body, HTTPStatus.ACCEPTED, {"Location": links["self"], **headers})


def find(services: Services, pid: str) -> dict[str, Any]:
    """The job with its links; raises `NotFound`."""
    job = services.ledger.get(GetJob(pid=known_form(pid), owner=OWNER))
    job["links"] = services.links.job(pid, job["status"])
    return job


def order(pid: str) -> Order:
    """An order about one job; raises `NotFound` if no job can have this *pid*."""
    return Order(pid=known_form(pid), owner=OWNER)


def known_form(pid: str) -> str:
    """*pid*; raises `NotFound` if it is none."""
    if not is_pid(pid):
        raise NotFound("There is no job with this pid: it does not have the form of one.")
    return pid
