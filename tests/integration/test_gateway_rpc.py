"""The gateway over a real RabbitMQ, against a tiny results service that speaks Nameko's RPC."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pika
import pytest
from conftest import Servers
from flask import Flask
from flask.testing import FlaskClient
from gateway_ledger import A_PID, BMI, MEETING, MemoryLedger, Responder

from contracts import codec, topology
from gateway.app import close, create_app
from gateway.settings import GatewaySettings

BODY = {"params": BMI.example}
PATIENCE_SECONDS = 20.0
ANSWER_SECONDS = 2.0


@pytest.fixture
def responder(fresh_vhost: str) -> Iterator[Responder]:
    """The results service."""
    responder = Responder(fresh_vhost, MemoryLedger(BMI))
    yield responder
    responder.close()


@pytest.fixture
def app(fresh_vhost: str, responder: Responder) -> Iterator[Flask]:
    """A gateway that is ready."""
    app = create_app(GatewaySettings(amqp_uri=fresh_vhost))
    until(lambda: app.test_client().get("/readyz").status_code == 200)
    yield app
    close(app)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Its client."""
    return app.test_client()


def until(condition: Callable[[], object]) -> None:
    """Wait for *condition*."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def bells(uri: str, pool: str) -> int:
    """Take what waits in the doorbell queue of *pool*; 0 if there is no such queue."""
    with pika.BlockingConnection(pika.URLParameters(uri)) as connection:
        channel = connection.channel()
        try:
            channel.queue_declare(topology.doorbell_queue(pool), passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return 0
        taken = 0
        while channel.basic_get(topology.doorbell_queue(pool), auto_ack=True)[0] is not None:
            taken += 1
        return taken


def cut_connections(servers: Servers, uri: str) -> None:
    """Close every connection of a vhost from the broker's side."""
    vhost = uri.rpartition("/")[2]
    with servers.manage() as api:

        def named() -> dict[str, str]:
            connections = api.get(f"/vhosts/{vhost}/connections").json()
            return {one["client_properties"].get("connection_name", ""): one["name"] for one in connections}

        # The management plugin learns of a connection with its next statistics.
        until(lambda: {"gateway", "responder"} <= set(named()))
        for name in named().values():
            api.delete(f"/connections/{name}")


def test_a_job_goes_over_the_wire_and_back(client: FlaskClient, responder: Responder):
    """Submit, read, list, cancel, retry and delete all arrive at the results service and are answered."""
    pid = client.post("/api/v1/tasks/bmi/jobs", json=BODY).json["pid"]
    assert responder.ledger.registered[0].params == BMI.example
    assert client.get(f"/api/v1/jobs/{pid}").json["params"] == BMI.example
    assert client.get("/api/v1/jobs/latest").json["pid"] == pid
    assert [job["pid"] for job in client.get("/api/v1/jobs").json["jobs"]] == [pid]
    assert client.post(f"/api/v1/jobs/{pid}/cancel").status_code == 202
    assert client.get(f"/api/v1/jobs/{pid}/result").status_code == 409
    assert client.post(f"/api/v1/jobs/{pid}/retry").json["status"] == "pending"
    assert client.post(f"/api/v1/jobs/{pid}/retry").json["type"].endswith("/problems/not-retryable")
    assert client.delete(f"/api/v1/jobs/{pid}").status_code == 204
    assert client.get(f"/api/v1/jobs/{pid}").status_code == 404


def test_every_accepted_job_rings_its_pool(client: FlaskClient, fresh_vhost: str):
    """The bell waits in the pool's queue even if no worker has ever declared it."""
    assert client.post("/api/v1/tasks/bmi/jobs", json=BODY).status_code == 202
    until(lambda: bells(fresh_vhost, "default") == 1)


def test_silence_is_503_within_two_seconds_and_ends_by_itself(client: FlaskClient, responder: Responder):
    """No answer: 503 in time, naming the pid that may have been stored; the next are refused at once; then it works."""
    responder.mute = True
    began = time.monotonic()
    first = client.post("/api/v1/tasks/bmi/jobs", json=BODY)
    assert time.monotonic() - began < ANSWER_SECONDS
    assert (first.status_code, first.headers["Retry-After"]) == (503, "1")
    assert len(first.json["pid"]) == 36
    with ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        answers = list(pool.map(lambda _: client.application.test_client().get(f"/api/v1/jobs/{A_PID}"), range(64)))
        assert time.monotonic() - began < ANSWER_SECONDS
    assert {answer.status_code for answer in answers} == {503}
    responder.mute = False
    until(lambda: client.post("/api/v1/tasks/bmi/jobs", json=BODY).status_code == 202)
    assert client.get("/readyz").status_code == 200


def test_what_was_not_sent_names_no_pid(client: FlaskClient, responder: Responder):
    """Turned away before sending, a submission was surely not stored, so there is no pid to look for."""
    responder.mute = True
    client.get(f"/api/v1/jobs/{A_PID}")
    with ThreadPoolExecutor(8) as pool:
        submit = lambda _: client.application.test_client().post("/api/v1/tasks/bmi/jobs", json=BODY)  # noqa: E731
        problems = [answer.json for answer in pool.map(submit, range(8))]
    assert sum("pid" in problem for problem in problems) == 1
    assert sum("nothing was sent" in problem["detail"] for problem in problems) == 7


def test_it_comes_back_after_the_broker_cut_it_off(
    client: FlaskClient, responder: Responder, servers: Servers, fresh_vhost: str
):
    """After every connection was closed and the bell's queue is gone, jobs are taken and bells ring again."""
    assert client.post("/api/v1/tasks/bmi/jobs", json=BODY).status_code == 202
    until(lambda: bells(fresh_vhost, "default") == 1)
    with pika.BlockingConnection(pika.URLParameters(fresh_vhost)) as connection:
        connection.channel().queue_delete(topology.doorbell_queue("default"))
    cut_connections(servers, fresh_vhost)
    # A bell can only wait again if the gateway came back and declared the queue anew.
    until(
        lambda: (
            client.post("/api/v1/tasks/bmi/jobs", json=BODY).status_code == 202 and bells(fresh_vhost, "default") >= 1
        )
    )


def test_a_new_task_is_offered_as_soon_as_it_is_announced(client: FlaskClient, responder: Responder):
    """The event that the catalogue changed arrives long before the next refresh."""
    responder.ledger.tasks.append(MEETING)
    responder.announce()
    until(lambda: [task["name"] for task in client.get("/api/v1/tasks").json["tasks"]] == ["bmi", "meeting"])


def test_a_task_whose_announcement_was_lost_is_found_by_asking(client: FlaskClient, responder: Responder):
    """Somebody who knows the name of a new task can submit it within a second or so, without any event."""
    responder.ledger.tasks.append(MEETING)
    body = {"params": MEETING.example}
    until(lambda: client.post("/api/v1/tasks/meeting/jobs", json=body).status_code == 202)


def test_without_a_broker_every_answer_is_in_time():
    """Nothing listens: probes and requests say so at once, and the documentation still opens."""
    app = create_app(GatewaySettings(amqp_uri="amqp://guest:guest@127.0.0.1:9/"))
    try:
        client = app.test_client()
        for path in ("/api/v1/tasks", f"/api/v1/jobs/{A_PID}", "/readyz"):
            began = time.monotonic()
            assert client.get(path).status_code == 503
            assert time.monotonic() - began < ANSWER_SECONDS
        assert client.get("/healthz").status_code == 200
        assert client.get("/api/v1/swagger.json").status_code == 200
    finally:
        close(app)


def test_errors_cross_the_wire_with_their_members(client: FlaskClient):
    """The service's own errors keep their type: another payload under a known key is 422."""
    key = {"Idempotency-Key": "k"}
    assert client.post("/api/v1/tasks/bmi/jobs", json=BODY, headers=key).status_code == 202
    other = codec.dumps({"params": {**BMI.example, "name": "Bob"}})
    response = client.post("/api/v1/tasks/bmi/jobs", data=other, content_type="application/json", headers=key)
    assert response.status_code == 422
