"""The results service as a real process: over a real broker, with a real mongod."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from contracts import codec, topology
from contracts.broker import BrokerClient, Delivery, Subscription
from contracts.clock import SystemClock
from contracts.errors import CoatcheckError, NotFound, NotRetryable, NotSent, Unavailable, ValidationFailed
from contracts.ids import new_id
from contracts.job import JobError
from contracts.messages import Claim, Finish, GetJob, Heartbeat, JobQuery, NewJob, Notify, Order, Settle
from contracts.status import ErrorKind, JobStatus, NotifyOn, Outcome
from local_stack import ports

START_SECONDS = 30.0
ROOT = Path(__file__).parents[2]


class Caller:
    """What the gateway and a worker do, over a client of their own."""

    def __init__(self, client: BrokerClient) -> None:
        self.client = client
        self.timeout = 10.0

    def __call__(self, service: str, method: str, message: Any = None, **options: Any) -> Any:
        kwargs = {} if message is None else {"request": message.model_dump(mode="json")}
        return self.client.call(service, method, kwargs, **({"timeout": self.timeout} | options))

    def register(self, **changes: Any) -> str:
        fields: dict[str, Any] = {
            "pid": new_id(),
            "owner": "local",
            "task": "bmi",
            "task_version": "1",
            "pool": "default",
            "params": {},
            "max_attempts": 3,
            "time_limit": 60.0,
        }
        pid: str = self("ledger", "register", NewJob(**(fields | changes)))["pid"]
        return pid

    def settle(self, **parts: Any) -> Any:
        return self("ledger", "settle", Settle(**parts), expires=False)


def claim(count: int = 1) -> Claim:
    return Claim(claim_id=new_id(), worker_id="w1", pool="default", tasks=["bmi"], count=count)


@pytest.fixture
def metrics_port() -> int:
    """Where the service shows its numbers."""
    return ports.pick()


@pytest.fixture
def service(
    fresh_vhost: str, fresh_database: str, metrics_port: int, tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The service under ``nameko run``."""
    name = parse_uri(fresh_database)["database"]
    environment = os.environ | {
        "AMQP_URI": fresh_vhost,
        "MONGODB_URI": fresh_database,
        "DATABASE": str(name),
        "SWEEP_SECONDS": "1",
        "HEARTBEAT": "5",
        "METRICS_PORT": str(metrics_port),
        "PYTHONPATH": str(ROOT),
    }
    nameko = str(Path(sys.executable).with_name("nameko"))
    command = [nameko, "run", "--config", "results_service/config.yaml", "results_service.service"]
    with (tmp_path / "results.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log, stdout=log)
        yield process
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@pytest.fixture
def caller(service: subprocess.Popen[bytes], fresh_vhost: str) -> Iterator[Caller]:
    """A client of the running service."""
    client = BrokerClient(fresh_vhost, name="test", heartbeat=5)
    client.start()
    try:
        client.wait_ready(START_SECONDS)
        caller = Caller(client)
        eventually(lambda: caller("results", "ping", timeout=2.0) == {"mongodb": "ok"})
        eventually(lambda: not_found(caller))
        yield caller
    finally:
        client.close()


def eventually(condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Wait until *condition* holds; what is not there yet may say so."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        try:
            if condition():
                return
        except CoatcheckError:
            pass
        pause.wait(0.05)
    raise AssertionError(f"not within {seconds} s")


def not_found(caller: Caller) -> bool:
    try:
        caller("ledger", "get", GetJob(pid=new_id(), owner="local"), timeout=2.0)
    except NotFound:
        return True
    return False


def test_a_job_goes_through_over_the_wire(caller: Caller) -> None:
    """register, claim, finish, get, list, latest, cancel, retry and delete answer over RPC as they do in process."""
    pid = caller.register()
    grant = caller.settle(claim=claim())["grants"][0]
    assert grant["pid"] == pid
    finish = Finish(pid=pid, fence=grant["fence"], worker_id="w1", outcome=Outcome.SUCCEEDED, result={"bmi": 22.9})
    assert caller.settle(finishes=[finish])["verdicts"][0]["finish"] == "stored"
    assert caller("ledger", "get", GetJob(pid=pid, owner="local"))["result"] == {"bmi": 22.9}
    assert caller("results", "latest", JobQuery(owner="local"))["pid"] == pid
    assert [job["pid"] for job in caller("results", "list_jobs", JobQuery(owner="local"))["jobs"]] == [pid]
    other = caller.register()
    assert caller("results", "cancel", Order(pid=other, owner="local"))["status"] == JobStatus.CANCELLED
    assert caller("results", "retry", Order(pid=other, owner="local"))["status"] == JobStatus.PENDING
    with pytest.raises(NotRetryable):
        caller("results", "retry", Order(pid=other, owner="local"))
    caller("results", "delete", Order(pid=pid, owner="local"))
    with pytest.raises(NotFound):
        caller("ledger", "get", GetJob(pid=pid, owner="local"))


def test_prometheus_reads_how_attempts_ended(caller: Caller, metrics_port: int) -> None:
    """The numbers of the process are at its own port, and reading them keeps nobody waiting."""
    pid = caller.register(max_attempts=1)
    grant = caller.settle(claim=claim())["grants"][0]
    error = JobError(kind=ErrorKind.OUT_OF_MEMORY, message="no")
    finish = Finish(pid=pid, fence=grant["fence"], worker_id="w1", outcome=Outcome.FAILED, error=error)
    with socket.create_connection(("127.0.0.1", metrics_port), timeout=5):  # says nothing, and holds nobody up
        caller.settle(finishes=[finish])
        text = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5).text
    assert 'coatcheck_attempts_total{kind="out_of_memory",outcome="failed"} 1.0' in text
    assert 'coatcheck_attempts_total{kind="worker_lost",outcome="failed"} 0.0' in text


def test_what_cannot_be_read_harms_nobody_else(caller: Caller) -> None:
    """A request that is no message is refused by name, one that is no request is dropped, and the others go on."""
    with pytest.raises(ValidationFailed, match="owner"):
        caller.client.call("ledger", "get", {"request": {"pid": new_id()}}, timeout=5)
    caller.client.send(topology.RPC_EXCHANGE, "ledger.get", b"\xff not json")
    assert not_found(caller)


def test_requests_that_wait_together_are_all_answered(caller: Caller) -> None:
    """Sixty-four callers at once get sixty-four jobs, and each its own."""
    with ThreadPoolExecutor(64) as pool:
        pids = list(pool.map(lambda _: caller.register(), range(64)))
    assert len(set(pids)) == 64
    grants = caller.settle(claim=claim(count=64))["grants"]
    assert {grant["pid"] for grant in grants} == set(pids)


def test_events_wake_whoever_listens(service: object, caller: Caller, fresh_vhost: str) -> None:
    """State changes and due mail are published after the write."""
    heard: list[tuple[str, str]] = []
    done = threading.Event()

    def hear(delivery: Delivery) -> None:
        message = codec.loads(delivery.body)
        heard.extend((change["status"], change["pid"]) for change in message.get("changes", []))
        heard.extend([("mail", message["pid"])] if "pid" in message else [])
        if len(heard) == 4:
            done.set()

    subscription = Subscription(
        on_message=hear,
        bindings=(
            (topology.EVENTS_EXCHANGE, topology.JOBS_CHANGED),
            (topology.EVENTS_EXCHANGE, topology.NOTIFICATION_DUE),
        ),
    )
    listener = BrokerClient(fresh_vhost, name="listener", heartbeat=5, subscriptions=(subscription,))
    listener.start()
    assert listener.wait_ready(10)
    pid = caller.register(notify=Notify(email="ada@example.org", on=[NotifyOn.ACCEPTED, NotifyOn.SUCCEEDED]))
    grant = caller.settle(claim=claim())["grants"][0]
    finish = Finish(
        pid=pid, fence=grant["fence"], worker_id="w1", outcome=Outcome.SUCCEEDED, notify=grant["notify"], result=1
    )
    caller.settle(finishes=[finish])
    assert done.wait(10)
    listener.close()
    assert sorted(heard) == sorted([("mail", pid), ("running", pid), ("succeeded", pid), ("mail", pid)])


def test_the_sweep_rings_for_work_that_nobody_rang_for(caller: Caller, fresh_vhost: str) -> None:
    """A job whose doorbell was lost is rung for within the sweep's interval."""
    rung = threading.Event()
    bell = Subscription(
        on_message=lambda _: rung.set(),
        queue=topology.doorbell_queue("default"),
        arguments=topology.doorbell_arguments(),
        bindings=((topology.DOORBELL_EXCHANGE, "default"),),
    )
    worker = BrokerClient(fresh_vhost, name="worker", heartbeat=5, subscriptions=(bell,))
    worker.start()
    assert worker.wait_ready(10)
    beat = Heartbeat(
        worker_id="w1",
        host="here",
        process_id=1,
        pool="default",
        tasks=["bmi"],
        slots=2,
        beat=1,
        started_at=SystemClock().now(),
    )
    caller("ledger", "heartbeat", beat)
    caller.register()
    assert rung.wait(10)
    worker.close()


def test_a_stop_answers_what_it_took(service: subprocess.Popen[bytes], caller: Caller, fresh_database: str) -> None:
    """On SIGTERM every request is either answered and stored, or answered by nobody: none is half done."""
    caller.timeout = 1.0
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(caller.register) for _ in range(120)]
        answers[50].result()
        service.send_signal(signal.SIGTERM)
        stored = set()
        for answer in answers:
            try:
                stored.add(answer.result())
            except Unavailable:
                continue
    assert service.wait(15) == 0
    with MongoClient[dict[str, Any]](fresh_database) as client:
        jobs = client.get_default_database()["jobs"]
        assert stored <= {job["_id"] for job in jobs.find({}, {"_id": 1})}
    assert len(stored) >= 51


def test_without_a_service_nothing_is_sent(rabbitmq: str) -> None:
    """A request for a queue that nobody has declared fails at once, and says that nothing was sent."""
    client = BrokerClient(rabbitmq, name="test", heartbeat=5)
    client.start()
    assert client.wait_ready(10)
    with pytest.raises(NotSent, match="nobody"):
        client.call("nobody", "register", {}, timeout=5)
    client.close()


def test_without_a_broker_nothing_is_sent() -> None:
    """A request while RabbitMQ is away fails at once."""
    client = BrokerClient("amqp://127.0.0.1:1/", name="test", heartbeat=5)
    client.start()
    with pytest.raises(NotSent, match="not reachable"):
        client.call("results", "ping", {}, timeout=5)
    client.close()
