"""The document behind Swagger UI (Swagger 2.0): one form per task of the catalogue.

One generic route serves every task; the document shows it as one concrete path per task, each with
the task's own params, bounds and example.
"""

import threading
from typing import Any
from urllib.parse import urlsplit

from contracts import __version__, codec
from contracts.catalogue import CatalogueEntry
from contracts.errors import Unavailable
from contracts.job import Job
from gateway import operations
from gateway.catalogue import TaskCatalogue
from gateway.links import PREFIX
from gateway.operations import reference
from gateway.schema_downgrade import Downgrade, Schema
from gateway.submissions import Options

ABOUT = (
    "Hand slow work over the counter, get a ticket (the `pid`), collect the result later.\n\n"
    "**Try it:** open a task below, press *Execute*, copy the `pid` out of the answer, then paste it into "
    "*GET /jobs/{pid}*."
)
WITHOUT_CATALOGUE = "\n\n**The tasks cannot be listed right now, since the catalogue is away. Reload in a moment.**"
TASK_DESCRIPTION = (
    "{description}\n\n`params` is all that is needed. To be told by e-mail, add "
    '`"notify": {{"email": "you@example.org"}}` beside it; *Model* below shows every option.\n\n'
    "Runs for at most {time_limit:g} s per attempt, {attempts}.{serving}"
)
ASLEEP = " No worker serves it at this moment: jobs are taken and wait."
TEXT: Schema = {"type": "string"}
WHEN: Schema = {"type": "string", "format": "date-time"}
LINKS: Schema = {"type": "object", "additionalProperties": {"type": "string", "format": "uri"}}
PROBLEM: Schema = {
    "type": "object",
    "description": "Problem details of RFC 9457; some types carry more members.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {**TEXT, "description": "A page that explains this type of problem."},
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": {**TEXT, "description": "What is wrong this time."},
        "errors": {
            "type": "array",
            "description": "Every fault, with a JSON pointer into the body or the name of a parameter or header.",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {"pointer": TEXT, "parameter": TEXT, "header": TEXT, "detail": TEXT},
            },
        },
        "pid": {**TEXT, "description": "The job that it is about, or that may have been stored."},
        "error": {"type": "object", "x-nullable": True, "description": "Why the job failed."},
    },
}
TICKET: Schema = {
    "type": "object",
    "required": ["pid", "status", "created_at", "message", "links"],
    "properties": {
        "pid": {**TEXT, "description": "Keep it: the job is found by it."},
        "status": reference("JobStatus"),
        "created_at": WHEN,
        "message": TEXT,
        "links": LINKS,
    },
}
HEALTH: Schema = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": TEXT, "checks": {"type": "object", "additionalProperties": TEXT}},
}
QUEUE: Schema = {
    "type": "object",
    "required": ["name", "kind", "depth", "consumers"],
    "properties": {
        "name": TEXT,
        "kind": {**TEXT, "enum": ["pool", "service", "dead_letters"]},
        "depth": {"type": "integer", "description": "Jobs of a pool that wait for a slot; messages of a queue."},
        "consumers": {"type": "integer", "description": "Who listens for work at this moment."},
        "scheduled": {"type": "integer", "description": "Jobs of a pool that wait for their time."},
        "running": {"type": "integer", "description": "Jobs of a pool that run."},
        "workers": {"type": "integer", "description": "Workers of a pool that are alive."},
        "slots": {"type": "integer", "description": "Jobs that those can run at a time."},
    },
}


class SwaggerDocument:
    """The document as bytes, written anew whenever the catalogue changed."""

    def __init__(self, catalogue: TaskCatalogue, base_url: str | None) -> None:
        self._catalogue = catalogue
        self._base_path = urlsplit(base_url or "").path or "/"
        self._lock = threading.Lock()
        self._version: str | None = None
        self._written = b""

    def current(self) -> bytes:
        """The document for the newest catalogue; without tasks if none can be read."""
        try:
            offers = self._catalogue.offers()
        except Unavailable:
            return codec.dumps(build([], base_path=self._base_path, about=ABOUT + WITHOUT_CATALOGUE))
        with self._lock:
            if self._version != offers.version:
                entries = [offers.by_name[name].entry for name in sorted(offers.by_name)]
                self._written = codec.dumps(build(entries, base_path=self._base_path))
                self._version = offers.version
            return self._written


def build(entries: list[CatalogueEntry], *, base_path: str = "/", about: str = ABOUT) -> Schema:
    """The whole document for the tasks *entries*."""
    definitions = _definitions()
    paths: Schema = {f"{PREFIX}/tasks/{entry.name}/jobs": _task_form(entry, definitions) for entry in entries}
    paths |= operations.job_paths()
    paths[f"{PREFIX}/jobs"] = {"post": _any_task(entries, definitions), "get": operations.list_jobs()}
    paths |= operations.task_paths() | operations.service_paths()
    return {
        "swagger": "2.0",
        "info": {"title": "Coatcheck", "version": __version__, "description": about},
        "basePath": base_path,
        "consumes": [operations.JSON],
        "produces": [operations.JSON, operations.PROBLEM],
        "tags": operations.TAGS,
        "paths": paths,
        "definitions": definitions,
    }


def _task_form(entry: CatalogueEntry, definitions: dict[str, Schema]) -> Schema:
    params = Downgrade(entry.params_schema, f"{entry.name}.", definitions).convert(entry.params_schema)
    params.pop("title", None)
    body = _body({"params": params}, ["params"], {"params": entry.example})
    body["properties"]["max_attempts"] |= {"maximum": entry.max_attempts}
    body["properties"]["time_limit"] |= {"maximum": entry.time_limit}
    definitions[f"{entry.name}.Submission"] = body
    attempts = "tried once" if entry.max_attempts == 1 else f"tried up to {entry.max_attempts} times"
    description = TASK_DESCRIPTION.format(
        description=entry.description,
        time_limit=entry.time_limit,
        attempts=attempts,
        serving="" if entry.serving else ASLEEP,
    )
    return {
        "post": operations.submission(
            f"submit_{entry.name}", entry.title, description, reference(f"{entry.name}.Submission")
        )
    }


def _any_task(entries: list[CatalogueEntry], definitions: dict[str, Schema]) -> Schema:
    example = {"task": entries[0].name, "params": entries[0].example} if entries else {"task": "…", "params": {}}
    names = {"enum": [entry.name for entry in entries]} if entries else {}
    task = {**TEXT, **names, "description": "The name of a task."}
    params = {"type": "object", "description": "As the task's own form above shows them."}
    definitions["Submission"] = _body({"task": task, "params": params}, ["task", "params"], example)
    description = "The same as the forms above, with the task named in the body; for programs."
    return operations.submission("submit", "Any task, by name", description, reference("Submission"))


def _body(own: Schema, required: list[str], example: Schema) -> Schema:
    options = Options.model_json_schema()
    converted = Downgrade(options, "", {}).convert(_inlined(options, options.get("$defs", {})))
    properties = {name: _untitled(schema) for name, schema in converted["properties"].items()}
    return {
        "type": "object",
        "required": required,
        "additionalProperties": False,
        "properties": {**own, **properties},
        "example": example,
    }


def _definitions() -> dict[str, Schema]:
    """The definitions that do not depend on the catalogue."""
    definitions: dict[str, Schema] = {}
    schema = Job.model_json_schema()
    job = Downgrade(schema, "", definitions).convert(schema)
    job["description"] = "A job: where it stands, and what came of it."
    job["properties"]["links"] = LINKS
    job["required"] = [*job["required"], "links"]
    summary = {**job, "properties": {n: s for n, s in job["properties"].items() if n not in {"params", "result"}}}
    entry = CatalogueEntry.model_json_schema()
    task = Downgrade(entry, "", definitions).convert(entry)
    task["properties"]["links"] = LINKS
    own = {
        "Job": job,
        "JobSummary": summary,
        "JobPage": _page("jobs", "JobSummary"),
        "Task": task,
        "TaskPage": _page("tasks", "Task"),
        "Ticket": TICKET,
        "Problem": PROBLEM,
        "Health": HEALTH,
        "Queue": QUEUE,
        "QueuePage": _page("queues", "Queue"),
    }
    return {name: _untitled(schema) for name, schema in (definitions | own).items()}


def _page(name: str, member: str) -> Schema:
    return {
        "type": "object",
        "required": [name, "next"],
        "properties": {
            name: {"type": "array", "items": reference(member)},
            "next": {**TEXT, "x-nullable": True, "description": "Pass it as `cursor` to go on; null at the end."},
        },
    }


def _inlined(schema: Any, definitions: Schema) -> Any:
    """*schema* with its own ``$ref`` replaced by what they name; it must not refer to itself."""
    if isinstance(schema, list):
        return [_inlined(member, definitions) for member in schema]
    if not isinstance(schema, dict):
        return schema
    inlined = {word: _inlined(value, definitions) for word, value in schema.items() if word not in {"$ref", "$defs"}}
    if "$ref" in schema:
        named = definitions[schema["$ref"].rpartition("/")[2]]
        inlined = _inlined(named, definitions) | inlined
    return inlined


def _untitled(schema: Any) -> Any:
    """*schema* without the titles that pydantic writes for our own models."""
    if isinstance(schema, list):
        return [_untitled(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        word: {name: _untitled(member) for name, member in value.items()} if word == "properties" else _untitled(value)
        for word, value in schema.items()
        if word != "title" or not isinstance(value, str)
    }
