import pytest
from flask.testing import FlaskClient
from gateway_ledger import A_PID, AWAY, BMI, MemoryLedger
from werkzeug.test import TestResponse

from contracts import topology
from contracts.errors import CoatcheckError, NoReply
from contracts.status import JobStatus
from gateway.app import create_app
from gateway.settings import GatewaySettings

BODY = {"params": BMI.example}


@pytest.fixture
def ledger():
    return MemoryLedger()


@pytest.fixture
def client(ledger: MemoryLedger):
    return create_app(GatewaySettings(), ledger).test_client()


@pytest.fixture
def pid(client: FlaskClient):
    return client.post("/api/v1/tasks/bmi/jobs", json=BODY).json["pid"]


def problem(response: TestResponse, status: int, name: str):
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    document = response.json
    assert document["type"].endswith(f"/problems/{name}")
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return document


def test_a_submission_is_stored_then_answered_202(client: FlaskClient, ledger: MemoryLedger):
    """202 carries the pid of the stored job, its address, and the pool was woken."""
    response = client.post("/api/v1/tasks/bmi/jobs", json=BODY)
    assert response.status_code == 202
    ticket = response.json
    assert [job.pid for job in ledger.registered] == [ticket["pid"]]
    assert set(ticket) == {"pid", "status", "created_at", "message", "links"}
    assert response.headers["Location"] == ticket["links"]["self"] == f"http://localhost/api/v1/jobs/{ticket['pid']}"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Idempotency-Replayed" not in response.headers
    assert ledger.rung == ["default"]
    assert client.get(response.headers["Location"]).json["pid"] == ticket["pid"]


def test_any_task_by_name(client: FlaskClient, ledger: MemoryLedger):
    """POST /jobs is the same with the task in the body."""
    assert client.post("/api/v1/jobs", json={"task": "bmi", **BODY}).status_code == 202
    assert ledger.registered[0].task == "bmi"


def test_a_scheduled_job_rings_nobody(client: FlaskClient, ledger: MemoryLedger):
    """Only a job that could start now wakes its pool."""
    client.post("/api/v1/tasks/bmi/jobs", json={**BODY, "not_before": "2999-01-01T00:00:00Z"})
    assert ledger.rung == []


def test_the_same_key_is_the_same_job(client: FlaskClient, ledger: MemoryLedger):
    """A replay answers 202 with the first job and says so; another payload is 422."""
    first = client.post("/api/v1/tasks/bmi/jobs", json=BODY, headers={"Idempotency-Key": '"k"'})
    again = client.post("/api/v1/jobs", json={**BODY, "task": "bmi"}, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json["pid"]) == (202, first.json["pid"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(ledger.registered) == 1
    other = {"params": {**BMI.example, "name": "Bob"}}
    response = client.post("/api/v1/tasks/bmi/jobs", json=other, headers={"Idempotency-Key": "k"})
    problem(response, 422, "idempotency-mismatch")


JSON = "application/json"
TOO_LONG = b'{"a": "' + b"a" * 1024 * 1024 + b'"}'
TOO_MUCH = b'{"task": "bmi", "params": {"n": "' + b"a" * 300_000 + b'"}}'


@pytest.mark.parametrize(
    ("path", "body", "content_type", "expected"),
    [
        ("/jobs", b"{", JSON, (400, "validation")),
        ("/jobs", b'{"task": "bmi", "params": {}}', JSON, (400, "validation")),
        ("/jobs", b'{"task": "none", "params": {}}', JSON, (404, "not-found")),
        ("/tasks/none/jobs", b'{"params": {}}', JSON, (404, "not-found")),
        ("/jobs", b"{}", "text/plain", (415, "unsupported-media-type")),
        ("/jobs", b"{}", "application/json-seq", (415, "unsupported-media-type")),
        ("/jobs", b"{}", None, (415, "unsupported-media-type")),
        ("/jobs", TOO_LONG, JSON, (413, "too-large")),
        ("/jobs", TOO_MUCH, JSON, (413, "too-large")),
    ],
)
def test_bad_submissions_make_no_job(  # noqa: PLR0913, PLR0917 -- a table
    client: FlaskClient,
    ledger: MemoryLedger,
    path: str,
    body: bytes,
    content_type: str | None,
    expected: tuple[int, str],
):
    """Whatever is wrong, the answer is a 4xx problem and nothing is stored."""
    problem(client.post(f"/api/v1{path}", data=body, content_type=content_type), *expected)
    assert ledger.registered == []


def test_a_charset_beside_the_media_type_is_fine(client: FlaskClient):
    """Many clients send application/json; charset=utf-8."""
    response = client.post(
        "/api/v1/jobs", data=b'{"task": "nope", "params": {}}', content_type="application/json; charset=utf-8"
    )
    assert response.status_code == 404


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("application/json", 200),
        ("*/*", 200),
        ("application/*;q=0.1", 200),
        ("text/html, */*;q=0.8", 200),
        ("application/problem+json, application/json", 200),
        ("nonsense", 200),
        ("", 200),
        ("text/html", 406),
        ("text/event-stream", 406),
        ("application/json;q=0, */*", 406),
    ],
)
def test_accept(client: FlaskClient, accept: str, status: int):
    """406 only where JSON is surely not acceptable."""
    response = client.get("/api/v1/jobs", headers={"Accept": accept})
    assert response.status_code == status
    if status == 406:
        problem(response, 406, "not-acceptable")


def test_links_follow_the_public_url(ledger: MemoryLedger):
    """Behind a proxy every link and problem type starts with PUBLIC_URL."""
    client = create_app(GatewaySettings(public_url="https://jobs.example.org/front/"), ledger).test_client()
    location = client.post("/api/v1/tasks/bmi/jobs", json=BODY).headers["Location"]
    assert location.startswith("https://jobs.example.org/front/api/v1/jobs/")
    assert client.get("/nowhere").json["type"] == "https://jobs.example.org/front/problems/not-found"
    assert client.get("/api/v1/swagger.json").json["basePath"] == "/front"


def test_a_senseless_host_is_not_repeated(client: FlaskClient):
    """Links are relative to the root if the Host header cannot be one."""
    response = client.get("/nowhere", headers={"Host": "a b<script>"})
    assert response.json["type"] == "/problems/not-found"


@pytest.mark.parametrize("bad", ["x", "0", A_PID.upper(), A_PID[:-1], f"{A_PID}0", "%00", "latest ", A_PID])
@pytest.mark.parametrize(
    ("method", "suffix"), [("get", ""), ("delete", ""), ("get", "/result"), ("post", "/cancel"), ("post", "/retry")]
)
def test_an_unknown_or_impossible_pid_is_404(client: FlaskClient, bad: str, method: str, suffix: str):
    """404 means unknown, whatever the pid looks like and whatever is asked of it."""
    problem(getattr(client, method)(f"/api/v1/jobs/{bad}{suffix}"), 404, "not-found")


def test_a_result_waits_for_its_job(client: FlaskClient, ledger: MemoryLedger, pid: str):
    """Unfinished: 202 with the job. Succeeded: the bare result. Failed or cancelled: 409 with the error."""
    address = f"/api/v1/jobs/{pid}/result"
    waiting = client.get(address)
    assert (waiting.status_code, waiting.json["pid"], waiting.headers["Retry-After"]) == (202, pid, "1")
    ledger.end(pid, JobStatus.SUCCEEDED, result=[1, 2])
    assert (client.get(address).status_code, client.get(address).json) == (200, [1, 2])
    assert client.get(f"/api/v1/jobs/{pid}").json["result"] == [1, 2]
    ledger.end(pid, JobStatus.FAILED)
    assert problem(client.get(address), 409, "job-failed")["error"]["kind"] == "task_error"
    ledger.end(pid, JobStatus.CANCELLED)
    assert problem(client.get(address), 409, "job-cancelled")["error"] is None


def test_cancelling(client: FlaskClient, ledger: MemoryLedger, pid: str):
    """Cancel answers 202, also twice; a job that ended otherwise is 409."""
    for _ in range(2):
        response = client.post(f"/api/v1/jobs/{pid}/cancel")
        assert (response.status_code, response.json["pid"]) == (202, pid)
    ledger.end(pid, JobStatus.SUCCEEDED)
    problem(client.post(f"/api/v1/jobs/{pid}/cancel"), 409, "not-cancellable")


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_retrying(client: FlaskClient, ledger: MemoryLedger, pid: str, status: JobStatus):
    """What ended badly has a link to run it again: 202 with a ticket; now it is active, so the next is 409."""
    ledger.end(pid, status)
    response = client.post(client.get(f"/api/v1/jobs/{pid}").json["links"]["retry"])
    assert response.status_code == 202
    assert set(response.json) == {"pid", "status", "created_at", "message", "links"}
    assert (response.json["pid"], response.json["status"]) == (pid, "pending")
    assert response.headers["Location"] == response.json["links"]["self"] == f"http://localhost/api/v1/jobs/{pid}"
    problem(client.post(f"/api/v1/jobs/{pid}/retry"), 409, "not-retryable")
    ledger.end(pid, JobStatus.SUCCEEDED)
    problem(client.post(f"/api/v1/jobs/{pid}/retry"), 409, "not-retryable")


def test_only_what_can_be_retried_links_to_it(client: FlaskClient, ledger: MemoryLedger, pid: str):
    """The job, the latest one and the list agree."""
    for status in JobStatus:
        ledger.end(pid, status)
        shown = [client.get(f"/api/v1/jobs/{name}").json for name in (pid, "latest")]
        shown += client.get("/api/v1/jobs").json["jobs"]
        assert {"retry" in job["links"] for job in shown} == {status in {JobStatus.FAILED, JobStatus.CANCELLED}}


def test_deleting(client: FlaskClient, pid: str):
    """After 204 the job is not found any more."""
    response = client.delete(f"/api/v1/jobs/{pid}")
    assert (response.status_code, response.data) == (204, b"")
    problem(client.get(f"/api/v1/jobs/{pid}"), 404, "not-found")
    problem(client.delete(f"/api/v1/jobs/{pid}"), 404, "not-found")


def test_pages_of_jobs(client: FlaskClient):
    """Following `next` visits every job once, newest first, without params and results."""
    made = [client.post("/api/v1/tasks/bmi/jobs", json=BODY).json["pid"] for _ in range(5)]
    seen, cursor = [], ""
    while cursor is not None:
        page = client.get(f"/api/v1/jobs?limit=2{cursor and '&cursor='}{cursor}").json
        seen += page["jobs"]
        cursor = page["next"]
    assert [job["pid"] for job in seen] == made[::-1]
    assert not {"params", "result"} & set(seen[0])
    assert seen[0]["links"]["self"].endswith(made[-1])


def test_filters_reach_the_ledger(client: FlaskClient, ledger: MemoryLedger):
    """GET /jobs passes filters on, and refuses what it does not know."""
    client.get("/api/v1/jobs?status=failed&reference=N-17")
    assert (ledger.queries[-1].status, ledger.queries[-1].reference) == ([JobStatus.FAILED], "N-17")
    document = problem(client.get("/api/v1/jobs?colour=red"), 400, "validation")
    assert document["errors"][0]["parameter"] == "colour"
    problem(client.get("/api/v1/jobs/latest?limit=3"), 400, "validation")


def test_the_latest_job(client: FlaskClient, pid: str):
    """Latest is the newest job in full; without any it is 404."""
    assert client.get("/api/v1/jobs/latest").json["params"] == BMI.example
    assert client.get("/api/v1/jobs/latest?status=pending").json["pid"] == pid
    problem(client.get("/api/v1/jobs/latest?status=failed"), 404, "not-found")


def test_the_catalogue(client: FlaskClient):
    """Tasks are shown with schemas, example and bounds."""
    assert [task["name"] for task in client.get("/api/v1/tasks").json["tasks"]] == ["bmi", "meeting"]
    task = client.get("/api/v1/tasks/bmi").json
    assert (task["params_schema"], task["example"], task["time_limit"]) == (BMI.params_schema, BMI.example, 60)
    problem(client.get("/api/v1/tasks/none"), 404, "not-found")


def test_away_is_503_with_retry_after(client: FlaskClient, ledger: MemoryLedger):
    """When the results service is away the answer says when to come again."""
    ledger.trouble["get"] = AWAY
    response = client.get(f"/api/v1/jobs/{A_PID}")
    problem(response, 503, "unavailable")
    assert response.headers["Retry-After"] == "1"


def test_an_unknown_outcome_names_the_pid(client: FlaskClient, ledger: MemoryLedger):
    """When it is unknown whether the job was stored, the problem carries the pid to look for."""
    ledger.trouble["register"] = NoReply("No answer.", {"pid": A_PID})
    assert problem(client.post("/api/v1/tasks/bmi/jobs", json=BODY), 503, "unavailable")["pid"] == A_PID
    assert ledger.rung == []


@pytest.mark.parametrize("error", [RuntimeError("secret"), CoatcheckError("secret")])
def test_the_unforeseen_is_500_without_internals(client: FlaskClient, ledger: MemoryLedger, error: Exception):
    """A bug shows a correlation id and nothing of the inside."""
    ledger.trouble["get"] = error
    response = client.get(f"/api/v1/jobs/{A_PID}")
    assert problem(response, 500, "internal")["correlation_id"]
    assert b"secret" not in response.data


def test_wrong_methods_and_addresses_are_problems(client: FlaskClient):
    """404 and 405 are problem documents outside of the API too; 405 keeps Allow."""
    problem(client.get("/nowhere"), 404, "not-found")
    response = client.put("/api/v1/jobs")
    problem(response, 405, "method-not-allowed")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    problem(client.delete("/api/v1/jobs/latest"), 405, "method-not-allowed")
    problem(client.post("/healthz"), 405, "method-not-allowed")


def test_head_and_options(client: FlaskClient, pid: str):
    """HEAD is GET without content; OPTIONS names the methods."""
    head = client.head(f"/api/v1/jobs/{pid}")
    assert (head.status_code, head.data) == (200, b"")
    assert head.content_length == client.get(f"/api/v1/jobs/{pid}").content_length
    options = client.options(f"/api/v1/jobs/{pid}")
    assert (options.status_code, options.allow.as_set()) == (200, {"delete", "get", "head", "options"})


def test_alive_and_ready(client: FlaskClient):
    """Everything works: both probes are 200."""
    assert client.get("/healthz").status_code == 200
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert set(ready.json["checks"]) == {"rabbitmq", "results_service", "mongodb", "catalogue"}


@pytest.mark.parametrize(
    ("trouble", "failing"),
    [
        ({"ping": AWAY}, "mongodb"),
        ({"ping": NoReply()}, "results_service, mongodb"),
        ({"catalogue": AWAY}, "catalogue"),
    ],
)
def test_not_ready_names_what_fails(
    client: FlaskClient, ledger: MemoryLedger, trouble: dict[str, Exception], failing: str
):
    """503 of /readyz says which part it is; /healthz stays 200."""
    ledger.trouble = trouble
    assert problem(client.get("/readyz"), 503, "unavailable")["detail"] == f"Not ready: {failing}."
    assert client.get("/healthz").status_code == 200


def test_not_ready_without_broker_or_tasks(client: FlaskClient, ledger: MemoryLedger):
    """A broker in trouble and an empty catalogue are named too."""
    ledger.broker_trouble = "RabbitMQ is not reachable"
    ledger.tasks.clear()
    document = problem(client.get("/readyz"), 503, "unavailable")
    assert document["detail"] == "Not ready: rabbitmq, catalogue."


def test_metrics(client: FlaskClient):
    """Requests are counted by route and status; addresses and methods that clients invent make no new series."""
    client.get("/api/v1/jobs/latest")
    client.get("/made/up")
    client.open("/api/v1/jobs", method="BREW")
    text = client.get("/metrics").text
    series = 'coatcheck_http_request_seconds_count{method="GET",route="/api/v1/jobs/latest",status="404"} 1.0'
    assert series in text
    assert 'route="unmatched",status="404"' in text
    assert "BREW" not in text


def test_every_problem_type_has_a_page(client: FlaskClient, ledger: MemoryLedger):
    """The type of a problem leads to a readable page without scripts."""
    page = client.get(client.get("/nowhere").json["type"].removeprefix("http://localhost"))
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert b"<script" not in page.data
    for kind in CoatcheckError.__subclasses__():
        assert client.get(f"/problems/{kind.problem}").status_code == 200
    problem(client.get("/problems/none"), 404, "not-found")


def test_the_root_leads_to_the_documentation(client: FlaskClient):
    """A person who only knows the host finds Swagger UI."""
    for path in ("/", "/api/v1"):
        assert client.get(path, follow_redirects=True).request.path == "/api/v1/"


def test_queues_are_pools_services_and_dead_letters(client: FlaskClient):
    """Depth and consumers of each; of a pool, depth is jobs from the ledger, not bells; a queue not yet there is empty."""
    found = client.get("/api/v1/queues").json
    assert found["next"] is None
    rows = {row["name"]: row for row in found["queues"]}
    assert rows.pop("default") == {
        "name": "default", "kind": "pool", "depth": 3, "consumers": 1,
        "scheduled": 1, "running": 2, "workers": 1, "slots": 2,
    }  # fmt: skip
    assert rows[topology.DEAD_LETTERS] == {
        "name": topology.DEAD_LETTERS, "kind": "dead_letters", "depth": 2, "consumers": 1,
    }  # fmt: skip
    assert rows[topology.COMPUTE_QUEUE] == {
        "name": topology.COMPUTE_QUEUE, "kind": "service", "depth": 0, "consumers": 0,
    }  # fmt: skip
    assert set(rows) == {*topology.service_queues(), topology.DEAD_LETTERS}


@pytest.mark.parametrize("method", ["pools", "inspect"])
def test_queues_are_503_without_ledger_or_broker(client: FlaskClient, ledger: MemoryLedger, method: str):
    """Half an answer would mislead: who cannot be asked is named by the problem."""
    ledger.trouble[method] = AWAY
    problem(client.get("/api/v1/queues"), 503, "unavailable")
