"""What the document behind Swagger UI says about each address that does not depend on the catalogue."""

from typing import Any

from contracts import errors
from contracts.errors import CoatcheckError
from contracts.status import JobStatus
from gateway.links import PREFIX
from gateway.queries import CURSOR_FORM, DEFAULT_LIMIT, LATEST_PARAMETERS, MAX_LENGTHS, MAX_LIMIT

Schema = dict[str, Any]

JSON = "application/json"
PROBLEM = "application/problem+json"
SUBMIT, JOBS, TASKS, SERVICE = "Submit a job", "Jobs", "Tasks", "Service"
TAGS = [
    {"name": SUBMIT, "description": "One form per task. Press Execute: the answer carries the pid."},
    {"name": JOBS, "description": "Look a job up by its pid, find jobs, read results, cancel, run again, forget."},
    {"name": TASKS, "description": "What can be submitted, with the schemas of params and results."},
    {"name": SERVICE, "description": "For operators and probes."},
]
PID = {
    "name": "pid",
    "in": "path",
    "required": True,
    "type": "string",
    "format": "uuid",
    "description": "The ticket that the submission was answered with, such as 0199c0de-0000-7000-8000-000000000000.",
}
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "type": "string",
    "minLength": 1,
    "maxLength": 257,
    "pattern": '^("[\\x21\\x23-\\x7e]+"|[\\x21\\x23-\\x7e][\\x21-\\x7e]*)$',
    "description": "Any text of your own, bare or in double quotes. Repeating a submission with the same key returns the same job.",
}
LOCATION = {"Location": {"type": "string", "description": "The address of the job."}}
TICKET_HEADERS = {
    **LOCATION,
    "Idempotency-Replayed": {"type": "string", "description": "`true` if the key had this job already."},
}
RETRY_AFTER = {"Retry-After": {"type": "integer", "description": "Seconds to wait before trying again."}}
GOES_AWAY = {errors.Unavailable.status, errors.Conflict.status}
READING = (errors.NotAcceptable, errors.Unavailable)
ONE_JOB = (errors.NotFound, *READING)
SUBMITTING = (
    errors.ValidationFailed,
    errors.NotFound,
    errors.NotAcceptable,
    errors.TooLarge,
    errors.UnsupportedMediaType,
    errors.Conflict,
    errors.IdempotencyMismatch,
    errors.Unavailable,
)


def reference(name: str) -> Schema:
    """A reference to a definition of the document."""
    return {"$ref": f"#/definitions/{name}"}


def answers(what: str, schema: Schema, headers: Schema | None = None) -> Schema:
    """The documentation of one answer."""
    return {"description": what, "schema": schema, **({"headers": headers} if headers else {})}


def operation(  # noqa: PLR0913 -- the words of an operation
    operation_id: str,
    tag: str,
    summary: str,
    responses: Schema,
    *,
    raises: tuple[type[CoatcheckError], ...] = (),
    description: str = "",
    parameters: tuple[Schema, ...] = (),
    consumes_json: bool = False,
) -> Schema:
    """One operation; every error that it *raises* is a problem document."""
    by_status: dict[int, list[str]] = {}
    for kind in raises:
        by_status.setdefault(kind.status, []).append(f"{kind.title} (`{kind.problem}`)")
    problems = {
        str(status): answers(" or ".join(titles), reference("Problem"), RETRY_AFTER if status in GOES_AWAY else None)
        for status, titles in sorted(by_status.items())
    }
    return {
        "operationId": operation_id,
        "tags": [tag],
        "summary": summary,
        **({"description": description} if description else {}),
        **({"consumes": [JSON]} if consumes_json else {}),
        "produces": [JSON, PROBLEM],
        "parameters": list(parameters),
        "responses": {**responses, **problems},
    }


def submission(operation_id: str, summary: str, description: str, body: Schema) -> Schema:
    """A way to submit jobs whose body is *body*."""
    return operation(
        operation_id,
        SUBMIT,
        summary,
        {
            "200": answers("`join`: the job that holds the locks stands for this one.", reference("Job"), LOCATION),
            "202": answers("The job is stored; here is its pid.", reference("Ticket"), TICKET_HEADERS),
        },
        raises=SUBMITTING,
        description=description,
        parameters=({"name": "body", "in": "body", "required": True, "schema": body}, KEY),
        consumes_json=True,
    )


def _filters() -> tuple[Schema, ...]:
    status = {
        "name": "status",
        "in": "query",
        "type": "array",
        "items": {"type": "string", "enum": list(JobStatus)},
        "collectionFormat": "multi",
        "description": "Only jobs in this state, or in one of these.",
    }
    texts = {"task": "Only jobs of this task.", "tag": "Only jobs with this tag.", "reference": "Only this reference."}
    times = {"created_after": "Only jobs from after this.", "created_before": "Only jobs from before this."}
    return (
        status,
        *(
            {"name": name, "in": "query", "type": "string", "minLength": 1, "maxLength": MAX_LENGTHS[name],
             "description": text}
            for name, text in texts.items()
        ),
        *(
            {"name": name, "in": "query", "type": "string", "format": "date-time",
             "description": f"{text} RFC 3339, such as 2030-01-31T08:00:00Z."}
            for name, text in times.items()
        ),
    )  # fmt: skip


FILTERS = _filters()
PAGING: tuple[Schema, ...] = (
    {"name": "limit", "in": "query", "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT,
     "description": "How many jobs at most."},
    {"name": "cursor", "in": "query", "type": "string", "pattern": CURSOR_FORM,
     "description": "`next` of the page before. Leave it empty."},
)  # fmt: skip


def job_paths() -> Schema:
    """Everything about jobs but the submissions."""
    job = answers("The job.", reference("Job"))
    return {
        f"{PREFIX}/jobs/{{pid}}": {
            "get": operation("get_job", JOBS, "The job: state, progress, result", {"200": job}, raises=ONE_JOB,
                             parameters=(PID,)),
            "delete": operation("delete_job", JOBS, "Cancel it if it is active, then forget it",
                                {"204": {"description": "It is gone."}}, raises=ONE_JOB, parameters=(PID,)),
        },
        f"{PREFIX}/jobs/{{pid}}/result": {
            "get": operation(
                "get_result", JOBS, "The result alone",
                {"200": answers("The result, as the task's `result_schema` describes it.", {}),
                 "202": answers("The job has not ended yet.", reference("Job"), RETRY_AFTER)},
                raises=(errors.JobFailed, errors.JobCancelled, *ONE_JOB), parameters=(PID,),
            ),
        },
        f"{PREFIX}/jobs/{{pid}}/cancel": {
            "post": operation(
                "cancel_job", JOBS, "Ask for cancellation",
                {"202": answers("The job will end as cancelled.", reference("Ticket"), TICKET_HEADERS)},
                raises=(errors.NotCancellable, *ONE_JOB), parameters=(PID,),
                description="Repeating it is harmless. A job that ended otherwise cannot be cancelled.",
            ),
        },
        f"{PREFIX}/jobs/{{pid}}/retry": {
            "post": operation(
                "retry_job", JOBS, "Run a failed or cancelled job again",
                {"202": answers("The job waits to run again.", reference("Ticket"), TICKET_HEADERS)},
                raises=(errors.NotRetryable, errors.Conflict, *ONE_JOB), parameters=(PID,),
                description="The same `pid`, with a new budget of attempts; the old outcome stays in `attempts`.",
            ),
        },
        f"{PREFIX}/jobs/latest": {
            "get": operation("latest_job", JOBS, "The newest job", {"200": job},
                             raises=(errors.ValidationFailed, *ONE_JOB),
                             parameters=tuple(f for f in FILTERS if f["name"] in LATEST_PARAMETERS)),
        },
    }  # fmt: skip


def list_jobs() -> Schema:
    """GET of the collection."""
    return operation(
        "list_jobs", JOBS, "Find jobs, newest first", {"200": answers("A page of jobs.", reference("JobPage"))},
        raises=(errors.ValidationFailed, *READING), parameters=(*FILTERS, *PAGING),
        description="Without their params and results.",
    )  # fmt: skip


def task_paths() -> Schema:
    """The catalogue."""
    name = {"name": "task", "in": "path", "required": True, "type": "string", "description": "The name of a task."}
    return {
        f"{PREFIX}/tasks": {
            "get": operation("list_tasks", TASKS, "Every task that can be submitted",
                             {"200": answers("The catalogue.", reference("TaskPage"))}, raises=READING),
        },
        f"{PREFIX}/tasks/{{task}}": {
            "get": operation("get_task", TASKS, "One task: schemas, example, bounds",
                             {"200": answers("The task.", reference("Task"))}, raises=ONE_JOB, parameters=(name,)),
        },
    }  # fmt: skip


def service_paths() -> Schema:
    """Probes and numbers."""
    text = {"description": "The metrics of this process in Prometheus' text format.", "schema": {"type": "string"}}
    return {
        f"{PREFIX}/queues": {
            "get": operation("list_queues", SERVICE, "What waits where, and who takes it",
                             {"200": answers("All pools and queues.", reference("QueuePage"))}, raises=READING),
        },
        "/healthz": {
            "get": operation("healthz", SERVICE, "Alive?", {"200": answers("It is alive.", reference("Health"))}),
        },
        "/readyz": {
            "get": operation("readyz", SERVICE, "Ready to take jobs? Names what is not",
                             {"200": answers("Everything works.", reference("Health"))}, raises=(errors.Unavailable,)),
        },
        "/metrics": {
            "get": operation("metrics", SERVICE, "Numbers for Prometheus", {"200": text})
            | {"produces": ["text/plain"]},
        },
    }  # fmt: skip
