"""Promise 10: the counter answers at once, whatever the workers do, and says 503 in time when it can take nothing."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import psutil
import pytest
from breaking import Api, away, eventually, frozen, serves
from customers import BMI
from running_stack import RunningStack

ANSWER_SECONDS = 2.0
AT_ONCE = 12
BURST = 60
RABBITMQCTL = "/usr/lib/rabbitmq/bin/rabbitmqctl"


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack with servers of its own, and a lease that the outages below would outlast."""
    environment = {
        "SLOTS": "2",
        "LEASE_SECONDS": "3",
        "WORKER_HEARTBEAT_SECONDS": "0.5",
        "SWEEP_SECONDS": "1",
        "TASK_MODULES": "compute_service.tasks,bench.tasks",
    }
    stack = RunningStack(tmp_path_factory.mktemp("promise-10") / "local", environment)
    try:
        stack.start()
        yield stack
    finally:
        stack.end()


@pytest.fixture
def whole(counter: RunningStack) -> RunningStack:
    """The stack, healed from the test before."""
    eventually(lambda: serves(counter), "ready and serving")
    return counter


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How one request was answered."""

    kind: str
    response: httpx.Response
    seconds: float

    @property
    def refused(self) -> bool:
        """Whether it says, as it should, that nothing can be done at the moment."""
        return (
            self.response.status_code == httpx.codes.SERVICE_UNAVAILABLE
            and int(self.response.headers["Retry-After"]) > 0
            and self.response.json()["type"].endswith("/problems/unavailable")
        )


def ask(http: httpx.Client, pid: str, number: int = AT_ONCE) -> list[Reply]:
    """Submit, get and list, *number* requests in all and all at once."""
    kinds: dict[str, Callable[[], httpx.Response]] = {
        "submit": lambda: http.post("/jobs", json={"task": "bmi", "params": BMI}),
        "get": lambda: http.get(f"/jobs/{pid}"),
        "list": lambda: http.get("/jobs"),
    }

    def one(kind: str) -> Reply:
        began = time.monotonic()
        response = kinds[kind]()
        return Reply(kind=kind, response=response, seconds=time.monotonic() - began)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, [list(kinds)[turn % len(kinds)] for turn in range(number)]))


def effort(stack: RunningStack, http: httpx.Client, number: int) -> float:
    """Seconds that *number* requests at once take which wait for nothing: what this machine adds at this moment."""
    began = time.monotonic()
    with ThreadPoolExecutor(number) as pool:
        list(pool.map(lambda _: http.get(f"{stack.url}/healthz").raise_for_status(), range(number)))
    return time.monotonic() - began


def served(http: httpx.Client, pid: str) -> bool:
    """Whether all of it works."""
    return all(reply.response.is_success for reply in ask(http, pid, 3))


@pytest.fixture
def http(whole: RunningStack) -> Iterator[httpx.Client]:
    """A client with a connection for each request that is made at once."""
    limits = httpx.Limits(max_connections=BURST, max_keepalive_connections=BURST)
    with httpx.Client(base_url=whole.api, timeout=30, limits=limits) as client:
        yield client


@pytest.fixture
def pid(http: httpx.Client) -> str:
    """Some job that has ended."""
    api = Api(http)
    pid = api.submit("bmi", BMI)
    api.ended(pid)
    return pid


OUTAGES: dict[str, Callable[[RunningStack], contextlib.AbstractContextManager[None]]] = {
    "rabbitmq killed": lambda stack: away(stack, "rabbitmq"),
    "rabbitmq frozen": lambda stack: frozen(stack.pid("rabbitmq")),
    "results killed": lambda stack: away(stack, "results"),
    "results frozen": lambda stack: frozen(stack.pid("results")),
    "mongodb killed": lambda stack: away(stack, "mongodb"),
    "mongodb frozen": lambda stack: frozen(stack.pid("mongodb")),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_is_503_in_time_and_ends_by_itself(
    whole: RunningStack, http: httpx.Client, pid: str, outage: str
) -> None:
    """Submit, get and list are refused within 2 s, with Retry-After, never 404 or 500; when all is back, they work.

    Break: gateway/deadline.py `remaining` returning *limit* plus 3; gateway/problems.py `_answer` without Retry-After.
    """
    with OUTAGES[outage](whole):
        for number in (AT_ONCE, AT_ONCE, BURST):
            added = effort(whole, http, number)
            replies = ask(http, pid, number)
            assert [(reply.kind, reply.response.text) for reply in replies if not reply.refused] == []
            slowest = max(reply.seconds for reply in replies)
            assert slowest < ANSWER_SECONDS + added, f"{slowest:.2f} s, of which the machine took {added:.2f}"
    eventually(lambda: served(http, pid), "served again")


def alarm(stack: RunningStack, watermark: str) -> None:
    """Tell the private RabbitMQ how much of the machine's memory it may use."""
    environment = psutil.Process(stack.pid("rabbitmq")).environ()
    subprocess.run(
        [RABBITMQCTL, "set_vm_memory_high_watermark", watermark],
        env=environment,
        check=True,
        timeout=60,
        capture_output=True,
    )


def test_a_memory_alarm_is_503_and_costs_no_running_job(whole: RunningStack, http: httpx.Client, pid: str) -> None:
    """While RabbitMQ blocks publishers requests are refused in time, and the job that runs meanwhile runs once.

    Break: contracts/broker.py `ready` without `_blocked`.
    """
    api = Api(http)
    running = api.submit("wait", {"message": "through the alarm", "seconds": 12})
    eventually(lambda: api.job(running)["status"] == "running", "a running job")
    alarm(whole, "0.00001")
    try:
        eventually(lambda: all("blocks publishers" in r.response.text for r in ask(http, pid, 3)), "blocked")
        added = effort(whole, http, AT_ONCE)
        replies = ask(http, pid)
        assert [reply.response.text for reply in replies if not reply.refused] == []
        assert max(reply.seconds for reply in replies) < ANSWER_SECONDS + added
    finally:
        alarm(whole, "0.4")
    eventually(lambda: served(http, pid), "served again")
    job = api.ended(running)
    assert (job["status"], job["attempt"]) == ("succeeded", 1)


def test_busy_workers_do_not_slow_the_counter(http: httpx.Client, pid: str) -> None:
    """While every slot burns CPU and more jobs wait, submit, get and list are answered as ever.

    Break: gateway/api/jobs.py `submit` waiting until the job has started.
    """
    api = Api(http)
    burn = {"task": "burn", "params": {"milliseconds": 1500}}
    pids = []
    for _ in range(4):
        began = time.monotonic()
        pids.append(http.post("/jobs", json=burn).json()["pid"])
        assert time.monotonic() - began < ANSWER_SECONDS
    eventually(lambda: [api.job(one)["status"] for one in pids].count("running") == 2, "both slots busy")
    replies = [reply for _ in range(5) for reply in ask(http, pid, 3)]
    assert [api.job(one)["status"] for one in pids].count("succeeded") < len(pids)
    assert [reply.response.text for reply in replies if not reply.response.is_success] == []
    assert max(reply.seconds for reply in replies) < ANSWER_SECONDS
    for one in pids:
        assert api.ended(one)["status"] == "succeeded"
