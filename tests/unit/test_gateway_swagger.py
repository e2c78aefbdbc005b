import re
import time
from importlib import metadata
from typing import Any

import pytest
from flask import Flask
from gateway_ledger import AWAY, BMI, MEETING, MemoryLedger

import contracts
from contracts import codec
from contracts.catalogue import CatalogueEntry
from gateway.app import create_app
from gateway.settings import GatewaySettings
from gateway.submissions import TaskSubmission, parse
from gateway.swagger import build

SWAGGER_2_WORDS = {
    "$ref", "format", "title", "description", "default", "multipleOf", "maximum", "exclusiveMaximum", "minimum",
    "exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxProperties",
    "minProperties", "required", "enum", "type", "items", "allOf", "properties", "additionalProperties", "readOnly",
    "example", "x-nullable", "x-anyOf",
}  # fmt: skip


@pytest.fixture
def ledger():
    return MemoryLedger()


@pytest.fixture
def app(ledger: MemoryLedger):
    return create_app(GatewaySettings(), ledger)


def document(app: Flask):
    return app.test_client().get("/api/v1/swagger.json").json


def schemas(value: dict[str, Any]):
    """Every schema in a schema."""
    yield value
    for word in ("items", "additionalProperties"):
        if isinstance(value.get(word), dict):
            yield from schemas(value[word])
    for member in [*value.get("properties", {}).values(), *value.get("allOf", []), *value.get("x-anyOf", [])]:
        yield from schemas(member)


def test_the_document_and_the_routes_agree(app: Flask):
    """Every route of the API is documented, and nothing is documented that is not there."""
    documented = {
        (re.sub(r"/tasks/(bmi|meeting)/jobs", "/tasks/{task}/jobs", path), method.upper())
        for path, methods in document(app)["paths"].items()
        for method in methods
    }
    pages = {"/", "/api/v1", "/api/v1/", "/api/v1/swagger.json", "/swaggerui/{filename}", "/problems/{name}"}
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert documented == {(path, method) for path, method in routes if path not in pages}


def test_every_task_has_a_form_whose_example_works_as_it_stands(app: Flask):
    """Pressing Execute without reading anything submits a job, for each task and for POST /jobs."""
    found = document(app)
    client = app.test_client()
    for path in ("/api/v1/tasks/bmi/jobs", "/api/v1/tasks/meeting/jobs", "/api/v1/jobs"):
        schema = found["paths"][path]["post"]["parameters"][0]["schema"]
        body = found["definitions"][schema["$ref"].rpartition("/")[2]]["example"]
        assert client.post(path, json=body).status_code == 202


def test_a_form_shows_the_bounds_of_its_task(app: Flask):
    """A task's own bounds are in its form: those of the params and those of the options."""
    form = document(app)["definitions"]["bmi.Submission"]["properties"]
    assert form["params"]["properties"]["weight_kg"] == {
        "type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 700,
    }  # fmt: skip
    assert (form["max_attempts"]["maximum"], form["time_limit"]["maximum"]) == (3, 60)
    assert form["notify"]["properties"]["email"]["format"] == "email"


def test_all_schemas_are_swagger_2(app: Flask):
    """No word of JSON Schema 2020-12 that Swagger 2.0 does not know is left, and every reference leads somewhere."""
    definitions = document(app)["definitions"]
    for definition in definitions.values():
        for schema in schemas(definition):
            assert set(schema) <= SWAGGER_2_WORDS
            assert isinstance(schema.get("type", ""), str)
            if "$ref" in schema:
                assert schema["$ref"].removeprefix("#/definitions/") in definitions


def test_operation_ids_are_unique_and_every_operation_is_described(app: Flask):
    """Generated clients get distinct names, people a summary and a tag that exists."""
    found = document(app)
    operations = [operation for methods in found["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    tags = {tag["name"] for tag in found["tags"]}
    assert all(operation["summary"] and set(operation["tags"]) <= tags for operation in operations)
    assert found["tags"][0]["name"] == "Submit a job"


def test_it_says_its_version_where_nothing_is_installed(app: Flask):
    """The version comes with the code, as an image has it: the package's metadata say the same where there are any."""
    assert document(app)["info"]["version"] == contracts.__version__ == metadata.version("coatcheck")


def test_it_follows_the_catalogue(app: Flask, ledger: MemoryLedger):
    """Once the gateway knows of a new task, the document has its form."""
    before = document(app)["paths"]
    ledger.tasks.append(BMI.model_copy(update={"name": "other"}))
    client = app.test_client()
    deadline = time.monotonic() + 5
    while client.get("/api/v1/tasks/other").status_code != 200:
        assert time.monotonic() < deadline
    assert set(document(app)["paths"]) - set(before) == {"/api/v1/tasks/other/jobs"}


def test_without_a_catalogue_the_rest_is_still_documented(app: Flask, ledger: MemoryLedger):
    """Swagger UI opens while the results service is away, and says why no task is shown."""
    ledger.trouble["catalogue"] = AWAY
    found = document(app)
    assert "cannot be listed right now" in found["info"]["description"]
    assert "/api/v1/jobs/{pid}" in found["paths"]


def test_the_page_needs_nothing_from_elsewhere(app: Flask):
    """Swagger UI comes with its own assets: no other host is named."""
    page = app.test_client().get("/api/v1/")
    assert page.content_type.startswith("text/html")
    assert b"http" not in page.data
    assert app.test_client().get("/swaggerui/swagger-ui-bundle.js").status_code == 200


def test_a_task_without_params_gets_a_form():
    """An empty params object is a valid example."""
    entry = CatalogueEntry(
        **{**MEETING.model_dump(), "name": "empty", "params_schema": {"type": "object"}, "example": {}}
    )
    example = build([entry])["definitions"]["empty.Submission"]["example"]
    assert parse(TaskSubmission, codec.dumps(example)).params == {}
